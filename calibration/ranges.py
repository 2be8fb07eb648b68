"""Activation ranges of an ONNX graph from real frames, by ONNX Runtime's own calibrators."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from edgeflock.runtime.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime.quantization.calibrate import TensorsData

Method = Literal["minmax", "percentile", "entropy"]

# FADNet's input norm lifts single bright pixels of dark frames to 30 sigma, for which MinMax stretches the scale of all
# others. On 640 rendered frames, over six choices of calibration frames: SQNR 26 to 27 dB (MinMax 20 to 23), largest
# deviation 0.033 to 0.051 rad (MinMax 0.044 to 0.071). 99.99 deviates as far as MinMax.
PERCENTILE = 99.999
_CHUNK = 16  # frames whose activations are held at once


def activation_ranges(model: ModelProto, images: np.ndarray, method: Method = "percentile") -> TensorsData:
    """Range of every float tensor of the graph.

    Parameters
    ----------
    model : onnx.ModelProto
        Float net with one input of shape (1, ...).
    images : ndarray
        (N, C, H, W), cast to float32: what the net will get in service, prepared the same way (facts/users.md 2.1, 3).
    method : {"minmax", "percentile", "entropy"}
        Calibrator of ONNX Runtime.

    Returns
    -------
    onnxruntime.quantization.calibrate.TensorsData
        (low, high) by tensor name.

    Raises
    ------
    InputError
        Unknown method or no images.
    MissingExtra
        The onnx package is not installed.
    """
    if method not in get_args(Method):
        raise InputError(f"calibration method must be one of {', '.join(get_args(Method))}, got {method!r}.")
    if len(images) == 0:
        raise InputError("no frames to calibrate with: expected at least one.")
    try:
        import onnx
        from onnxruntime.quantization import CalibrationMethod, create_calibrator
    except ModuleNotFoundError as error:
        raise MissingExtra.pip("Calibration", "export", error) from None

    name = model.graph.input[0].name
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # the calibrators print
        path = Path(folder) / "net.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(
            path,
            sorted({node.op_type for node in model.graph.node}),
            augmented_model_path=str(Path(folder) / "observed.onnx"),
            calibrate_method={
                "minmax": CalibrationMethod.MinMax,
                "percentile": CalibrationMethod.Percentile,
                "entropy": CalibrationMethod.Entropy,
            }[method],
            extra_options={"percentile": PERCENTILE} if method == "percentile" else {},
        )
        for start in range(0, len(images), _CHUNK):
            calibrator.collect_data(_Reader(name, images[start : start + _CHUNK]))
        return calibrator.compute_data()


class _Reader:
    """`onnxruntime.quantization.CalibrationDataReader` by shape, so that importing this module needs no onnx."""

    def __init__(self, name: str, images: np.ndarray) -> None:
        self._name, self._images = name, iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {self._name: image[None].astype(np.float32)}
