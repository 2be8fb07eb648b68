"""Simulated robots dance by the real nodes, and the report tells how well."""

import json
from dataclasses import replace

import numpy as np
import pytest
import typer

pytest.importorskip("rclpy")
pytest.importorskip("trajectory_msgs")
pytest.importorskip("mujoco")
pytest.importorskip("edgeflock_msgs.msg._music_clock", reason="edgeflock_msgs has to be compiled (.ci/messages)")

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.motion.files import write_motion
from edgeflock.runtime.motion.group import Group
from edgeflock_lab.dance_drive import drive
from edgeflock_lab.dance_report import DanceRecord


def written(path, places):
    """A motion file of dancers at places (N, T, 3), at 5 Hz."""
    turns = np.zeros((*places.shape[:2], 24, 4))
    turns[..., 0] = 1
    write_motion(path, Group(places, turns, rate=5))
    return path


def arguments(motion, out, **others):
    usual = {"music": None, "dancers": 3, "seconds": 3.0, "spacing": 1.3, "speed": 0.6, "bound": 0.1}
    return {"motion": motion, "out": out, **usual, **others}


def test_two_robots_whose_dancers_go_through_each_other_do_not_touch(tmp_path, domain, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    across = np.linspace(-0.7, 0.7, 16)
    places = np.stack([np.stack([x, 0 * x + 1, 0 * x], -1) for x in (across, -across)])
    motion = written(tmp_path / "motion.npz", places)
    out = tmp_path / "out"
    with pytest.raises(typer.Exit) as ended:
        drive(**arguments(motion, out, seconds=2.0))
    record = json.loads((out / "dance.json").read_text())
    assert ended.value.exit_code == 0, record
    assert record["robots"] == 2 and record["touches"] == 0 and record["nearest_m"] > 0.6, record
    assert max(record["off_max_m"]) < 0.1 and record["seconds"] > 1.8, record
    page = (out / "report.html").read_text()
    assert "No two robots touched, each kept to its way" in page
    for name in ("dance.gif", "ways.png", "distances.png", "beats.png"):
        assert name in page and (out / name).stat().st_size > 1000


@pytest.fixture
def record():
    times = np.arange(0, 4, 0.1)
    wanted = np.stack([np.stack([0.1 * times, 0 * times + y], -1) for y in (0.0, 1.0)])
    poses = np.concatenate([wanted, np.zeros((2, len(times), 1))], -1)
    off = np.full(poses.shape[:2], 0.05)
    return DanceRecord(times, poses, off, off, wanted, np.arange(0, 4, 0.5), 0, 1.2, 0.1, 5.0)


def test_a_touch_or_a_robot_off_its_way_ends_with_3(record):
    assert record.exit_code == 0 and record.distances.min() == pytest.approx(1.0)
    touched, strayed = replace(record, touches=2), replace(record, off=record.off + 0.06)
    assert touched.exit_code == 3 and touched.verdict.startswith("Robots touched 2 times, each kept to its way")
    assert strayed.exit_code == 3 and "not each kept to its way (bound 0.1 m)" in strayed.verdict


def test_what_cannot_be_kept_or_drawn_is_refused_before_anything_starts(tmp_path):
    motion = written(tmp_path / "motion.npz", np.zeros((2, 10, 3)))
    with pytest.raises(InputError, match=r"expected a --spacing of at least 1\.27 m for robots of 0\.4 m, got 0\.9"):
        drive(**arguments(motion, tmp_path / "out", spacing=0.9))
    with pytest.raises(InputError, match="leave --music out"):
        drive(**arguments(tmp_path / "song.flac", tmp_path / "out", music=tmp_path / "beats.json"))
    assert not (tmp_path / "out").exists()
