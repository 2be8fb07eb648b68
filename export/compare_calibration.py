"""`edgeflock calibrate compare`: which method finds the better INT8 ranges for a net.

Ours beside ONNX Runtime's calibrators of the same name.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import numpy as np
import typer

from edgeflock.calibration.observe import OnProgress
from edgeflock.calibration.ranges import PERCENTILE, Method, activation_ranges
from edgeflock.runtime.extras import needs
from edgeflock.runtime.options import Keys, next_command

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime.quantization.calibrate import TensorsData


def compare(
    calib: Annotated[list[Path], typer.Option(help="Frames to draw calibration samples from; repeat to join.")],
    data: Annotated[list[Path], typer.Option(help="Validation frames; repeat to join.")],
    bundle: Annotated[Path | None, typer.Option(help="Steering bundle; by default the one that ships.")] = None,
    form: Annotated[Literal["int8", "int8-qnn", "int8-trt"], typer.Option(help="Quantised form.")] = "int8",
    frames: Annotated[int, typer.Option(min=1, help="Calibration frames of each draw.")] = 128,
    draws: Annotated[int, typer.Option(min=1, help="How many draws.")] = 8,
    choice: Annotated[
        Literal["coverage", "random"], typer.Option(help="How frames are drawn: by angle and brightness, or uniformly.")
    ] = "coverage",
    key: Keys = None,
) -> None:
    """Compare the calibration methods on a steering net, beside ONNX Runtime's own calibrators.

    Example:

      edgeflock calibrate compare --calib data/drive/train --data data/drive/val
    """
    with needs("edgeflock calibrate compare"):
        import onnx
    from rich.console import Console
    from rich.table import Table

    from edgeflock.calibration.frames import representative_frames
    from edgeflock.calibration.observe import progress
    from edgeflock.export.datasets import concatenate, open_dataset
    from edgeflock.runtime.bundle.bundle import Bundle, default_bundle
    from edgeflock.runtime.prepare.frame import crop_200

    def crops(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
        frames = concatenate([open_dataset(path) for path in paths])
        return np.stack([crop_200(frame) for frame in frames.frames]), frames.angles

    (images, angles), (others, _) = crops(calib), crops(data)
    if choice == "coverage":
        chosen = [representative_frames(images, angles, frames, seed=seed) for seed in range(draws)]
    else:
        count = min(frames, len(images))
        chosen = [np.random.default_rng(seed).choice(len(images), count, replace=False) for seed in range(draws)]
    fp32 = onnx.load(Bundle.open(bundle or default_bundle(), key).artefact("fp32"))
    name = fp32.graph.input[0].name
    console = Console()
    with progress(console, "comparing") as update:
        rows = compare_methods(
            fp32,
            [{name: images[index, None]} for index in chosen],
            {name: others[:, None]},
            form,
            on_progress=update,
        )
    title = f"{form}, {draws} draws of {frames} of {len(images)} frames by {choice}, judged on {len(others)} others"
    table = Table("method", "SQNR dB, mean", "least", "most", "largest deviation", title=title, title_justify="left")
    for row in sorted(rows, key=lambda row: -float(np.mean(row.sqnr_db))):
        figures = (f"{figure(row.sqnr_db):.1f}" for figure in (np.mean, min, max))
        table.add_row(row.method, *figures, f"{row.worst:.4f}")
    console.print(table)
    ours = [row for row in rows if row.method in get_args(Method)]
    best = max(ours, key=lambda row: float(np.mean(row.sqnr_db))).method
    read = [word for o, paths in (("--data", data), ("--calib", calib)) for path in paths for word in (o, path)]
    line = next_command(
        "export", "steering", "--method", best, "--weights", "WEIGHTS", *read, "--key", "FLEET.pem", "--out", "BUNDLE"
    )
    console.print(line, highlight=False, markup=False, soft_wrap=True)


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
class MethodFigures:
    """One way to find ranges, over several draws of calibration samples."""

    method: str
    sqnr_db: list[float]
    """Of the answers to the validation samples, for each draw; see `edgeflock.export.quantise.sensitivity.sqnr_db`."""
    worst: float
    """Largest distance of an answer from fp32 in any draw, in the unit of the answer."""


def compare_methods(
    fp32: ModelProto,
    draws: Sequence[dict[str, np.ndarray]],
    validation: Feeds,
    form: str,
    *,
    cache: Path | None = None,
    on_progress: OnProgress | None = None,
) -> list[MethodFigures]:
    """Quantise a net with the ranges of every method and see how far its answers move.

    Parameters
    ----------
    fp32 : onnx.ModelProto
    draws : sequence of dict
        Calibration samples by input; each draw gives one figure per method.
    validation : mapping
        Other samples, on which the answers are compared.
    form : str
        Quantised form, key of `edgeflock.export.quantise.forms.FORMS`.
    cache : Path, optional
        See `edgeflock.calibration.ranges.activation_ranges`.
    on_progress : callable, optional
        See `edgeflock.calibration.observe.OnProgress`.
    """
    from edgeflock.export.graph import predict
    from edgeflock.export.quantise.forms import FORMS, quantize
    from edgeflock.export.quantise.sensitivity import sqnr_db

    symmetric = FORMS[form].symmetric
    ways = [*((True, method) for method in get_args(Method)), *((False, method) for method in _THEIRS)]
    reference = predict(fp32, validation)
    sqnr: dict[tuple[bool, str], list[float]] = {way: [] for way in ways}
    worst = dict.fromkeys(ways, 0.0)
    for i, feeds in enumerate(draws):
        for j, (ours, method) in enumerate(ways):
            if ours:
                ranges = activation_ranges(fp32, feeds, method, symmetric=symmetric, cache=cache)
            else:
                ranges = _onnxruntime_ranges(fp32, feeds, method)
            got = predict(quantize(fp32, ranges, form), validation)
            sqnr[ours, method].append(sqnr_db(reference, got))
            far = (float(np.abs(got[name].astype(np.float64) - answer).max()) for name, answer in reference.items())
            worst[ours, method] = max(worst[ours, method], *far)
            if on_progress:
                on_progress(i * len(ways) + j + 1, len(draws) * len(ways), "")
    return [MethodFigures(m if ours else f"ONNX Runtime {m}", sqnr[ours, m], worst[ours, m]) for ours, m in ways]


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
