"""One file per on-disk format, `open_dataset`, which tells them apart, and `write_dataset`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal

from edgeflock.export.datasets.base import SteeringDataset, concatenate, implausible
from edgeflock.export.datasets.clocks import course
from edgeflock.export.datasets.options import ReadOptions
from edgeflock.runtime.cameras.rosbag import is_recording
from edgeflock.runtime.errors import InputError

__all__ = ["ReadOptions", "SteeringDataset", "Writable", "concatenate", "open_dataset", "write_dataset"]

# Folder names of each split. The authors' npz have no validation split; their published figures are on test.
SPLITS = {"train": ("train", "training"), "val": ("val", "validation", "test"), "test": ("test", "testing")}

# Format -> what lies in its folder (or is its file), and module and function of its reader.
FORMATS = {
    "DroNet": (("sync_steering.txt", "labels.txt", "*/sync_steering.txt", "*/labels.txt"), "dronet", "read_dronet"),
    "Udacity": (("interpolated.csv", "*/interpolated.csv"), "udacity", "read_udacity"),
    "Udacity simulator": (("driving_log.csv", "*/driving_log.csv"), "udacity_simulator", "read_simulator"),
    "donkey tub": (("*.catalog", "record_*.json", "*/*.catalog", "*/record_*.json"), "donkey", "read_donkey"),
    "LeRobot": (("meta/info.json", "*/meta/info.json"), "lerobot", "read_lerobot"),
    "FADNet npz": (("*.npz",), "npz", "read_npz"),
    "ROS bag": (("metadata.yaml", "*.mcap", "*.db3", "*.bag", "*/metadata.yaml"), "rosbag2", "read_rosbag2"),
}

Writable = Literal["dronet", "donkey", "lerobot"]
"""Formats with a writer: their module has one, named after it."""


def open_dataset(path: str | Path, split: str | None = None, options: ReadOptions | None = None) -> SteeringDataset:
    """Read a data set in whatever format lies at `path` (docs/data.md).

    Parameters
    ----------
    path : str or pathlib.Path
        A file, a folder in one of the formats, or a folder with such a folder per split.
    split : {"train", "val", "test"}, optional
        Which split to read; left out where `path` has none.
    options : ReadOptions, optional
        What the recording leaves open. Angles that no front wheel has are said, unless their unit is given.

    Raises
    ------
    InputError
        If there is nothing at `path`, the format is not clear, or the split is not there or not named.
    DataError
        If the data is broken.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: expected a data set, there is nothing at this path")
    folder = _split_folder(path, split)
    names = [folder.name] if folder.is_file() else []
    found = {
        name: reader
        for name, (patterns, *reader) in FORMATS.items()
        if any(Path(names[0]).match(pattern) if names else next(folder.glob(pattern), None) for pattern in patterns)
    }
    if is_recording(folder) or (folder.is_dir() and any(is_recording(p) for p in folder.iterdir() if p.is_dir())):
        found["ROS bag"] = list(FORMATS["ROS bag"][1:])  # also without metadata.yaml, packed, or by another name
    if "DroNet" in found:  # DroNet's Udacity folders keep the csv that they were made from
        found.pop("Udacity", None)
    if len(found) != 1:
        known = "; ".join(f"{name}: {' or '.join(patterns)}" for name, (patterns, *_) in FORMATS.items())
        raise InputError(
            f"{folder}: expected one data set format, found {' and '.join(found) or 'none'}. Known are {known}"
        )
    [(module, function)] = found.values()
    options = options or ReadOptions()
    data: SteeringDataset = _function(module, function)(folder, options)
    for problem in (None if options.unit else implausible(data), _set_back(data)):
        if problem:
            from edgeflock.export.datasets.images import console

            console.print(f"{folder}: {problem}", soft_wrap=True)
    return data


def write_dataset(data: SteeringDataset, folder: Path, to: Writable, options: ReadOptions) -> None:
    """Write a data set in another format, whole or not at all.

    Parameters
    ----------
    data : SteeringDataset
    folder : pathlib.Path
        New, or empty.
    to : {"dronet", "donkey", "lerobot"}
    options : ReadOptions
        What the format asks for.

    Raises
    ------
    InputError
        The folder holds something, or the format cannot hold the data.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: expected a new folder, it holds files: choose another one.")
    draft = folder.with_name(f".{folder.name}.part")
    rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        _function(to, f"write_{to}")(data, draft, options)
        draft.replace(folder)
    finally:
        rmtree(draft, ignore_errors=True)


def _function(module: str, name: str) -> Any:
    return getattr(import_module(f"{__name__}.formats.{module}"), name)


def _set_back(data: SteeringDataset) -> str | None:
    if data.stamps is None or not len(back := course(data.stamps, data.groups).back):
        return None
    return (
        f"expected times that go forward, got {len(back)} that go back, the first at {data.names[back[0]]}: the clock "
        "was set while this was recorded"
    )


def _split_folder(path: Path, split: str | None) -> Path:
    there = {name for names in SPLITS.values() for name in names if (path / name).is_dir()}
    if split is None:
        if there:
            folders = ", ".join(str(path / name) for name in sorted(there))
            raise InputError(f"{path}: holds the splits {', '.join(sorted(there))}; give the folder of one: {folders}")
        return path
    if split not in SPLITS:
        raise InputError(f"split: expected {', '.join(SPLITS)}, got {split!r}")
    name = next((name for name in SPLITS[split] if name in there), None)
    if name is None:
        raise InputError(
            f"{path}: expected a folder {' or '.join(f'{name}/' for name in SPLITS[split])} for the split {split!r}, "
            f"found {', '.join(sorted(there)) or 'no split'}"
        )
    return path / name
