"""`open_dataset` tells the formats apart and finds the split."""

import numpy as np
import pytest

from edgeflock.export.datasets import open_dataset
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.recording.dronet import DronetWriter


def record(folder):
    with DronetWriter(folder, {}) as writer:
        writer.add(np.zeros((240, 320), np.uint8), 0.25, 1.0, 0.0, 0.0, 0.0)


def silo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, imgs=np.full((2, 1, 200, 200), 7, np.float32), ground_truths=np.zeros(2))


@pytest.mark.parametrize("path", ["train/indoor_1", "train"])
def test_dronet_folder_at_every_level(tmp_path, path):
    record(tmp_path / "train/indoor_1")
    assert open_dataset(tmp_path / path).group_names == ["indoor_1"]
    assert open_dataset(tmp_path, "train").group_names == ["indoor_1"]


def test_the_csv_that_a_dronet_folder_was_made_from_does_not_confuse(tmp_path):
    record(tmp_path / "HMB_1")
    (tmp_path / "HMB_1/interpolated.csv").touch()
    assert len(open_dataset(tmp_path)) == 1


def test_public_names_of_the_splits(tmp_path):
    for split in ("training", "validation", "testing"):
        record(tmp_path / split / split)
    for split, group in (("train", "training"), ("val", "validation"), ("test", "testing")):
        assert open_dataset(tmp_path, split).group_names == [group]


def test_npz_silos_and_their_test_split_as_validation(tmp_path):
    silo(tmp_path / "train/0.npz")
    silo(tmp_path / "train/1.npz")
    silo(tmp_path / "test/test.npz")
    assert open_dataset(tmp_path, "train").group_names == ["0", "1"]
    assert open_dataset(tmp_path, "val").group_names == ["test"]
    assert open_dataset(tmp_path / "train/1.npz").group_names == ["1"]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (None, "holds the splits train, val; give the folder of one: .*train, .*val"),
        ("test", "expected a folder test/ or testing/ for the split 'test', found train, val"),
        ("tset", "expected train, val, test, got 'tset'"),
    ],
)
def test_splits_are_never_mixed_or_guessed(tmp_path, split, message):
    record(tmp_path / "train/indoor_1")
    record(tmp_path / "val/indoor_2")
    with pytest.raises(InputError, match=message):
        open_dataset(tmp_path, split)


def test_what_cannot_be_recognised_names_the_candidates(tmp_path):
    with pytest.raises(InputError, match=r"found none. Known are DroNet: .*Udacity: .*npz: .*ROS bag: metadata.yaml"):
        open_dataset(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"notes.txt: expected one data set format, found none"):
        open_dataset(tmp_path / "notes.txt")
    with pytest.raises(InputError, match=r"there is nothing at this path"):
        open_dataset(tmp_path / "gone")
    silo(tmp_path / "0.npz")
    (tmp_path / "a.mcap").touch()
    with pytest.raises(InputError, match=r"found FADNet npz and ROS bag"):
        open_dataset(tmp_path)
