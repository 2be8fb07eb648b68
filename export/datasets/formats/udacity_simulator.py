"""`driving_log.csv` of Udacity's self-driving-car simulator, with its images in `IMG/` beside it.

Columns are center, left, right (images), steering, throttle, brake, speed; the simulator writes no header, the data
that Udacity gave out have one. Steering runs from -1 to 1, 1 to the right, of the car's 25 degrees. Only the centre
camera is used. The paths of images are those of the machine that recorded: their last part counts.
"""

from __future__ import annotations

import csv
import math
import re
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edgeflock.export.datasets.base import SteeringDataset, concatenate, parse_angle
from edgeflock.export.datasets.images import read_frames
from edgeflock.export.datasets.options import ReadOptions
from edgeflock.runtime.errors import DataError

TABLE = "driving_log.csv"
FULL_LOCK = math.radians(25)  # of its car (`udacity/self-driving-car-sim`)
_CENTRE, _STEERING = 0, 3


def read_simulator(path: str | Path, options: ReadOptions | None = None) -> SteeringDataset:
    """Read one driving_log.csv, or those of all drives in a folder; each becomes a group.

    Parameters
    ----------
    path : str or pathlib.Path
    options : ReadOptions, optional
        `full_lock` of a car other than the simulator's.

    Raises
    ------
    DataError
        A row or an image is missing or broken, or steering is not from -1 to 1.
    """
    path = Path(path)
    tables = [path] if path.is_file() else sorted([*path.glob(TABLE), *path.glob(f"*/{TABLE}")])
    if not tables:
        raise DataError(f"{path}: expected {TABLE} here or in its folders, found none")
    options = (options or ReadOptions()).normalised(right_positive=True, default=FULL_LOCK)
    return concatenate([_read_drive(table, options) for table in tables])


def _read_drive(table: Path, options: ReadOptions) -> SteeringDataset:
    files: list[Path] = []
    origins: list[str] = []
    angles: list[float] = []
    centre, steering = _CENTRE, _STEERING
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # Excel begins with a byte order mark
            reader = csv.reader(file, skipinitialspace=True)
            for row in reader:
                where = f"{table}, row {reader.line_num}"
                if not files and "steering" in row and "center" in row:
                    centre, steering = row.index("center"), row.index("steering")
                    continue
                if len(row) <= max(centre, steering):
                    raise DataError(f"{where}: expected center,left,right,steering,throttle,brake,speed, got {row}")
                files.append(_image(row[centre].strip(), table.parent))
                origins.append(where)
                angles.append(parse_angle(row[steering], f"{where}, steering", options))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: expected comma-separated text, reading it failed: {error}") from error
    if not files:
        raise DataError(f"{table}: expected at least one row, found none")
    group = table.absolute().parent.name
    return SteeringDataset(
        frames=read_frames(files, origins, group),
        angles=np.array(angles, np.float32),
        groups=np.zeros(len(files), np.int32),
        group_names=[group],
        names=[f"{group}/{file.name}" for file in files],
        synthetic=True,
        stamps=np.array([_stamp(file.name) for file in files]),
    )


def _image(given: str, folder: Path) -> Path:
    """The image beside the table that a path of another machine means, also one of Windows."""
    name = re.split(r"[/\\]", given)[-1]
    places = (folder / "IMG" / name, folder / name, folder / given.replace("\\", "/"))
    return next((place for place in places if place.is_file()), places[0])


def _stamp(name: str) -> float:
    """In s, from a name like center_2016_12_01_13_30_48_287.jpg."""
    numbers = [int(part) for part in re.findall(r"\d+", name)]
    try:
        *moment, ms = numbers
        return datetime(*moment, tzinfo=timezone.utc).timestamp() + ms / 1000  # type: ignore[arg-type,misc]  # other names end below
    except (ValueError, TypeError):
        return math.nan
