"""Udacity's `interpolated.csv`, as the rosbag conversion `rwightman/udacity-driving-reader` writes it.

The header names the columns: index, timestamp, width, height, frame_id, filename, angle, torque, speed, lat, long, alt.
Only rows whose frame_id is ``center_camera`` are used; `filename` is relative to the csv, `angle` in rad.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from edgeflock.export.datasets.base import SteeringDataset, concatenate, parse_angle
from edgeflock.export.datasets.images import read_frames
from edgeflock.export.datasets.options import ReadOptions
from edgeflock.runtime.errors import DataError

_CAMERA = "center_camera"
_COLUMNS = ("frame_id", "filename", "angle")


def read_udacity(path: str | Path, options: ReadOptions | None = None) -> SteeringDataset:
    """Read one interpolated.csv, or those of all sequences in a folder; each becomes a group.

    Raises
    ------
    DataError
        If a column or an image is missing, an angle is not a number in rad, or no row is of the centre camera.
    """
    path = Path(path)
    tables = [path] if path.is_file() else sorted([*path.glob("interpolated.csv"), *path.glob("*/interpolated.csv")])
    if not tables:
        raise DataError(f"{path}: expected interpolated.csv here or in its folders, found none")
    return concatenate([_read_sequence(table, options) for table in tables])


def _read_sequence(table: Path, options: ReadOptions | None) -> SteeringDataset:
    files, origins, angles = [], [], []
    cameras: set[str] = set()
    stamps: list[float] = []
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # Excel begins with a byte order mark
            reader = csv.DictReader(file, skipinitialspace=True)
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            missing = [column for column in _COLUMNS if column not in header]
            if missing:
                raise DataError(f"{table}, row 1: expected the columns {', '.join(_COLUMNS)}; no {missing} in {header}")
            for row in reader:
                where = f"{table}, row {reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(f"{where}: expected {len(header)} columns as in the header, got {row}")
                if row["frame_id"].strip() == _CAMERA:
                    files.append(_relative(row["filename"].strip(), table.parent))
                    origins.append(where)
                    stamps.append(_seconds(row.get("timestamp", "")))
                    angles.append(parse_angle(row["angle"], f"{where}, column 'angle'", options))
                else:
                    cameras.add(row["frame_id"])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: expected comma-separated text, reading it failed: {error}") from error
    if not files:
        got = ", ".join(map(repr, sorted(cameras)[:4])) or "no row"
        raise DataError(f"{table}: expected rows with frame_id {_CAMERA}, got {got}")
    group = table.absolute().parent.name
    return SteeringDataset(
        frames=read_frames([table.parent / file for file in files], origins, group),
        angles=np.array(angles, np.float32),
        groups=np.zeros(len(files), np.int32),
        group_names=[group],
        names=[f"{group}/{file}" for file in files],
        stamps=np.array(stamps),
    )


def _seconds(nanoseconds: str) -> float:
    try:
        return float(nanoseconds) * 1e-9
    except ValueError:
        return math.nan


def _relative(name: str, folder: Path) -> str:
    """File name of a row; one written on Windows has backslashes."""
    return name if (folder / name).exists() else name.replace("\\", "/")
