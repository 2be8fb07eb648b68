"""`edgeflock record`: what it writes can be read back, and it goes on where it was cut off."""

import resource
import subprocess
import sys

import cv2
import numpy as np
import pytest

from edgeflock.export.datasets.formats.dronet import read_dronet
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.recording.dronet import DronetWriter
from edgeflock_lab.record import parse_seeds, record_world


def test_seeds_are_a_list_or_a_range():
    assert parse_seeds("1,3,8") == [1, 3, 8]
    assert parse_seeds("1:9:2") == [1, 3, 5, 7]
    assert parse_seeds("2,1,2") == [2, 1]  # no two processes for one world
    for bad in ("", "a", "5:1", "-1", "1:2:3:4", "1:9:0"):
        with pytest.raises(InputError, match="seeds"):
            parse_seeds(bad)


def test_a_recording_reads_back_with_varied_labels(tmp_path):
    folder = record_world(tmp_path, "indoor", 3, 24)
    data = read_dronet(folder)
    assert folder == tmp_path / "train" / "indoor_3"
    assert data.frames.shape == (24, 240, 320)
    assert np.abs(data.angles).max() <= 0.6
    assert data.angles.std() > 0.03


def test_under_photographs_and_beside_clutter_the_expert_drives_the_same_way(tmp_path):
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "wall.png"), np.random.default_rng(0).integers(0, 255, (64, 64, 3)))
    shown = {"textures": tmp_path / "photos", "clutter": True}
    plain, other = (read_dronet(record_world(tmp_path / str(len(w)), "tape", 3, 3, **w)) for w in ({}, shown))
    assert plain.angles[0] == other.angles[0]
    assert (plain.frames[0] != other.frames[0]).mean() > 0.3
    with pytest.raises(InputError, match=r"was recorded with textures .*photos, got drawn"):
        record_world(tmp_path / "2", "tape", 3, 3)


def test_a_cut_recording_is_resumed_and_a_finished_one_left_alone(tmp_path, monkeypatch):
    add, count = DronetWriter.add, 0

    def cut(self, *args):
        nonlocal count
        count += 1
        if count == 6:
            raise KeyboardInterrupt
        add(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(DronetWriter, "add", cut)
        with pytest.raises(KeyboardInterrupt):
            record_world(tmp_path, "outdoor", 2, 10)
    folder = record_world(tmp_path, "outdoor", 2, 10)
    assert len(read_dronet(folder).frames) == 10
    before = sorted((p.name, p.stat().st_mtime_ns) for p in folder.rglob("*"))
    record_world(tmp_path, "outdoor", 2, 10)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in folder.rglob("*")) == before
    with pytest.raises(InputError, match="outdoor_2: was recorded with frames 10, got 12; delete it or choose another"):
        record_world(tmp_path, "outdoor", 2, 12)


def test_a_disk_that_is_full_ends_in_one_line_and_the_same_command_goes_on(tmp_path):
    """A file-size limit below that of a picture answers as a full disk does."""
    command = [sys.executable, "-m", "edgeflock.runtime.cli", "record", "--out", tmp_path / "data", "--seeds", "1"]
    command += ["--world", "indoor", "--frames", "2", "--jobs", "1"]
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))}
    full = subprocess.run(command, capture_output=True, text=True, check=False, **limit)
    assert full.returncode == 1 and "Traceback" not in full.stderr, full.stderr
    assert "cannot write into" in full.stderr and "run the same command again" in full.stderr
    assert not list(tmp_path.rglob("*.part"))
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert len(read_dronet(tmp_path / "data/train")) == 2
    assert f"next: edgeflock record --out {tmp_path}/data --seeds 2:12:2 --world indoor\n" in again.stdout
