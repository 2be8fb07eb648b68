"""The simulated base: physics, ground truth, and the command time-out that every real base has.

In real time it runs the physics on the wall clock and publishes `odom` at 100 Hz. In lock-step it is the clock:
tick n = `/clock` and `odom` with stamp n, then it waits for the `cmd_vel` that carries stamp n, moves on by one camera
period, and so on. Until the first command it repeats tick 0, so that the nodes may start in any order; with
`wait_for_start` also until somebody publishes `sim/start`, who then has heard all nodes and misses nothing.
A command that stays away longer than `lockstep_timeout` of wall time is reported on `/diagnostics`, and the base goes
on under the rule of a real one: the last command holds for `command_timeout`, then the wheels stop.
"""

from __future__ import annotations

import edgeflock_ros.before_rclpy  # noqa: F401

# isort: split
import math
import sys
import time

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TransformStamped, Twist, TwistStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock as ClockMessage
from std_msgs.msg import Empty, String, UInt32

from edgeflock.runtime.errors import EdgeflockError
from edgeflock_ros import topics
from edgeflock_ros.frames import BASE, LATCHED, ODOM, TFMessage, transform
from edgeflock_ros.process import run

from .car import MAX_STEERING, WHEELBASE, WHEELS
from .description import urdf
from .scene import KINDS
from .sim import Simulation
from .world import make_world

ODOM_S = 0.01
MAX_LAG_S = 0.1  # behind the wall clock by more than this, time is skipped rather than caught up in one jump
TRUE, UNKNOWN = 1e-6, 1e6  # variances of odom, which is ground truth: what it tells, and what it does not
FIRST_STAMP_NS = 1_000_000_000  # of lock-step: ROS takes a clock of 0 for "no clock yet"
REPEAT_FIRST_TICK_S = 0.25  # wall time


