"""Frames of cameras at random mounts: they are brought to the trained camera's view, but never quite."""

import math

import cv2
import numpy as np
import pytest

pytest.importorskip("mujoco")

from edgeflock.export.datasets.formats.dronet import read_dronet
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount
from edgeflock.runtime.recording.dronet import read_meta
from edgeflock_lab.random_mounts import COVERED, HEIGHTS, MEASURED, ROLLS, as_measured, in_view, random_look, view_of
from edgeflock_lab.record import record_world
from fadnet_sim.camera import SimCamera
from fadnet_sim.world import make_world


@pytest.fixture(scope="module")
def camera():
    camera = SimCamera(make_world("outdoor", 2))
    yield camera
    camera.close()


def test_cameras_hang_low_and_high_look_level_and_down_and_a_quarter_stays(camera):
    rng = np.random.default_rng(0)
    looks = [random_look(camera.world.look, rng) for _ in range(40)]
    others = [look for look in looks if look != camera.world.look]
    assert 22 <= len(others) <= 38
    heights, pitches = [look.height for look in others], np.degrees([look.pitch for look in others])
    assert HEIGHTS[0] <= min(heights) < 0.2 and 0.7 < max(heights) <= HEIGHTS[1]
    assert pitches.min() < 5 and pitches.max() > 20
    rolls = np.degrees([look.roll for look in others])
    assert ROLLS[0] <= rolls.min() < -1 and 1 < rolls.max() <= ROLLS[1]
    for look in others:
        assert view_of(look.mount, Intrinsics.of_lens(320, 240, look.fovy)).coverage >= COVERED
        assert (look.gain, look.noise, look.blur) == (
            camera.world.look.gain, camera.world.look.noise, camera.world.look.blur,
        )  # fmt: skip


def test_a_mount_is_measured_a_little_wrongly():
    mount, rng = Mount(height=0.3, pitch=0.2, yaw=0.05, roll=0.02), np.random.default_rng(0)
    measured = [as_measured(mount, rng) for _ in range(50)]
    off = np.array([[m.height / 0.3 - 1, m.pitch - 0.2, m.yaw - 0.05, m.roll - 0.02] for m in measured])
    assert (np.abs(off).max(axis=0) <= [MEASURED[0], *[math.radians(MEASURED[1])] * 3]).all()
    assert (np.abs(off).mean(axis=0) > 0.01).all()


def test_the_floor_looks_alike_through_any_camera_and_what_is_left_differs(camera):
    own, rng = camera.world.look, np.random.default_rng(5)
    (x, y), yaw, _ = camera.world.path.at(3.0)

    def seen(look):
        camera.wear(look)
        color = cv2.GaussianBlur(camera.color(x, y, yaw), (0, 0), 3)
        return in_view(color, view_of(look.mount, camera.intrinsics)).astype(float)

    wanted = seen(own)
    other = seen(next(look for look in (random_look(own, rng) for _ in range(20)) if abs(look.height - 0.4) > 0.2))
    camera.wear(own)
    floor = np.s_[150:200, 60:260]  # below the horizon, above what a narrow lens no longer sees
    assert np.corrcoef(wanted[floor].ravel(), other[floor].ravel())[0, 1] > 0.8
    assert np.abs(wanted - other).max() > 30


def test_a_recording_of_random_mounts_says_so_and_is_no_other(tmp_path):
    folder = record_world(tmp_path, "tape", 3, 12, mounts=True)
    data = read_dronet(folder)
    assert data.frames.shape == (12, 240, 320) and np.abs(data.angles).max() <= 0.6
    assert read_meta(folder)["recording"]["mounts"] == "random"
    with pytest.raises(InputError, match="was recorded with mounts random, got of the world"):
        record_world(tmp_path, "tape", 3, 12)
