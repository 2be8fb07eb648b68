"""CAER-S and NCAER-S: layouts as in `minhnhatvt/glamor-net`, see docs/emotion-data.md.

CAER-S is `{train,test}/<class>/*.png`. NCAER-S, the GLAMOR authors' split of the same shows, is
`images/{train,val,test}/<class>/*.jpg` with the face boxes in `crop/{train,val,test}/<class>/*.txt`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeflock.export.datasets.formats.emotion_files import ListedImage, read_folder, split_folder


def read_caer_s(folder: Path, split: str, whole: bool) -> Iterator[ListedImage]:
    """Rows of a split; val is test where there is no val.

    The set has no face boxes; see `read_folder` for where one's own go.

    Raises
    ------
    InputError, DataError
        See `split_folder` and `read_folder`.
    """
    return read_folder(split_folder(folder, split))


def read_ncaer_s(folder: Path, split: str, whole: bool) -> Iterator[ListedImage]:
    """Rows of a split, each with the box that the authors found.

    Raises
    ------
    InputError, DataError
        See `split_folder` and `read_folder`.
    """
    return read_folder(split_folder(folder / "images", split))
