"""Emotion data sets of a few synthetic images, written in the layouts of the real ones (docs/emotion-data.md)."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeflock.export.datasets.synthetic.faces import EMOTIONS, each_face, each_scene

Box = tuple[int, int, int, int]


@cache
def faces(seed: int) -> list:
    return list(each_face(8, seed, 64))


@cache
def scenes(seed: int) -> list:
    return list(each_scene(8, seed, (96, 128)))


@dataclass
class Written:
    """A data set on disk, and what a reader has to find in it."""

    path: Path
    samples: dict[str, dict[str, tuple[str, tuple[float, float] | None, Box | None]]] = field(default_factory=dict)
    """Split -> image -> emotion, valence and arousal, box."""

    def note(self, split: str, name: str, emotion: str, affect=None, box: Box | None = None) -> None:
        self.samples.setdefault(split, {})[name] = emotion, affect, box


def save(file: Path, rgb: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), rgb[:, :, ::-1])


def text(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def raf_db(root: Path) -> Written:
    numbers = {"Surprise": 1, "Fear": 2, "Disgust": 3, "Happy": 4, "Sad": 5, "Anger": 6, "Neutral": 7}
    made, lines = Written(root), []
    for split, seed in (("test", 2), ("train", 1)):
        for i, (image, box, label, _) in enumerate(scenes(seed)[:7], 1):
            stem = f"{split}_{i:05}"
            lines.append(f"{stem}.jpg {numbers[EMOTIONS[label]]}")
            name = f"basic/Image/original/{stem}.jpg"
            save(root / name, image)
            text(root / f"basic/Annotation/boundingbox/{stem}_boundingbox.txt", " ".join(f"{v}.0" for v in box) + " \n")
            made.note(split, name, EMOTIONS[label], None, box)
        for i, (image, label, _) in enumerate(faces(seed)[:7], 1):
            name = f"basic/Image/aligned/{split}_{i:05}_aligned.jpg"
            save(root / name, image)
            made.note(f"{split} aligned", name, EMOTIONS[label])
    text(root / "basic/EmoLabel/list_patition_label.txt", "\n".join(lines) + "\n")
    return made


CODES = {"Neutral": 0, "Happy": 1, "Sad": 2, "Surprise": 3, "Fear": 4, "Disgust": 5, "Anger": 6, "Contempt": 7}
COLUMNS = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks")
COLUMNS += ("expression", "valence", "arousal")


def affectnet_2017(root: Path) -> Written:
    """Every emotion once, one without valence and arousal, then Contempt, None, Uncertain and No-Face."""
    made = Written(root)
    for split, table, seed in (("train", "training.csv", 1), ("val", "validation.csv", 2)):
        rows: list[list] = []
        for i, (image, box, label, affect) in enumerate(scenes(seed)):
            name, emotion = f"{seed}{i}/{seed}{i:04x}.jpg", EMOTIONS[label] if i < 7 else "Contempt"
            save(root / "Manually_Annotated_Images" / name, image)
            felt = None if i == 0 else affect
            x1, y1, x2, y2 = box
            valence, arousal = felt or (-2, -2)
            marks = ";".join(["1.5"] * 136)
            rows.append([name, x1, y1, x2 - x1, y2 - y1, marks, CODES[emotion], valence, arousal])
            made.note(split, f"Manually_Annotated_Images/{name}", emotion, felt, box)
        for code in (8, 9, 10, 10):
            rows.append([f"0/{code}.jpg", "NULL", "NULL", "NULL", "NULL", "", code, -2, -2])
        file = root / "Manually_Annotated_file_lists" / table
        file.parent.mkdir(exist_ok=True)
        with file.open("w", newline="") as out:
            writer = csv.writer(out)
            if split == "train":  # the released validation.csv has no header
                writer.writerow(COLUMNS)
            writer.writerows(rows)
    return made


def affectnet_2021(root: Path) -> Written:
    made = Written(root)
    for split, seed in (("train", 1), ("val", 2)):
        folder = root / f"{split}_set"
        (folder / "annotations").mkdir(parents=True)
        for i, (image, label, affect) in enumerate(faces(seed)):
            emotion = EMOTIONS[label] if i < 7 else "Contempt"
            save(folder / "images" / f"{i}.jpg", image)
            kind = str if split == "train" else float  # the release keeps numbers as text
            values = {"exp": str(CODES[emotion]), "val": kind(affect[0]), "aro": kind(affect[1])}
            for what, value in values.items():
                np.save(folder / "annotations" / f"{i}_{what}.npy", np.array(value))
            np.save(folder / "annotations" / f"{i}_lnd.npy", np.zeros(136))
            made.note(split, f"{split}_set/images/{i}.jpg", emotion, affect)
    return made


def ldlva_csv(root: Path) -> Written:
    """The authors' training table of RAF-DB's aligned faces."""
    made = Written(root / "raf_train.csv")
    lines = ["subDirectory_filePath,expression,valence,arousal,knn"]
    for i, (image, label, affect) in enumerate(faces(1)[:7]):
        save(root / "aligned" / f"{i}.jpg", image)
        knn = ";".join(str(k) for k in range(7) if k != i)
        lines.append(f"{i}.jpg,{CODES[EMOTIONS[label]]},{affect[0]},{affect[1]},{knn}")
        made.note("train", f"aligned/{i}.jpg", EMOTIONS[label], affect)
    text(made.path, "\n".join(lines) + "\n")
    return made


def sfew(root: Path) -> Written:
    made = Written(root)
    for split, seed in (("Train", 1), ("Val", 2)):
        for i, (image, label, _) in enumerate(faces(seed)[:7]):
            emotion = EMOTIONS[label]
            name = f"{split}/{'Angry' if emotion == 'Anger' else emotion}/Film_{i:04}.png"
            save(root / name, image)
            made.note(split.lower(), name, emotion)
    save(root / "Test" / "Film_9999.png", image)
    return made


def caer_s(root: Path) -> Written:
    made = Written(root)
    for split, seed in (("train", 1), ("test", 2)):
        for i, (image, label, _) in enumerate(faces(seed)[:7]):
            name = f"{split}/{EMOTIONS[label]}/{i:04}.png"
            save(root / name, image)
            made.note(split, name, EMOTIONS[label])
    return made


def ncaer_s(root: Path) -> Written:
    made = Written(root)
    for seed, split in enumerate(("train", "val", "test")):
        for i, (image, box, label, _) in enumerate(scenes(seed)[:7]):
            name = f"{split}/{EMOTIONS[label]}/{i}"
            save(root / "images" / f"{name}.jpg", image)
            box = (0, 0, 0, 0) if i == 6 else box
            text(root / "crop" / f"{name}.txt", ",".join(map(str, box)))
            made.note(split, f"images/{name}.jpg", EMOTIONS[label], None, box)
    return made


LAYOUTS: dict[str, Callable[[Path], Written]] = {
    write.__name__: write for write in (raf_db, affectnet_2017, affectnet_2021, ldlva_csv, sfew, caer_s, ncaer_s)
}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Written]:
    """``written("raf_db")`` writes that layout into a folder of its own."""

    def write(layout: str) -> Written:
        root = tmp_path / layout
        root.mkdir()
        return LAYOUTS[layout](root)

    return write
