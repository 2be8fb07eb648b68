"""Which method finds the better ranges for a net: ours, and ONNX Runtime's calibrators of the same name."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from edgeflock.calibration.observe import OnProgress
from edgeflock.calibration.ranges import PERCENTILE, Method, activation_ranges

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime.quantization.calibrate import TensorsData

Feeds = Mapping[str, np.ndarray]

_THEIRS = {
    "minmax": ("MinMax", {}),
    "moving-average": ("MinMax", {"moving_average": True}),
    "percentile": ("Percentile", {"percentile": PERCENTILE}),
    "entropy": ("Entropy", {}),
}
"""ONNX Runtime's calibrator and its options for each of our methods; it has no MSE."""

_BATCH = 16  # its histogram calibrators hold the activations of all samples that they are given at once


@dataclass(frozen=True)
class Row:
    """One way to find ranges, over several draws of calibration samples."""

    method: str
    sqnr_db: list[float]
    """10 log10 of mean(fp32^2) / mean((int8 - fp32)^2) over all answers to the validation samples, for each draw."""
    worst: float
    """Largest distance of an answer from fp32 in any draw, in the unit of the answer."""


def compare(
    fp32: ModelProto,
    draws: Sequence[dict[str, np.ndarray]],
    validation: Feeds,
    quantize: Callable[[ModelProto, TensorsData], ModelProto],
    predict: Callable[[ModelProto, Feeds], Mapping[str, np.ndarray]],
    *,
    symmetric: bool = False,
    cache: Path | None = None,
    on_progress: OnProgress | None = None,
) -> list[Row]:
    """Quantise a net with the ranges of every method and see how far its answers move.

    Parameters
    ----------
    fp32 : onnx.ModelProto
    draws : sequence of dict
        Calibration samples by input; each draw gives one figure per method.
    validation : mapping
        Other samples, on which the answers are compared.
    quantize, predict : callable
        `edgeflock.export.quantise.forms.quantize` for one form, and `edgeflock.export.onnx.predict`.
    symmetric, cache
        See `edgeflock.calibration.ranges.activation_ranges`.
    on_progress : callable, optional
        See `edgeflock.calibration.observe.OnProgress`.
    """
    ways = [*((True, method) for method in get_args(Method)), *((False, method) for method in _THEIRS)]
    reference = predict(fp32, validation)
    energy = sum(float(np.square(answer, dtype=np.float64).mean()) for answer in reference.values())
    sqnr: dict[tuple[bool, str], list[float]] = {way: [] for way in ways}
    worst = dict.fromkeys(ways, 0.0)
    for i, feeds in enumerate(draws):
        for j, (ours, method) in enumerate(ways):
            if ours:
                ranges = activation_ranges(fp32, feeds, method, symmetric=symmetric, cache=cache)
            else:
                ranges = _onnxruntime_ranges(fp32, feeds, method)
            got = predict(quantize(fp32, ranges), validation)
            error = {name: np.abs(got[name].astype(np.float64) - answer) for name, answer in reference.items()}
            noise = sum(float(np.square(e).mean()) for e in error.values())
            sqnr[ours, method].append(10 * float(np.log10(energy / max(noise, 1e-300))))
            worst[ours, method] = max(worst[ours, method], *(float(e.max()) for e in error.values()))
            if on_progress:
                on_progress(i * len(ways) + j + 1, len(draws) * len(ways), "")
    return [Row(m if ours else f"ONNX Runtime {m}", sqnr[ours, m], worst[ours, m]) for ours, m in ways]


def _onnxruntime_ranges(model: ModelProto, feeds: dict[str, np.ndarray], method: str) -> TensorsData:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    kind, options = _THEIRS[method]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # the calibrators print
        path = Path(folder) / "net.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(
            path,
            sorted({node.op_type for node in model.graph.node}),
            augmented_model_path=str(Path(folder) / "observed.onnx"),
            calibrate_method=CalibrationMethod[kind],
            extra_options=options,
        )
        count = len(next(iter(feeds.values())))
        for start in range(0, count, _BATCH):
            part = range(start, min(start + _BATCH, count))
            one_by_one = ({n: a[i : i + 1].astype(np.float32) for n, a in feeds.items()} for i in part)
            calibrator.collect_data(_Reader(one_by_one))
        return calibrator.compute_data()


class _Reader:
    """`onnxruntime.quantization.CalibrationDataReader` by shape, so that importing this module needs no onnx."""

    def __init__(self, samples: Iterator[dict[str, np.ndarray]]) -> None:
        self._samples = samples

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._samples, None)
