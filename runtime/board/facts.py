"""What this board is: model, processor, installed versions. Read from /proc and /sys, cheap, never an error."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
from functools import lru_cache
from pathlib import Path

from edgeflock.runtime.errors import InputError

MOST_THREADS = 256


def board_model() -> str:
    """Model name of the board from the device tree, or of the machine."""
    return (
        _text("/proc/device-tree/model")
        or _text("/sys/devices/soc0/machine")
        or _text("/sys/class/dmi/id/product_name")
        or platform.machine()
    )


def cpu_model(cpuinfo: str | Path = "/proc/cpuinfo") -> str:
    """Name of the processor; on Arm, where the kernel gives none, implementer and parts in hexadecimal."""
    info = _text(cpuinfo)
    if name := re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)", info, re.MULTILINE):
        return name[1].strip()
    parts = sorted(set(re.findall(r"^CPU part\s*:\s*(\w+)", info, re.MULTILINE)))
    maker = re.search(r"^CPU implementer\s*:\s*(\w+)", info, re.MULTILINE)
    return " ".join([maker[1], *parts]) if maker else platform.processor() or platform.machine()


def cpu_flags(cpuinfo: str | Path = "/proc/cpuinfo") -> set[str]:
    """Instruction sets, by the kernel's names; empty where they cannot be read."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)", _text(cpuinfo), re.MULTILINE)
    return set(found[1].split()) if found else set()


@lru_cache(maxsize=64)
def installed_version(package: str) -> str | None:
    """Version of a Python package, or None. JetPack's TensorRT has no metadata and is asked itself."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pass
    if package == "tensorrt":
        try:
            return str(importlib.import_module("tensorrt").__version__)
        except ImportError:
            return None
    return None


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def driver_version() -> str:
    """Release of Jetson Linux, or of NVIDIA's driver; "" without either."""
    for file, pattern in (
        ("/etc/nv_tegra_release", r"R(\d+).*REVISION: ([\d.]+)"),
        ("/proc/driver/nvidia/version", r"Kernel Module.*?\s([\d.]+)()\s"),
    ):
        if Path(file).is_file() and (found := re.search(pattern, Path(file).read_text(errors="replace"))):
            return ".".join(filter(None, found.groups()))
    return ""


def check_threads(threads: int | None) -> None:
    """Refuse more threads than any board has use for: a library starts as many as it is told, and hangs.

    Raises
    ------
    InputError
        More than `MOST_THREADS`, or twice the cores where they are more.
    """
    cores = os.cpu_count() or 1
    if threads is not None and threads > (most := max(MOST_THREADS, 2 * cores)):
        raise InputError(f"expected at most {most} threads, got {threads}: this machine has {cores} cores.")
