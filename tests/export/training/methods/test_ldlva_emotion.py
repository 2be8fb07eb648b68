"""LDLVA on rendered faces: it trains, keeps its uncertainties through a crash, and tells which labels to doubt."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from edgeflock.export.datasets.emotion import open_emotion
from edgeflock.export.datasets.synthetic.faces import EMOTIONS, each_face
from edgeflock.export.nets import NETS
from edgeflock.export.nets.resnet import FerNet
from edgeflock.export.training.cli import train_app
from edgeflock.export.training.config import LdlvaConfig
from edgeflock.export.training.loop.checkpoint import load_checkpoint, read_torch
from edgeflock.export.training.methods import ldlva_emotion
from edgeflock.export.training.methods.ldlva_emotion import picture, train_ldlva
from edgeflock.runtime.errors import DataError, InputError

torch.set_num_threads(1)

TINY = LdlvaConfig(epochs=2, batch=7, size=32, bf16=False, noise=0.3, seed=3)


@pytest.fixture(scope="module")
def faces():
    return {split: open_emotion(NETS["fer-resnet18"](), None, split, 21) for split in ("train", "val")}


class OneLayer(FerNet):
    """As the others, but so small that its checkpoints are written at once."""

    size = 224

    def __init__(self) -> None:
        trunk = torch.nn.Conv2d(3, 512, 8, 8)
        trunk.channels = 512
        super().__init__(trunk)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETS, "fer-resnet18", OneLayer)


@pytest.mark.usefixtures("small")
def test_a_crashed_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_ldlva(TINY, faces["train"], faces["val"], tmp_path / "whole")

    class Crash(BaseException): ...

    batches = ldlva_emotion._batches

    def crashing(*arguments, **_):
        if arguments[3] == 1:  # the second epoch
            raise Crash
        return batches(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(ldlva_emotion, "_batches", crashing)
        train_ldlva(TINY, faces["train"], faces["val"], tmp_path / "crashed")
    first = read_torch(tmp_path / "crashed" / "last.pt")
    assert first["epoch"] == 1 and first["method"]["doubt"].std() > 0 and first["method"]["centres"].abs().sum() > 0

    resumed = train_ldlva(TINY, faces["train"], faces["val"], tmp_path / "crashed")
    assert resumed["history"] == whole["history"]
    states = [read_torch(tmp_path / name / "last.pt") for name in ("whole", "crashed")]
    assert all(torch.equal(states[0]["method"][key], value) for key, value in states[1]["method"].items())
    tables = [(tmp_path / name / "uncertainty.csv").read_text() for name in ("whole", "crashed")]
    assert tables[0] == tables[1]


def test_what_a_run_leaves(tmp_path: Path, faces) -> None:
    config = TINY.model_copy(update={"epochs": 1, "bf16": True})
    figures = train_ldlva(config, faces["train"], faces["val"], tmp_path)["figures"]
    assert 0 <= figures["uncertainty_auc"] <= 1 and figures["constant"] == pytest.approx(1 / 7)
    assert load_checkpoint(tmp_path / "best.safetensors")[0] == "fer-resnet18"
    kept = load_file(tmp_path / "method.safetensors")
    assert kept["doubt"].shape == (21,) and kept["centres"].shape == (7, 512)
    assert kept["calibration.0.weight"].shape == (512, 1024)

    rows = list(csv.DictReader((tmp_path / "uncertainty.csv").open()))
    by_name = {name: float(value) for name, value in zip(faces["train"].names, kept["doubt"].sigmoid(), strict=True)}
    assert len(rows) == 21 and {row["name"] for row in rows} == set(by_name)
    assert all(float(row["uncertainty"]) == pytest.approx(by_name[row["name"]], abs=1e-6) for row in rows)
    values = [float(row["uncertainty"]) for row in rows]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]
    true = dict(zip(faces["train"].names, faces["train"].labels, strict=True))
    wrong = sum(faces["train"].classes[true[row["name"]]] != row["label"] for row in rows)
    assert wrong == round(0.3 * 21)
    assert cv2.imread(str(tmp_path / "uncertainty.jpg")).shape[1] == 7 * 96


def test_the_picture_has_the_most_doubtful_on_top(faces) -> None:
    data = replace(faces["train"], face=np.zeros_like(faces["train"].face))
    doubtful = int(np.flatnonzero(data.labels == 2)[1])
    data.face[doubtful] = 255
    sheet = cv2.imdecode(np.frombuffer(picture(data, np.eye(21)[doubtful]), np.uint8), cv2.IMREAD_GRAYSCALE)
    tops = [sheet[16 + 8 : 16 + 88, 96 * column + 8 : 96 * column + 88].mean() for column in range(7)]
    assert tops[2] > 250 and max(tops[:2] + tops[3:]) < 5


@pytest.mark.usefixtures("small")
def test_released_preset_trains(tmp_path: Path, faces) -> None:
    config = LdlvaConfig(preset="released", epochs=1, batch=7, size=32, bf16=False)
    result = train_ldlva(config, faces["train"], faces["val"], tmp_path)
    assert "uncertainty_auc" not in result["figures"] and np.isfinite(result["history"][0]["loss"])
    centres = load_file(tmp_path / "method.safetensors")["centres"]
    assert centres.abs().sum() > 0
    with pytest.raises(InputError, match="preset='released', this one has 'post'"):
        train_ldlva(config.model_copy(update={"preset": "post"}), faces["train"], faces["val"], tmp_path)


def test_bad_data_is_named(tmp_path: Path, faces) -> None:
    train, val = faces["train"], faces["val"]
    with pytest.raises(InputError, match="LDLVA trains fer-resnet18 or fer-resnet50, got 'glamor'"):
        train_ldlva(TINY.model_copy(update={"net": "glamor"}), train, val, tmp_path)
    with pytest.raises(DataError, match="at least 64 images, one batch, got 21"):
        train_ldlva(TINY.model_copy(update={"batch": 64}), train, val, tmp_path)
    with pytest.raises(DataError, match=r"21 of 21 have none: estimate them with --affect MODEL\.onnx"):
        train_ldlva(TINY, replace(train, affect=None), val, tmp_path)
    some = train.affect.copy()
    some[4] = np.nan
    with pytest.raises(DataError, match="1 of 21 have none"):
        train_ldlva(TINY, replace(train, affect=some), val, tmp_path)


@pytest.mark.usefixtures("small")
def test_the_command_takes_affect_from_elsewhere(tmp_path: Path) -> None:
    for split, seed in (("train", 1), ("val", 2)):
        for i, (image, label, _) in enumerate(each_face(14, seed, 48)):
            path = tmp_path / split / EMOTIONS[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image[:, :, ::-1])
    arguments = ["ldlva", "--size", "32", "--epochs", "1", "--batch", "7", "--no-bf16", "--noise", "0.3"]
    arguments += ["--data", str(tmp_path / "train"), "--out", str(tmp_path / "run")]
    refused = CliRunner().invoke(train_app, arguments)
    assert isinstance(refused.exception, InputError) and "--data and --val go together" in str(refused.exception)
    arguments += ["--val", str(tmp_path / "val")]
    refused = CliRunner().invoke(train_app, arguments)
    assert isinstance(refused.exception, DataError) and "--affect MODEL.onnx" in str(refused.exception)

    with (tmp_path / "affect.csv").open("w") as file:
        print("name,valence,arousal", file=file)
        for n, path in enumerate(sorted((tmp_path / "train").glob("*/*.png"))):
            print(f"{path.relative_to(tmp_path / 'train')},{n / 14},{-n / 14}", file=file)
    done = CliRunner().invoke(train_app, [*arguments, "--affect", str(tmp_path / "affect.csv")])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "validation accuracy" in done.output and "flipped labels found with an AUC" in done.output
    assert (tmp_path / "run" / "affect.csv").is_file() and (tmp_path / "run" / "uncertainty.csv").is_file()
