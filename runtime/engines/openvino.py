"""OpenVINO on the CPU: the fastest INT8 of all engines tried on x86 (docs/quantisation.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeflock.runtime.engines.base import check_feeds
from edgeflock.runtime.engines.onnxruntime import lacks_vnni
from edgeflock.runtime.errors import EngineError
from edgeflock.runtime.extras import needs


class OpenVinoEngine:
    """An ONNX file on OpenVINO's CPU plug-in; see `edgeflock.runtime.engines.base.Engine`.

    Parameters
    ----------
    path : str or Path
        ONNX file, every shape fixed. An INT8 net comes as QDQ; its float parts are computed in float32.
    precision : str
        The manifest's name for it.
    threads : int
        Threads inside an operator.

    Raises
    ------
    EngineError
        The file is not a net that this OpenVINO loads, or the CPU would not compute INT8 exactly.
    MissingExtra
        OpenVINO is not installed.
    """

    name = "openvino"

    def __init__(self, path: str | Path, precision: str, threads: int = 1) -> None:
        if precision == "int8" and lacks_vnni():  # on an emulated Haswell FADNet was off by up to 0.014 rad
            raise EngineError(
                "this CPU has no VNNI, and without it OpenVINO's INT8 answers differ: use onnxruntime-cpu, which has "
                "an exact path, or fp32."
            )
        with needs("The engine openvino"):
            import openvino
        self.precision = precision
        self._path, self._openvino = path, openvino
        options = {
            # Without it "fp32" is bf16 on newer x86 and fp16 on Armv8.2 (docs/engines.md).
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            # A pinned thread waits for its own core: on a busy machine the median was four times as long.
            "ENABLE_CPU_PINNING": "NO",
        }
        try:
            core = openvino.Core()
            self._compiled = core.compile_model(core.read_model(path), "CPU", options)
        except Exception as error:  # OpenVINO raises RuntimeError and its own classes without a common base
            version, reason = openvino.__version__.split("-")[0], " ".join(str(error).split())
            raise EngineError(f"OpenVINO {version} does not load {path}: {reason}") from error
        self._wanted = {port.any_name: _fixed(port, path) for port in self._compiled.inputs}
        self._outputs = {port.any_name: _fixed(port, path) for port in self._compiled.outputs}
        self._request = self._compiled.create_infer_request()
        self._bound: tuple = ()

    def bind(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Bind the input arrays; see `Engine.bind`."""
        check_feeds(self._wanted, feeds)
        outputs: dict[str, np.ndarray] = {
            name: np.zeros(shape, dtype) for name, (shape, dtype) in self._outputs.items()
        }
        for name, array in (feeds | outputs).items():
            self._request.set_tensor(name, self._openvino.Tensor(array, shared_memory=True))
        self._bound = (feeds, outputs)  # the tensors share their memory, this keeps it alive
        return outputs

    def run(self) -> None:
        """Run the net once; see `Engine.run`."""
        if not self._bound:
            raise EngineError("bind() the input arrays before run().")
        try:
            # In the calling thread, where start_async() would wake another; without share_outputs it copies results.
            self._request.infer(share_outputs=True)
        except Exception as error:
            raise EngineError(f"{self.name} failed on {self._path}: {error}") from error

    def placement(self) -> dict[str, str]:
        """Primitive and precision of each layer that OpenVINO runs, such as "CPU brgconv_avx512_core_vnni u8"."""
        layers = [
            (op.get_friendly_name(), op.get_rt_info()) for op in self._compiled.get_runtime_model().get_ordered_ops()
        ]
        return {
            name: f"CPU {info['primitiveType'].astype(str)} {info['runtimePrecision'].astype(str)}"
            for name, info in layers
            if info["layerType"].astype(str) not in ("Input", "Output", "Const")
        }


def _fixed(port, path: str | Path) -> tuple[tuple[int, ...], np.dtype]:
    if port.partial_shape.is_dynamic:
        raise EngineError(
            f"'{port.any_name}' of {path} has the open shape {port.partial_shape}: export it with fixed sizes."
        )
    return tuple(port.shape), np.dtype(port.element_type.to_dtype())
