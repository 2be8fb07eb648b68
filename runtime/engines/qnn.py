"""Qualcomm NPUs through the plug-in provider of ONNX Runtime (package onnxruntime-qnn); docs/engines.md.

Only the Hexagon HTP backend is offered: it is the NPU. What it does not take is an error, never the CPU. Executed
under emulation with onnxruntime-qnn 2.3.0: registering, devices, and sessions with the provider's `ir` backend, which
lowers the net and runs nothing. No NPU has run it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from edgeflock.runtime.board.facts import board_model, installed_version
from edgeflock.runtime.engines.base import Progress, say
from edgeflock.runtime.engines.cache import EngineCache, file_sha256
from edgeflock.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgeflock.runtime.errors import EngineError

PROVIDER = "QNNExecutionProvider"
HTP_ARCHS = ("0", "68", "69", "73", "75", "81")
"""Hexagon versions that the provider knows (boards.md 5.3); "0" lets it ask the board."""

_V66 = (
    "the Hexagon v66 of the RB5 is older than all that onnxruntime-qnn knows (68 and newer), which would ignore it "
    "and go on without NPU. Use onnxruntime-cpu with int8, or Qualcomm's QAIRT SDK <= 2.45 with its DSP backend "
    "(QNN_SDK_ROOT; docs/engines.md)"
)
_V66_BOARDS = ("rb5", "qrb5165", "sm8250", "qcs8250")


def open_qnn(
    path: str | Path,
    precision: str,
    allow_fallback: bool = False,
    htp_arch: str = "0",
    performance_mode: str = "burst",
    optimization: Literal["0", "1", "2", "3"] = "3",
    context_cache: str | Path | None = None,
    progress: Progress = say,
) -> OnnxRuntimeEngine:
    """Load an `int8-qnn` ONNX file on the NPU.

    Parameters
    ----------
    path, precision, allow_fallback
        See `edgeflock.runtime.engines.open_engine`.
    htp_arch : str
        Hexagon version, one of `HTP_ARCHS`.
    performance_mode : str
        ``htp_performance_mode`` of the provider, "burst" to "extreme_power_saver".
    optimization : str
        ``htp_graph_finalization_optimization_mode``: 3 takes longest to prepare and runs fastest.
    context_cache : path, optional
        Folder for compiled contexts, by default that of `EngineCache`.
    progress : callable
        Gets a line when the net has to be compiled.

    Raises
    ------
    EngineError
        There is no NPU that the provider knows, or the net does not run on it as a whole.
    """
    if htp_arch == "66":
        raise EngineError(f"htp_arch 66 is refused: {_V66}.")
    if htp_arch not in HTP_ARCHS:
        raise EngineError(f"htp_arch must be one of {', '.join(HTP_ARCHS)} (0 asks the board), got {htp_arch!r}.")
    if problem := npu_problem():
        raise EngineError(f"onnxruntime-qnn cannot be used here: {problem}")
    options = {
        "backend_type": "htp",
        "htp_arch": htp_arch,
        "htp_performance_mode": performance_mode,
        "htp_graph_finalization_optimization_mode": optimization,
    }
    versions = {name: str(installed_version(name)) for name in ("onnxruntime", "onnxruntime-qnn")}
    key = {"onnx": file_sha256(path), "precision": precision, "board": board_model(), **versions, **options}
    cache = EngineCache("onnxruntime-qnn", context_cache)

    def load(compiled: bytes | None = None, entries: dict[str, str] | None = None) -> OnnxRuntimeEngine:
        return OnnxRuntimeEngine(
            path,
            precision,
            provider=PROVIDER,
            allow_fallback=allow_fallback,
            provider_options=options,
            devices=_devices()[:1],
            entries=entries,
            compiled=compiled,
        )

    if compiled := cache.load(key):
        return load(compiled)
    progress(f"QNN compiles {Path(path).name}: {cache.miss(key)}.")
    with TemporaryDirectory(dir=cache.folder) as folder:
        context = Path(folder) / "context.onnx"
        entries = {"ep.context_enable": "1", "ep.context_embed_mode": "1", "ep.context_file_path": str(context)}
        engine = load(entries=entries)
        if context.exists():
            cache.store(key, context.read_bytes())
    return engine


def npu_problem() -> str | None:
    """Why no Qualcomm NPU can be used here, with the way out, or None."""
    model = board_model().lower()
    if any(name in model for name in _V66_BOARDS):
        return f"{_V66}."
    if not importlib.util.find_spec("onnxruntime_qnn"):
        return (
            "the package onnxruntime-qnn is not installed (wheels for aarch64 Linux with glibc >= 2.34 and "
            'Python >= 3.11 only): pip install "edgeflock[qnn]"'
        )
    try:
        if _devices():
            return None
    except EngineError as error:
        return str(error)
    return (
        f"onnxruntime-qnn {installed_version('onnxruntime-qnn')} sees no NPU (it looks for /dev/fastrpc-cdsp*): load "
        "the board's fastrpc driver and start cdsprpcd, or use onnxruntime-cpu with int8."
    )


def _devices() -> list:
    """Devices of the provider that can be NPUs, after registering its library once per process."""
    import onnxruntime
    import onnxruntime_qnn

    versions = f"onnxruntime-qnn {installed_version('onnxruntime-qnn')}, onnxruntime {onnxruntime.__version__}"

    def listed() -> list:
        devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
        # 2.3.0 lists a placeholder on the CPU, which takes every option and runs nothing on an NPU.
        return [device for device in devices if device.device.type == onnxruntime.OrtHardwareDeviceType.NPU]

    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise EngineError(f"ONNX Runtime is too old for a plug-in provider ({versions}): 1.24 or newer is needed.")
    if found := listed():
        return found
    try:
        onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
    except Exception as error:  # ONNX Runtime's own classes have no common base
        if "already registered" not in str(error):
            raise EngineError(
                f"ONNX Runtime refuses the QNN provider ({versions}): {error}. 2.3.0 goes with onnxruntime 1.24.2; "
                "newer ones with the onnxruntime named in their release notes."
            ) from error
    return listed()
