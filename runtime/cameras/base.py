"""What every camera hands over, live or recorded: frames, intrinsics, and the pace of a recording."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edgeflock.runtime.errors import CameraError
from edgeflock.runtime.intrinsics import Intrinsics


@dataclass(frozen=True)
class Frame:
    """One frame. The arrays belong to the source and are overwritten by its next `read`.

    Attributes
    ----------
    stamp_ns : int
        Host clock at exposure for a live camera, the recorded stamp for a recording.
    color : ndarray
        uint8 (H, W, 3) RGB.
    depth : ndarray or None
        uint16 (h, w) millimetres along the optical axis, 0 = no measurement.
    index : int
        Counts up from 0.
    """

    stamp_ns: int
    color: np.ndarray
    depth: np.ndarray | None
    index: int


class FrameSource(Protocol):
    """A camera or a recording. Opening happens in the constructor and raises CameraError with the way out."""

    @property
    def intrinsics(self) -> Intrinsics:
        """Of the colour image."""

    @property
    def depth_intrinsics(self) -> Intrinsics | None:
        """Of the depth image, which shows what the colour image shows; None where there is no depth."""

    @property
    def fps(self) -> float:
        """Nominal frames per second."""

    @property
    def live(self) -> bool:
        """False: the stamps are those of the recording, not of this machine's clock."""

    def read(self, timeout_s: float = 1.0) -> Frame | None:
        """Next frame; None at the end of a recording; CameraError after `timeout_s` without one."""

    def close(self) -> None:
        """Let the device or file go; a second call does nothing."""


class Pace:
    """Holds frames back until as much time has passed as between their recorded stamps."""

    LONGEST_GAP_S = 2.0  # a recording that was paused, or whose clock jumped, does not hang the robot

    def __init__(self) -> None:
        self._due: float | None = None
        self._stamp_ns = 0

    def wait(self, stamp_ns: int) -> None:
        """Sleep until the frame of `stamp_ns` is due."""
        now = time.monotonic()
        gap = (stamp_ns - self._stamp_ns) / 1e9
        self._stamp_ns = stamp_ns
        if self._due is None or not 0.0 <= gap <= self.LONGEST_GAP_S:
            self._due = now
            return
        self._due += gap
        if self._due > now:
            time.sleep(self._due - now)
        elif now - self._due > self.LONGEST_GAP_S:
            self._due = now  # the reader was held up: go on from here, do not rush to catch up


def numbered(path: Path) -> list[tuple[int, int, str]]:
    """Sort key of a file: by its name, numbers in it by their value (2 before 10)."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


def existing(path: str | Path, what: str) -> Path:
    """The path, or a CameraError that says which `what` was expected there."""
    found, text = Path(path).expanduser(), str(path)
    if not text or not found.exists():
        way_out = "give an existing path"
        if text.isdigit():
            way_out = f"the camera of that number is /dev/video{text}"
        elif re.match(r"[a-z]{3,5}:/", text):
            way_out = "nothing is read from the network, save it to a file first"
        raise CameraError(f"expected {what}, got {text!r}, which does not exist: {way_out}.")
    if found.is_fifo() or found.is_socket():
        raise CameraError(f"expected {what}, got the pipe {text}: save what comes out of it to a file first.")
    return found
