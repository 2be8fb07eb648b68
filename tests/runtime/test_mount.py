"""One file of ROS parameters says where the camera is, to the nodes and to every tool."""

import math

import numpy as np
import pytest
import yaml

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.mount import Mount, read_mount, write_mount
from edgeflock.runtime.safety.limits import GuardLimits

MOUNT = Mount(height=0.25, pitch=0.35, yaw=-0.02, roll=0.01)


def test_what_is_written_is_read_and_holds_for_every_node_of_ros(tmp_path):
    write_mount(tmp_path / "mount.yaml", MOUNT)
    assert read_mount(tmp_path / "mount.yaml") == MOUNT
    (section,) = yaml.safe_load((tmp_path / "mount.yaml").read_text()).items()
    assert section == ("/**", {"ros__parameters": MOUNT.parameters})


def test_a_robots_whole_parameter_file_holds_its_mount_too(tmp_path):
    robot = {"speed": 1.0, "camera_height": 0.16, "camera_pitch": 0.0}
    file = tmp_path / "robot.yaml"
    nodes = {"/**/guard": robot, "/**/camera": {"fps": 30}}
    file.write_text(yaml.dump({name: {"ros__parameters": own} for name, own in nodes.items()}))
    assert read_mount(file) == Mount(height=0.16, pitch=0.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "got none of them"),
        ("[1, 2]", "got none of them"),
        ("camera_height: 0.3", r"got \['height'\]"),
        ("camera_height: low\ncamera_pitch: 0", "camera_height: .*valid number.*'low'"),
        ("camera_height: .nan\ncamera_pitch: 0", "camera_height: .*finite"),
        ("camera_height: 0.3\ncamera_pitch: 20", "camera_pitch: .*1.5.*20"),
        ("a: {camera_height: 0.3}\nb: {camera_height: 0.4}", "camera_height as 0.3 and as 0.4"),
        ("{", "cannot be read"),
    ],
)
def test_a_file_without_a_mount_is_refused_with_the_way_out(tmp_path, text, says):
    (tmp_path / "mount.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"(?s)camera_height \(m\) and camera_pitch \(rad\) in .*{says}"):
        read_mount(tmp_path / "mount.yaml")


def test_a_file_that_is_not_there_names_what_writes_one(tmp_path):
    with pytest.raises(InputError, match="edgeflock calibrate mount"):
        read_mount(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("turned", "ahead", "right"),
    [
        ({}, (1, 0, 0), (0, -1, 0)),
        ({"pitch": 0.5}, (math.cos(0.5), 0, -math.sin(0.5)), (0, -1, 0)),
        ({"yaw": 0.5}, (math.cos(0.5), math.sin(0.5), 0), (math.sin(0.5), -math.cos(0.5), 0)),
        ({"roll": 0.5}, (1, 0, 0), (0, -math.cos(0.5), -math.sin(0.5))),
    ],
)
def test_positive_looks_down_to_the_left_and_lifts_the_left_side(turned, ahead, right):
    axes = Mount(**{"height": 0.3, "pitch": 0.0} | turned).axes
    assert np.allclose(axes[:, 2], ahead) and np.allclose(axes[:, 0], right)
    assert np.allclose(axes.T @ axes, np.eye(3)) and np.linalg.det(axes) == pytest.approx(1)


def test_the_guard_has_its_mount_by_the_same_names():
    assert Mount.of(GuardLimits(**MOUNT.parameters)) == MOUNT


def test_the_angles_come_back_from_the_axes():
    mount = Mount(height=0.25, pitch=0.35, yaw=-0.7, roll=0.1)
    assert Mount.of_axes(0.25, mount.axes).model_dump() == pytest.approx(mount.model_dump())
    with pytest.raises(InputError, match=r"looks ahead from over the ground: yaw: .*got 3.142"):
        Mount.of_axes(0.25, np.diag([-1.0, -1.0, 1.0]) @ Mount(height=0.25, pitch=0.0).axes)
