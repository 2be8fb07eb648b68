"""Ways and angles as standard messages, and back."""

from __future__ import annotations

import math

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Pose, PoseStamped, Quaternion, Transform, Twist
from nav_msgs.msg import Path
from std_msgs.msg import Header
from trajectory_msgs.msg import (
    JointTrajectory,
    JointTrajectoryPoint,
    MultiDOFJointTrajectory,
    MultiDOFJointTrajectoryPoint,
)

from choreography.tracking import Track
from edgeflock_ros.frames import BASE
from edgeflock_ros.messages import to_ns


def path(places: np.ndarray, headings: np.ndarray, frame_id: str, stamp: Time) -> Path:
    """Places (T, 2) and headings (T,) of one dancer, for a picture."""
    header = Header(frame_id=frame_id, stamp=stamp)
    out = Path(header=header)
    for (x, y), heading in zip(places.tolist(), headings.tolist(), strict=True):
        pose = Pose(orientation=turned(heading))
        pose.position.x, pose.position.y = x, y
        out.poses.append(PoseStamped(header=header, pose=pose))
    return out


def trajectory(
    times: np.ndarray, poses: np.ndarray, rates: np.ndarray, frame_id: str, stamp: Time
) -> MultiDOFJointTrajectory:
    """Poses (K, 3) of x, y, heading and their rates (K, 3) at times (K,) in s after the stamp."""
    out = MultiDOFJointTrajectory(header=Header(frame_id=frame_id, stamp=stamp), joint_names=[BASE])
    for time, (x, y, heading), (vx, vy, yaw_rate) in zip(times.tolist(), poses.tolist(), rates.tolist(), strict=True):
        to, twist = Transform(rotation=turned(heading)), Twist()
        to.translation.x, to.translation.y = x, y
        twist.linear.x, twist.linear.y, twist.angular.z = vx, vy, yaw_rate
        point = MultiDOFJointTrajectoryPoint(transforms=[to], velocities=[twist], time_from_start=duration(time))
        out.points.append(point)
    return out


def joint_trajectory(
    times: np.ndarray, angles: np.ndarray, rates: np.ndarray, names: list[str], stamp: Time
) -> JointTrajectory:
    """Angles (K, J) of joints and their rates (K, J) at times (K,) in s after the stamp."""
    out = JointTrajectory(header=Header(stamp=stamp), joint_names=names)
    for time, angle, rate in zip(times.tolist(), angles.tolist(), rates.tolist(), strict=True):
        out.points.append(JointTrajectoryPoint(positions=angle, velocities=rate, time_from_start=duration(time)))
    return out


def track(message: MultiDOFJointTrajectory) -> Track | None:
    """What a trajectory of one body says; None where it has no points, several bodies, or numbers out of order."""
    points = message.points
    if not points or any(len(p.transforms) != 1 for p in points):
        return None
    start = to_ns(message.header.stamp)
    times = np.array([start + p.time_from_start.sec * 10**9 + p.time_from_start.nanosec for p in points], np.int64)
    poses = np.array(
        [(p.transforms[0].translation.x, p.transforms[0].translation.y, yaw(p.transforms[0].rotation)) for p in points]
    )
    rates = np.zeros_like(poses)
    if all(len(p.velocities) == 1 for p in points):
        rates = np.array([(v.linear.x, v.linear.y, v.angular.z) for v in (p.velocities[0] for p in points)])
    if (np.diff(times) <= 0).any() or not (np.isfinite(poses).all() and np.isfinite(rates).all()):
        return None
    return Track(times, poses, rates)


def turned(heading: float) -> Quaternion:
    """A turn around the upright axis."""
    return Quaternion(z=math.sin(heading / 2), w=math.cos(heading / 2))


def yaw(q: Quaternion) -> float:
    """Turn around the upright axis, rad."""
    return math.atan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y * q.y + q.z * q.z))


def duration(seconds: float) -> Duration:
    """Message of a time that is not negative."""
    ns = round(seconds * 1e9)
    return Duration(sec=ns // 10**9, nanosec=ns % 10**9)
