"""The data folder that a recorder fills: train/ and val/ with a DroNet recording per minute, never above its cap."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeflock.runtime.files import check_outputs
from edgeflock.runtime.recording.dronet import DronetWriter, is_complete, read_meta
from edgeflock.runtime.recording.limits import RecordingLimits

MINUTE_S = 60.0
_MB = 1_000_000


class DriveFolder:
    """Recordings by number: `train/drive_000001`, `val/drive_000002` ...

    One recording holds a minute of frames. Of every `holdout` of them the second goes to `val`. Above `max_mb` the
    oldest ones go. Other data in the folder are neither counted nor touched. What was cut off is finished at the next
    start.

    Parameters
    ----------
    path : Path
    limits : RecordingLimits
    about : mapping
        Who recorded, as JSON values; kept with each recording.

    Attributes
    ----------
    written : int
        Frames that this object wrote.

    Raises
    ------
    FileError, DataError
        The folder cannot be written, or holds a recording that is broken.
    """

    def __init__(self, path: Path, limits: RecordingLimits, about: Mapping[str, Any]) -> None:
        check_outputs(folders=[path])
        path.mkdir(parents=True, exist_ok=True)
        self.path, self._limits, self._about = path, limits, dict(about)
        self._removed = path / ".removed"
        shutil.rmtree(self._removed, ignore_errors=True)
        self._sizes: dict[int, int] = {}
        for drive in sorted(path.glob("*/drive_*")):
            if _finish(drive):
                self._sizes[int(drive.name[6:])] = sum(f.stat().st_size for f in drive.rglob("*") if f.is_file())
        self._writer: DronetWriter | None = None
        self._number = 1 + max(self._sizes, default=0)
        self.written = 0

    @property
    def bytes(self) -> int:
        """Size of all recordings."""
        return sum(self._sizes.values())

    @property
    def split(self) -> str:
        """Where the next frame goes: "train" or "val"."""
        return self._split(self._number)

    def full(self) -> str | None:
        """Why no frame can be written now; None where one can."""
        free = shutil.disk_usage(self.path).free / _MB
        if free >= self._limits.free_mb:
            return None
        return f"the disk of {self.path} is full: {free:.0f} MB are free, free_mb keeps {self._limits.free_mb:.0f}"

    def add(self, grey: np.ndarray, angle: float, speed: float) -> None:
        """Append one frame: uint8 (240, 320), rad, m/s.

        Raises
        ------
        OSError
            It cannot be written; the frames before are whole, and the next call tries again.
        """
        writer = self._writer
        try:
            if writer is None:
                writer = self._writer = DronetWriter(self._drive(self._number), self._about)
            size = writer.add(grey, angle, speed)
        except OSError:
            if writer is not None:
                writer.cut()  # the next one goes on behind the last whole frame
            self._writer = None
            raise
        self._sizes[self._number] = self._sizes.get(self._number, 0) + size
        self.written += 1
        if writer.frames >= MINUTE_S * self._limits.rate_hz:
            self.close()
        self._make_room()

    def close(self) -> None:
        """Finish the recording that is open; the next frame begins another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._number += 1

    def _make_room(self) -> None:
        while self.bytes > self._limits.max_mb * _MB and (oldest := min(self._sizes)) != self._number:
            self._removed.mkdir(exist_ok=True)
            gone = self._removed / self._drive(oldest).name
            self._drive(oldest).rename(gone)  # in one step: a reader meets all of it or nothing
            shutil.rmtree(gone, ignore_errors=True)
            del self._sizes[oldest]

    def _drive(self, number: int) -> Path:
        return self.path / self._split(number) / f"drive_{number:06d}"

    def _split(self, number: int) -> str:
        held_out = self._limits.holdout and number % self._limits.holdout == 2 % self._limits.holdout
        return "val" if held_out else "train"


def _finish(drive: Path) -> bool:
    """Finish a recording that was cut off; one without a frame is taken away. Whether it is there."""
    if is_complete(drive):
        return True
    meta = read_meta(drive)
    if meta is not None:
        writer = DronetWriter(drive, meta["recording"])
        if writer.frames:
            writer.close()
            return True
        writer.cut()
    shutil.rmtree(drive)
    return False
