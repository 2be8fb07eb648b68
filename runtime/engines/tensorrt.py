"""TensorRT native on an NVIDIA GPU: one CUDA graph per frame, from pinned memory to pinned memory.

Not executed by this project's CI, which has no GPU; building is, with TensorRT-RTX (`tensorrt_build`).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgeflock.runtime.engines.base import Progress, check_feeds, say
from edgeflock.runtime.engines.cache import EngineCache
from edgeflock.runtime.engines.cuda import DeviceTensors, driver
from edgeflock.runtime.engines.tensorrt_build import engine_for, import_tensorrt
from edgeflock.runtime.errors import EngineError

# Own table: TensorRT's nptype() of 8.5 uses numpy.bool, which numpy dropped in 1.24.
_DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "UINT8": np.uint8,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


class TensorRtEngine:
    """An ONNX file on TensorRT; see `edgeflock.runtime.engines.base.Engine`.

    Parameters
    ----------
    path : str or Path
        ONNX file, every shape fixed.
    precision : str
        fp32, fp16 or int8-trt, the form that the file is in.
    cache : EngineCache, optional
        Where built engines are kept.
    progress : callable
        Gets a line every few seconds of a build, by default to stderr.

    Raises
    ------
    EngineError
        There is no GPU, or TensorRT refuses the net.
    """

    name = "tensorrt"

    def __init__(
        self, path: str | Path, precision: str, cache: EngineCache | None = None, progress: Progress = say
    ) -> None:
        trt = import_tensorrt()
        driver().use()
        self.precision, self._path = precision, path
        plan = engine_for(path, precision, trt, cache, progress)
        self._runtime = trt.Runtime(trt.Logger(trt.ILogger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        self._context = self._engine and self._engine.create_execution_context()
        if not self._context:
            raise EngineError(
                f"TensorRT {trt.__version__} does not load the engine built of {path}, most often for want of GPU "
                "memory: end what else uses the GPU."
            )
        self._json = trt.LayerInformationFormat.JSON
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        tensors = {name: (tuple(self._engine.get_tensor_shape(name)), self._dtype(name)) for name in names}
        taken = {name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        self._wanted = {name: tensors[name] for name in names if name in taken}
        self._outputs = {name: tensors[name] for name in names if name not in taken}
        self._tensors: DeviceTensors | None = None
        self._graph = False

    def bind(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Bind the input arrays; see `Engine.bind`."""
        check_feeds(self._wanted, feeds)
        self._tensors = DeviceTensors(dict(feeds), self._outputs)
        for name, address in self._tensors.address.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"TensorRT does not take the memory of '{name}' of {self._path}.")
        # TensorRT sets itself up in the first run on new memory, which must not end up in the graph.
        self._tensors.stage()
        self._enqueue()
        self._tensors.synchronize()
        try:
            self._tensors.capture(self._enqueue)
            self._graph = True
        except EngineError:  # a net with a loop or a condition waits for the host and cannot be captured
            self._graph = False
        return self._tensors.outputs

    def run(self) -> None:
        """Run the net once; see `Engine.run`."""
        if self._tensors is None:
            raise EngineError("bind() the input arrays before run().")
        self._tensors.stage()
        if self._graph:
            self._tensors.launch()
        else:
            self._enqueue()
        self._tensors.synchronize()

    def placement(self) -> dict[str, str]:
        """Kernel of each layer after fusion, from TensorRT's engine inspector; all are on the GPU."""
        layers = json.loads(self._engine.create_engine_inspector().get_engine_information(self._json))["Layers"]
        return {
            layer["Name"]: " ".join(["GPU", layer.get("LayerType", ""), *_formats(layer)]).strip()
            for layer in layers
            if isinstance(layer, dict)
        }

    def _enqueue(self) -> None:
        assert self._tensors is not None
        self._tensors.enqueue_upload()
        if not self._context.execute_async_v3(self._tensors.stream):
            raise EngineError(f"TensorRT failed to run {self._path}.")
        self._tensors.enqueue_download()

    def _dtype(self, name: str) -> np.dtype:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in _DTYPES:
            raise EngineError(f"'{name}' of {self._path} is a {kind}, known are {', '.join(_DTYPES)}.")
        return np.dtype(_DTYPES[kind])


def _formats(layer: dict) -> list[str]:
    """Type and layout of what a layer puts out; TensorRT 11 split the one field of before into two."""
    return [
        output["Format/Datatype"] if "Format/Datatype" in output else f"{output['DataType']} {output.get('Format', '')}"
        for output in layer.get("Outputs", ())
        if {"Format/Datatype", "DataType"} & set(output)
    ]
