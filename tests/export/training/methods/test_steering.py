"""Steering training on tiny drawn roads: figures, files, resume after kill -9, clear errors."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgeflock.export.datasets import SteeringDataset
from edgeflock.export.datasets.formats.dronet import read_dronet
from edgeflock.export.training.config import SteeringConfig
from edgeflock.export.training.loop.checkpoint import load_checkpoint, read_torch
from edgeflock.export.training.methods import steering as driving
from edgeflock.export.training.methods.steering import predict, train_steering
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.recording.dronet import DronetWriter

torch.set_num_threads(1)

TINY = SteeringConfig(net="dronet", epochs=2, batch=4, bf16=False, seed=3)


def roads(n: int, seed: int) -> SteeringDataset:
    """A white line on black that leans as the angle says."""
    rng = np.random.default_rng(seed)
    frames, angles = np.zeros((n, 240, 320), np.uint8), rng.uniform(-0.5, 0.5, n).astype(np.float32)
    for frame, angle in zip(frames, angles, strict=True):
        cv2.line(frame, (160, 239), (int(160 - 150 * angle), 60), 255, 8)
    return SteeringDataset(frames, angles, np.zeros(n, np.int32), ["roads"], [str(i) for i in range(n)])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "last.pt")[1].state_dict()


def test_fadnet_learns_roads(tmp_path: Path) -> None:
    data = roads(40, 1)
    config = SteeringConfig(net="fadnet", epochs=10, batch=8, lr=3e-3, augment=False, ema=0.9)
    figures = train_steering(config, data, data, tmp_path)["figures"]
    assert figures["rmse"] < 0.5 * figures["constant"] < 0.5 * figures["random"]


def test_result_and_files_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        driving, "EVAL_BATCH", {"cpu": 3, "cuda": 3}
    )  # batches of 3 and 1: a mean of batch figures would be off
    training, validation = roads(8, 1), roads(7, 2)
    result = train_steering(TINY, training, validation, tmp_path, command="edgeflock train steering")
    assert result == json.loads((tmp_path / "result.json").read_text())
    assert result["command"] == "edgeflock train steering" and result["seeds"] == {"training": 3}
    assert result["data"]["train"]["sha256"] == training.digest() and result["data"]["val"]["frames"] == 7

    figures = result["figures"]
    name, best = load_checkpoint(tmp_path / "best.safetensors")
    error = predict(best, validation).numpy() - validation.angles
    assert name == "dronet" and figures["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
    assert figures["rmse"] == min(past["rmse"] for past in result["history"]) and figures["epochs"] == 2
    assert figures["constant"] == pytest.approx(np.sqrt(np.mean((training.angles.mean() - validation.angles) ** 2)))
    assert list((tmp_path / "tensorboard").iterdir())


def test_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    for split, n, seed in (("train", 16, 1), ("val", 4, 2)):
        data = roads(n, seed)
        with DronetWriter(tmp_path / split / "roads_1", {"seed": seed}) as writer:
            for frame, angle in zip(data.frames, data.angles, strict=True):
                writer.add(frame, float(angle), 1.0, 0.0, 0.0, 0.0)
    config, killed = TINY.model_copy(update={"epochs": 8}), tmp_path / "killed"
    arguments = ["--data", tmp_path / "train", "--val", tmp_path / "val", "--out", killed]
    arguments += ["--net", "dronet", "--epochs", "8", "--batch", "4", "--seed", "3", "--no-bf16", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeflock.runtime.cli", "train", "steering", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 60
    while not (killed / "last.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    output = process.communicate()[0].decode()
    assert (killed / "last.pt").exists(), output
    assert 1 <= read_torch(killed / "last.pt")["epoch"] < 8

    training, validation = read_dronet(tmp_path / "train"), read_dronet(tmp_path / "val")
    resumed = train_steering(config, training, validation, killed)
    whole = train_steering(config, training, validation, tmp_path / "whole")
    assert resumed["history"] == whole["history"]
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(value, expected[key]) for key, value in weights(killed).items())


def test_finished_run_is_not_trained_again_unless_fresh(tmp_path: Path) -> None:
    training, validation = roads(8, 1), roads(4, 2)
    first = train_steering(TINY, training, validation, tmp_path)
    assert train_steering(TINY, training, validation, tmp_path) == first
    other = TINY.model_copy(update={"seed": 4})
    with pytest.raises(InputError, match=r"seed=3, this one has 4.*--fresh"):
        train_steering(other, training, validation, tmp_path)
    with pytest.raises(InputError, match=r"belongs to a run with other content of data\.train"):
        train_steering(TINY, roads(8, 5), validation, tmp_path)
    assert train_steering(other, training, validation, tmp_path, fresh=True)["seeds"] == {"training": 4}


def test_init_starts_from_given_weights(tmp_path: Path) -> None:
    training, validation = roads(8, 1), roads(4, 2)
    train_steering(TINY, training, validation, tmp_path / "first")
    init = tmp_path / "first" / "best.safetensors"
    still = TINY.model_copy(update={"epochs": 1, "lr": 1e-12})
    result = train_steering(still, training, validation, tmp_path / "second", init=init)
    assert result["init"]["file"] == "best.safetensors"
    given, kept = (
        dict(load_checkpoint(path)[1].named_parameters()) for path in (init, tmp_path / "second" / "last.pt")
    )
    assert all(torch.allclose(given[key], kept[key], atol=1e-6) for key in given)
    with pytest.raises(InputError, match="holds a dronet, the run trains fadnet"):
        train_steering(TINY.model_copy(update={"net": "fadnet"}), training, validation, tmp_path / "third", init=init)


def test_diverging_loss_stops_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the loss is (nan|inf) in epoch .* lower the learning rate \(1e\+30\)"):
        train_steering(TINY.model_copy(update={"lr": 1e30, "epochs": 3}), roads(8, 1), roads(4, 2), tmp_path)


def test_bfloat16_trains_too(tmp_path: Path) -> None:
    config = TINY.model_copy(update={"net": "fadnet", "bf16": True, "epochs": 1})
    assert np.isfinite(train_steering(config, roads(4, 1), roads(2, 2), tmp_path)["figures"]["rmse"])


@pytest.mark.parametrize(
    ("change", "frames", "error", "message"),
    [
        ({"net": "resnet"}, 8, InputError, "unknown net 'resnet': choose one of fadnet"),
        ({"batch": 16}, 8, DataError, "training data must have at least 16 frames, one batch, got 8"),
    ],
)
def test_bad_settings_are_named(
    tmp_path: Path, change: dict, frames: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train_steering(TINY.model_copy(update=change), roads(frames, 1), roads(4, 2), tmp_path)
