"""RAF-DB, basic emotions: `basic/EmoLabel/list_patition_label.txt` (sic) and `basic/Image/` (docs/emotion-data.md).

A line is "train_00001.jpg 5". `Image/aligned/train_00001_aligned.jpg` is the cut face, 100x100;
`Image/original/train_00001.jpg` is the whole image, with `Annotation/boundingbox/train_00001_boundingbox.txt`, four
numbers x1 y1 x2 y2 between spaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeflock.export.datasets.formats.emotion_files import SPLITS, ListedImage, read_box
from edgeflock.runtime.errors import DataError, InputError

LISTS = ("list_patition_label.txt", "list_partition_label.txt")
"""The release's spelling, and that of people who mended it."""
EMOTIONS = {
    "1": "Surprise",
    "2": "Fear",
    "3": "Disgust",
    "4": "Happiness",
    "5": "Sadness",
    "6": "Anger",
    "7": "Neutral",
}


def read_raf_db(folder: Path, split: str, whole: bool) -> Iterator[ListedImage]:
    """Rows of a split, train or test; val is test.

    Parameters
    ----------
    folder : Path
        `basic`, or the folder that it lies in.
    split : {"train", "val", "test"}
    whole : bool
        Take the original images with their boxes; otherwise the aligned faces, where they are there.

    Raises
    ------
    InputError
        Unknown split.
    DataError
        A line is not as above, a box is missing, or nothing is of the split.
    """
    if split not in SPLITS:
        raise InputError(f"split: expected {', '.join(SPLITS)}, got {split!r}.")
    if (folder / "basic").is_dir():
        folder = folder / "basic"
    table = next(path for name in LISTS if (path := folder / "EmoLabel" / name).is_file())
    aligned = folder / "Image" / "aligned"
    cut = not whole and aligned.is_dir()
    found = False
    for number, line in enumerate(table.read_text("utf-8-sig", "replace").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{table}, row {number}"
        parts = line.split()
        name, code = parts if len(parts) == 2 else ("", "")
        if code not in EMOTIONS or not name.startswith(("train_", "test_")):
            raise DataError(f"{where}: expected 'train_00001.jpg 5' with a label 1..7, got {line[:60]!r}.")
        part = name.split("_")[0]
        if part not in SPLITS[split]:
            continue
        found = True
        stem = Path(name).stem
        if cut:
            yield ListedImage(aligned / f"{stem}_aligned.jpg", EMOTIONS[code], where, part=part)
            continue
        box = folder / "Annotation" / "boundingbox" / f"{stem}_boundingbox.txt"
        if not box.is_file():
            raise DataError(f"{where}: expected the face box of an original image in {box}, found none.")
        yield ListedImage(folder / "Image" / "original" / name, EMOTIONS[code], where, read_box(box), part=part)
    if not found:
        raise DataError(f"{table}: expected images of the split '{split}', found none.")
