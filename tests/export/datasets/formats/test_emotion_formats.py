"""Every layout of an emotion data set gives images, boxes, emotions by name, valence and arousal, or a clear error."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgeflock.export.datasets import emotion, pixels
from edgeflock.export.datasets.emotion import EmotionDataset, open_emotion
from edgeflock.export.nets import NETS
from edgeflock.export.nets.resnet import FerResNet50
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.prepare.face import CONTEXT_SIZE, crop_face, masked_context


class FerOfEight(FerResNet50):
    """Like LDLVA's, with AffectNet's eighth class, in an order of its own."""

    labels = ("Contempt", *FerResNet50.labels[::-1])


with torch.device("meta"):
    GLAMOR, FER, EIGHT = NETS["glamor"](), NETS["fer-resnet50"](), FerOfEight()


def check(data: EmotionDataset, path: Path, samples: dict) -> None:
    """The data set holds exactly these samples, with the pixels of their files."""
    root = path if path.is_dir() else path.parent
    assert sorted(data.names) == sorted(samples)
    affect = np.full((len(data), 2), np.nan) if data.affect is None else data.affect
    for i, name in enumerate(data.names):
        named, felt, box = samples[name]
        assert data.classes[data.labels[i]] == named
        assert np.allclose(affect[i], felt or (np.nan, np.nan), atol=1e-6, equal_nan=True)
        image = cv2.cvtColor(cv2.imread(str(root / name)), cv2.COLOR_BGR2RGB)
        cut = (0, 0, *image.shape[1::-1]) if box is None else box
        face = np.zeros_like(data.face[i])
        if any(cut):
            crop_face(image, cut, face)
        assert np.array_equal(data.face[i], face)
        if data.context is not None:
            context = masked_context(image, cut if any(cut) else None, np.empty((*CONTEXT_SIZE[::-1], 3), np.uint8))
            assert np.array_equal(data.context[i], context)


@pytest.mark.parametrize(
    ("layout", "net", "split", "noted", "left_out"),
    [
        ("raf_db", FER, "train", "train aligned", ""),
        ("raf_db", FER, "val", "test aligned", ""),
        ("raf_db", GLAMOR, "train", "train", ""),
        ("raf_db", GLAMOR, "test", "test", ""),
        ("affectnet_2017", FER, "train", "train", "1 Contempt, 1 None, 1 Uncertain, 2 No-Face"),
        ("affectnet_2017", GLAMOR, "val", "val", "1 Contempt, 1 None, 1 Uncertain, 2 No-Face"),
        ("affectnet_2017", EIGHT, "train", "train", "1 None, 1 Uncertain, 2 No-Face"),
        ("affectnet_2021", FER, "train", "train", "1 Contempt"),
        ("affectnet_2021", EIGHT, "val", "val", ""),
        ("ldlva_csv", FER, "train", "train", ""),
        ("sfew", FER, "train", "train", ""),
        ("sfew", FER, "val", "val", ""),
        ("caer_s", FER, "train", "train", ""),
        ("caer_s", FER, "val", "test", ""),
        ("ncaer_s", GLAMOR, "train", "train", ""),
        ("ncaer_s", GLAMOR, "val", "val", ""),
        ("ncaer_s", GLAMOR, "test", "test", ""),
    ],
)
def test_a_layout_is_recognised_and_read(written, layout: str, net, split: str, noted: str, left_out: str) -> None:
    made = written(layout)
    data = open_emotion(net, made.path, split)
    samples = {name: what for name, what in made.samples[noted].items() if what[0] in net.labels}
    check(data, made.path, samples)
    assert data.source.partition("; left out: ")[2] == left_out
    assert data.source.startswith(f"{len(samples)} images of {made.path.name} (")


def test_the_folder_of_raf_db_may_be_basic_itself_and_original_images_do_without_aligned_ones(written) -> None:
    made = written("raf_db")
    shutil.rmtree(made.path / "basic/Image/aligned")
    data = open_emotion(FER, made.path / "basic", "train")
    check(data, made.path / "basic", {k.removeprefix("basic/"): v for k, v in made.samples["train"].items()})


def test_sfew_s_aligned_faces_come_before_whole_frames(written) -> None:
    made = written("sfew")
    (made.path / "Train").rename(made.path / "Train_Aligned_Faces")
    samples = {name.replace("Train", "Train_Aligned_Faces"): what for name, what in made.samples["train"].items()}
    check(open_emotion(FER, made.path, "train"), made.path, samples)
    with pytest.raises(DataError, match="expected a folder Train, found Test, Train_Aligned_Faces, Val"):
        open_emotion(GLAMOR, made.path, "train")


def test_one_split_of_the_2021_release_stands_by_itself(written) -> None:
    made = written("affectnet_2021")
    data = open_emotion(EIGHT, made.path / "val_set", "val")
    assert len(data) == 8 and data.names[0] == "images/0.jpg"


def test_a_table_without_affect_is_a_test_table(written) -> None:
    made = written("ldlva_csv")
    lines = made.path.read_text().splitlines()
    made.path.write_text("\n".join(",".join(line.split(",")[:2]) for line in lines))
    assert open_emotion(FER, made.path, "val").affect is None


def test_what_is_left_out_is_said(written) -> None:
    from io import StringIO

    from rich.console import Console

    said = Console(file=StringIO(), width=200)
    open_emotion(FER, written("affectnet_2021").path, "train", console=said)
    assert "7 images of affectnet_2021 (AffectNet 2021, train); left out: 1 Contempt" in said.file.getvalue()


def test_a_split_in_capitals_or_by_its_other_name_is_found(written) -> None:
    made = written("caer_s")
    (made.path / "train").rename(made.path / "Train")
    (made.path / "test").rename(made.path / "Validation")
    data = {split: open_emotion(FER, made.path, split) for split in ("train", "val")}
    assert {name.split("/")[0] for name in data["train"].names} == {"Train"}
    assert {name.split("/")[0] for name in data["val"].names} == {"Validation"}
    with pytest.raises(DataError, match="expected a folder test/ for the split 'test', found Train, Validation"):
        open_emotion(FER, made.path, "test")


def test_the_validation_folder_comes_before_the_test_folder_and_what_was_taken_is_said(written) -> None:
    made = written("caer_s")
    assert "(like CAER-S, val, taken from test)" in open_emotion(FER, made.path, "val").source
    assert "taken from" not in open_emotion(FER, made.path, "train").source
    assert "(RAF-DB, val, taken from test)" in open_emotion(FER, written("raf_db").path, "val").source
    shutil.copytree(made.path / "train", made.path / "validation")
    data = open_emotion(FER, made.path, "val")
    assert all(name.startswith("validation/") for name in data.names)
    assert "(like CAER-S, val, taken from validation)" in data.source


def test_raf_db_s_list_may_be_spelt_right(written) -> None:
    made = written("raf_db")
    folder = made.path / "basic/EmoLabel"
    (folder / "list_patition_label.txt").rename(folder / "list_partition_label.txt")
    check(open_emotion(FER, made.path, "train"), made.path, made.samples["train aligned"])


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_that_excel_saved_is_read(written, mark: str) -> None:
    made = written("ldlva_csv")
    expected = open_emotion(FER, made.path, "train")
    rows = list(csv.reader(made.path.open(newline="")))
    with made.path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=mark).writerows(rows)
    data = open_emotion(FER, made.path, "train")
    assert data.digest() == expected.digest() and np.array_equal(data.affect, expected.affect)


def test_a_table_made_on_windows_is_read(written) -> None:
    made = written("affectnet_2017")
    expected = open_emotion(FER, made.path, "train").digest()
    (made.path / LIST).write_text((made.path / LIST).read_text().replace("/", "\\").replace("\n", "\r\n"))
    assert open_emotion(FER, made.path, "train").digest() == expected


def test_nine_columns_with_other_names_are_a_header_that_is_wrong_not_a_first_image(written) -> None:
    made = written("affectnet_2017")
    lines = (made.path / LIST).read_text().splitlines()
    (made.path / LIST).write_text("\n".join([lines[0].replace("subDirectory_filePath", "path"), *lines[1:]]))
    with pytest.raises(DataError, match="row 1: expected the column subDirectory_filePath, got 'path, face_x"):
        open_emotion(FER, made.path, "train")


def test_at_most_so_many_are_taken_evenly_from_all(written) -> None:
    made = written("caer_s")
    every, some = open_emotion(FER, made.path, "train"), open_emotion(FER, made.path, "train", 3)
    assert some.names == [every.names[i * len(every) // 3] for i in range(3)]
    assert f"3 images of caer_s (like CAER-S, train, of {len(every)})" == some.source
    assert len(open_emotion(FER, made.path, "train", 1000)) == len(every)


# ---- what is wrong


def edit(name: str, old: str, new: str):
    def damage(root: Path) -> None:
        content = (root / name).read_text()
        assert old in content
        (root / name).write_text(content.replace(old, new, 1))

    return damage


def cut_short(name: str):
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-300])


RAF = "basic/EmoLabel/list_patition_label.txt"
LIST = "Manually_Annotated_file_lists/training.csv"
ANN = "train_set/annotations"


@pytest.mark.parametrize(
    ("layout", "damage", "net", "message"),
    [
        ("raf_db", edit(RAF, "train_00002.jpg 6", "train_00002.jpg 8"), FER, r"row 9: expected .* 1\.\.7, got 'train_"),
        ("raf_db", edit(RAF, "test_00001.jpg", "test_00001.jpg x"), FER, r"row 1: expected 'train_00001\.jpg 5'"),
        (
            "raf_db",
            lambda p: (p / RAF).write_text("test_00001.jpg 1\n"),
            FER,
            "images of the split 'train', found none",
        ),
        (
            "raf_db",
            lambda p: (p / "basic/Image/aligned/train_00003_aligned.jpg").unlink(),
            FER,
            r"row 10: .*train_00003_aligned\.jpg: cannot read the image: No such file",
        ),
        (
            "raf_db",
            cut_short("basic/Image/aligned/train_00003_aligned.jpg"),
            FER,
            r"row 10: .*expected a whole JPEG or PNG image, got \d+ bytes",
        ),
        (
            "raf_db",
            lambda p: (p / "basic/Annotation/boundingbox/train_00001_boundingbox.txt").unlink(),
            GLAMOR,
            "row 8: expected the face box of an original image in .*, found none",
        ),
        (
            "raf_db",
            lambda p: (p / "basic/Annotation/boundingbox/train_00001_boundingbox.txt").write_text("1 2 nan 4"),
            GLAMOR,
            "expected one line x1 y1 x2 y2 in pixels, got '1 2 nan 4'",
        ),
        ("affectnet_2017", edit(LIST, "expression", "emotion"), FER, "row 1: expected the column expression"),
        (
            "affectnet_2017",
            edit(LIST, "subDirectory_filePath", "path,x"),
            FER,
            "row 1: expected the column subDirectory",
        ),
        ("affectnet_2017", edit(LIST, "10/10000.jpg,", "10/10000.jpg,,"), FER, "row 2: expected 9 columns, got 10"),
        (
            "affectnet_2017",
            edit(LIST, ",10,-2,-2", ",11,-2,-2"),
            FER,
            r"row 12: expected an expression 0\.\.10, got '11'",
        ),
        (
            "affectnet_2017",
            edit(LIST, ",-2,-2", ",-2,0.5"),
            FER,
            r"row 2: expected valence and arousal in \[-1, 1\], or -2",
        ),
        ("affectnet_2017", edit(LIST, ",-2,-2", ",nan,0"), FER, r"row 2: expected valence and arousal in \[-1, 1\]"),
        (
            "affectnet_2017",
            edit(LIST, "10/10000.jpg,", "10/10000.jpg,wide"),
            FER,
            "row 2: expected a face box x, y, width",
        ),
        (
            "affectnet_2017",
            edit(LIST, "10/10000.jpg,", "10/10000.jpg,9"),
            FER,
            "row 2: .* lies outside the image of 128x96",
        ),
        (
            "affectnet_2017",
            edit(LIST, "11/10001.jpg", "11/none.jpg"),
            FER,
            r"row 3: .*none\.jpg: cannot read the image",
        ),
        (
            "affectnet_2017",
            lambda p: shutil.rmtree(p / "Manually_Annotated_Images"),
            FER,
            r"expected the image 10/10000\.jpg beside it",
        ),
        ("affectnet_2017", lambda p: (p / LIST).unlink(), FER, r"expected training\.csv here or in one of its folders"),
        (
            "affectnet_2017",
            lambda p: (p / LIST).write_bytes(b"subDirectory_filePath,\xff\n"),
            FER,
            "comma-separated text",
        ),
        (
            "affectnet_2021",
            lambda p: np.save(p / ANN / "0_val.npy", np.array([object()]), allow_pickle=True),
            FER,
            r"0_val\.npy: expected a number in an \.npy file without pickled objects",
        ),
        (
            "affectnet_2021",
            lambda p: np.save(p / ANN / "0_exp.npy", np.zeros(2)),
            FER,
            r"expected one number, got .*\(2,\)",
        ),
        (
            "affectnet_2021",
            lambda p: np.save(p / ANN / "0_exp.npy", np.array("x")),
            FER,
            "expected an expression 0.*'x'",
        ),
        (
            "affectnet_2021",
            lambda p: np.save(p / ANN / "0_exp.npy", np.array(-1)),
            FER,
            "expected an expression 0.*'-1'",
        ),
        ("affectnet_2021", lambda p: (p / ANN / "0_aro.npy").unlink(), FER, r"0_aro\.npy: expected a number"),
        (
            "affectnet_2021",
            lambda p: np.save(p / ANN / "0_aro.npy", 3.0),
            FER,
            r"0_aro\.npy: expected valence .* '3\.0'",
        ),
        (
            "affectnet_2021",
            lambda p: [f.unlink() for f in (p / ANN).iterdir()],
            FER,
            "expected <id>_exp.npy, found none",
        ),
        ("affectnet_2021", lambda p: shutil.rmtree(p / "train_set"), FER, "expected a folder train_set/ for the split"),
        ("affectnet_2021", lambda p: None, GLAMOR, r"0\.jpg: a net with context needs the face box"),
        (
            "caer_s",
            lambda p: (p / "train/Sad").rename(p / "train/Gloom"),
            FER,
            "expected an emotion out of.*got 'Gloom'",
        ),
        (
            "caer_s",
            lambda p: shutil.rmtree(p / "train"),
            FER,
            "expected a folder train/ for the split 'train', found test",
        ),
        ("caer_s", lambda p: None, GLAMOR, "a net with context needs the face box"),
        ("ncaer_s", lambda p: None, FER, r"/6\.jpg: no face was found in it, and FerResNet50 sees nothing else"),
        ("ncaer_s", lambda p: shutil.rmtree(p / "crop"), GLAMOR, "a net with context needs the face box"),
    ],
)
def test_what_is_broken_is_named(written, layout: str, damage, net, message: str) -> None:
    made = written(layout)
    damage(made.path)
    with pytest.raises(DataError, match=message):
        open_emotion(net, made.path, "train")


@pytest.mark.parametrize(
    ("layout", "split", "message"),
    [
        ("sfew", "test", "the labels of its test images are withheld"),
        ("affectnet_2017", "test", "its test set was never released"),
        ("affectnet_2021", "test", "its test set was never released"),
        ("raf_db", "dev", "expected train, val, test, got 'dev'"),
        ("ncaer_s", "dev", "expected train, val, test, got 'dev'"),
    ],
)
def test_splits_that_cannot_be_had_are_refused(written, layout: str, split: str, message: str) -> None:
    made = written(layout)
    with pytest.raises(InputError, match=message):
        open_emotion(FER, made.path, split)


def test_a_set_of_nothing_that_the_net_knows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Contempt").mkdir()
    (tmp_path / "Contempt" / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"expected at least one image \(.jpg, .*\), found none\. Left out: 1 Contempt"):
        open_emotion(FER, tmp_path, "train")


# ---- pixels in files


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As if the pixels were too many for memory; gives the folder that they go to."""
    monkeypatch.setattr(pixels, "IN_MEMORY", 0)
    monkeypatch.setenv("EDGEFLOCK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pixels"


def test_many_pixels_are_decoded_once_and_mapped(written, mapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = written("ncaer_s")
    first = open_emotion(GLAMOR, made.path, "train")
    check(first, made.path, made.samples["train"])
    assert sum(file.stat().st_size for file in mapped.glob("*/*.u8")) == first.face.nbytes + first.context.nbytes
    decoded: list[str] = []
    decode = emotion.decode_picture
    monkeypatch.setattr(emotion, "decode_picture", lambda data, kind: decoded.append(kind) or decode(data, kind))
    again = open_emotion(GLAMOR, made.path, "train")
    assert not decoded and again.digest() == first.digest()
    assert not again.face.flags.writeable and type(again.face) is np.ndarray
    changed = made.path / first.names[0]
    cv2.imwrite(str(changed), np.zeros((96, 128, 3), np.uint8))
    assert not open_emotion(GLAMOR, made.path, "train").face[0].any() and len(decoded) == len(first)


def test_an_interrupted_making_leaves_nothing_behind(written, mapped: Path) -> None:
    made = written("ncaer_s")
    (made.path / next(iter(made.samples["train"]))).write_bytes(b"broken")
    with pytest.raises(DataError, match="expected a whole JPEG or PNG image"):
        open_emotion(GLAMOR, made.path, "train")
    assert list(mapped.iterdir()) == []


def test_a_disk_too_small_for_the_pixels_is_refused(written, mapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(Path.cwd())._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=r"expected 0\.0 GB of room .* EDGEFLOCK_CACHE"):
        open_emotion(FER, written("caer_s").path, "train")
