"""Frames of a robot (REP 105, REP 103) and what of them these nodes tell and ask of TF, by tf2's own messages.

    odom -> base_link -> camera_link -> camera_color_optical_frame

The base tells the first, whoever knows the mount the second, and each camera driver the third.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from pydantic import BaseModel, Field
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.mount import OPTICAL, Mount
from edgeflock_ros import topics

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # a robot's ROS has it; that of PyPI only after .ci/messages
    TFMessage = None

ODOM, BASE, CAMERA = "odom", "base_link", "camera_link"
MAX_SIDE = 0.02  # m: the guard takes a camera for one in the middle of the robot
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
MANY_LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class PrefixParameters(BaseModel):
    """Of every node that names frames."""

    frame_prefix: str = Field(default="", description="before the names of frames, as robot1/; empty = none")


class TreeParameters(PrefixParameters):
    """Of every node that has to know where the camera is."""

    mount_from: Literal["parameters", "tf"] = Field(
        default="parameters", description="where the camera is: camera_height ..., or what TF says"
    )
    base_frame: str = Field(default=BASE, min_length=1, description="frame of the robot; its z = 0 is the ground")


def transform(parent: str, child: str, place: Any, rotation: Any, stamp: Time | None = None) -> TransformStamped:
    """Pose of `child` in `parent`: place (3,) in m, rotation as quaternion (4,) x, y, z, w."""
    out = TransformStamped(child_frame_id=child)
    out.header.frame_id = parent
    if stamp is not None:
        out.header.stamp = stamp
    to, turn = out.transform.translation, out.transform.rotation
    to.x, to.y, to.z = map(float, place)
    turn.x, turn.y, turn.z, turn.w = map(float, rotation)
    return out


def quaternion(matrix: np.ndarray) -> np.ndarray:
    """x, y, z, w of a rotation (3, 3), w >= 0; from the largest of the four, which loses no digits."""
    m, trace = matrix, np.trace(matrix)
    squares = np.array([*(1 + 2 * np.diag(m) - trace), 1 + trace])  # 4 x^2, 4 y^2, 4 z^2, 4 w^2
    largest = int(np.argmax(squares))
    x, y, z = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]  # 4 w (x, y, z)
    xy, xz, yz = m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1]
    row = ([squares[0], xy, xz, x], [xy, squares[1], yz, y], [xz, yz, squares[2], z], [x, y, z, squares[3]])[largest]
    q = np.array(row) / (2 * math.sqrt(squares[largest]))
    return -q if q[3] < 0 else q


def rotation(x: float, y: float, z: float, w: float) -> np.ndarray:
    """Rotation (3, 3) of a quaternion, which need not be of length 1."""
    x, y, z, w = np.array([x, y, z, w]) / math.sqrt(x * x + y * y + z * z + w * w)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def optical(parent: str, child: str) -> TransformStamped:
    """The optical frame of a lens in the frame of its camera: z ahead, x right, y down (REP 103)."""
    return transform(parent, child, np.zeros(3), quaternion(OPTICAL))


def mounted(parent: str, child: str, forward: float, mount: Mount) -> TransformStamped:
    """A camera in the frame of its robot's base, whose z = 0 is the ground."""
    return transform(parent, child, (forward, 0.0, mount.height), quaternion(mount.axes @ OPTICAL.T))


class StaticFrames:
    """Tells transforms that stay, also to those who come later; nothing where tf2_msgs is not installed."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sent: Any = None
        self._publisher = None
        if TFMessage is None:
            node.get_logger().info("no TF: tf2_msgs is not installed")
        else:
            self._publisher = node.create_publisher(TFMessage, topics.TF_STATIC, LATCHED)

    def tell(self, *transforms: TransformStamped) -> None:
        """All that this node knows; what is known already is not said again."""
        said = [(one.header.frame_id, one.child_frame_id, one.transform) for one in transforms]
        if self._publisher is None or said == self._sent:
            return
        self._sent = said
        stamp = self._node.get_clock().now().to_msg()
        for one in transforms:
            one.header.stamp = stamp
        self._publisher.publish(TFMessage(transforms=transforms))

    def close(self) -> None:
        """Tell nothing any more."""
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)


class MountInTree:
    """Where a camera is on its robot, as the static part of the TF tree has it.

    Parameters
    ----------
    node : rclpy.node.Node
    base : str
        Frame of the robot; its z = 0 is the ground.
    changed : callable
        Called when a static transform came that is new or other than before.

    Raises
    ------
    InputError
        tf2_msgs is not installed.
    """

    def __init__(self, node: Node, base: str, changed: Callable[[], None]) -> None:
        if TFMessage is None:
            raise InputError(
                f"{node.get_name()}: expected tf2_msgs for mount_from:=tf, it is not installed: apt install "
                "ros-<distro>-tf2-msgs, or give the mount by parameters."
            )
        self._node, self._base, self._changed = node, base, changed
        self._parents: dict[str, tuple[str, np.ndarray]] = {}
        self._subscription = node.create_subscription(TFMessage, topics.TF_STATIC, self._on_static, MANY_LATCHED)

    def _on_static(self, message: Any) -> None:
        news = False
        for one in message.transforms:
            to, turn = one.transform.translation, one.transform.rotation
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = rotation(turn.x, turn.y, turn.z, turn.w), (to.x, to.y, to.z)
            child, parent = one.child_frame_id.lstrip("/"), one.header.frame_id.lstrip("/")
            before = self._parents.get(child)
            if before is None or before[0] != parent or not np.array_equal(before[1], pose):
                self._parents[child] = parent, pose
                news = True
        if news:
            self._changed()

    def find(self, frame: str) -> tuple[float, float, Mount] | None:
        """Of an optical frame: m ahead of the base's origin, m to its left, and the mount; None where no chain is.

        Raises
        ------
        InputError
            The frame is not where a mount can be, as below the ground.
        """
        pose, at = np.eye(4), frame.lstrip("/")
        seen: set[str] = set()
        while at != self._base:
            if at in seen or at not in self._parents:
                return None
            seen.add(at)
            at, step = self._parents[at]
            pose = step @ pose
        return float(pose[0, 3]), float(pose[1, 3]), Mount.of_axes(float(pose[2, 3]), pose[:3, :3])

    def absence(self, frame: str) -> str:
        """What is waited for."""
        known = ", ".join(sorted(self._parents)) or "none"
        return f"no static transform from {self._base} to {frame or '(frame without name)'} in TF (it has {known})"

    def close(self) -> None:
        """Listen no more."""
        self._node.destroy_subscription(self._subscription)