class BaseNode(Node):
    """A car in a world that obeys `cmd_vel` (linear.x in m/s, angular.z in rad/s).

    Parameters are read at start; see `_declare`. Publishes `odom` (ground truth, with variances), the same and the
    wheels on `/tf` where tf2_msgs is installed, `robot_description` (URDF) and `sim/collisions` (count so far), both
    transient local, and `/diagnostics` at 1 Hz.
    """

    def __init__(self) -> None:
        super().__init__("base")
        self.done: int | None = None
        world = self._declare("world", "indoor", " | ".join(KINDS))
        seed = self._declare("seed", 2, "the world's seed", (0, 2**31 - 1))
        self.period = 1 / self._declare("fps", 30.0, "ticks per second in lock-step: the camera's rate", (1.0, 240.0))
        self.lockstep = self._declare("lockstep", False, "wait for each command instead of the wall clock")
        self.lockstep_timeout = self._declare("lockstep_timeout", 2.0, "wall s to wait for a command", (0.05, 600.0))
        hold = self._declare("wait_for_start", False, "lock-step: repeat tick 0 until sim/start is published")
        self.command_timeout = self._declare("command_timeout", 0.5, "s after which the wheels stop", (0.05, 10.0))
        stamped = self._declare("stamped", True, "cmd_vel is TwistStamped; false: Twist (real time only)")
        self.push_speed = self._declare("push_speed", 0.0, "sideways kick, m/s, 0 = none", (0.0, 2.0))
        self.push_every = self._declare("push_every", 5.0, "s between kicks to a random side", (0.1, 1e6))
        self.prefix = self._declare("frame_prefix", "", "before the names of frames, as robot1/; empty = none")
        if self.lockstep and not stamped:
            raise EdgeflockError("Lock-step matches commands by stamp: expected stamped:=true, got false.")

        self.sim = Simulation(make_world(world, seed))
        self.random = np.random.default_rng(seed)
        self.speed, self.steering, self.heard_ns = 0.0, 0.0, -(10**18)
        self.skipped_s, self.timeouts, self.collisions = 0.0, 0, -1
        self.next_push_s = self.push_every

        self.odom = self.create_publisher(Odometry, topics.ODOMETRY, 10)
        self.state = Odometry(child_frame_id=self.prefix + BASE)
        self.state.header.frame_id = self.prefix + ODOM
        self.state.pose.covariance = np.diag([TRUE] * 6).ravel()
        self.state.twist.covariance = np.diag([TRUE, *[UNKNOWN] * 4, TRUE]).ravel()
        self.tree = self.create_publisher(TFMessage, topics.TF, 100) if TFMessage else None
        self.collision_count = self.create_publisher(UInt32, topics.COLLISIONS, LATCHED)
        self.description = self.create_publisher(String, topics.DESCRIPTION, LATCHED)
        self.description.publish(String(data=urdf()))
        self.diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, 10)
        self.create_subscription(TwistStamped if stamped else Twist, topics.COMMAND, self.on_command, 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # also where use_sim_time is set: this node is the clock
        self.create_timer(1.0, self.publish_diagnostics, clock=steady)
        if self.lockstep:
            self.clock_pub = self.create_publisher(ClockMessage, topics.CLOCK, 10)
            self.answered, self.started = False, not hold
            if hold:
                self.create_subscription(Empty, topics.START, self.on_start, LATCHED)
            self.create_timer(0.02, self.watch_tick, clock=steady)
            self.publish_tick()
        else:
            self.advanced_ns = time.monotonic_ns()
            self.create_timer(ODOM_S, self.follow_wall_clock, clock=steady)

    def _declare(self, name: str, default, description: str, span: tuple | None = None):
        descriptor = ParameterDescriptor(description=description, read_only=True)
        if span and isinstance(default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=span[0], to_value=span[1])]
        elif span:
            descriptor.integer_range = [IntegerRange(from_value=span[0], to_value=span[1], step=1)]
        return self.declare_parameter(name, default, descriptor).value

    @property
    def stamp_ns(self) -> int:
        """Now on the clock that this base's messages carry."""
        return FIRST_STAMP_NS + self.sim.time_ns if self.lockstep else self.get_clock().now().nanoseconds

    def on_command(self, message: TwistStamped | Twist) -> None:
        """Take a command; in lock-step the one with this tick's stamp lets time go on."""
        twist = message.twist if isinstance(message, TwistStamped) else message
        speed, yaw_rate = twist.linear.x, twist.angular.z
        if not (math.isfinite(speed) and math.isfinite(yaw_rate)):
            self.get_logger().error(f"cmd_vel is not finite ({speed}, {yaw_rate}): stopping", throttle_duration_sec=1.0)
            speed = yaw_rate = 0.0
        self.speed, self.heard_ns = speed, self.sim.time_ns
        if abs(speed) > 1e-3:  # at rest a twist says nothing about the wheels: they stay as they are
            self.steering = min(max(math.atan(WHEELBASE * yaw_rate / speed), -MAX_STEERING), MAX_STEERING)
        if not self.lockstep or not self.started:
            return
        if rclpy.time.Time.from_msg(message.header.stamp).nanoseconds == self.stamp_ns:
            self.answered = True
            self.advance(self.period)
            self.publish_tick()

    def on_start(self, _: Empty) -> None:
        """Lock-step: the next answer to tick 0 lets time begin."""
        if not self.started:
            self.started = True
            self.publish_tick()

    def advance(self, seconds: float) -> None:
        """Move the world on; without a fresh command the wheels stop."""
        stale = (self.sim.time_ns - self.heard_ns) / 1e9 > self.command_timeout
        self.sim.step(seconds, self.steering, 0.0 if stale else self.speed)
        if self.push_speed and self.sim.time_ns / 1e9 >= self.next_push_s:
            self.next_push_s += self.push_every
            self.sim.push(self.push_speed * self.random.choice([-1, 1]))

    def follow_wall_clock(self) -> None:
        """Real time: catch up with the wall clock, but never by more than MAX_LAG_S at once."""
        now = time.monotonic_ns()
        due = (now - self.advanced_ns) / 1e9
        self.advanced_ns = now
        self.skipped_s += max(0.0, due - MAX_LAG_S)
        self.advance(min(due, MAX_LAG_S))
        self.publish_state()

    def publish_tick(self) -> None:
        """Lock-step: tell the time, then where the robot is, and start waiting for the answer."""
        self.tick_began = time.monotonic()
        self.clock_pub.publish(ClockMessage(clock=self._stamp()))
        self.publish_state()

    def watch_tick(self) -> None:
        """Lock-step: repeat tick 0 until somebody answers; later, go on without an answer that stays away."""
        waited = time.monotonic() - self.tick_began
        if not self.answered and waited > REPEAT_FIRST_TICK_S:
            self.publish_tick()
        elif self.answered and waited > self.lockstep_timeout:
            self.timeouts += 1
            self.get_logger().warning(
                f"no cmd_vel with stamp {self.stamp_ns} ns in {waited:.1f} s of wall time: going on"
            )
            self.advance(self.period)
            self.publish_tick()

    def _stamp(self):
        return rclpy.time.Time(nanoseconds=self.stamp_ns).to_msg()

    def publish_state(self) -> None:
        """Ground truth: pose, speed, and the collision count when it changed."""
        message = self.state
        message.header.stamp = self._stamp()
        position, orientation = message.pose.pose.position, message.pose.pose.orientation
        position.x, position.y, position.z = map(float, self.sim.qpos[:3])
        orientation.w, orientation.x, orientation.y, orientation.z = map(float, self.sim.qpos[3:7])
        message.twist.twist.linear.x, message.twist.twist.angular.z = self.sim.twist
        self.odom.publish(message)
        if self.tree is not None and self.tree.get_subscription_count():  # five poses, 100 times a second
            self.tree.publish(TFMessage(transforms=self._transforms()))
        if self.sim.collisions != self.collisions:
            self.collisions = self.sim.collisions
            self.collision_count.publish(UInt32(data=self.collisions))

    def _transforms(self) -> list[TransformStamped]:
        stamp, base = self.state.header.stamp, self.state.child_frame_id
        w, *xyz = self.sim.qpos[3:7]
        return [
            transform(self.state.header.frame_id, base, self.sim.qpos[:3], (*xyz, w), stamp),
            *(transform(base, self.prefix + name, *self.sim.pose_in_car(name), stamp) for name in WHEELS),
        ]

    def close(self) -> None:
        """Nothing to let go."""

    def publish_diagnostics(self) -> None:
        """State of the base; WARN when lock-step timed out or the physics could not keep up since the last report."""
        values = {
            "mode": "lock-step" if self.lockstep else "real time",
            "simulated_s": f"{self.sim.time_ns / 1e9:.2f}",
            "collisions": self.sim.collisions,
            "lockstep_timeouts": self.timeouts,
            "skipped_s": f"{self.skipped_s:.2f}",
        }
        bad = bool(self.timeouts or self.skipped_s)
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if bad else DiagnosticStatus.OK,
            name=f"{self.get_fully_qualified_name()[1:]}: simulation",
            message="time was lost" if bad else "ok",
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._stamp()
        self.diagnostics.publish(array)


def main(args: list[str] | None = None) -> int:
    """Run the base until a signal; parameters that make no sense end it with the error's exit code."""
    return run(lambda: [BaseNode()], args)


if __name__ == "__main__":
    sys.exit(main())
