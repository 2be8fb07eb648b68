"""Emotion data sets: the same pixels as on the robot, folders of images, NCAER-S' boxes, classes by name."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeflock.export.datasets.emotion import open_emotion, prepare, rendered_examples
from edgeflock.export.datasets.formats.emotion_files import read_folder
from edgeflock.export.nets import NETS
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.prepare.face import EmotionPreprocess

GLAMOR, FER = NETS["glamor"](), NETS["fer-resnet50"]()


@pytest.mark.parametrize("net", [GLAMOR, FER])
def test_training_sees_exactly_what_the_robot_feeds(net) -> None:
    examples = list(rendered_examples(net, 4, 5))
    data = prepare(examples, net, "test")
    feeds = data.feeds()
    robot = EmotionPreprocess(data.specs)
    for i, (image, box, emotion, *_) in enumerate(examples):
        assert list(robot.batches(image, [box])) == [1]
        assert all(np.array_equal(feeds[name][i], robot.inputs[name][0]) for name in feeds)
        assert data.classes[data.labels[i]] == emotion


def test_labels_are_matched_by_name_in_each_nets_own_order() -> None:
    for net, happy in ((GLAMOR, 3), (FER, 1)):
        data = prepare(rendered_examples(net, 7, 1), net, "test")
        assert sorted(data.labels) == list(range(7)) and data.classes[happy] == "Happy"
    assert prepare(rendered_examples(FER, 7, 1), FER, "test").classes[0] == "Neutral"


def picture(path: Path, seed: int = 0) -> np.ndarray:
    """Write a PNG; returns it as RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)
    cv2.imwrite(str(path), image[:, :, ::-1])
    return image


def test_a_folder_per_emotion_is_read_under_common_names(tmp_path: Path) -> None:
    rgb = picture(tmp_path / "Happiness" / "a.png")
    picture(tmp_path / "anger" / "b.png", 1)
    (tmp_path / "anger" / "note.txt").write_text("no image")
    data = open_emotion(FER, tmp_path, "train")
    assert data.names == ["Happiness/a.png", "anger/b.png"]
    assert [data.classes[label] for label in data.labels] == ["Happy", "Anger"] and data.affect is None
    whole = cv2.resize(rgb, data.face.shape[1:3], interpolation=cv2.INTER_LINEAR_EXACT)
    assert np.array_equal(data.face[0], whole)


def test_boxes_stand_beside_the_images_or_where_ncaer_s_has_them(tmp_path: Path) -> None:
    images, crops = tmp_path / "images" / "train", tmp_path / "crop" / "train"
    picture(images / "Sad" / "a.png")
    picture(images / "Sad" / "b.png")
    picture(images / "Sad" / "c.png")
    (images / "Sad" / "a.txt").write_text("1,2,30,40\n")
    (crops / "Sad").mkdir(parents=True)
    (crops / "Sad" / "b.txt").write_text("5,6,50,51")
    (crops / "Sad" / "c.txt").write_text("0,0,0,0")
    boxes = {row.image.stem: row.box for row in read_folder(images)}
    assert boxes == {"a": (1, 2, 30, 40), "b": (5, 6, 50, 51), "c": (0, 0, 0, 0)}
    data = open_emotion(GLAMOR, images, "train")
    assert not data.face[2].any() and data.context is not None and data.context[2].all(2).mean() > 0.9


def test_images_of_all_kinds_are_read_and_what_is_none_is_counted(tmp_path: Path) -> None:
    for i, ending in enumerate(("jpg", "png", "tif", "TIFF", "webp", "bmp", "pgm", "jfif")):
        picture(tmp_path / "Happy" / f"{i}.png")
        image = cv2.imread(str(tmp_path / "Happy" / f"{i}.png"))
        (tmp_path / "Happy" / f"{i}.png").unlink()
        kind = {"jfif": ".jpg", "TIFF": ".tif"}.get(ending, f".{ending}")
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        (tmp_path / "Happy" / f"{i}.{ending}").write_bytes(cv2.imencode(kind, grey if ending == "pgm" else image)[1])
    (tmp_path / "Happy" / "raw.dng").touch()
    (tmp_path / "Happy" / "deeper").mkdir()
    (tmp_path / "Happy" / ".DS_Store").touch()
    data = open_emotion(FER, tmp_path, "train")
    assert len(data) == 8
    assert data.source.partition("; ")[2] == "left out: 1 folder inside an emotion's, 1 .dng"


def test_a_face_with_two_labels_is_left_out_with_both_and_named(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.png", i)
    rows = ["0.png,1", "1.png,2", "2.png,3", "1.png,4", "2.png,3"]
    (tmp_path / "t.csv").write_text("subDirectory_filePath,expression\n" + "\n".join(rows))
    data = open_emotion(FER, tmp_path / "t.csv", "train")
    assert data.names == ["0.png", "2.png", "2.png"]
    assert f"left out: 2 with two labels (as {tmp_path / '1.png'})" in data.source


def test_deep_pictures_are_as_bright_as_flat_ones(tmp_path: Path) -> None:
    rgb = picture(tmp_path / "Sad" / "a.png")
    cv2.imwrite(str(tmp_path / "Sad" / "b.png"), rgb[:, :, ::-1].astype(np.uint16) * 16)
    data = open_emotion(FER, tmp_path, "train")
    assert np.abs(data.face[0].astype(int) - data.face[1]).max() <= 1


def broken(tmp_path: Path, name: str, text: str | None = None) -> Path:
    picture(tmp_path / name)
    if text is not None:
        (tmp_path / name).with_suffix(".txt").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("make", "net", "message"),
    [
        (lambda p: p, FER, "expected a folder per emotion"),
        (lambda p: p / "missing", FER, "missing: expected a folder per emotion"),
        (lambda p: broken(p, "Sad/deeper/a.png"), FER, "found none. Left out: 1 folder inside an emotion's"),
        (lambda p: broken(p, "Boredom/a.png"), FER, "expected an emotion out of Neutral, Happy.*got 'Boredom'"),
        (lambda p: broken(p, "Sad/a.png"), GLAMOR, r"a\.png: a net with context needs the face box, there is none"),
        (lambda p: broken(p, "Sad/a.png", "1,2,3"), FER, "expected one line x1,y1,x2,y2 in pixels, got '1,2,3'"),
        (lambda p: broken(p, "Sad/a.png", "9,9,3,12"), FER, r"a\.png: a face box must have x1 < x2"),
        (lambda p: broken(p, "Sad/a.png", "90,0,99,9"), GLAMOR, "lies outside the image of 80x60"),
        (
            lambda p: broken(p, "Sad/a.png", "0,0,0,0"),
            FER,
            "no face was found in it, and FerResNet50 sees nothing else",
        ),
    ],
)
def test_broken_folders_are_named(tmp_path: Path, make, net, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_emotion(net, make(tmp_path), "train")


def test_an_image_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "Sad").mkdir()
    (tmp_path / "Sad" / "a.jpg").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"a\.jpg: expected a whole JPEG or PNG image, got 13 bytes"):
        open_emotion(FER, tmp_path, "train")


def test_the_digest_follows_pixels_and_labels() -> None:
    data, same = (prepare(rendered_examples(FER, 3, 1), FER, "test") for _ in range(2))
    assert data.digest() == same.digest()
    same.labels[0] = (same.labels[0] + 1) % 7
    assert data.digest() != same.digest()
