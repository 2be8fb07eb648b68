"""Writer of DroNet folders (`uzh-rpg/rpg_public_dronet`): one experiment of a data set, frame by frame.

One experiment is a folder with `images/<n>.jpg` and `sync_steering.txt`: a header line that starts with '#', then one
comma-separated row per image, in the order of the integers in the image names; column 0 is the angle in rad.

`meta.json` lies beside it. While that says ``"complete": false`` the recording grows or was cut off: the image of a
frame is there before its row, so images without a row and a last row without line end are what a crash can leave, and
empty images what a loss of power can; the reader leaves those frames out and the writer resumes before them.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import to_disk, write_atomically

COLUMNS = "angle,torque,speed,lat,long,alt"
JPEG_QUALITY = 95


class DronetWriter:
    """Write one experiment, frame by frame; after a crash (also `kill -9`) it resumes where it stopped.

    Use it as a context manager: `close` is called only if the block ends well, so a failed recording stays incomplete.

    Parameters
    ----------
    folder : pathlib.Path
        The experiment's folder, made if missing.
    recording : dict
        What was recorded and how (world, seed, expert ...), as JSON values; kept in meta.json.

    Attributes
    ----------
    frames : int
        Frames on disk, which is also the number of the next one: not 0 after resuming.

    Raises
    ------
    InputError
        If the folder holds a finished recording, one made with other `recording` values, or something else.
    """

    def __init__(self, folder: str | Path, recording: dict[str, Any]) -> None:
        self._folder = Path(folder)
        self._images = self._folder / "images"
        self._recording = json.loads(json.dumps(recording))
        self.frames = 0
        meta = read_meta(self._folder)
        if meta is None:
            if self._images.exists():
                raise InputError(
                    f"{self._folder}: holds images but no meta.json of a recording; choose an empty folder"
                )
            self._folder.mkdir(parents=True, exist_ok=True)
            self._write_meta(complete=False)
        elif meta["complete"]:
            raise InputError(f"{self._folder}: is a finished recording; delete it or choose another folder")
        elif meta["recording"] != self._recording:
            raise InputError(
                f"{self._folder}: was begun with {meta['recording']}, got {self._recording}; "
                "delete it or choose another folder"
            )
        self._rows = self._open_rows()

    def _open_rows(self) -> Any:
        """Cut what a crash left behind its last whole frame and open the table for appending."""
        table = self._folder / "sync_steering.txt"
        held = table.read_bytes() if table.exists() else b""
        lines = held.splitlines(keepends=True) or [f"#{COLUMNS}\n".encode()]
        rows = [line for line in lines[1:] if line.endswith(b"\n")]
        self.frames = len(whole_images(self._images)[: len(rows)])
        write_atomically(table, b"".join([lines[0], *rows[: self.frames]]))
        self._images.mkdir(exist_ok=True)  # after the table: a folder with images is read
        for number, path in numbered(self._images):
            if number[-1] >= self.frames:
                path.unlink()
        return table.open("ab", buffering=0)

    def add(self, grey: np.ndarray, angle: float, speed: float, x: float = 0.0, y: float = 0.0, s: float = 0.0) -> int:
        """Append one frame; returns how many bytes it takes.

        Parameters
        ----------
        grey : numpy.ndarray
            uint8 (240, 320), as made by `edgeflock.runtime.prepare.frame.grey_320x240`.
        angle : float
            Steering label in rad, positive = left, |angle| <= pi.
        speed : float
            m/s.
        x, y : float
            Position in the world in m, in the columns `lat` and `long`.
        s : float
            Arc length along the reference path in m, in the column `alt`.

        Raises
        ------
        InputError
            If the frame is not (240, 320) uint8 or a number is not finite.
        """
        if grey.dtype != np.uint8 or grey.shape != (240, 320):
            raise InputError(f"frame {self.frames}: expected uint8 (240, 320), got {grey.dtype} {grey.shape}")
        row = (angle, 0.0, speed, x, y, s)
        if not all(map(math.isfinite, row)) or abs(angle) > math.pi:
            raise InputError(f"frame {self.frames}: expected finite numbers and |angle| <= pi, got {COLUMNS} = {row}")
        jpeg = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        # Not waiting for the disk: at 30 frames a second it would hold the drive up.
        write_atomically(self._images / f"{self.frames}.jpg", jpeg.tobytes(), sync=False)
        # One unbuffered write per row: it is in the kernel's hands before the next frame begins.
        line = (",".join(f"{value:.9g}" for value in row) + "\n").encode()
        if self._rows.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.frames += 1
        return len(jpeg) + len(line)

    def close(self) -> None:
        """Wait until the disk has all of it, and mark the recording complete."""
        self._rows.close()
        for path in (*self._images.iterdir(), self._images, self._folder / "sync_steering.txt"):
            to_disk(path)
        self._write_meta(complete=True)

    def cut(self) -> None:
        """Close it unfinished: another writer goes on where this one was cut off."""
        self._rows.close()

    def _write_meta(self, complete: bool) -> None:
        meta = {"format": "dronet", "complete": complete, "recording": self._recording}
        if complete:
            meta["frames"] = self.frames
        write_atomically(self._folder / "meta.json", (json.dumps(meta, indent=2) + "\n").encode())

    def __enter__(self) -> DronetWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.cut()


def is_complete(folder: str | Path, recording: Mapping[str, Any] | None = None) -> bool:
    """Whether `folder` holds a finished recording of `DronetWriter`.

    Raises
    ------
    InputError
        It holds a finished one of other values than `recording`.
    """
    meta = read_meta(Path(folder))
    if meta is None or not meta["complete"]:
        return False
    for name, wanted in (recording or {}).items():
        if (held := meta["recording"].get(name, wanted)) != wanted:
            raise InputError(
                f"{folder}: was recorded with {name} {held}, got {wanted}; delete it or choose another folder"
            )
    return True


def whole_images(folder: Path) -> list[Path]:
    """Images 0, 1, 2 ... that were written, up to the first that is missing or empty."""
    found: list[Path] = []
    while (path := folder / f"{len(found)}.jpg").exists() and path.stat().st_size:
        found.append(path)
    return found


def numbered(folder: Path) -> list[tuple[tuple[int, ...], Path]]:
    """Images of `folder` with the integers in their names, in that order."""
    images = []
    for path in folder.iterdir():
        if path.suffix.lower() in (".jpg", ".jpeg", ".png") and not path.name.startswith("."):
            number = tuple(map(int, re.findall(r"\d+", path.stem)))
            if not number:
                raise DataError(f"{path}: expected a number in the image's name, which gives the order")
            images.append((number, path))
    images.sort()
    for (number, path), (following, other) in pairwise(images):
        if number == following:
            raise DataError(f"{path}: has the same number as {other.name}; expected one image per row")
    return images


def read_meta(folder: Path) -> dict[str, Any] | None:
    """meta.json of a recording, or None where there is none."""
    path = folder / "meta.json"
    if not path.exists():
        return None
    try:
        meta = json.loads(path.read_text("utf-8"))
        if not (isinstance(meta["complete"], bool) and isinstance(meta["recording"], dict)):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: expected the JSON that `edgeflock record` and the recorder write") from None
    return meta
