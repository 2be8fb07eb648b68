"""The proof of the attention: scenes as described, attentions in their order, a comparison that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

from edgeflock.export.datasets.synthetic.keyed import CELL, CELLS, COLOURS, FACE_ALONE, HINT, keyed_scenes
from edgeflock.export.nets.glamor import LABELS, Glamor
from edgeflock.export.training.cli import train_app
from edgeflock.export.training.proofs.glamor_scene import ATTENTIONS, scene_net, scenes
from edgeflock.runtime.errors import InputError

torch.set_num_threads(1)
MARKERS = 4


def colour_at(image: np.ndarray, y: float, x: float) -> int:
    """Index of the colour that a pixel has, whatever its brightness."""
    return int((COLOURS @ image[int(y), int(x)] / np.linalg.norm(COLOURS, axis=1)).argmax())


def test_the_marker_with_the_faces_ring_carries_the_label() -> None:
    for example, cell in keyed_scenes(50, 1, MARKERS):
        image, (x1, y1, x2, y2) = example.image, example.box
        row, column = divmod(cell, CELLS)
        middle = (8 + CELL * row + CELL / 2, 29 + CELL * column + CELL / 2)
        assert LABELS[colour_at(image, *middle)] == example.emotion
        ring = colour_at(image, middle[0], middle[1] - 0.375 * CELL)
        assert ring == colour_at(image, (y1 + y2) / 2, (x1 + x2) / 2 - 0.375 * 2 * CELL)
        assert (x2 - x1, y2 - y1) == (2 * CELL, 2 * CELL) and not (x1 < middle[1] < x2 and y1 < middle[0] < y2)


def test_the_face_alone_is_a_weak_hint() -> None:
    hints = []
    for example, _ in keyed_scenes(400, 2, MARKERS):
        x1, y1, x2, y2 = example.box
        hints.append(LABELS[colour_at(example.image, (y1 + y2) / 2, (x1 + x2) / 2)] == example.emotion)
    assert HINT < FACE_ALONE == pytest.approx(0.15 + 0.85 / 7)
    assert np.mean(hints) == pytest.approx(FACE_ALONE, abs=0.08)


def test_a_scene_depends_on_its_number_alone_and_seeds_differ() -> None:
    (first, cell), *_ = keyed_scenes(1, 7)
    again = list(keyed_scenes(3, 7))
    assert np.array_equal(first.image, again[0][0].image) and cell == again[0][1]
    assert not np.array_equal(first.image, next(keyed_scenes(1, 8))[0].image)
    data, cells = scenes(5, 7, 3)
    assert len(data) == len(cells) == 5 and "synthetic" in data.source


def cells_of_scenes(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The task with its pictures already read: one-hot ring and spot of the face, and of 4x4 cells; labels; keyed cell.

    Reading pixels is what takes the documented experiment its minutes; attention learns from this in seconds.
    """
    rng, rows = np.random.default_rng(seed), np.arange(n)
    key, label = rng.integers(MARKERS, size=n), rng.integers(7, size=n)
    hint = np.where(rng.random(n) < HINT, label, rng.integers(7, size=n))
    face, context = np.zeros((n, MARKERS + 7, 1, 1)), np.zeros((n, MARKERS + 7, 16))
    face[rows, key] = face[rows, MARKERS + hint] = 1
    places = rng.permuted(np.tile(np.arange(16), (n, 1)), axis=1)
    for ring in range(MARKERS):
        spot = np.where(key == ring, label, rng.integers(7, size=n))
        context[rows, ring, places[:, ring]] = context[rows, MARKERS + spot, places[:, ring]] = 1
    noisy = [array + rng.normal(0, 0.1, array.shape) for array in (face, context.reshape(n, -1, 4, 4))]
    keyed = places[rows, key]
    return (*(torch.from_numpy(a).float() for a in noisy), torch.from_numpy(label), torch.from_numpy(keyed))


def test_global_local_attention_beats_attention_without_the_face() -> None:
    """Short form of `edgeflock train glamor-scene`: the real attention, fusion and head on encoders of one layer."""
    accuracy, on_marker = {}, {}
    face, context, label, keyed = cells_of_scenes(500, 1)
    for attention in ATTENTIONS:
        torch.manual_seed(0)
        encoders = [nn.Sequential(nn.Conv2d(MARKERS + 7, 16, 1), nn.BatchNorm2d(16), nn.ReLU()) for _ in range(2)]
        net = Glamor(*encoders, 16, attention=attention)
        optimiser = torch.optim.Adam(net.parameters(), 1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=180, pct_start=0.05)
        train_face, train_context, train_label, _ = cells_of_scenes(180 * 32, 0)
        for batch in torch.arange(180 * 32).split(32):
            scores = net.logits(train_face[batch], train_context[batch])[0]
            optimiser.zero_grad()
            F.cross_entropy(scores, train_label[batch]).backward()
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            probabilities, weights = net.eval()(face, context)
        accuracy[attention] = (probabilities.argmax(1) == label).float().mean().item()
        on_marker[attention] = weights.flatten(1)[torch.arange(500), keyed].mean().item()
    assert accuracy["gla"] > max(accuracy["context"], accuracy["mean"]) + 0.1, accuracy
    assert min(accuracy["context"], accuracy["mean"]) > 1 / 7 + 0.1, accuracy  # they learn, too
    assert on_marker["gla"] > 0.8 > 0.5 > on_marker["context"] and on_marker["mean"] == pytest.approx(1 / 16)


def test_nets_of_one_seed_differ_only_in_their_attention() -> None:
    gla, mean = scene_net("gla", 3), scene_net("mean", 3)
    pairs = zip((gla.face, gla.context), (mean.face, mean.context), strict=True)
    assert all(
        torch.equal(a, b) for ours, theirs in pairs for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
    )
    assert gla(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 112, 112))[1].shape == (1, 1, CELLS, CELLS)


def test_the_command_compares_draws_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["glamor-scene", "--out", str(tmp_path / "runs"), "--json", str(tmp_path / "scene.json")]
    arguments += ["--samples", "32", "--epochs", "1", "--markers", "2", "--seeds"]
    done = CliRunner().invoke(train_app, [*arguments, "0"])
    assert done.exit_code == 0, done.output
    assert "GLA: face and cell" in done.output and "the face alone allows 0.271" in done.output
    result = json.loads((tmp_path / "scene.json").read_text())
    assert [run["attention"] for run in result["runs"]] == list(ATTENTIONS)
    assert result["runs"][2]["attention_on_marker"] == pytest.approx(1 / CELLS**2)
    assert {"accuracy.png", "attention.jpg", "gla-0"} < {path.name for path in (tmp_path / "runs").iterdir()}
    (tmp_path / "scene.json").unlink()
    assert CliRunner().invoke(train_app, [*arguments, "0"]).exit_code == 0  # takes up the finished runs
    assert json.loads((tmp_path / "scene.json").read_text()) == result
    for bad, message in (("0,x", "numbers with commas"), ("1,1", "different seeds")):
        refused = CliRunner().invoke(train_app, [*arguments, bad])
        assert isinstance(refused.exception, InputError) and message in str(refused.exception)
