"""Boxes for data sets without: found by the real detector, kept, gone on with, and read by nets with context."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgeflock.export.datasets.emotion import open_emotion
from edgeflock.export.datasets.face_boxes import write_boxes
from edgeflock.export.datasets.synthetic.faces import EMOTIONS, each_scene
from edgeflock.export.nets import NETS
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.faces import open_detector

with torch.device("meta"):
    GLAMOR = NETS["glamor"]()


def test_boxes_are_found_written_beside_the_images_and_gone_on_with(tmp_path: Path) -> None:
    boxes = {}
    for i, (image, box, label, _) in enumerate(each_scene(7, 1)):
        file = tmp_path / "train" / EMOTIONS[label] / f"{i}.png"
        file.parent.mkdir(parents=True)
        cv2.imwrite(str(file), image[:, :, ::-1])
        boxes[file] = box
    (tmp_path / "train" / "Happy" / "grey.png").write_bytes(cv2.imencode(".png", np.full((60, 60), 90, np.uint8))[1])
    found, missed = write_boxes(tmp_path, open_detector("cascade"))
    assert found + missed == 8 and found >= 5 and missed >= 1
    assert (tmp_path / "train/Happy/grey.txt").read_text() == "0,0,0,0"
    near = [
        np.abs(np.array(re.findall(r"-?\d+", f.with_suffix(".txt").read_text()), int) - b) for f, b in boxes.items()
    ]
    assert sum(each.max() < 25 for each in near) >= 5
    assert write_boxes(tmp_path, open_detector("cascade")) == (0, 0)
    next(iter(boxes)).with_suffix(".txt").unlink()
    assert sum(write_boxes(tmp_path, open_detector("cascade"))) == 1
    data = open_emotion(GLAMOR, tmp_path, "train")
    assert len(data) == 8 and data.face.any((1, 2, 3)).sum() == found


def test_a_folder_without_images_and_a_broken_image_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected images \(.jpg, .*\) in it, found none"):
        write_boxes(tmp_path, open_detector("cascade"))
    (tmp_path / "a.jpg").write_bytes(b"none")
    with pytest.raises(DataError, match=r"a\.jpg: expected a whole JPEG or PNG image"):
        write_boxes(tmp_path, open_detector("cascade"))
