"""ONNX Runtime, by default on one CPU thread that sleeps between frames (docs/engines.md)."""

from __future__ import annotations

import json
import platform
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

from edgeflock.runtime.board.facts import cpu_flags, installed_version
from edgeflock.runtime.engines.base import check_feeds, check_placement
from edgeflock.runtime.engines.cache import EngineCache, gpu_key
from edgeflock.runtime.engines.cuda import DeviceTensors
from edgeflock.runtime.errors import EngineError

CPU = "CPUExecutionProvider"
PROVIDERS = {
    "onnxruntime-cpu": CPU,
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
GPU_PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class OnnxRuntimeEngine:
    """An ONNX file on one ONNX Runtime execution provider; see `edgeflock.runtime.engines.base.Engine`.

    Parameters
    ----------
    path : str or Path
        ONNX file, every shape fixed.
    precision : str
        The manifest's name for it; "int8" turns on the exact integer path on x86 CPUs without VNNI, where the fast
        one saturates silently and steers wrongly.
    threads : int
        Threads inside an operator. One has the best p99 on a busy board.
    provider : str
        Execution provider that shall run the whole graph.
    allow_fallback : bool
        Let nodes that `provider` refuses run on the CPU.
    provider_options : dict, optional
        Options of the provider.
    devices : list of OrtEpDevice, optional
        Where the provider is a plug-in: its devices.
    entries : dict, optional
        Further entries of the session's configuration.
    compiled : bytes, optional
        What the provider made of `path` earlier; loaded in its place.

    Raises
    ------
    EngineError
        The file is not a net that this ONNX Runtime loads, the provider is not there, or a node would run elsewhere.
    """

    def __init__(
        self,
        path: str | Path,
        precision: str,
        threads: int = 1,
        provider: str = CPU,
        allow_fallback: bool = False,
        provider_options: dict[str, str] | None = None,
        devices: list | None = None,
        entries: dict[str, str] | None = None,
        compiled: bytes | None = None,
    ) -> None:
        available = onnxruntime.get_available_providers()
        if provider not in available and not devices:
            raise EngineError(f"ONNX Runtime here has no {provider}, only {', '.join(available)}.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin between frames burn half a core at 30 Hz.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if precision.startswith("int8") and lacks_vnni():
            options.add_session_config_entry("session.x64quantprecision", "1")
        if provider != CPU and not allow_fallback:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        for entry, value in (entries or {}).items():
            options.add_session_config_entry(entry, value)
        if devices:
            options.add_provider_for_devices(devices, provider_options or {})
            self._providers = {}
        else:
            self._providers = {
                "providers": list(dict.fromkeys([provider, CPU])),
                "provider_options": [provider_options or {}] + [{}] * (provider != CPU),
            }

        self.name = f"onnxruntime-{provider.removesuffix('ExecutionProvider').lower()}"
        self.precision = precision
        self._path, self._options, self._provider, self._compiled = str(path), options, provider, compiled
        self._session = self._load()
        self._wanted = {i.name: (_fixed_shape(i, path), _dtype(i, path)) for i in self._session.get_inputs()}
        self._outputs = {o.name: (_fixed_shape(o, path), _dtype(o, path)) for o in self._session.get_outputs()}
        self._binding: onnxruntime.IOBinding | None = None
        self._bound: tuple = ()
        self._tensors: DeviceTensors | None = None
        if provider != CPU:  # with the CPU alone there is nowhere else to run
            check_placement(self.placement(), provider, allow_fallback)

    def bind(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Bind the input arrays; see `Engine.bind`."""
        check_feeds(self._wanted, feeds)
        if self._provider in GPU_PROVIDERS:
            if self._tensors:  # the session's CUDA graph would go on with the addresses of before
                self._session = self._load()
            self._tensors = DeviceTensors(feeds, self._outputs)
            device, outputs, address = "cuda", self._tensors.outputs, self._tensors.address
        else:
            device, outputs = "cpu", {name: np.zeros(shape, dtype) for name, (shape, dtype) in self._outputs.items()}
            address = {name: array.ctypes.data for name, array in (feeds | outputs).items()}
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_input(name, device, 0, array.dtype.type, array.shape, address[name])
        for name, array in outputs.items():
            binding.bind_output(name, device, 0, array.dtype.type, array.shape, address[name])
        self._binding = binding
        self._bound = (feeds, outputs)  # the binding holds bare pointers, this keeps their memory alive
        return outputs

    def run(self) -> None:
        """Run the net once; see `Engine.run`."""
        if self._binding is None:
            raise EngineError("bind() the input arrays before run().")
        if self._tensors:
            self._tensors.stage()
            self._tensors.enqueue_upload()
            self._tensors.synchronize()
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime's own classes have no common base
            raise EngineError(f"{self.name} failed on {self._path}: {error}") from error
        if self._tensors:
            self._tensors.enqueue_download()
            self._tensors.synchronize()

    def placement(self) -> dict[str, str]:
        """Provider of each node of the graph as it was partitioned, before a provider fuses nodes."""
        if hasattr(self._session, "get_provider_graph_assignment_info"):  # ONNX Runtime >= 1.24
            parts = self._session.get_provider_graph_assignment_info()
            nodes = [(node, part.ep_name) for part in parts for node in part.get_nodes()]
            return {node.name or f"{node.op_type}_{i}": provider for i, (node, provider) in enumerate(nodes)}
        return self._profiled_placement()

    def _profiled_placement(self) -> dict[str, str]:
        """Provider of each node as it ran, after fusion: older versions tell only in the profile of a run."""
        with tempfile.TemporaryDirectory() as folder:
            self._options.enable_profiling = True
            self._options.profile_file_prefix = str(Path(folder) / "profile")
            try:
                session = self._load()
            finally:
                self._options.enable_profiling = False
            session.run(None, {name: np.zeros(shape, dtype) for name, (shape, dtype) in self._wanted.items()})
            events = json.loads(Path(session.end_profiling()).read_bytes())
        return {
            event["name"].removesuffix("_kernel_time"): event["args"]["provider"]
            for event in events
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
        }

    def _load(self) -> onnxruntime.InferenceSession:
        try:
            # Without enable_fallback=0 ONNX Runtime's Python layer retries on the CPU and only prints that it did.
            net = self._compiled or self._path
            return onnxruntime.InferenceSession(net, self._options, **self._providers, enable_fallback=0)
        except Exception as error:  # ONNX Runtime's own classes have no common base
            raise EngineError(
                f"ONNX Runtime {onnxruntime.__version__} does not load {self._path} on {self._provider}: {error}"
            ) from error


def open_onnxruntime(
    name: str, path: str | Path, precision: str, threads: int = 1, allow_fallback: bool = False
) -> OnnxRuntimeEngine:
    """Load an ONNX file with one of the providers of ONNX Runtime itself, set as this project wants it.

    Parameters
    ----------
    name : str
        One of `PROVIDERS`.
    path, precision, threads, allow_fallback
        See `OnnxRuntimeEngine`.
    """
    options: dict[str, str] = {}
    if name == "onnxruntime-cuda":
        # TF32 keeps 10 bits of the mantissa: "fp32" shall be fp32.
        options = {"enable_cuda_graph": "1", "use_tf32": "0"}
    elif name == "onnxruntime-tensorrt":
        options = _tensorrt_options(path, precision)
    return OnnxRuntimeEngine(path, precision, threads, PROVIDERS[name], allow_fallback, options)


def _tensorrt_options(path: str | Path, precision: str) -> dict[str, str]:
    """Options of the TensorRT provider (boards.md App. D).

    The provider loads whatever engine it finds under its cache folder, so that folder is named after everything that
    an engine depends on.
    """
    flags = {
        "trt_fp16_enable": str(int(precision == "fp16")),
        "trt_int8_enable": str(int(precision == "int8-trt")),
        "trt_cuda_graph_enable": "1",
        "trt_builder_optimization_level": "3",
    }
    versions = {name: str(installed_version(name)) for name in ("onnxruntime-gpu", "tensorrt")}
    key = gpu_key(path, precision, versions | {"onnxruntime": onnxruntime.__version__}, flags)
    cache = EngineCache("onnxruntime-tensorrt")
    return flags | {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache.path(key, "")),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache.folder),
    }


def lacks_vnni(cpuinfo: str | Path = "/proc/cpuinfo") -> bool:
    """Whether this is an x86 CPU whose INT8 products saturate in 16 bits (no AVX-VNNI, no AVX512-VNNI).

    Where the flags cannot be read the answer is yes: the exact path costs time, the fast one right answers.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    return not {"avx512_vnni", "avx_vnni"} & cpu_flags(cpuinfo)


def _fixed_shape(node: onnxruntime.NodeArg, path: str | Path) -> tuple[int, ...]:
    if not all(isinstance(size, int) and size > 0 for size in node.shape):
        raise EngineError(f"'{node.name}' of {path} has the open shape {node.shape}: export it with fixed sizes.")
    return tuple(node.shape)


def _dtype(node: onnxruntime.NodeArg, path: str | Path) -> np.dtype:
    if node.type not in _DTYPES:
        raise EngineError(f"'{node.name}' of {path} is a {node.type}, known are {', '.join(_DTYPES)}.")
    return np.dtype(_DTYPES[node.type])
