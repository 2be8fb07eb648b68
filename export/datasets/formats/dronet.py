"""DroNet folders: what `edgeflock record` writes and the public DroNet data uses (`uzh-rpg/rpg_public_dronet`).

One experiment is a folder with `images/<n>.jpg|png` and `sync_steering.txt`: a header line that starts with '#', then
one comma-separated row per image, in the order of the integers in the image names; column 0 is the angle in rad.

What `DronetWriter` makes has a `meta.json` beside it. While that says ``"complete": false`` the recording is running or
was cut off: the image of a frame is on disk before its row, so exactly one surplus image, and a last row without line
end, are what a crash can leave; the reader leaves that frame out and the writer resumes there. Any other folder must
have exactly one row per image.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from edgeflock.export.datasets.base import SteeringDataset, parse_angle
from edgeflock.export.datasets.options import ReadOptions, Unit
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import write_atomically

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
        meta = _meta(self._folder)
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
        self._images.mkdir(exist_ok=True)
        table = self._folder / "sync_steering.txt"
        whole = table.read_bytes() if table.exists() else b""
        whole = whole[: whole.rfind(b"\n") + 1] or f"#{COLUMNS}\n".encode()
        write_atomically(table, whole)
        self.frames = whole.count(b"\n") - 1
        for number, path in _numbered(self._images):
            if number[-1] >= self.frames:
                path.unlink()
        return table.open("ab", buffering=0)

    def add(self, grey: np.ndarray, angle: float, speed: float, x: float, y: float, s: float) -> None:
        """Append one frame.

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

    def close(self) -> None:
        """Mark the recording complete."""
        self._rows.close()
        self._write_meta(complete=True)

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
            self._rows.close()


def is_complete(folder: str | Path, recording: dict[str, Any]) -> bool:
    """Whether `folder` holds a finished recording of `DronetWriter` with these values.

    Raises
    ------
    InputError
        It holds a finished one with others.
    """
    meta = _meta(Path(folder))
    if meta is None or not meta["complete"]:
        return False
    for name, held in meta["recording"].items():
        if held != recording.get(name, held):
            raise InputError(
                f"{folder}: was recorded with {name} {held}, got {recording[name]}; delete it or choose another folder"
            )
    return True


def experiments(folder: Path) -> list[Path]:
    """Experiment folders at `folder`: itself or its children, by name."""
    if (folder / "images").is_dir():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/images") if path.is_dir())


def read_dronet(folder: str | Path, options: ReadOptions | None = None) -> SteeringDataset:
    """Read one experiment or all experiments of a split; each becomes a group.

    Experiments with collision flags (`labels.txt`) are left out with a note: they have no steering angle.

    Raises
    ------
    DataError
        If an image or a row is missing, surplus or broken, or there is no steering at all.
    """
    from edgeflock.export.datasets.images import console, read_frames

    folder = Path(folder)
    paths: list[Path] = []
    origins: list[str] = []
    angles: list[float] = []
    groups: list[int] = []
    names: list[str] = []
    recorded = True
    for experiment in experiments(folder):
        table = experiment / "sync_steering.txt"
        if not table.exists():
            if not (experiment / "labels.txt").exists():
                raise DataError(
                    f"{experiment}: expected sync_steering.txt beside images/, found neither it nor labels.txt"
                )
            console.print(f"{experiment}: left out, it has collision flags (labels.txt) and no steering")
            continue
        images, rows = _read_experiment(experiment, table, options.unit if options else None)
        paths += images
        origins += [f"{table}, row {number}" for number, _ in rows]
        angles += [angle for _, angle in rows]
        groups += [len(names)] * len(rows)
        names.append(experiment.name)
        recorded &= _meta(experiment) is not None
    if not paths:
        raise DataError(
            f"{folder}: expected at least one frame with a steering angle (images/ and sync_steering.txt), found none"
        )
    return SteeringDataset(
        frames=read_frames(paths, origins, folder.name),
        angles=np.array(angles, np.float32),
        groups=np.array(groups, np.int32),
        group_names=names,
        names=[f"{path.parents[1].name}/images/{path.name}" for path in paths],
        synthetic=recorded or None,  # only `edgeflock record` writes meta.json, and it drives in simulated worlds
    )


def _read_experiment(experiment: Path, table: Path, unit: Unit | None) -> tuple[list[Path], list[tuple[int, float]]]:
    """Images in order, and for each its row number in `table` and angle."""
    images = [path for _, path in _numbered(experiment / "images")]
    try:
        text = table.read_text("utf-8-sig")  # Excel begins with a byte order mark
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: expected text, found a byte that is not UTF-8 at offset {error.start}") from None
    lines = text.rstrip().split("\n")
    if not lines[0].startswith("#"):
        raise DataError(f"{table}, row 1: expected a header line '#{COLUMNS}', got {lines[0]!r}")
    header = [name.strip() for name in lines[0].lstrip("# ").split(",")]
    if "angle" in header[1:]:
        raise DataError(f"{table}, row 1: expected the angle in the first column, got {lines[0]!r}")
    meta = _meta(experiment)
    recording = meta is not None and not meta["complete"]
    if recording and not text.endswith("\n"):
        lines.pop()
    rows = []
    for number, line in enumerate(lines[1:], 2):
        fields = line.split(",")
        if len(fields) != len(header):
            raise DataError(
                f"{table}, row {number}: expected {len(header)} columns ({','.join(header)}), "
                f"got {len(fields)}: {line!r}"
            )
        rows.append((number, parse_angle(fields[0], f"{table}, row {number}, column 1", unit)))
    if recording and len(images) == len(rows) + 1:
        images.pop()
    if len(images) != len(rows):
        raise DataError(f"{table}: expected one row per image, got {len(rows)} rows and {len(images)} images")
    return images, rows


def _numbered(folder: Path) -> list[tuple[tuple[int, ...], Path]]:
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


def _meta(folder: Path) -> dict[str, Any] | None:
    """meta.json of a recording, or None where there is none."""
    path = folder / "meta.json"
    if not path.exists():
        return None
    try:
        meta = json.loads(path.read_text("utf-8"))
        if not (isinstance(meta["complete"], bool) and isinstance(meta["recording"], dict)):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: expected the JSON that `edgeflock record` writes") from None
    return meta
