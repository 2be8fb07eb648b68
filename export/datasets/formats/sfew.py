"""SFEW 2.0: `Train/<class>/*.png` and `Val/<class>/*.png`; the labels of Test are withheld.

The faces that its authors cut out come as `Train_Aligned_Faces/<class>/` beside `Train` or in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeflock.export.datasets.formats.emotion_files import ListedImage, read_folder
from edgeflock.runtime.errors import DataError, InputError

SPLITS = {"train": "Train", "val": "Val"}


def read_sfew(folder: Path, split: str, whole: bool) -> Iterator[ListedImage]:
    """Rows of a split.

    Parameters
    ----------
    folder : Path
    split : {"train", "val"}
    whole : bool
        Take whole frames, which need a text file with the face box beside each (see `read_folder`); otherwise the
        aligned faces, where they are there.

    Raises
    ------
    InputError
        "test", or an unknown split.
    DataError
        The split is not there.
    """
    if split not in SPLITS:
        raise InputError(f"split: SFEW has train and val, the labels of its test images are withheld, got {split!r}.")
    name = SPLITS[split]
    aligned = [folder / f"{name}_Aligned_Faces", folder / name / f"{name}_Aligned_Faces"]
    candidates = [folder / name] if whole else [*aligned, folder / name]
    for path in candidates:
        if path.is_dir():
            return read_folder(path)
    there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    expected = " or ".join(dict.fromkeys(path.name for path in candidates))
    raise DataError(f"{folder}: expected a folder {expected}, found {there or 'none'}.")
