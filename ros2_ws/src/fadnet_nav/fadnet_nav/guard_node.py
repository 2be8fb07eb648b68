"""Node `guard`: steering in, limited `cmd_vel` out; stops the robot by `edgeflock.runtime.safety.guard`.

Subscribes (relative names)
    steering                                               sensor_msgs/JointState, rad, stamp of the frame; the joint is
                                                           found by its name, `joint`
    camera/aligned_depth_to_color/image_raw, camera_info   any of `encodings.DEPTH_ENCODINGS`; a camera without depth
                                                           needs `require_depth:=false`
Publishes
    cmd_vel          geometry_msgs/TwistStamped (`stamped:=false`: Twist), one per steering message with the stamp of
                     its frame; linear.x = v, angular.z = v tan(angle) / wheelbase; a stop is all zero, stamped now
    /diagnostics     at every change and at 1 Hz: state (driving, stopped), reason, speed, steering; WARN also when
                     others publish `cmd_vel` or `steering`

Two nodes that send on `steering` stop the robot until one is left (`senders`): the base would swing between them.

Parameters: `GuardParameters`, all may change while driving (a refusal says why), except `stamped` and `qos`.

A timer looks every 20 ms, so that a camera or steering process killed with -9 leads to a stop within frame_timeout +
20 ms. SIGINT and SIGTERM send a zero command and wait until the base has it. Against kill -9 of the guard itself the
base needs its own command time-out. The timer runs on a steady clock, so a step of the system clock stops the robot
within 20 ms and does not hold up the watch. With `use_sim_time` all of this is simulated time.
"""

from __future__ import annotations

import sys
from typing import Any, Literal

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Twist, TwistStamped
from pydantic import Field
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState

from edgeflock.runtime.cameras.encodings import decode_depth
from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.safety.guard import Command, Guard
from edgeflock.runtime.safety.limits import GuardLimits
from edgeflock_ros import topics
from edgeflock_ros.messages import ERROR, NUMBERED, OK, WARN, diagnostics, qos, to_intrinsics, to_ns, to_stamp
from edgeflock_ros.params import Parameters
from edgeflock_ros.process import run
from edgeflock_ros.senders import Senders
from edgeflock_ros.timers import steady_timer

WATCHDOG_S = 0.02
REPEAT_STOP_S = 0.1


class GuardParameters(GuardLimits):
    """Parameters of the guard node: the limits, and how to talk."""

    stamped: bool = Field(default=True, description="cmd_vel is TwistStamped; false: Twist")
    qos: Literal["sensor_data", "reliable"] = Field(default="sensor_data", description="of the depth subscription")
    joint: str = Field(default="steering", min_length=1, description="name of the steering joint in `steering`")


