"""The machine that a benchmark runs on: what it is, what it does at one moment, what the process takes of it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import psutil

from edgeflock.runtime.bench.record import BoardRecord, BoardState
from edgeflock.runtime.bench.sensors import Sensors, nvml, power_mode
from edgeflock.runtime.board.facts import board_model, cpu_model, installed_version

PACKAGES = (
    *("edgeflock", "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "onnxruntime-qnn"),
    *("openvino", "tensorrt"),
)


def throttling_since(events: dict[str, int]) -> dict[str, int]:
    """Throttling of CPU, board and GPU: what was counted since `events` were read, and the states that are on now."""
    sensors = Sensors()
    counted = {name: count - events.get(name, 0) for name, count in sensors.throttle_events().items()}
    states = sensors.throttle_states() | {name: int(on) for name, on in nvml().get("throttling", {}).items()}
    return {name: count for name, count in (counted | states).items() if count}


def board_state() -> BoardState:
    """What the board does now; takes 0.3 s."""
    sensors, gpu = Sensors(), nvml()
    return BoardState(
        clocks_mhz=sensors.clocks_mhz() | gpu.get("clocks_mhz", {}),
        governors=sensors.governors(),
        power_mode=power_mode(),
        temperatures_c=sensors.temperatures_c() | gpu.get("temperatures_c", {}),
        load_1min=round(os.getloadavg()[0], 2),
        busy_percent=psutil.cpu_percent(0.3),
    )


def this_board(name: str | None = None) -> BoardRecord:
    """The machine that this runs on."""
    release, model = Path("/etc/nv_tegra_release"), board_model()
    if name is None:  # a machine without a model name is told apart by its processor
        name = cpu_model() if model == platform.machine() else model
    versions = {"python": platform.python_version()}
    versions |= {package: found for package in PACKAGES if (found := installed_version(package))}
    return BoardRecord(
        name=name,
        model=model,
        processor=cpu_model(),
        cores=os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        architecture=platform.machine(),
        system=_system(),
        kernel=platform.release(),
        jetson_linux=release.read_text(errors="replace").splitlines()[0].lstrip("# ") if release.exists() else None,
        versions=versions,
    )


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def commit() -> str | None:
    """Git commit of the checkout that this module runs from, "-dirty" with changes; None for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def engine_version(engine: str) -> str:
    """Version of the library behind an engine."""
    if engine.startswith("onnxruntime"):
        import onnxruntime

        return onnxruntime.__version__
    return installed_version(engine) or "unknown"


def forget_peak_rss() -> None:
    """Start the kernel's high-water mark again (Linux; proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_rss_mib() -> float | None:
    """Largest resident memory of this process since then, MiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    peak = next((line for line in lines if line.startswith("VmHWM")), None)
    return round(int(peak.split()[1]) / 1024, 1) if peak else None
