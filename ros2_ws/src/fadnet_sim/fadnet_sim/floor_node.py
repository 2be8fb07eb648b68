"""Node `floor`: dancing robots on a simulated floor, in lock-step.

Each stands on the first pose of its `dancer1/path`, `dancer2/path`, ... Then tick n is `/clock` and every robot's
`dancer1/odom`, ... with stamp n. Time goes on once every robot has answered with a `dancer1/cmd_vel` of this stamp, and
is never more than `LEAD_S` ahead of the music clock: on a machine that is too slow nothing is late. A tick that nobody
answers is repeated, and the first one until somebody publishes `sim/start`, who then misses nothing.
`sim/collisions`, transient local, says how often two robots came to touch each other.
"""

from __future__ import annotations

import edgeflock_ros.before_rclpy  # noqa: F401

# isort: split
import math
import sys
import time
from functools import partial

import numpy as np
from edgeflock_msgs.msg import MusicClock
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry, Path
from pydantic import BaseModel, ConfigDict, Field
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock as ClockMessage
from std_msgs.msg import Empty, UInt32

from edgeflock_ros import topics
from edgeflock_ros.frames import BASE, LATCHED
from edgeflock_ros.messages import qos, to_ns, to_stamp
from edgeflock_ros.params import Parameters
from edgeflock_ros.process import run

from .base_node import FIRST_STAMP_NS, REPEAT_FIRST_TICK_S
from .floor import Floor

TICK_NS = 33_333_333
LEAD_S = 0.5


class FloorParameters(BaseModel):
    """Parameters of the floor, read at start."""

    model_config = ConfigDict(frozen=True)

    dancers: int = Field(default=3, ge=1, le=20, description="robots on the floor")


class FloorNode(Node):
    """The physics of the robots, and their clock; see the module."""

    def __init__(self) -> None:
        super().__init__("floor")
        self.done: int | None = None
        robots = range(Parameters(self, FloorParameters).value.dancers)
        self._starts: dict[int, np.ndarray] = {}
        self._floor: Floor | None = None
        self._stamp_ns = self._music_ns = FIRST_STAMP_NS
        self._started, self._reported = False, -1
        self._told = time.monotonic()
        self._speeds: dict[int, tuple[float, float]] = {}
        self._time = self.create_publisher(ClockMessage, topics.CLOCK, 10)
        self._collisions = self.create_publisher(UInt32, topics.COLLISIONS, LATCHED)
        names = [topics.dancer(n + 1) for n in robots]
        self._odometry = [
            self.create_publisher(Odometry, name + topics.ODOMETRY, qos("reliable", 100)) for name in names
        ]
        for n, name in enumerate(names):
            self.create_subscription(Path, name + topics.PATH, partial(self._on_path, n), LATCHED)
            self.create_subscription(TwistStamped, name + topics.COMMAND, partial(self._on_command, n), 10)
        self.create_subscription(MusicClock, topics.MUSIC_CLOCK, self._on_music, qos("reliable", 10))
        self.create_subscription(Empty, topics.START, self._on_start, LATCHED)
        # This node is the clock, so its own timer needs another.
        self.create_timer(0.05, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_path(self, n: int, path: Path) -> None:
        pose = path.poses[0].pose
        heading = 2 * math.atan2(pose.orientation.z, pose.orientation.w)
        self._starts[n] = np.array([pose.position.x, pose.position.y, heading])
        if self._floor is None and len(self._starts) == len(self._odometry):
            self._floor = Floor(np.array([self._starts[one] for one in sorted(self._starts)]))
            self._tell()

    def _on_command(self, n: int, command: TwistStamped) -> None:
        if to_ns(command.header.stamp) == self._stamp_ns:
            self._speeds[n] = command.twist.linear.x, command.twist.angular.z
            self._go_on()

    def _on_music(self, clock: MusicClock) -> None:
        self._music_ns = max(self._music_ns, to_ns(clock.header.stamp))
        self._go_on()

    def _on_start(self, _: Empty) -> None:
        self._started = True
        self._go_on()

    def _go_on(self) -> None:
        """One tick further, if everybody is ready for it."""
        late = self._stamp_ns - self._music_ns > LEAD_S * 1e9
        if self._floor is None or not self._started or late or len(self._speeds) < self._floor.robots:
            return
        self._floor.step(TICK_NS / 1e9, np.array([self._speeds[n] for n in range(self._floor.robots)]))
        self._stamp_ns += TICK_NS
        self._speeds.clear()
        self._tell()

    def _watch(self) -> None:
        if self._floor is not None and time.monotonic() - self._told > REPEAT_FIRST_TICK_S:
            self._tell()

    def _tell(self) -> None:
        """The time, where the robots are, and how often they touched."""
        assert self._floor is not None
        self._told, stamp = time.monotonic(), to_stamp(self._stamp_ns)
        self._time.publish(ClockMessage(clock=stamp))
        states = zip(self._odometry, self._floor.poses.tolist(), self._floor.twists.tolist(), strict=True)
        for publisher, (x, y, heading), (ahead, around) in states:
            message = Odometry(child_frame_id=BASE)
            message.header.stamp, message.header.frame_id = stamp, "stage"
            message.pose.pose.position.x, message.pose.pose.position.y = x, y
            message.pose.pose.orientation.z, message.pose.pose.orientation.w = (
                math.sin(heading / 2),
                math.cos(heading / 2),
            )
            message.twist.twist.linear.x, message.twist.twist.angular.z = ahead, around
            publisher.publish(message)
        if self._floor.touches != self._reported:
            self._reported = self._floor.touches
            self._collisions.publish(UInt32(data=self._reported))

    def close(self) -> None:
        """Nothing to let go."""


def main(args: list[str] | None = None) -> int:
    """Run the floor until a signal."""
    return run(lambda: [FloorNode()], args)


if __name__ == "__main__":
    sys.exit(main())