class GuardNode(Node):
    """Messages and time for a `Guard`; see the module."""

    def __init__(self) -> None:
        super().__init__("guard")
        self.done: int | None = None
        self._guard = Guard()
        self.settings = Parameters(self, GuardParameters, self._accept)
        p = self.settings.value
        self._guard.limits = p
        self._intrinsics: Intrinsics | None = None
        self._command: Command | None = None
        self._sent_ns = 0
        self._kind = TwistStamped if p.stamped else Twist
        self._commands = self.create_publisher(self._kind, topics.COMMAND, qos("reliable", 5))
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, 10)
        info = topics.info(topics.DEPTH)
        self._info = self.create_subscription(CameraInfo, info, self._on_info, qos("sensor_data"))
        self.create_subscription(Image, topics.image(topics.DEPTH), self._on_depth, qos(p.qos))
        heard: Any = self._on_numbered_steering if NUMBERED else self._on_steering
        steering = self.create_subscription(JointState, topics.STEERING, heard, qos("reliable"))
        self._steerers = Senders(self, steering.topic_name)
        self._commanders = Senders(self, self._commands.topic_name)
        steady_timer(self, WATCHDOG_S, self._watch)
        steady_timer(self, 1.0, self._report)

    def _accept(self, new: GuardParameters) -> str | None:
        old = self.settings.value
        if (new.stamped, new.qos) != (old.stamped, old.qos):
            return "stamped and qos are read at start only"
        self._guard.limits = new
        return None

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _on_info(self, info: CameraInfo) -> None:
        self._intrinsics = to_intrinsics(info)

    def _on_depth(self, image: Image) -> None:
        stamp_ns = to_ns(image.header.stamp)
        try:
            depth = decode_depth(image)
        except EdgeflockError as error:
            self.get_logger().error(str(error), throttle_duration_sec=1.0)
            self._guard.look_in_vain(str(error), stamp_ns)
            return
        if self._intrinsics is None:
            self._guard.look_in_vain(f"images come, but no camera_info on {self._info.topic_name}", stamp_ns)
        else:
            self._guard.look(depth, self._intrinsics, stamp_ns)

    def _on_numbered_steering(self, joints: JointState, info: dict[str, int]) -> None:
        self._steerers.hear(info)
        self._on_steering(joints)

    def _on_steering(self, joints: JointState) -> None:
        fault, angle, joint = self._steerers.quarrel(), float("nan"), self.settings.value.joint
        if joint in joints.name[: len(joints.position)]:
            angle = joints.position[joints.name.index(joint)]
        else:
            fault = fault or f"steering has no position of the joint {joint!r}, but of {list(joints.name)}"
        self._guard.steer(angle, to_ns(joints.header.stamp), fault)
        self._send(self._guard.command(self._now_ns()))

    def _watch(self) -> None:
        """Stop when nothing comes any more.

        While commands flow it adds none. Before the first steering it stops too, for a base that still obeys a guard
        that died; but not in simulated time, where each command may be the answer to one tick.
        """
        if self._command is None and self.get_parameter("use_sim_time").value:
            return
        now = self._now_ns()
        command = self._guard.command(now)
        began = self._command is None or self._command.reason is None
        if command.reason is not None and (began or not 0 <= now - self._sent_ns < REPEAT_STOP_S * 1e9):
            self._send(command)

    def _send(self, command: Command) -> None:
        message = self._kind()
        twist = message
        if self._kind is TwistStamped:
            message.header.stamp = to_stamp(command.stamp_ns)
            message.header.frame_id = "base_link"
            twist = message.twist
        twist.linear.x, twist.angular.z = command.speed, command.yaw_rate
        self._commands.publish(message)
        self._sent_ns = self._now_ns()
        before, self._command = self._command, command
        if before is None or (before.reason is None) != (command.reason is None):
            if command.reason:
                self.get_logger().warning(f"stop: {command.reason}", throttle_duration_sec=1.0)
            else:
                self.get_logger().info("driving", throttle_duration_sec=1.0)
            self._report()

    def _report(self) -> None:
        c = self._command or Command(0.0, 0.0, 0.0, 0, "no steering yet")
        crowds = (self._steerers.crowd(), self._commanders.crowd())
        warning = "; ".join(filter(None, (c.warning, *crowds)))
        level = ERROR if c.reason else WARN if warning else OK
        self._diagnostics.publish(
            diagnostics(
                to_stamp(self._now_ns()),
                f"{self.get_fully_qualified_name()}: state",
                level,
                c.reason or warning or "driving",
                "",
                state="stopped" if c.reason else "driving",
                reason=c.reason or "",
                warning=warning,
                speed_mps=c.speed,
                steering_rad=c.steering,
            )
        )

    def close(self) -> None:
        """Send a zero command and wait until the base has it."""
        self._send(Command(0.0, 0.0, 0.0, self._now_ns(), "the guard ends"))
        self._commands.wait_for_all_acked(Duration(seconds=0.2))


def main(args: list[str] | None = None) -> int:
    """Run the guard until a signal."""
    return run(lambda: [GuardNode()], args)


if __name__ == "__main__":
    sys.exit(main())
