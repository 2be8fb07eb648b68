"""The simulated camera: deterministic, metric depth, mounted where it says."""

import math
from dataclasses import replace

import numpy as np
import pytest

from edgeflock.runtime.errors import InputError
from fadnet_sim.camera import SimCamera
from fadnet_sim.world import make_world


@pytest.fixture(scope="module")
def camera():
    camera = SimCamera(make_world("indoor", 2), 320, 240, depth_size=(160, 120))
    yield camera
    camera.close()


def start(camera):
    (x, y), yaw, _ = camera.world.path.at(0.0)
    return float(x), float(y), yaw


def test_the_same_pose_and_index_give_the_same_bytes(camera):
    first, depth = (a.copy() for a in camera.render(*start(camera), index=5))
    camera.render(*start(camera), index=6)
    again, depth_again = camera.render(*start(camera), index=5)
    assert (first == again).all()
    assert (depth == depth_again).all()


def test_another_index_changes_only_the_noise(camera):
    first = camera.render(*start(camera), index=0)[0].astype(int)
    other = camera.render(*start(camera), index=1)[0].astype(int)
    assert 0 < np.abs(first - other).mean() < 12


def test_the_ground_is_where_the_mount_says(camera):
    _, depth = camera.render(*start(camera))
    height, pitch = camera.look.height, camera.look.pitch
    k = camera.depth_intrinsics
    v = depth.shape[0] - 1
    below = math.atan((v + 0.5 - k.cy) / k.fy) + pitch
    along_axis = height / math.sin(below) * math.cos(below - pitch)
    assert np.median(depth[v]) / 1000 == pytest.approx(along_axis, rel=0.05)


def test_far_and_near_differ_in_depth(camera):
    _, depth = camera.render(*start(camera))
    assert depth.dtype == np.uint16
    assert 300 < depth[-1].min() < depth[depth > 0].max() <= 10_000


def test_a_glossy_floor_reflects_the_room_in_colour_and_not_in_depth():
    glossy = make_world("tape", 2)
    dull = replace(glossy, scenery=glossy.scenery.replace("reflectance=", "shininess="))
    (x, y), yaw, _ = glossy.path.at(0.0)
    seen = []
    for world in (glossy, dull):
        camera = SimCamera(world, 320, 240, depth_size=(160, 120))
        seen.append([image.astype(int) for image in camera.render(x, y, yaw)])
        camera.close()
    (color, depth), (dull_color, dull_depth) = seen
    assert np.abs(color - dull_color)[120:].mean() > 3
    assert (depth == dull_depth).all()


def test_a_camera_worn_elsewhere_sees_what_a_world_with_that_camera_shows(camera):
    look = replace(camera.look, height=0.2, pitch=0.3, yaw=-0.1, roll=0.1, fovy=1.1)
    pose = start(camera)
    before = camera.render(*pose)[0].copy()
    camera.wear(look)
    worn = camera.render(*pose)[0].astype(int)
    other = SimCamera(replace(camera.world, look=look), 320, 240, depth_size=(160, 120))
    expected = other.render(*pose)[0].astype(int)
    assert camera.intrinsics == other.intrinsics and camera.depth_intrinsics == other.depth_intrinsics
    other.close()
    camera.wear(camera.world.look)
    assert np.abs(worn - expected).mean() < 0.5 < np.abs(worn - before).mean()


def test_a_senseless_size_is_refused():
    with pytest.raises(InputError, match="camera size"):
        SimCamera(make_world("indoor", 2), 4, 4)
