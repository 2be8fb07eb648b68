"""`edgeflock train steering` on recordings that leave something open: its options are those that its errors name."""

import re

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from edgeflock.export.training.cli import train_app
from edgeflock.runtime.errors import EdgeflockError, InputError


@pytest.fixture
def folder(tmp_path):
    """DroNet folders whose angles are degrees, of frames that are no 4:3."""
    for split in ("train", "val"):
        images = tmp_path / split / "run_1/images"
        images.mkdir(parents=True)
        for i in range(4):
            cv2.imwrite(str(images / f"{i}.jpg"), np.full((36, 64, 3), 40 * i, np.uint8))
        angles = "\n".join(f"{angle},0,1,0,0,0" for angle in (2.9, -2.9, 1.5, -2.0))
        (tmp_path / split / "run_1/sync_steering.txt").write_text(f"#angle,torque,speed,lat,long,alt\n{angles}\n")
    return tmp_path


def train(folder, *options, data="train"):
    arguments = ["steering", "--data", folder / data, "--val", folder / "val", "--out", folder / "run", *options]
    result = CliRunner().invoke(train_app, [*map(str, arguments), "--epochs", "1", "--batch", "2", "--threads", "1"])
    if isinstance(result.exception, EdgeflockError):
        raise result.exception
    return result


def test_angles_that_look_like_degrees_are_asked_for_before_training(folder):
    with pytest.raises(
        InputError, match=r"front wheel in rad, got a root mean square of 2\.\d+ rad .*--unit deg, or --unit rad"
    ):
        train(folder)
    assert not (folder / "run").exists()


def test_degrees_are_trained_on_and_the_next_command_is_named(folder):
    result = train(folder, "--unit", "deg")
    assert result.exit_code == 0, result.output
    rmse = float(re.search(r"validation rmse ([\d.]+) rad", result.output)[1])
    assert rmse < 1.0  # in rad: the labels are within 0.05
    said = " ".join(result.output.split())
    assert "squeezed to 4:3" in said
    assert f"next: edgeflock export steering --weights {folder}/run/best.safetensors --data {folder}/val" in said
    assert "--unit=deg" in said


def test_a_folder_of_splits_names_the_folder_to_give(folder):
    with pytest.raises(InputError, match=rf"give the folder of one: {folder}/train, {folder}/val"):
        train(folder, "--out", folder.with_name("run"), data=".")


def test_a_run_inside_its_own_data_is_refused(folder):
    with pytest.raises(InputError, match=r"lies in .*/train, all of which this command reads"):
        train(folder, "--out", folder / "train/run")


def test_a_recording_is_named_once_and_is_no_folder_for_a_run(folder):
    with pytest.raises(InputError, match="train is named twice among training and validation data"):
        train(folder, "--data", folder / "train")
    with pytest.raises(InputError, match="val is named twice among training and validation data"):
        train(folder, data="val")
    with pytest.raises(InputError, match="train is read by this command"):
        train(folder, "--out", folder / "train")


@pytest.mark.parametrize("verb", ["emotion", "glamor", "ldlva"])
def test_images_are_no_folder_for_a_run_and_do_not_judge_what_they_taught(verb, tmp_path):
    for emotion in ("Happy", "Sad"):
        (tmp_path / "data" / emotion).mkdir(parents=True)
        for i in range(2):
            cv2.imwrite(str(tmp_path / "data" / emotion / f"{i}.tif"), np.full((40, 40, 3), 40 * i, np.uint8))
            (tmp_path / "data" / emotion / f"{i}.txt").write_text("5,5,30,30")
    data = str(tmp_path / "data")
    for out, said in (("data", "data is read by this command"), ("run", "training and validation images are the same")):
        done = CliRunner().invoke(train_app, [verb, "--data", data, "--val", data, "--out", str(tmp_path / out)])
        assert isinstance(done.exception, InputError) and said in str(done.exception)
    assert not (tmp_path / "run").exists()
