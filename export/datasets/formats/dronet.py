"""DroNet folders: the public data (`uzh-rpg/rpg_public_dronet`), and what `DronetWriter` writes.

A folder of `DronetWriter` may be read while it grows, and after a crash: see there. Any other folder must have exactly
one row per image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.progress import track

from edgeflock.export.datasets.base import SteeringDataset, parse_angle
from edgeflock.export.datasets.images import console, read_frames
from edgeflock.export.datasets.options import ReadOptions
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.recording.dronet import COLUMNS, DronetWriter, numbered, read_meta, whole_images

ATTEMPTS = 5
"""Readings of a folder whose oldest recordings are thrown away meanwhile."""


def experiments(folder: Path) -> list[Path]:
    """Experiment folders at `folder`: itself or its children, by name."""
    if (folder / "images").is_dir():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/images") if path.is_dir())


def read_dronet(folder: str | Path, options: ReadOptions | None = None) -> SteeringDataset:
    """Read one experiment or all experiments of a split; each becomes a group.

    Experiments with collision flags (`labels.txt`) are left out with a note: they have no steering angle. A recorder
    that throws its oldest experiments away meanwhile lets the reading begin anew.

    Raises
    ------
    DataError
        If an image or a row is missing, surplus or broken, or there is no steering at all.
    """
    folder = Path(folder)
    for attempt in range(1, ATTEMPTS + 1):
        there = experiments(folder)
        try:
            return _read(folder, there, options)
        except (DataError, FileNotFoundError):
            if attempt == ATTEMPTS or all((experiment / "images").is_dir() for experiment in there):
                raise
    raise AssertionError


def _read(folder: Path, there: list[Path], options: ReadOptions | None) -> SteeringDataset:
    paths: list[Path] = []
    origins: list[str] = []
    angles: list[float] = []
    groups: list[int] = []
    names: list[str] = []
    simulated = True
    for experiment in there:
        table = experiment / "sync_steering.txt"
        if not table.exists():
            if not (experiment / "labels.txt").exists():
                raise DataError(
                    f"{experiment}: expected sync_steering.txt beside images/, found neither it nor labels.txt"
                )
            console.print(f"{experiment}: left out, it has collision flags (labels.txt) and no steering")
            continue
        images, rows = _read_experiment(experiment, table, options)
        paths += images
        origins += [f"{table}, row {number}" for number, _ in rows]
        angles += [angle for _, angle in rows]
        groups += [len(names)] * len(rows)
        names.append(experiment.name)
        meta = read_meta(experiment)
        simulated &= meta is not None and "world" in meta["recording"]
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
        synthetic=simulated or None,
    )


def _read_experiment(
    experiment: Path, table: Path, options: ReadOptions | None
) -> tuple[list[Path], list[tuple[int, float]]]:
    """Images in order, and for each its row number in `table` and angle."""
    meta = read_meta(experiment)  # before the table, and that before the images: the folder may grow meanwhile
    recording = meta is not None and not meta["complete"]
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
        rows.append((number, parse_angle(fields[0], f"{table}, row {number}, column 1", options)))
    if recording:
        images = whole_images(experiment / "images")[: len(rows)]
        return images, rows[: len(images)]
    images = [path for _, path in numbered(experiment / "images")]
    if len(images) != len(rows):
        raise DataError(f"{table}: expected one row per image, got {len(rows)} rows and {len(images)} images")
    return images, rows


def write_dronet(data: SteeringDataset, folder: Path, _: ReadOptions) -> None:
    """Write whole frames as DroNet folders; each group becomes an experiment. Speed and place are 0: unknown.

    Raises
    ------
    InputError
        Frames are cropped already.
    """
    for number in np.unique(data.groups):
        name = data.group_names[number]
        unique = f"{name}_{number}" if data.group_names.count(name) > 1 else name
        about = {"world" if data.synthetic else "source": name}
        with DronetWriter(folder / unique.replace("/", "_"), about) as writer:
            chosen = np.flatnonzero(data.groups == number)
            for index in track(chosen, f"Writing {name}", console=console, transient=True):
                writer.add(data.frames[index], float(data.angles[index]), speed=0.0)
