"""Node `tracker` (lifecycle): drives one mobile robot along the trajectory of its dancer.

Subscribes
    trajectory       trajectory_msgs/MultiDOFJointTrajectory, latched; the newest holds
    odom             nav_msgs/Odometry: where the robot is, in the trajectory's frame
Publishes
    cmd_vel          TwistStamped with the odometry's stamp (`stamped` false: Twist), one for each odometry
    /diagnostics     at 1 Hz: distance from the way, commands

The robot stands where the trajectory does not reach, and when no odometry came for `timeout` s. It does not look for
obstacles: remap cmd_vel to cmd_vel_nav, and fadnet_nav's guard stops before them.

Parameters: `TrackerParameters`; see `managed`.
"""

from __future__ import annotations

import edgeflock_ros.before_rclpy  # noqa: F401

# isort: split
import math
import sys

import numpy as np
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from pydantic import Field
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from std_msgs.msg import Header
from trajectory_msgs.msg import MultiDOFJointTrajectory

from choreography import messages
from choreography.tracking import Limits, Track, command
from edgeflock_ros import topics
from edgeflock_ros.frames import LATCHED
from edgeflock_ros.managed import ManagedNode, ManagedParameters
from edgeflock_ros.messages import OK, WARN, qos, to_ns
from edgeflock_ros.process import run
from edgeflock_ros.timers import steady_clock, steady_timer

WATCH_S = 0.1


class TrackerParameters(ManagedParameters):
    """Parameters of the tracker node; all but `stamped` hold at once."""

    ahead: float = Field(default=0.15, ge=0, le=2, description="m from the axle to what keeps to the way; 0: omni base")
    gain: float = Field(default=3.0, ge=0, le=20, description="1/s: an error falls to 1/e in 1/gain s")
    speed: float = Field(default=0.8, ge=0.01, le=10, description="of the robot at most, m/s")
    yaw_rate: float = Field(default=3.0, ge=0.01, le=20, description="of the robot at most, rad/s")
    timeout: float = Field(default=0.5, ge=0.05, le=10, description="s without odometry after which the robot stands")
    stamped: bool = Field(default=True, description="cmd_vel is TwistStamped; false: Twist")


class TrackerNode(ManagedNode[TrackerParameters]):
    """Owns the newest trajectory of one robot; see the module."""

    def __init__(self) -> None:
        super().__init__("tracker", TrackerParameters, "way")
        self._listening: list[Subscription] = []
        self._timer: Timer | None = None
        self.start()

    def accept(self, new: TrackerParameters) -> str | None:
        """The type of a topic cannot change while it is there."""
        return super().accept(new) if new.stamped != self.settings.value.stamped else None

    def load(self) -> None:
        """Make the topic of the commands."""
        kind = TwistStamped if self.settings.value.stamped else Twist
        self._commands = self.create_publisher(kind, topics.COMMAND, qos("reliable", 1))

    def begin(self) -> None:
        """Drive."""
        self._track: Track | None = None
        self._heard, self._count, self._off, self._said = -math.inf, 0, math.nan, "no trajectory came yet"
        self._forward = steady_clock(self)
        self._listening = [
            self.create_subscription(MultiDOFJointTrajectory, topics.TRAJECTORY, self._on_trajectory, LATCHED),
            self.create_subscription(Odometry, topics.ODOMETRY, self._on_odometry, qos("sensor_data")),
        ]
        self._timer = steady_timer(self, WATCH_S, self._watch)

    def release(self) -> None:
        """Stand still."""
        for one in self._listening:
            self.destroy_subscription(one)
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
            self._send((0.0, 0.0, 0.0), Header(stamp=self.get_clock().now().to_msg()))
        self._listening = []

    def unload(self) -> None:
        """Drop the topic."""
        self.destroy_publisher(self._commands)

    def _now(self) -> float:
        return self._forward.now().nanoseconds / 1e9

    def _on_trajectory(self, message: MultiDOFJointTrajectory) -> None:
        self._track = messages.track(message)
        if self._track is None:
            self._said = "the trajectory is of several bodies, or its times or numbers are not in order"

    def _on_odometry(self, message: Odometry) -> None:
        p, now = self.settings.value, message.pose.pose
        self._heard = self._now()
        pose = np.array([now.position.x, now.position.y, messages.yaw(now.orientation)])
        stamp = to_ns(message.header.stamp)
        found = self._track.at(stamp) if self._track and np.isfinite(pose).all() else None
        speeds, self._off = (0.0, 0.0, 0.0), math.nan
        if found is not None:
            goal, rate = found
            at = pose[:2] + p.ahead * np.array([math.cos(pose[2]), math.sin(pose[2])])
            self._off, self._said = float(np.hypot(*(goal[:2] - at))), ""
            speeds = command(pose, goal, rate, p.ahead, p.gain, Limits(p.speed, p.yaw_rate))
        elif self._track:
            begins, ends = ((int(edge) - stamp) / 1e9 for edge in self._track.times[[0, -1]])
            self._said = f"the trajectory is from {begins:+.2f} to {ends:+.2f} s of the odometry: is its sender there?"
        self._send(speeds, message.header)

    def _send(self, speeds: tuple[float, float, float], header: Header) -> None:
        twist = Twist()
        twist.linear.x, twist.linear.y, twist.angular.z = speeds
        stamped = self.settings.value.stamped
        self._commands.publish(TwistStamped(header=header, twist=twist) if stamped else twist)
        self._count += 1

    def _watch(self) -> None:
        silent = self._now() - self._heard
        if self.settings.value.timeout < silent < math.inf:
            self._said = f"no odometry for {silent:.1f} s"
            self._send((0.0, 0.0, 0.0), Header(stamp=self.get_clock().now().to_msg()))

    def report(self) -> None:
        """How far the robot is from its way, or why it stands."""
        said = "no odometry came yet" if self._heard == -math.inf else self._said
        self.say(WARN if said else OK, said or "dancing", off_m=self._off, commands=self._count)


def main(args: list[str] | None = None) -> int:
    """Run the tracker until a signal; the robot stands when it ends."""
    return run(lambda: [TrackerNode()], args)


if __name__ == "__main__":
    sys.exit(main())
