"""ONNX to a TensorRT engine, TensorRT 8.5 to 11 and TensorRT-RTX, built once per board.

Precision is what the ONNX file says: Q/DQ pairs for INT8, float16 tensors for FP16. From TensorRT 10 the network is
strongly typed, so the file decides alone; before that the builder is only allowed to use these types. Parsing, building
and the cache were executed with TensorRT-RTX 1.7.1 without a GPU; the attribute names of 8.5.3.1 were checked.
"""

from __future__ import annotations

import importlib
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeflock.runtime.engines.base import Progress, say
from edgeflock.runtime.engines.cache import EngineCache, Key, gpu_key
from edgeflock.runtime.errors import EngineError

OLDEST = (8, 5)
PROGRESS_S = 3.0
"""Seconds between two lines of progress."""


def import_tensorrt(name: str = "tensorrt") -> ModuleType:
    """Import TensorRT.

    Parameters
    ----------
    name : str
        "tensorrt", or "tensorrt_rtx", which parses and builds without a GPU.

    Raises
    ------
    EngineError
        It is not installed, does not load, or is older than 8.5.
    """
    try:
        trt = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise EngineError(f"{name} cannot be imported: {error}. docs/engines.md says how it is installed.") from error
    version = tuple(int(part) for part in trt.__version__.split(".")[:2])
    if name == "tensorrt" and version < OLDEST:
        raise EngineError(
            f"TensorRT {trt.__version__} is older than {'.'.join(map(str, OLDEST))} and lacks named tensors: use "
            "onnxruntime-tensorrt or onnxruntime-cpu, or JetPack 5.1 or newer."
        )
    return trt


def engine_for(
    path: str | Path, precision: str, trt: ModuleType, cache: EngineCache | None = None, progress: Progress = say
) -> bytes:
    """The engine of an ONNX file for this board's GPU, from the cache or built now.

    Raises
    ------
    EngineError
        The cache cannot be written, TensorRT refuses the net, or there is no GPU.
    """
    cache = cache or EngineCache("tensorrt")
    key = gpu_key(path, precision, {"tensorrt": trt.__version__}, FLAGS)
    return cached_engine(path, precision, trt, cache, key, progress)


def cached_engine(
    path: str | Path,
    precision: str,
    trt: ModuleType,
    cache: EngineCache,
    key: Key,
    progress: Progress = say,
    capability: str | None = None,
) -> bytes:
    """As `engine_for`, with the key given. What the key leaves out must not change the engine."""
    if engine := cache.load(key):
        return engine
    file = Path(path).name
    progress(f"TensorRT {trt.__version__} builds {file}, which can take minutes: {cache.miss(key)}.")
    timing = cache.path({name: value for name, value in key.items() if name not in _OF_THE_NET}, ".timing")
    started = time.monotonic()
    engine, timings = build_engine(
        path, precision, trt, timing.read_bytes() if timing.exists() else b"", progress, capability
    )
    cache.write(timing, timings)
    stored = cache.store(key, engine)
    progress(f"TensorRT built {file} in {time.monotonic() - started:.1f} s: {len(engine) / 1e6:.1f} MB, {stored}.")
    return engine


FLAGS = {"tf32": "off", "profiling": "detailed"}
"""What `build_engine` sets beside the precision; part of the key."""

_OF_THE_NET = ("onnx", "precision")


def build_engine(
    path: str | Path,
    precision: str,
    trt: ModuleType,
    timings: bytes = b"",
    progress: Progress = say,
    capability: str | None = None,
) -> tuple[bytes, bytes]:
    """Parse and build.

    Parameters
    ----------
    path : str or Path
        ONNX file, every shape fixed.
    precision : str
        fp32, fp16 or int8-trt, the form that the file is in.
    trt : module
        From `import_tensorrt`.
    timings : bytes
        Timing cache of earlier builds; one of another GPU or version is ignored.
    progress : callable
        Gets a line every few seconds.
    capability : str, optional
        TensorRT-RTX only: compute capability to build for, such as "SM86", where there is no GPU to ask.

    Returns
    -------
    tuple of bytes
        The engine, and the timing cache with what this build measured.

    Raises
    ------
    EngineError
        TensorRT refuses the net; the message has its own words and the nodes.
    """
    log = _log(trt)
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # what pybind makes of a null pointer
        raise EngineError(f"TensorRT {trt.__version__} does not start: {'; '.join(log.errors) or error}") from error
    kinds = trt.NetworkDefinitionCreationFlag
    typed = hasattr(kinds, "STRONGLY_TYPED")
    kind = kinds.STRONGLY_TYPED if typed else getattr(kinds, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if kind is None else 1 << int(kind))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        refusals = [_refusal(parser.get_error(i)) for i in range(parser.num_errors)] or log.errors
        raise EngineError(f"TensorRT {trt.__version__} does not parse {path}: {'; '.join(refusals)}")
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        if any(size < 0 for size in tensor.shape):
            raise EngineError(
                f"'{tensor.name}' of {path} has the open shape {tuple(tensor.shape)}: export it with fixed sizes."
            )
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # keeps 10 bits of the mantissa: "fp32" shall be fp32
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    allowed = {"fp16": "FP16", "int8-trt": "INT8"}.get(precision, "")
    if not typed and hasattr(trt.BuilderFlag, allowed):
        config.set_flag(getattr(trt.BuilderFlag, allowed))
    if capability:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    cache = config.create_timing_cache(timings)
    if not config.set_timing_cache(cache, ignore_mismatch=False):  # of another version
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    with _Reporter(trt, config, Path(path).name, progress):
        engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineError(f"TensorRT {trt.__version__} does not build {path}: {'; '.join(log.errors) or 'no reason'}")
    return bytes(engine), bytes(config.get_timing_cache().serialize())


def _refusal(error: Any) -> str:
    """What the parser says of one node; it tells operator and name from TensorRT 9 on."""
    if hasattr(error, "node_name"):
        node = f"{error.node_operator()} '{error.node_name()}': " if error.node_operator() else ""
    else:
        node = f"node {error.node()}: "
    return node + error.desc()


def _log(trt: ModuleType) -> Any:
    class Log(trt.ILogger):  # type: ignore[name-defined]
        """Keeps what TensorRT calls errors, for the exception."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message.strip())

    return Log()


class _Reporter:
    """Lines of progress while TensorRT builds: phases and steps where it tells them (10 and newer), else the time."""

    def __init__(self, trt: ModuleType, config: Any, file: str, progress: Progress) -> None:
        self._file, self._progress, self._phases = file, progress, {}  # type: ignore[var-annotated]
        self._done, self._started = threading.Event(), time.monotonic()
        self._thread = threading.Thread(target=self._report, daemon=True)
        if hasattr(trt, "IProgressMonitor"):
            self._monitor = _monitor(trt, self._phases)
            config.progress_monitor = self._monitor

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _report(self) -> None:
        while not self._done.wait(PROGRESS_S):
            phases = "".join(f", {name} {step} of {steps}" for name, (step, steps) in list(self._phases.items()))
            self._progress(f"building {self._file}: {time.monotonic() - self._started:.0f} s{phases}")


def _monitor(trt: ModuleType, phases: dict[str, tuple[int, int]]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined]
        """Keeps the phases under way in `phases`: name to step and number of steps."""

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            phases[name] = (0, steps)

        def step_complete(self, name: str, step: int) -> bool:
            phases[name] = (step, phases[name][1])
            return True

        def phase_finish(self, name: str) -> None:
            phases.pop(name, None)

    return Monitor()
