"""`edgeflock data convert` and what `edgeflock data show` says of the clock."""

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeflock.export.datasets import ReadOptions, open_dataset, write_dataset
from edgeflock.export.datasets.base import SteeringDataset
from edgeflock.export.datasets.cli import data_app

LOCK = ReadOptions(full_lock=0.4)


@pytest.fixture
def tub(tmp_path):
    """Two sittings of 20 frames at 10 Hz, with a break of 30 s within the second."""
    stamps = np.arange(40) / 10 + np.where(np.arange(40) < 30, 0, 30)
    data = SteeringDataset(
        np.full((40, 240, 320), 90, np.uint8),
        np.float32(0.3 * np.sin(np.arange(40))),
        np.int32(np.arange(40) // 20),
        ["morning", "evening"],
        [f"frame {n}" for n in range(40)],
        stamps=stamps,
    )
    write_dataset(data, tmp_path / "tub", "donkey", LOCK)
    return tmp_path / "tub"


def run(*arguments):
    done = CliRunner().invoke(data_app, [str(a) for a in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return " ".join(done.output.split())


def test_a_tub_becomes_folders_to_train_on_with_the_end_of_every_sitting_held_out(tub, tmp_path):
    said = run("convert", tub, "--full-lock", 0.4, "--to", "dronet", "--holdout", 0.25, "--out", tmp_path / "mine")
    assert "mine/train: 30 frames in 2 sequences" in said and "mine/val: 10 frames in 2 sequences" in said
    assert f"next: edgeflock train steering --data {tmp_path}/mine/train --val {tmp_path}/mine/val --out" in said
    whole, held = open_dataset(tub, options=LOCK), open_dataset(tmp_path / "mine", "val")
    assert held.group_names == ["tub_evening_1", "tub_morning_0"]
    np.testing.assert_allclose(held.angles, whole.angles[[*range(35, 40), *range(15, 20)]], atol=1e-6)


def test_the_next_command_repeats_the_full_lock_where_it_is_needed(tub, tmp_path):
    said = run("convert", tub, "--full-lock", 0.4, "--to", "donkey", "--out", tmp_path / "again")
    assert f"next: edgeflock data show {tmp_path}/again --full-lock=0.4" in said
    np.testing.assert_array_equal(
        open_dataset(tmp_path / "again", options=LOCK).angles, open_dataset(tub, options=LOCK).angles
    )


def test_frames_per_second_stand_in_for_times_that_are_missing_or_wrong(tub, tmp_path):
    pytest.importorskip("pyarrow")
    run("convert", tub, "--full-lock", 0.4, "--to", "lerobot", "--fps", 5, "--out", tmp_path / "car")
    assert np.diff(open_dataset(tmp_path / "car").stamps)[:19] == pytest.approx(0.2)


def test_showing_a_recording_tells_its_rate_and_gaps(tub, tmp_path):
    pytest.importorskip("matplotlib")
    said = run("show", tub, "--full-lock", 0.4, "--out", tmp_path / "show.png")
    assert "40 frames in 2 sequences" in said and "frames come every 100 ms (10.0 Hz)" in said
    assert "1 gaps, the longest of 30.1 s before tub/30_cam_image_array_.jpg" in said
    assert f"next: edgeflock data score {tub} --full-lock=0.4" in said
