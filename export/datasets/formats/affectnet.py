"""AffectNet in both releases, and the LDLVA authors' CSV, whose columns have the same names (docs/emotion-data.md).

2017: `training.csv` and `validation.csv`, whole images, face boxes. 2021: `{train,val}_set/images/<id>.jpg`, cut faces
of 224x224, and `{train,val}_set/annotations/<id>_{exp,val,aro,lnd}.npy`. The test set's labels were never released.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeflock.export.datasets.formats.emotion_files import UNKNOWN, ListedImage, read_affect, split_folder
from edgeflock.runtime.errors import DataError, InputError

EMOTIONS = (
    "Neutral",
    "Happy",
    "Sad",
    "Surprise",
    "Fear",
    "Disgust",
    "Anger",
    "Contempt",
    "None",
    "Uncertain",
    "No-Face",
)
"""Of the codes 0..10; the LDLVA authors' CSV has the first seven."""
LABELLED = 8
"""Codes from here on are no emotions; such rows have no affect, and often no box."""

_COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
_CODE = _COLUMNS.index("expression")
_TABLES = {"train": "training.csv", "val": "validation.csv"}


def read_2017(folder: Path, split: str, whole: bool) -> Iterator[ListedImage]:
    """Rows of a split of the 2017 release, see `read_csv`."""
    if split not in _TABLES:
        raise _no_test(split)
    name = _TABLES[split]
    table = next((path for path in (folder / name, *sorted(folder.glob(f"*/{name}"))) if path.is_file()), None)
    if table is None:
        raise DataError(f"{folder}: expected {name} here or in one of its folders, found none.")
    return read_csv(table)


def read_csv(table: Path) -> Iterator[ListedImage]:
    """Rows of a CSV.

    The columns `subDirectory_filePath` and `expression` must be there; `valence` and `arousal`, and the box (`face_x`,
    `face_y`, `face_width`, `face_height`), are taken where they are. Landmarks are not used, nor is `knn`, the LDLVA
    authors' list of neighbours: training finds them itself. A first row without names, as in some copies of
    validation.csv, means all nine of AffectNet's. Images lie beside the CSV, or in a folder beside it or its folder.

    Raises
    ------
    DataError
        A column is missing, a row is not of the header's length or has an unknown code, a wrong box or affect.
    """
    images: Path | None = None
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            separator = ","
            if len(header) == 1 and _COLUMNS[0] in header[0]:  # as Excel saves it where numbers have a comma
                separator = next((mark for mark in ";\t" if mark in header[0]), ",")
            file.seek(0)
            reader = csv.reader(file, delimiter=separator)
            if _COLUMNS[0] in (first := next(reader, [])):
                header = [name.strip() for name in first]
            elif len(first) == len(_COLUMNS) and first[_CODE].strip().isdigit():
                header = list(_COLUMNS)
                file.seek(0)
                reader = csv.reader(file)
            else:
                raise DataError(f"{table}, row 1: expected the column {_COLUMNS[0]}, got {', '.join(header)[:120]!r}.")
            if "expression" not in header:
                raise DataError(f"{table}, row 1: expected the column expression, got {', '.join(header)!r}.")
            has_affect = {"valence", "arousal"} <= set(header)
            has_box = set(_COLUMNS[1:5]) <= set(header)
            for values in reader:
                where = f"{table}, row {reader.line_num}"
                if len(values) != len(header):
                    raise DataError(f"{where}: expected {len(header)} columns, got {len(values)}.")
                row = dict(zip(header, values, strict=True))
                row[_COLUMNS[0]] = row[_COLUMNS[0]].replace("\\", "/")  # of a table that was made on Windows
                code = _code(row["expression"], where)
                if code >= LABELLED:
                    yield ListedImage(Path(row[_COLUMNS[0]]), EMOTIONS[code], where)
                    continue
                if images is None:
                    images = _image_folder(table, row[_COLUMNS[0]])
                yield ListedImage(
                    images / row[_COLUMNS[0]],
                    EMOTIONS[code],
                    where,
                    _box(row, where) if has_box else None,
                    read_affect(row["valence"], row["arousal"], where) if has_affect else UNKNOWN,
                )
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: expected comma-separated text, reading it failed: {error}.") from error


def read_2021(folder: Path, split: str, whole: bool) -> Iterator[ListedImage]:
    """Rows of a split of the 2021 release; a folder with `images` and `annotations` is one split by itself.

    Raises
    ------
    InputError
        "test", or an unknown split.
    DataError
        There is no annotation, or one is not a number of a known range; arrays with pickled objects are refused.
    """
    if split not in _TABLES:
        raise _no_test(split)
    if not (folder / "annotations").is_dir():
        folder = split_folder(folder, split, "{}_set")
    found = sorted((folder / "annotations").glob("*_exp.npy"), key=lambda path: (len(path.name), path.name))
    if not found:
        raise DataError(f"{folder / 'annotations'}: expected <id>_exp.npy, found none.")
    for file in found:
        name = file.name.removesuffix("_exp.npy")
        code = _code(_scalar(file), str(file))
        valence, arousal = (file.with_name(f"{name}_{what}.npy") for what in ("val", "aro"))
        affect = UNKNOWN
        if code < LABELLED:
            affect = read_affect(_scalar(valence), _scalar(arousal), f"{valence} and {arousal.name}")
        yield ListedImage(folder / "images" / f"{name}.jpg", EMOTIONS[code], str(file), affect=affect)


def _no_test(split: str) -> InputError:
    return InputError(f"split: AffectNet has train and val, its test set was never released, got {split!r}.")


def _code(text: str, where: str) -> int:
    try:
        code = int(text)
        EMOTIONS[code if code >= 0 else len(EMOTIONS)]
    except (ValueError, IndexError):
        raise DataError(f"{where}: expected an expression 0..{len(EMOTIONS) - 1}, got {text!r}.") from None
    return code


def _scalar(file: Path) -> str:
    """Text of the one number in an .npy file, which the release keeps as a number or as a string."""
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file}: expected a number in an .npy file without pickled objects: {error}.") from error
    if array.size != 1:
        raise DataError(f"{file}: expected one number, got an array of the shape {array.shape}.")
    return str(array.item())


def _box(row: dict[str, str], where: str) -> tuple[float, float, float, float]:
    texts = [row[column] for column in _COLUMNS[1:5]]
    try:
        x, y, width, height = (float(text) for text in texts)
    except ValueError:
        raise DataError(
            f"{where}: expected a face box x, y, width, height in pixels, got {', '.join(texts)}."
        ) from None
    return x, y, x + width, y + height


def _image_folder(table: Path, first: str) -> Path:
    """Where the images of a CSV lie: beside it, or in a folder beside it or its folder."""
    here = table.absolute().parent
    beside = [path for folder in (here, here.parent) for path in sorted(folder.iterdir()) if path.is_dir()]
    found = next((path for path in (here, *beside) if (path / first).is_file()), None)
    if found is None:
        raise DataError(f"{table}: expected the image {first} beside it, or in a folder beside it or its folder.")
    return found
