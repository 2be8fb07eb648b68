"""Udacity's `interpolated.csv`, as the rosbag conversion `rwightman/udacity-driving-reader` writes it.

The header names the columns: index, timestamp, width, height, frame_id, filename, angle, torque, speed, lat, long, alt.
Only rows whose frame_id is ``center_camera`` are used; `filename` is relative to the csv, `angle` in rad.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from edgeflock.export.datasets.base import SteeringDataset, concatenate, parse_angle
from edgeflock.export.datasets.images import read_frames
from edgeflock.runtime.errors import DataError

_CAMERA = "center_camera"
_COLUMNS = ("frame_id", "filename", "angle")


def read_udacity(path: str | Path) -> SteeringDataset:
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
    return concatenate([_read_sequence(table) for table in tables])


def _read_sequence(table: Path) -> SteeringDataset:
    files, origins, angles = [], [], []
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            missing = [column for column in _COLUMNS if column not in header]
            if missing:
                raise DataError(f"{table}, row 1: expected the columns {', '.join(_COLUMNS)}; no {missing} in {header}")
            for row in reader:
                where = f"{table}, row {reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(f"{where}: expected {len(header)} columns as in the header, got {row}")
                if row["frame_id"] == _CAMERA:
                    files.append(row["filename"])
                    origins.append(where)
                    angles.append(parse_angle(row["angle"], f"{where}, column 'angle'"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: expected comma-separated text, reading it failed: {error}") from error
    if not files:
        raise DataError(f"{table}: expected rows with frame_id {_CAMERA}, found none")
    group = table.absolute().parent.name
    return SteeringDataset(
        frames=read_frames([table.parent / file for file in files], origins, group),
        angles=np.array(angles, np.float32),
        groups=np.zeros(len(files), np.int32),
        group_names=[group],
        names=[f"{group}/{file}" for file in files],
    )
