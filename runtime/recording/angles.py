"""What messages of ROS say about steering: the front wheels' angle, by the type of the message.

Taken are sensor_msgs/JointState (the joint "steering", or the only one with "steer" in its name), std_msgs Float32 and
Float64, ackermann_msgs AckermannDrive and AckermannDriveStamped, and geometry_msgs Twist and TwistStamped through the
bicycle model, angle = atan(wheelbase * yaw rate / speed), where the robot moves. The messages are those of rclpy or of
rosbags: their fields are what counts.
"""

from __future__ import annotations

import math
from typing import Any

from edgeflock.runtime.errors import InputError

JOINTS = "sensor_msgs/msg/JointState"
ACKERMANN = ("ackermann_msgs/msg/AckermannDriveStamped", "ackermann_msgs/msg/AckermannDrive")
FLOATS = ("std_msgs/msg/Float32", "std_msgs/msg/Float64")
TWISTS = ("geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped")
STEERING = (JOINTS, *ACKERMANN, *FLOATS, *TWISTS)

MOVING_MPS = 0.05
"""Below this the yaw rate of a robot says nothing about its wheels."""


def steering_angle(kind: str, message: Any, wheelbase: float | None = None) -> float | None:
    """Steering angle of a message, in its own unit (rad for a Twist); None where it does not tell.

    Parameters
    ----------
    kind : str
        Of `STEERING`.
    message : object
    wheelbase : float, optional
        In m, for a Twist.

    Raises
    ------
    InputError
        A JointState without one steering joint, or a Twist without wheelbase.
    """
    if kind in TWISTS:
        if wheelbase is None:
            raise InputError("a Twist needs the wheelbase in m.")
        twist = getattr(message, "twist", message)
        speed, yaw_rate = twist.linear.x, twist.angular.z
        return None if abs(speed) < MOVING_MPS else math.atan(wheelbase * yaw_rate / speed)
    if kind in ACKERMANN:
        return float(getattr(message, "drive", message).steering_angle)
    if kind in FLOATS:
        return float(message.data)
    names = [name for name in message.name if name == "steering"]
    names = names or [name for name in message.name if "steer" in name.lower()]
    if len(names) != 1 or len(message.position) != len(message.name):
        raise InputError(
            f"expected one joint 'steering' and a position per joint, got {list(message.name)} and "
            f"{len(message.position)} positions."
        )
    return float(message.position[list(message.name).index(names[0])])


def speed_of(kind: str, message: Any) -> float | None:
    """Speed ahead in m/s that a message of `STEERING` commands; None where it has none."""
    if kind in TWISTS:
        return float(getattr(message, "twist", message).linear.x)
    if kind in ACKERMANN:
        return float(getattr(message, "drive", message).speed)
    return None
