"""GLAMOR-Net's training: presets, its augmentation, masked faces, and that it can learn what it is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from edgeflock.export.datasets.emotion import Example, open_emotion, prepare
from edgeflock.export.datasets.synthetic.faces import EMOTIONS, rendered_scenes
from edgeflock.export.nets.glamor import Encoder, Glamor
from edgeflock.export.training.cli import train_app
from edgeflock.export.training.config import GlamorConfig
from edgeflock.export.training.loop.run import Run
from edgeflock.export.training.methods.emotion import augment_face, train_emotion
from edgeflock.export.training.methods.glamor import lit, look, train_glamor
from edgeflock.runtime.errors import InputError

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scenes():
    return open_emotion(Glamor(), None, "train", 32)


def small() -> Glamor:
    """GLAMOR-Net with fewer layers and filters, on images shrunk to an eighth."""
    torch.manual_seed(0)
    face, context = (nn.Sequential(nn.AvgPool2d(8), Encoder((32, 64))) for _ in range(2))
    return Glamor(face, context, 64)


def test_the_released_preset_is_the_authors_code() -> None:
    config = GlamorConfig(preset="released", net="glamor-resnet18")
    assert (config.net, config.optimiser, config.batch, config.epochs) == ("glamor-resnet18", "sgd", 4, 60)
    run = Run.start(config, nn.Linear(1, 1), 2, {})
    assert isinstance(run.optimiser, torch.optim.SGD)
    assert run.optimiser.param_groups[0]["momentum"] == 0.9 and run.optimiser.param_groups[0]["weight_decay"] == 0
    rates = []
    for _ in range(60 * 2):
        rates.append(run.schedule.get_last_lr()[0])
        run.optimiser.step()
        run.schedule.step()
    assert rates == pytest.approx([5e-4] * 50 + [5e-5] * 30 + [1e-5] * 40)


def test_other_nets_are_refused() -> None:
    with pytest.raises(InputError, match="'fer-resnet18' is no GLAMOR-Net: choose one of glamor, "):
        train_glamor(GlamorConfig(net="fer-resnet18"), None, None, "")  # type: ignore[arg-type]


def test_its_faces_are_mirrored_and_turned_and_nothing_else() -> None:
    """A disc in the middle looks the same from all sides: only shifting or erasing would change it."""
    disc = np.zeros((96, 96, 3), np.uint8)
    cv2.circle(disc, (48, 48), 25, (200, 180, 160), -1)
    inside = cv2.erode(disc, np.ones((5, 5))) > 0
    outside = cv2.dilate(disc, np.ones((5, 5))) == 0
    for seed in range(20):
        made = augment_face(disc, np.random.default_rng(seed), erase=False)
        assert np.array_equal(made[inside], disc[inside]) and not made[outside].any()


def test_what_the_face_shows_does_not_reach_the_context() -> None:
    images, boxes, _ = rendered_scenes(1, 3)
    net, (x1, y1, x2, y2) = Glamor().eval(), boxes[0]
    other_face, elsewhere = images[0].copy(), images[0].copy()
    other_face[y1:y2, x1:x2] = 255 - other_face[y1:y2, x1:x2]
    elsewhere[120, 160] = 255 - elsewhere[120, 160]
    elsewhere[-40:, :] = 255 - elsewhere[-40:, :]
    examples = [Example(image, tuple(boxes[0]), "Happy", "") for image in (images[0], other_face, elsewhere)]
    feeds = prepare(examples, net, "").feeds()
    with torch.no_grad():
        seen = net.context(torch.from_numpy(feeds["context"]))
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    assert not np.array_equal(feeds["face"][0], feeds["face"][1])


def test_32_samples_are_learnt_by_heart(tmp_path: Path, scenes) -> None:
    ten_times = replace(
        scenes,
        face=np.tile(scenes.face, (10, 1, 1, 1)),
        context=np.tile(scenes.context, (10, 1, 1, 1)),
        labels=np.tile(scenes.labels, 10),
    )
    config = GlamorConfig(net="small", epochs=8, batch=16, lr=1e-2, augment=False, bf16=False, ema=0.9, seed=0)
    figures = train_emotion(config, ten_times, scenes, tmp_path, net=small())["figures"]
    assert figures["accuracy"] == 1


def test_a_run_shows_what_its_net_attends_to(tmp_path: Path, scenes) -> None:
    few = replace(scenes, face=scenes.face[:4], context=scenes.context[:4], labels=scenes.labels[:4])
    config = GlamorConfig(net="glamor-mean", epochs=1, batch=4, size=32)
    result = train_glamor(config, few, few, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert 0 < result["figures"]["face_share"] < 1
    picture = cv2.imread(str(tmp_path / "attention.jpg"))
    assert picture.shape == (3 * 112, 4 * 112, 3)  # face, context, attention; a column per scene


def test_a_look_agrees_with_the_net(scenes) -> None:
    net = small().eval()
    seen = look(net, scenes)
    with torch.no_grad():
        probabilities, attention = net(*(torch.from_numpy(array) for array in scenes.feeds().values()))
    np.testing.assert_allclose(seen.probabilities, probabilities, atol=1e-6)
    np.testing.assert_allclose(seen.attention, attention[:, 0], atol=1e-6)
    assert ((seen.face_share > 0) & (seen.face_share < 1)).all()


def test_the_picture_is_brightest_where_the_attention_is() -> None:
    attention = np.full((7, 7), 0.01, np.float32)
    attention[2, 5] = 0.52
    shown = lit(np.full((112, 112, 3), 100, np.uint8), attention).sum(2)
    cells = shown.reshape(7, 16, 7, 16).mean((1, 3))
    assert np.unravel_index(cells.argmax(), (7, 7)) == (2, 5)


def test_the_command_trains_on_folders_by_the_authors_values(tmp_path: Path) -> None:
    for split, seed in (("data", 5), ("val", 6)):
        for image, box, label in zip(*rendered_scenes(4, seed), strict=True):
            path = tmp_path / split / EMOTIONS[label] / "a.png"
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), image[:, :, ::-1])
            path.with_suffix(".txt").write_text(",".join(map(str, box)))
    data, val = str(tmp_path / "data"), str(tmp_path / "val")
    arguments = ["glamor", "--preset", "released", "--epochs", "1", "--size", "32", "--data", data]
    arguments += ["--out", str(tmp_path / "run")]
    refused = CliRunner().invoke(train_app, arguments)
    assert isinstance(refused.exception, InputError) and "--data and --val go together" in str(refused.exception)
    done = CliRunner().invoke(train_app, [*arguments, "--val", val])
    assert done.exit_code == 0, done.output
    assert "validation accuracy" in done.output and "of the fusion" in done.output
    config = json.loads((tmp_path / "run" / "result.json").read_text())["config"]
    assert (config["optimiser"], config["batch"], config["epochs"]) == ("sgd", 4, 1)
    assert (tmp_path / "run" / "attention.jpg").is_file()
