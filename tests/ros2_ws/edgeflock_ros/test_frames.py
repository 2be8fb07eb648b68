"""Frames by REP 103 and 105: rotations, the optical frame, and the mount in a tree of TF."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import TransformStamped

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.mount import Mount
from edgeflock_ros import frames
from edgeflock_ros.frames import MountInTree, mounted, optical, quaternion, rotation, transform

tf2_msgs = pytest.importorskip("tf2_msgs.msg")


@pytest.mark.parametrize("seed", range(20))
def test_quaternions_are_those_of_scipy_both_ways(seed):
    reference = pytest.importorskip("scipy.spatial.transform").Rotation.random(random_state=seed)
    expected = reference.as_quat(canonical=True)
    assert quaternion(reference.as_matrix()) == pytest.approx(expected, abs=1e-12)
    assert rotation(*(3 * expected)) == pytest.approx(reference.as_matrix(), abs=1e-12)  # of any length


def test_the_optical_frame_looks_along_its_z_which_is_the_cameras_x():
    turn = optical("camera_link", "camera_color_optical_frame").transform.rotation
    assert [turn.x, turn.y, turn.z, turn.w] == pytest.approx([-0.5, 0.5, -0.5, 0.5])  # as realsense2_camera has it


@pytest.fixture
def tree(graph):
    """The tree that a node has by what the test publishes: ``tree(transform, ...)``."""
    changes = []
    found = MountInTree(graph.node, "base_link", lambda: changes.append(1))
    publisher = graph.node.create_publisher(frames.TFMessage, "/tf_static", frames.MANY_LATCHED)

    def tell(*transforms):
        before = len(changes)
        publisher.publish(frames.TFMessage(transforms=transforms))
        assert graph.until(lambda: len(changes) > before)
        return found

    return tell


def test_a_mount_is_told_to_tf_and_found_there_through_all_links(tree):
    mount = Mount(height=0.25, pitch=0.35, yaw=-0.2, roll=0.1)
    plate = transform("base_link", "plate", (0.2, 0.03, 0.1), quaternion(np.eye(3)))
    lower = mount.model_copy(update={"height": 0.15})
    told = tree(mounted("plate", "camera_link", 0.05, lower), optical("/camera_link", "camera_color_optical_frame"))
    assert told.find("camera_color_optical_frame") is None  # the plate is in the air
    assert "no static transform from base_link to lens in TF (it has camera_color_optical_frame, camera_link)" in (
        told.absence("lens")
    )
    forward, left, found = tree(plate).find("/camera_color_optical_frame")
    assert (forward, left) == pytest.approx((0.25, 0.03))
    assert found.model_dump() == pytest.approx(mount.model_dump())


def test_frames_in_a_circle_are_no_mount(tree):
    there, back = TransformStamped(child_frame_id="a"), TransformStamped(child_frame_id="b")
    there.header.frame_id, back.header.frame_id = "b", "a"
    assert tree(there, back).find("a") is None


def test_a_camera_below_the_ground_is_refused(tree):
    with pytest.raises(InputError, match=r"looks ahead from over the ground: height: .*got -0.100"):
        tree(transform("base_link", "lens", (0, 0, -0.1), (-0.5, 0.5, -0.5, 0.5))).find("lens")


def test_without_tf2_msgs_the_mount_cannot_come_from_tf(monkeypatch, graph):
    monkeypatch.setattr(frames, "TFMessage", None)
    with pytest.raises(InputError, match="it is not installed: apt install ros-<distro>-tf2-msgs"):
        MountInTree(graph.node, "base_link", print)
