"""FRAMES of `edgeflock export net`: pictures, arrays or one of our data sets, as the bundle takes them."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edgeflock.export.datasets import ReadOptions, SteeringDataset, open_dataset
from edgeflock.export.foreign.meaning import Taken
from edgeflock.export.foreign.other_frames import other_frames
from edgeflock.export.foreign.samples import Frames, only_picture, prepared
from edgeflock.runtime.bundle.manifest import ImageInput
from edgeflock.runtime.cameras.pictures import is_picture, not_read, read_picture
from edgeflock.runtime.errors import DataError, InputError

LABEL = "label"
"""Name of a class number in `Samples.labels`."""
TABLE, MASKS = "labels.csv", "masks"


def open_frames(path: Path, options: ReadOptions | None = None, labels: Sequence[str] = ()) -> Frames:
    """Find out what lies at a path.

    Parameters
    ----------
    path : Path
        npz with arrays named as the inputs; a folder of pictures, or of a folder of pictures for each class; a folder
        of sounds or scans; a bag of ROS; or a data set of docs/data.md.
    options : ReadOptions, optional
        What a data set leaves open.
    labels : sequence of str
        Names of the classes, in the order of the net's answer: folders of classes and labels.csv have them by name.

    Raises
    ------
    InputError, DataError
        Nothing of it is there, it is broken, or it names a class that is no label.
    """
    if not path.exists():
        raise InputError(
            f"{path}: expected a folder of pictures, an npz or a data set, nothing is there: check the path."
        )
    if path.suffix == ".npz" and path.is_file():
        arrays = _arrays_of(path)
        if "ground_truths" not in arrays:  # which FADNet's authors save beside their frames
            return _Arrays(path, arrays)
    if path.is_dir():
        if pictures := _pictures(path):
            return _Pictures(path, pictures, _table(path / TABLE, pictures, labels), path / MASKS)
        folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        grouped = [(folder, file) for folder in folders for file in _pictures(folder)]
        if grouped and not any(path.glob("sync_steering.txt")):
            names = labels or [folder.name for folder in folders]
            numbers = [_number(folder.name, names, folder) for folder, _ in grouped]
            return _Pictures(path, [file for _, file in grouped], {LABEL: np.array(numbers)})
    if (other := other_frames(path, options or ReadOptions())) is not None:
        return other
    try:
        return _Recording(path, open_dataset(path, options=options))
    except InputError as error:
        unread = not_read(path.iterdir()) if path.is_dir() else ""
        raise InputError(
            f"{path}: expected a folder of pictures{f' that are read, got {unread}' if unread else ''}, sounds or "
            f"scans, an npz with arrays named as the inputs, a bag, or a data set ({error})"
        ) from None


class _Arrays(Frames):
    def __init__(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        self.path, self._held = path, arrays
        self.arrays = {name: (array.shape, array.dtype) for name, array in arrays.items()}

    def of(self, names: Sequence[str]) -> Frames:
        if not set(names) <= self._held.keys():
            raise InputError(
                f"{self.path}: expected an array for each of the inputs {', '.join(names)}, got "
                f"{', '.join(self._held) or 'none'}: save it with numpy.savez(path, NAME=array, ...)."
            )
        counts = {name: len(self._held[name]) if self._held[name].ndim else 0 for name in names}
        if len(set(counts.values())) != 1 or 0 in counts.values():
            raise InputError(f"{self.path}: expected as many samples of each input, at least one, got {counts}.")
        made = _Arrays(self.path, self._held)
        made.arrays = {name: self.arrays[name] for name in names}
        return made

    def __len__(self) -> int:
        return next(iter(self.arrays.values()))[0][0]

    def feeds(self, inputs: Sequence[Taken], index: np.ndarray) -> dict[str, np.ndarray]:
        return {taken.spec.name: self._feed(taken, index) for taken in inputs}

    def _feed(self, taken: Taken, index: np.ndarray) -> np.ndarray:
        spec, held = taken.spec, self._held[taken.spec.name]
        if isinstance(spec, ImageInput):
            if held.dtype != np.uint8:
                raise InputError(
                    f"{self.path}: the pictures {spec.name!r} are {held.dtype}: expected uint8 0..255, which what the "
                    "robot sees is as well. Save pixels, or say --kind vector for numbers as the net takes them."
                )
            if held.shape[1:] == spec.shape[1:]:  # channels first already
                return held[index]
            return prepared(spec, (held[i] for i in index), len(index), "bgr8" if spec.color == "bgr" else "rgb8")
        for shape in (spec.shape[1:], taken.shape):
            if held.shape[1:] == shape:
                feed = held[index].reshape(len(index), *spec.shape[1:])
                break
        else:
            raise InputError(
                f"{self.path}: array {spec.name!r} is {list(held.shape)}: expected [N, "
                f"{', '.join(map(str, spec.shape[1:]))}]."
            )
        if not np.can_cast(feed.dtype, spec.dtype, "same_kind") and not (
            feed.dtype.kind in "iu" and spec.dtype[0] == "i"
        ):
            raise InputError(
                f"{self.path}: array {spec.name!r} is {feed.dtype}, the net takes {spec.dtype}: save it so."
            )
        if feed.dtype.kind == "f" and not np.isfinite(feed).all():
            bad = int(np.argmin(np.isfinite(feed.reshape(len(feed), -1)).all(1)))
            raise DataError(
                f"{self.path}: array {spec.name!r} holds NaN or infinity at {index[bad]}: drop that sample."
            )
        return feed.astype(spec.dtype)

    def labels(self, index: np.ndarray) -> dict[str, np.ndarray]:
        others = {name: array for name, array in self._held.items() if name not in self.arrays}
        return {name: array[index] for name, array in others.items() if array.ndim and len(array) == len(self)}

    def names(self, index: np.ndarray) -> list[str]:
        return [f"{self.path.name}[{i}]" for i in index]


class _Pictures(Frames):
    def __init__(self, path: Path, files: list[Path], labels: dict[str, np.ndarray], masks: Path | None = None) -> None:
        self.path, self.arrays, self._files, self._labels = path, {}, files, labels
        self._masks = masks if masks is not None and masks.is_dir() else None

    def __len__(self) -> int:
        return len(self._files)

    def feeds(self, inputs: Sequence[Taken], index: np.ndarray) -> dict[str, np.ndarray]:
        spec = only_picture(self.path, inputs)
        return {spec.name: prepared(spec, (read_picture(self._files[i]) for i in index), len(index), "bgr8")}

    def labels(self, index: np.ndarray) -> dict[str, np.ndarray]:
        found = {name: values[index] for name, values in self._labels.items()}
        return found if self._masks is None else found | {LABEL: np.stack([self._mask(self._files[i]) for i in index])}

    def _mask(self, file: Path) -> np.ndarray:
        """Class of each pixel, (H, W); DataError where there is none."""
        assert self._masks is not None
        path = self._masks / f"{file.stem}.png"
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if found is None or found.ndim != 2:
            raise DataError(f"{path}: expected a PNG of one channel with the class of each pixel of {file.name}.")
        return found

    def names(self, index: np.ndarray) -> list[str]:
        return [str(self._files[i].relative_to(self.path)) for i in index]


class _Recording(Frames):
    def __init__(self, path: Path, data: SteeringDataset) -> None:
        self.path, self.arrays, self._data = path, {}, data

    def __len__(self) -> int:
        return len(self._data)

    def feeds(self, inputs: Sequence[Taken], index: np.ndarray) -> dict[str, np.ndarray]:
        spec = only_picture(self.path, inputs)
        return {spec.name: prepared(spec, (self._data.frames[i] for i in index), len(index), "mono8")}

    def labels(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return {"angle": self._data.angles[index]}

    def names(self, index: np.ndarray) -> list[str]:
        return [self._data.names[i] for i in index]


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file() and is_picture(file))


def _arrays_of(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable npz of plain arrays ({' '.join(str(error).split())[:160]}).") from None


def _number(name: str, labels: Sequence[str], where: Path) -> int:
    """Of a class, by its name, whatever its case."""
    known = [label.lower() for label in labels]
    if name.lower() not in known:
        raise InputError(f"{where}: the class {name!r} is none of the --labels {', '.join(labels)}: name it so.")
    return known.index(name.lower())


def _table(path: Path, files: Sequence[Path], labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of `labels.csv` beside pictures, by their names; a row per picture, its file's name first."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        head, *rows = list(csv.reader(file)) or [[]]
    held = {row[0]: row[1:] for row in rows if row}
    missing = [file.name for file in files if len(held.get(file.name, ())) != len(head) - 1]
    if len(head) < 2 or missing:
        raise DataError(
            f"{path}: expected a head `file,{LABEL}` and a row for each picture"
            f"{f', got none for {missing[0]} and {len(missing) - 1} more' if missing else ''}."
        )
    columns = dict(zip(head[1:], zip(*(held[file.name] for file in files), strict=True), strict=True))
    if labels and LABEL in columns and not all(word.strip().isdigit() for word in columns[LABEL]):
        columns[LABEL] = tuple(str(_number(word.strip(), labels, path)) for word in columns[LABEL])
    try:
        return {name: np.array([float(v) for v in column]) for name, column in columns.items()}
    except ValueError as error:
        raise DataError(
            f"{path}: expected numbers, {error}: write classes as 0, 1, 2 ..., or name them with --labels."
        ) from None
