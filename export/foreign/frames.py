"""FRAMES of `edgeflock export net`: pictures, arrays or one of our data sets, as the bundle takes them."""

from __future__ import annotations

import csv
import hashlib
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeflock.calibration.frames import representative
from edgeflock.export.datasets import ReadOptions, SteeringDataset, open_dataset
from edgeflock.export.foreign.meaning import Taken
from edgeflock.export.recipe import Samples
from edgeflock.runtime.bundle.manifest import ImageInput
from edgeflock.runtime.cameras.encodings import Encoding
from edgeflock.runtime.cameras.pictures import is_picture, not_read, read_picture
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.prepare.image import ImagePreprocess

LABEL = "label"
"""Name of a class number in `Samples.labels`."""
TABLE = "labels.csv"
_SPARE = 4
"""Samples that are looked at for each that is chosen."""


class Frames(ABC):
    """Samples that were found at a path; read when they are asked for.

    Attributes
    ----------
    path : Path
    arrays : dict
        By input, shape (N, ...) and type of arrays; empty for pictures.
    """

    path: Path
    arrays: dict[str, tuple[tuple[int, ...], np.dtype]]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def feeds(self, inputs: Sequence[Taken], index: np.ndarray) -> dict[str, np.ndarray]:
        """By input (n, ...), the samples at an index as the bundle takes them."""

    @abstractmethod
    def labels(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """What is known of them, each (n, ...)."""

    @abstractmethod
    def names(self, index: np.ndarray) -> list[str]:
        """For messages."""

    def of(self, names: Sequence[str]) -> Frames:
        """The same for a net with these inputs; InputError where arrays are named otherwise."""
        return self

    def samples(self, inputs: Sequence[Taken], count: int | None = None) -> Samples:
        """At most `count` samples, chosen by coverage of brightness and contrast; all where none is said."""
        index = np.arange(len(self))
        if count is not None and len(index) > count:
            index = np.unique(np.linspace(0, len(self) - 1, min(len(self), _SPARE * count)).astype(int))
        feeds = self.feeds(inputs, index)
        if count is not None and len(index) > count:
            first = next(iter(feeds.values())).reshape(len(index), -1)
            chosen = representative(np.stack([first.mean(1), first.std(1)], 1), count, (8, 4))
            index, feeds = index[chosen], {name: feed[chosen] for name, feed in feeds.items()}
        sha = hashlib.sha256()
        for name in sorted(feeds):
            sha.update(np.ascontiguousarray(feeds[name]).data)
        return Samples(feeds, self.labels(index), self.names(index), sha.hexdigest())


def open_frames(path: Path, options: ReadOptions | None = None, labels: Sequence[str] = ()) -> Frames:
    """Find out what lies at a path.

    Parameters
    ----------
    path : Path
        npz with arrays named as the inputs; a folder of pictures, or of a folder of pictures for each class; or a data
        set of docs/data.md.
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
            return _Pictures(path, pictures, _table(path / TABLE, pictures, labels))
        folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        grouped = [(folder, file) for folder in folders for file in _pictures(folder)]
        if grouped and not any(path.glob("sync_steering.txt")):
            names = labels or [folder.name for folder in folders]
            numbers = [_number(folder.name, names, folder) for folder, _ in grouped]
            return _Pictures(path, [file for _, file in grouped], {LABEL: np.array(numbers)})
    try:
        return _Recording(path, open_dataset(path, options=options))
    except InputError as error:
        other = not_read(path.iterdir()) if path.is_dir() else ""
        raise InputError(
            f"{path}: expected a folder of pictures{f' that are read, got {other}' if other else ''}, an npz with "
            f"arrays named as the inputs, or a data set ({error})"
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
            return _prepared(spec, (held[i] for i in index), len(index), "bgr8" if spec.color == "bgr" else "rgb8")
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
    def __init__(self, path: Path, files: list[Path], labels: dict[str, np.ndarray]) -> None:
        self.path, self.arrays, self._files, self._labels = path, {}, files, labels

    def __len__(self) -> int:
        return len(self._files)

    def feeds(self, inputs: Sequence[Taken], index: np.ndarray) -> dict[str, np.ndarray]:
        spec = _only_picture(self.path, inputs)
        return {spec.name: _prepared(spec, (read_picture(self._files[i]) for i in index), len(index), "bgr8")}

    def labels(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values[index] for name, values in self._labels.items()}

    def names(self, index: np.ndarray) -> list[str]:
        return [str(self._files[i].relative_to(self.path)) for i in index]


class _Recording(Frames):
    def __init__(self, path: Path, data: SteeringDataset) -> None:
        self.path, self.arrays, self._data = path, {}, data

    def __len__(self) -> int:
        return len(self._data)

    def feeds(self, inputs: Sequence[Taken], index: np.ndarray) -> dict[str, np.ndarray]:
        spec = _only_picture(self.path, inputs)
        return {spec.name: _prepared(spec, (self._data.frames[i] for i in index), len(index), "mono8")}

    def labels(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return {"angle": self._data.angles[index]}

    def names(self, index: np.ndarray) -> list[str]:
        return [self._data.names[i] for i in index]


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file() and is_picture(file))


def _only_picture(path: Path, inputs: Sequence[Taken]) -> ImageInput:
    specs = [taken.spec for taken in inputs]
    if len(specs) != 1 or not isinstance(specs[0], ImageInput):
        raise InputError(
            f"{path} holds pictures, the net takes {'; '.join(map(str, inputs))}: expected one picture. Give an npz "
            f"with arrays named {', '.join(spec.name for spec in specs)}, or say --kind image."
        )
    return specs[0]


def _prepared(spec: ImageInput, images: object, count: int, encoding: Encoding) -> np.ndarray:
    prepare, found = ImagePreprocess(spec), np.empty((count, *spec.shape[1:]), np.uint8)
    for row, image in zip(found, images, strict=True):  # type: ignore[call-overload]  # an iterable of arrays
        flat = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
        row[...] = prepare(flat, "mono8" if flat.ndim == 2 else encoding)[0]
    return found


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
