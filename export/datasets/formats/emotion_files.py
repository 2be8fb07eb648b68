"""What the readers of emotion data sets share: rows that name an image before it is read, classes by name, folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from edgeflock.runtime.cameras.pictures import is_picture
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.prepare.face import Box

UNKNOWN = (float("nan"), float("nan"))
"""Valence and arousal that nobody has noted down."""

SPLITS = {"train": ("train",), "val": ("val", "validation", "valid", "test"), "test": ("test",)}
"""Folders or lists of a split. Data sets with two splits are validated on test, as their authors' figures are."""

_SAME = {
    "angry": "anger",
    "happiness": "happy",
    "sadness": "sad",
    "fearful": "fear",
    "surprised": "surprise",
    "disgusted": "disgust",
}
_BEYOND = ("contempt", "none", "uncertain", "no-face")
"""What data sets have beside the seven emotions; left out for nets that lack it."""


class ListedImage(NamedTuple):
    """One image of a data set, not yet read."""

    image: Path
    emotion: str
    """As the data set calls it."""
    where: str = ""
    """File and row that ask for the image; errors begin with it."""
    box: Sequence[float] | None = None
    """x1, y1, x2, y2 of the face in pixels, all 0 for no face; None where the whole image is the face."""
    affect: tuple[float, float] = UNKNOWN
    part: str = ""
    """Of the data set, as its folder or list calls it."""
    unread: str = ""
    """Why it is no image that is read, such as its ending; "" for those that are."""

    @property
    def name(self) -> str:
        """For errors: what asked for the image, and the image."""
        return f"{self.where}: {self.image}" if self.where else str(self.image)


def by_name(rows: Iterable[ListedImage], classes: Sequence[str]) -> tuple[list[ListedImage], list[int], Counter[str]]:
    """Rows that a net can learn, their indices into its classes, and how many of what were left out.

    Orders and spellings differ between data sets and nets, so emotions meet by name, never by number. A face that has
    two labels is left out with both.

    Raises
    ------
    DataError
        An emotion is none that data sets are known to have.
    """
    index = {_plain(name): i for i, name in enumerate(classes)}
    kept, labels, left_out = [], [], Counter[str]()
    said: dict[tuple[Path, Sequence[float] | None], int] = {}
    torn: set[tuple[Path, Sequence[float] | None]] = set()
    for row in rows:
        if row.unread:
            left_out[row.unread] += 1
        elif (label := index.get(_plain(row.emotion))) is not None:
            kept.append(row)
            labels.append(label)
            if said.setdefault((row.image, row.box), label) != label:
                torn.add((row.image, row.box))
        elif _plain(row.emotion) in _BEYOND:
            left_out[row.emotion] += 1
        else:
            raise DataError(f"{row.name}: expected an emotion out of {', '.join(classes)}, got '{row.emotion}'.")
    if torn:
        sure = [i for i, row in enumerate(kept) if (row.image, row.box) not in torn]
        left_out[f"with two labels (as {min(image for image, _ in torn)})"] += len(kept) - len(sure)
        kept, labels = [kept[i] for i in sure], [labels[i] for i in sure]
    return kept, labels, left_out


def _plain(emotion: str) -> str:
    return _SAME.get(emotion.lower(), emotion.lower())


def split_folder(folder: Path, split: str, style: str = "{}") -> Path:
    """Folder of a split, named in a style: "{}" for train/, "{}_set" for train_set/; case does not count.

    Raises
    ------
    InputError
        There is no such split.
    DataError
        The data set does not have it.
    """
    if split not in SPLITS:
        raise InputError(f"split: expected {', '.join(SPLITS)}, got {split!r}.")
    names = [style.format(name) for name in SPLITS[split]]
    there = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for name in names:
        if found := next((path for path in there if path.lower() == name), None):
            return folder / found
    raise DataError(
        f"{folder}: expected a folder {' or '.join(f'{name}/' for name in names)} for the split '{split}', "
        f"found {', '.join(there) or 'none'}."
    )


def read_folder(folder: Path) -> Iterator[ListedImage]:
    """Rows of a folder <emotion>/<image>.

    The face box stands as "x1,y1,x2,y2" in a text file beside the image, or, as in NCAER-S, in the same place under
    `crop` instead of `images` (docs/emotion-data.md); "0,0,0,0" says that there is no face. Without such a file the
    image is all face. What else lies there comes as `ListedImage.unread`, but for text files.

    Raises
    ------
    DataError
        No class folders, or an unreadable box.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not classes:
        raise DataError(f"{folder}: expected a folder per emotion with images in it, found none.")
    for path in classes:
        for file in sorted(path.iterdir()):
            if is_picture(file):
                yield ListedImage(file, path.name, box=_box_beside(file), part=folder.name)
            elif file.is_dir():
                yield ListedImage(file, path.name, unread="folder inside an emotion's")
            elif not file.name.startswith(".") and file.suffix.lower() != ".txt":
                yield ListedImage(file, path.name, unread=file.suffix.lower() or "without an ending")


def _box_beside(image: Path) -> Box | None:
    parts = list(image.with_suffix(".txt").parts)
    candidates = [Path(*parts)]
    candidates += [Path(*parts[:i], "crop", *parts[i + 1 :]) for i, part in enumerate(parts) if part == "images"]
    file = next((path for path in candidates if path.is_file()), None)
    return None if file is None else read_box(file, ",")


def read_box(file: Path, separator: str | None = None) -> Box:
    """Face box of a text file with x1, y1, x2, y2 in pixels, by default between spaces."""
    text = file.read_text("utf-8", "replace").strip()
    try:
        x1, y1, x2, y2 = (int(float(value)) for value in text.split(separator))
    except (ValueError, OverflowError):
        between = separator or " "
        raise DataError(
            f"{file}: expected one line x1{between}y1{between}x2{between}y2 in pixels, got {text[:60]!r}."
        ) from None
    return x1, y1, x2, y2


def read_affect(valence: str, arousal: str, where: str) -> tuple[float, float]:
    """Valence and arousal; AffectNet's -2 says that they are missing.

    Raises
    ------
    DataError
        Not numbers, or outside [-1, 1]; `where` names file and row.
    """
    try:
        values = float(valence), float(arousal)
    except ValueError:
        values = UNKNOWN
    if values == (-2, -2):
        return UNKNOWN
    if not all(abs(value) <= 1 for value in values):
        raise DataError(
            f"{where}: expected valence and arousal in [-1, 1], or -2 for both where they are missing, got {valence!r} "
            f"and {arousal!r}."
        )
    return values
