"""Emotion training: it learns, keeps what it saw apart, starts from weights of elsewhere, names what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from edgeflock.export.datasets.emotion import open_emotion
from edgeflock.export.datasets.synthetic.faces import EMOTIONS, each_face
from edgeflock.export.nets import NETS
from edgeflock.export.nets.resnet import resnet18
from edgeflock.export.training.cli import train_app
from edgeflock.export.training.config import EmotionConfig, GlamorConfig
from edgeflock.export.training.loop.checkpoint import load_checkpoint
from edgeflock.export.training.methods.augment import relight
from edgeflock.export.training.methods.emotion import (
    _batches,
    augment_face,
    crop_context,
    make_batch,
    mismatched,
    predict,
    start_net,
    told_apart,
    train_emotion,
)
from edgeflock.runtime.errors import DataError, InputError

torch.set_num_threads(1)

FER = EmotionConfig(net="fer-resnet18", epochs=1, batch=7, size=32, bf16=False, seed=3)


@pytest.fixture(scope="module")
def faces():
    return {split: open_emotion(NETS["fer-resnet18"](), None, split, 21) for split in ("train", "val")}


def test_rendered_faces_are_learnt(tmp_path: Path, faces) -> None:
    train = faces["train"]
    often = replace(train, face=np.tile(train.face, (10, 1, 1, 1)), labels=np.tile(train.labels, 10))
    config = FER.model_copy(update={"lr": 2e-3, "augment": False, "ema": 0.5, "bf16": True})
    result = train_emotion(config, often, train, tmp_path)
    figures = result["figures"]
    assert figures["constant"] == pytest.approx(1 / 7) == pytest.approx(figures["chance"])
    assert figures["accuracy"] > 0.4
    best = load_checkpoint(tmp_path / "best.safetensors")[1]
    right = predict(best, train, 32).argmax(1).numpy() == train.labels
    assert figures["accuracy"] == pytest.approx(right.mean())
    assert result["data"]["val"]["sha256"] == train.digest()
    assert "21 synthetic images" in result["data"]["train"]["source"]


def test_a_share_of_the_contexts_is_that_of_others() -> None:
    chosen = np.arange(1000, 2000)
    seen = mismatched(chosen, 0.4, np.random.default_rng(0))
    assert np.mean(seen != chosen) == pytest.approx(0.4, abs=0.05) and set(seen) <= set(chosen)
    data = open_emotion(NETS["glamor"](), None, "train", 14)
    fed = {}
    for share in (0.0, 1.0):
        config = EmotionConfig(net="glamor", batch=14, augment=False, mismatch=share)
        [(inputs, labels)] = _batches(data, config, 1, 1)
        fed[share] = [*inputs, labels]
    assert all(np.array_equal(fed[0.0][i], fed[1.0][i]) for i in (0, 2))  # faces and labels stay together
    assert not np.array_equal(fed[0.0][1], fed[1.0][1])
    assert sorted(c.tobytes() for c in fed[0.0][1]) == sorted(c.tobytes() for c in fed[1.0][1])


def test_glamor_trains_on_face_and_context_in_bfloat16(tmp_path: Path) -> None:
    data = open_emotion(NETS["glamor"](), None, "train", 4)
    config = EmotionConfig(net="glamor", epochs=1, batch=2)
    figures = train_emotion(config, data, data, tmp_path)["figures"]
    assert 0 <= figures["accuracy"] <= 1 and load_checkpoint(tmp_path / "best.safetensors")[0] == "glamor"


def test_rendered_training_and_validation_images_differ(faces) -> None:
    seen = {image.tobytes() for image in faces["train"].face}
    assert not any(image.tobytes() in seen for image in faces["val"].face)


def test_a_torchvision_resnet_starts_the_trunk(tmp_path: Path) -> None:
    torch.manual_seed(5)
    state = {**resnet18().state_dict(), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "resnet18.pth")
    net = start_net("fer-resnet18", tmp_path / "resnet18.pth", 1)
    assert torch.equal(net.trunk.layer3[1].conv2.weight, state["layer3.1.conv2.weight"])
    with pytest.raises(DataError, match="Glamor has no ResNet trunk"):
        start_net("glamor", tmp_path / "resnet18.pth", 1)


def test_augmentation_changes_pixels_but_neither_size_nor_the_original() -> None:
    face = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    before = face.copy()
    made = [augment_face(face, np.random.default_rng(seed)) for seed in range(20)]
    assert all(image.shape == face.shape and image.dtype == np.uint8 for image in made)
    assert np.array_equal(face, before) and len({image.tobytes() for image in made}) == 20


def test_light_of_another_camera_falls_on_face_and_context_alike_and_on_nothing_that_is_masked() -> None:
    rng = np.random.default_rng(0)
    face, context = (rng.integers(90, 130, (side, side, 3), np.uint8) for side in (96, 112))
    context[20:60, 20:60] = 0
    before, grey, means = [face.copy(), context.copy()], 0, []
    for seed in range(200):
        made = relight([face, context], np.random.default_rng(seed))
        assert [(m.shape, m.dtype) for m in made] == [(face.shape, np.uint8), (context.shape, np.uint8)]
        assert not made[1][20:60, 20:60].any()
        without = [(m == m[:, :, :1]).all() for m in made]
        assert without[0] == without[1]  # a camera without colour has none for either
        grey += without[0]
        means.append([made[0].mean((0, 1)), made[1][60:].mean((0, 1))])
    assert np.array_equal(face, before[0]) and np.array_equal(context, before[1])
    assert 30 < grey < 70  # a quarter of 200
    means = np.array(means)
    assert np.abs(means[:, 0] - means[:, 1]).max() < 6
    assert means.min() < 40 and means.max() > 170  # from dark to bright
    assert np.ptp(means[:, 0, 0] - means[:, 0, 2]) > 50  # from cold to warm


def test_light_is_varied_in_training_unless_switched_off(faces) -> None:
    def without_colour(**settings) -> int:
        (batch, *_), _ = make_batch(
            faces["train"], FER.model_copy(update={"erase": False, **settings}), np.arange(21), np.random.default_rng(3)
        )
        return sum(bool((image == image[:1]).all()) for image in batch)

    assert 0 < without_colour() < 21 and without_colour(light=False) == without_colour(augment=False) == 0
    assert EmotionConfig().light and not GlamorConfig(preset="released").light


def test_context_is_cropped_in_the_centre_unless_by_chance() -> None:
    context = np.random.default_rng(0).integers(0, 256, (128, 171, 3), np.uint8)
    assert np.array_equal(crop_context(context, None), context[8:120, 29:141])
    crops = {crop_context(context, np.random.default_rng(seed)).tobytes() for seed in range(10)}
    assert len(crops) == 10 and all(len(crop) == 112 * 112 * 3 for crop in crops)


def test_images_that_are_for_training_and_validation_are_counted_and_refused_if_these_are_all(faces) -> None:
    train, val = faces["train"], faces["val"]
    assert told_apart(train, val) is val
    mixed = replace(val, face=np.concatenate([val.face[:18], train.face[:3]]))
    assert told_apart(train, mixed).source == f"{val.source}; 3 are training images too"
    with pytest.raises(InputError, match="training and validation images are the same"):
        told_apart(train, replace(train, names=[f"val/{name}" for name in train.names]))


def test_bad_settings_are_named(tmp_path: Path, faces) -> None:
    train, val = faces["train"], faces["val"]
    with pytest.raises(InputError, match="unknown net 'fadnet': choose one of glamor"):
        train_emotion(FER.model_copy(update={"net": "fadnet"}), train, val, tmp_path)
    with pytest.raises(InputError, match=r"training data has the classes \('Neutral'.*glamor has \('Anger'"):
        train_emotion(FER.model_copy(update={"net": "glamor"}), train, val, tmp_path)
    with pytest.raises(DataError, match="at least 64 images, one batch, got 21"):
        train_emotion(FER.model_copy(update={"batch": 64}), train, val, tmp_path)


def test_the_command_trains_on_folders(tmp_path: Path) -> None:
    for split, seed in (("train", 1), ("val", 2)):
        for i, (image, label, *_) in enumerate(each_face(7, seed, 48)):
            path = tmp_path / split / EMOTIONS[label] / f"{i}.png"
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), image[:, :, ::-1])
    arguments = ["emotion", "--net", "fer-resnet18", "--size", "32", "--epochs", "1", "--batch", "7", "--no-bf16"]
    arguments += ["--data", str(tmp_path / "train"), "--out", str(tmp_path / "run")]
    refused = CliRunner().invoke(train_app, arguments)
    assert isinstance(refused.exception, InputError) and "--data and --val go together" in str(refused.exception)
    done = CliRunner().invoke(train_app, [*arguments, "--val", str(tmp_path / "val")])
    assert done.exit_code == 0, done.output
    assert "validation accuracy" in done.output and "7 images of val" in done.output
    assert (tmp_path / "run" / "best.safetensors").is_file()
