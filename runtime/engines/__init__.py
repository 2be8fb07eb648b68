"""Every engine behind one small protocol, `base.Engine`; one file per engine, loaded only when it is opened."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from edgeflock.runtime.board.facts import check_threads
from edgeflock.runtime.errors import EngineError

if TYPE_CHECKING:
    from edgeflock.runtime.engines.base import Engine

__all__ = ["ENGINES", "PRECISIONS", "REFERENCE", "check_engine", "engine_problems", "open_engine"]

PRECISIONS: dict[str, tuple[str, ...]] = {
    "onnxruntime-cpu": ("int8", "fp32"),
    "openvino": ("int8", "fp32"),
    "tensorrt": ("int8-trt", "fp16", "fp32"),
    "onnxruntime-tensorrt": ("int8-trt", "fp16", "fp32"),
    "onnxruntime-cuda": ("fp16", "fp32"),
    "onnxruntime-qnn": ("int8-qnn",),
}
"""Precisions that pay with each engine, best first. The engine with the fewest parts comes first."""

REFERENCE = "onnxruntime-cpu"
"""Runs every precision, if not always fast: what a bundle's reference answers were made with."""

ENGINES = tuple(PRECISIONS)
"""Names of the engines, as reports print them and profiles store them."""


def check_engine(name: str) -> None:
    """Refuse a name that no engine has: `EngineError`."""
    if name not in PRECISIONS:
        raise EngineError(f"there is no engine '{name}', only {', '.join(ENGINES)}.")


def open_engine(name: str, path: str | Path, precision: str, threads: int = 1, allow_fallback: bool = False) -> Engine:
    """Load an ONNX file with an engine.

    Parameters
    ----------
    name : str
        One of `ENGINES`.
    path : str or Path
        ONNX file, every shape fixed.
    precision : str
        The manifest's name for it, one of ``PRECISIONS[name]``; `REFERENCE` takes any.
    threads : int
        CPU threads inside an operator; engines on a GPU or NPU have no use for them.
    allow_fallback : bool
        Let nodes that the engine refuses run on the CPU.

    Raises
    ------
    InputError
        So many threads as no board has use for.
    EngineError
        There is no such engine, it cannot be used here, it does not take the precision or the net, or a part of the
        net would run elsewhere.
    """
    check_threads(threads)
    check_engine(name)
    if precision not in PRECISIONS[name] and name != REFERENCE:
        takers = ", ".join(engine for engine in ENGINES if precision in PRECISIONS[engine]) or "no engine"
        raise EngineError(f"{name} takes {', '.join(PRECISIONS[name])}, not '{precision}', which is for {takers}.")
    if problem := _PROBLEMS[name]() or _stopped(name, (precision,)):
        raise EngineError(f"{name} cannot be used here with {precision}: {problem}")
    if name == "openvino":
        from edgeflock.runtime.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(path, precision, threads)
    if name == "tensorrt":
        from edgeflock.runtime.engines.tensorrt import TensorRtEngine

        return TensorRtEngine(path, precision)
    if name == "onnxruntime-qnn":
        from edgeflock.runtime.engines.qnn import open_qnn

        return open_qnn(path, precision, allow_fallback)
    from edgeflock.runtime.engines.onnxruntime import open_onnxruntime

    return open_onnxruntime(name, path, precision, threads, allow_fallback)


def engine_problems() -> dict[str, str | None]:
    """Why each engine cannot be used on this machine, with the way out; None where it can.

    Looks for packages, devices and versions known to fail; loads no net.
    """
    return {name: problem() or _stopped(name, PRECISIONS[name]) for name, problem in _PROBLEMS.items()}


def _provider(name: str) -> str | None:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if name not in available:
        return (
            f"ONNX Runtime {onnxruntime.__version__} here has no {name}, only {', '.join(available)}. "
            "Replace the package onnxruntime by onnxruntime-gpu; on a Jetson by NVIDIA's wheel for its JetPack."
        )
    return _gpu()


def _gpu() -> str | None:
    from edgeflock.runtime.engines.cuda import gpu_problem

    return gpu_problem()


def _tensorrt() -> str | None:
    if not importlib.util.find_spec("tensorrt"):
        return (
            "the package tensorrt is not installed. On a Jetson: sudo apt-get install -y python3-libnvinfer, and a "
            "Python that sees it (python3 -m venv --system-site-packages); elsewhere: pip install tensorrt."
        )
    return _gpu()


def _openvino() -> str | None:
    if importlib.util.find_spec("openvino"):
        return None
    return 'the package openvino is not installed: pip install "edgeflock[openvino]"'


def _qnn() -> str | None:
    from edgeflock.runtime.engines.qnn import npu_problem

    return npu_problem()


def _stopped(name: str, precisions: tuple[str, ...]) -> str | None:
    """Why none of `precisions` may be used with the installed version of an engine's package on this board."""
    from edgeflock.runtime.board.known_bad import known_bad_here

    for entry, version in known_bad_here(package=_PACKAGES[name]):
        if set(precisions) <= set(entry.stops):
            return f"{entry.package} {version}: {entry.reason}. Way out: {entry.way_out}."
    return None


_PACKAGES = {
    "onnxruntime-cpu": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "onnxruntime-tensorrt": "tensorrt",
    "onnxruntime-cuda": "onnxruntime-gpu",
    "onnxruntime-qnn": "onnxruntime-qnn",
}
_PROBLEMS = {
    "onnxruntime-cpu": lambda: None,
    "openvino": _openvino,
    "tensorrt": _tensorrt,
    "onnxruntime-tensorrt": lambda: _provider("TensorrtExecutionProvider"),
    "onnxruntime-cuda": lambda: _provider("CUDAExecutionProvider"),
    "onnxruntime-qnn": _qnn,
}
