"""Node `guard` (lifecycle): steering in, limited `cmd_vel` out; stops the robot by `edgeflock.runtime.safety.guard`.

    activate    watches and commands; deactivate sends a zero command and leaves `cmd_vel` to others

Subscribes (relative names)
    steering                                               sensor_msgs/JointState, rad, stamp of the frame; the joint is
                                                           found by its name, `joint`
    cmd_vel_nav                                            with `follows` twist instead: a message like those on
                                                           `cmd_vel`, whose speed and angle it lets through or less
    camera/aligned_depth_to_color/image_raw, camera_info   any of `encodings.DEPTH_ENCODINGS`, or CompressedImage where
                                                           it is remapped to a topic `.../compressedDepth`; a camera
                                                           without depth needs `require_depth:=false`
    camera/color/camera_info                               only whether the camera lives
    estop                                                  std_msgs/Bool: true stops until `~/estop` is called with
                                                           false (or the parameter set so); false alone releases
                                                           nothing, but no release is taken before it
Publishes
    cmd_vel          geometry_msgs/TwistStamped (`stamped:=false`: Twist), one per steering message with the stamp of
                     its frame; linear.x = v, angular.z = v tan(angle) / wheelbase; a stop is all zero, stamped now
    drive            ackermann_msgs/AckermannDriveStamped with `ackermann`: speed and angle of the same command
    /tf_static       base_link -> camera_link by the mount, unless `mount_from` is tf: then it is asked where the frame
                     of the depth images is, and without an answer there is no depth
    /diagnostics     at every change and at 1 Hz: state (driving, stopped), reason, speed, steering; WARN also when
                     others publish `cmd_vel`, `drive` or `steering`

A stop because nothing comes names who is silent: the camera, or the steering while the camera sends (`senders`).
Two nodes that send on `steering` (`cmd_vel_nav`) stop the robot until one is left: the base would swing between them.

Parameters: `GuardParameters`, all may change while driving (a refusal says why) but those of `GuardNode.fixed`;
see `edgeflock_ros.managed`. Without tf2_msgs there is no TF.

A timer looks every 20 ms, so that a camera or steering process killed with -9 leads to a stop within frame_timeout +
20 ms. SIGINT, SIGTERM and SIGHUP send a zero command and wait until the base has it. Against kill -9 of the guard the
base needs its own command time-out. The timer runs on a steady clock, so a step of the system clock stops the robot
within 20 ms and does not hold up the watch. With `use_sim_time` all of this is simulated time.
"""

from __future__ import annotations

import edgeflock_ros.before_rclpy  # noqa: F401

# isort: split
import math
import sys
import time
from typing import Any, Literal

from geometry_msgs.msg import Twist, TwistStamped
from pydantic import Field
from rcl_interfaces.msg import SetParametersResult
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Bool, Header
from std_srvs.srv import SetBool

from edgeflock.runtime.cameras.encodings import decode_depth
from edgeflock.runtime.errors import EdgeflockError, InputError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount
from edgeflock.runtime.safety.guard import Command, Guard
from edgeflock.runtime.safety.limits import GuardLimits
from edgeflock_ros import topics
from edgeflock_ros.frames import CAMERA, MAX_SIDE, MountInTree, StaticFrames, TreeParameters, mounted
from edgeflock_ros.managed import ManagedNode, ManagedParameters
from edgeflock_ros.messages import ERROR, NUMBERED, OK, WARN, image_kind, qos, to_intrinsics, to_ns, to_stamp
from edgeflock_ros.process import run
from edgeflock_ros.senders import IMAGES, INFOS, Senders
from edgeflock_ros.timers import steady_timer
from fadnet_nav.ackermann import AckermannDriveStamped

WATCHDOG_S = 0.02
REPEAT_STOP_S = 0.1
LOG_S = 1.0  # a robot that stops and drives at every frame does not flood the log
SILENCE = 0.5  # of frame_timeout: what was not heard for so long has missed its turn when the stop is due


class GuardParameters(TreeParameters, GuardLimits, ManagedParameters):
    """Parameters of the guard node: the limits, and how to talk."""

    stamped: bool = Field(default=True, description="cmd_vel is TwistStamped; false: Twist")
    qos: Literal["sensor_data", "reliable"] = Field(default="sensor_data", description="of the depth subscription")
    joint: str = Field(default="steering", min_length=1, description="name of the steering joint in `steering`")
    follows: Literal["steering", "twist"] = Field(
        default="steering", description="whom it lets drive: the net's `steering`, or `cmd_vel_nav` as of Nav2"
    )
    estop: bool = Field(default=False, description="emergency stop: stands until this is false again")
    ackermann: bool = Field(default=False, description="send `drive`, too: an AckermannDriveStamped, for F1TENTH")
    camera_frame: str = Field(default=CAMERA, description="told to TF where the mount says; empty = not")


class GuardNode(ManagedNode[GuardParameters]):
    """Messages and time for a `Guard`; see the module."""

    held = "stamped, ackermann, follows, qos and the names of frames are in use"
    fixed = ("stamped", "ackermann", "follows", "qos", "mount_from", "base_frame", "camera_frame", "frame_prefix")

    def __init__(self) -> None:
        super().__init__("guard", GuardParameters, "state")
        self._guard = Guard(self.settings.value)
        self._inputs: list[Subscription] = []
        self._tree: MountInTree | None = None
        self._in_tree: dict[str, float] = {}
        self._pressed = False
        self._watchdog: Timer | None = None
        self.start()

    def load(self) -> None:
        """Offer commands, and tell TF of the mount or ask it."""
        p = self.settings.value
        if p.ackermann and AckermannDriveStamped is None:
            raise InputError(
                "guard: expected ackermann_msgs for ackermann:=true, it is not installed: apt install "
                "ros-<distro>-ackermann-msgs."
            )
        self._base = p.frame_prefix + p.base_frame
        self._frames: StaticFrames | None = None
        if p.mount_from == "tf":
            self._tree = MountInTree(self, self._base, self._ask_tree)
        elif p.camera_frame:
            self._frames = StaticFrames(self)
        self._tell_mount(p)
        self._kind = TwistStamped if p.stamped else Twist
        self._commands: Publisher = self.create_publisher(self._kind, topics.COMMAND, qos("reliable", 5))
        self._drives: Publisher | None = None
        if p.ackermann:
            self._drives = self.create_publisher(AckermannDriveStamped, topics.DRIVE, qos("reliable", 5))
        # A reliable reader does not hear a best-effort button, and the other one may lose a reliable button's word.
        self._buttons = [
            self.create_subscription(Bool, topics.ESTOP, self._on_button, qos(kind, 10))
            for kind in ("reliable", "sensor_data")
        ]
        self._estop = self.create_service(SetBool, "~/estop", self._on_estop)

    def begin(self) -> None:
        """Watch and command, from rest."""
        self._guard = Guard(self._limits(self.settings.value))
        self._guard.halt = self._halt(self.settings.value)
        self._intrinsics: Intrinsics | None = None
        self._seen_from = ""
        self._command: Command | None = None
        self._sent_ns = 0
        self._logged: bool | None = None  # whether the log's last line says that it drives
        self._logged_s = [-math.inf, -math.inf]  # and when it last said that it stands, and that it drives
        p = self.settings.value
        steer: Any = self._on_numbered_steering if NUMBERED else self._on_steering
        color = self.create_subscription(CameraInfo, topics.info(topics.COLOR), self._on_color, qos("sensor_data"))
        info = self.create_subscription(CameraInfo, topics.info(topics.DEPTH), self._on_info, qos("sensor_data"))
        depth = self.create_subscription(*image_kind(self, topics.DEPTH), self._on_depth, qos(self.settings.value.qos))
        driver = (JointState, topics.STEERING) if p.follows == "steering" else (self._kind, topics.ASKED)
        steering = self.create_subscription(*driver, steer, qos("reliable"))
        self._inputs = [color, info, depth, steering]
        self._depths = Senders(self, depth.topic_name)
        self._depth_infos = Senders(self, info.topic_name)
        self._camera = Senders(self, color.topic_name)
        self._steerers = Senders(self, steering.topic_name)
        self._commanders = [Senders(self, p.topic_name) for p in (self._commands, self._drives) if p]
        self._watchdog = steady_timer(self, WATCHDOG_S, self._watch)

    def release(self) -> None:
        """Send a zero command and wait until the base has it; then neither watch nor command."""
        if self._watchdog is None:
            return
        self._send(Command(0.0, 0.0, 0.0, self._now_ns(), "the guard ends"))
        for publisher in (self._commands, self._drives):
            if publisher is not None:
                publisher.wait_for_all_acked(Duration(seconds=0.2))
        self.destroy_timer(self._watchdog)
        self._watchdog = None
        for subscription in self._inputs:
            self.destroy_subscription(subscription)

    def unload(self) -> None:
        """Offer no commands any more, and leave TF."""
        for publisher in (self._commands, self._drives):
            if publisher is not None:
                self.destroy_publisher(publisher)
        for button in self._buttons:
            self.destroy_subscription(button)
        self.destroy_service(self._estop)
        for part in (self._frames, self._tree):
            if part is not None:
                part.close()
        self._tree, self._in_tree = None, {}

    def accept(self, new: GuardParameters) -> str | None:
        """Limits may change at any time; an emergency stop ends when nobody presses the button any more."""
        if self._pressed and not new.estop:
            return f"estop: {self.resolve_topic_name(topics.ESTOP)} says true: release the button first (send false)"
        if any(getattr(new, name) != getattr(self.settings.value, name) for name in self.fixed):
            if reason := super().accept(new):
                return reason
        elif self._loaded:
            self._tell_mount(new)
        self._guard.limits = self._limits(new)
        if self._guard.halt != self._halt(new):
            self._guard.halt = self._halt(new)
            if self.active:
                self._send(self._guard.command(self._now_ns()))
        return None

    def _halt(self, p: GuardParameters) -> str | None:
        way_out = f"ros2 service call {self.get_fully_qualified_name()}/estop std_srvs/srv/SetBool '{{data: false}}'"
        return f"emergency stop, it stands until released: {way_out}" if p.estop else None

    def _on_button(self, message: Bool) -> None:
        """True stops; false only says that the button is released: the robot stands until somebody wants it to go."""
        self._pressed = message.data
        if message.data and not self.settings.value.estop:
            self._set_estop(True)

    def _on_estop(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        result = self._set_estop(request.data)
        response.success, response.message = result.successful, result.reason
        return response

    def _set_estop(self, value: bool) -> SetParametersResult:
        """As a parameter it is seen, and outlives this process (`edgeflock_ros.kept`)."""
        return self.set_parameters([Parameter("estop", value=value)])[0]

    def _limits(self, p: GuardParameters) -> GuardLimits:
        return p.model_copy(update=self._in_tree)

    def _tell_mount(self, p: GuardParameters) -> None:
        if self._frames is not None:
            camera = p.frame_prefix + p.camera_frame
            self._frames.tell(mounted(self._base, camera, p.camera_forward, Mount.of(p)))

    def _ask_tree(self) -> None:
        """Take the mount of the depth images' frame from TF; nothing where it does not have it."""
        if self._tree is None or not self._seen_from:
            return
        try:
            found = self._tree.find(self._seen_from)
        except InputError as error:
            self.get_logger().error(f"TF of {self._seen_from}: {error}", throttle_duration_sec=1.0)
            found = None
        if found is None:
            self._in_tree = {}
            return
        forward, left, mount = found
        self._in_tree = {"camera_forward": forward, **mount.parameters}
        self._guard.limits = self._limits(self.settings.value)
        self.get_logger().info(f"the camera by TF: {forward:.3f} m ahead, {mount}")
        if abs(left) > MAX_SIDE:
            self.get_logger().warning(f"the camera is {left:.3f} m left of the middle, and is taken to be in it")

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _on_color(self, _: CameraInfo) -> None:
        self._camera.hear()

    def _on_info(self, info: CameraInfo) -> None:
        self._intrinsics = to_intrinsics(info)
        if self._seen_from != info.header.frame_id:
            self._seen_from = info.header.frame_id
            self._ask_tree()

    def _on_depth(self, image: Image | CompressedImage) -> None:
        self._camera.hear()
        self._depths.hear()
        stamp_ns = to_ns(image.header.stamp)
        try:
            depth = decode_depth(image)
        except EdgeflockError as error:
            self.get_logger().error(str(error), throttle_duration_sec=1.0)
            self._guard.look_in_vain(str(error), stamp_ns)
            return
        if self._intrinsics is None:
            absence = self._depth_infos.absence("camera_info", INFOS)
            self._guard.look_in_vain(f"images come, but {absence}", stamp_ns)
        elif self._tree is not None and not self._in_tree:
            self._guard.look_in_vain(self._tree.absence(self._seen_from), stamp_ns)
        else:
            self._guard.look(depth, self._intrinsics, stamp_ns)

    def _on_numbered_steering(self, message: JointState | TwistStamped | Twist, info: dict[str, int]) -> None:
        self._take(message, info)

    def _on_steering(self, message: JointState | TwistStamped | Twist) -> None:
        self._take(message, None)

    def _take(self, message: JointState | TwistStamped | Twist, info: dict[str, int] | None) -> None:
        self._steerers.hear(info)
        fault = self._steerers.quarrel()
        if isinstance(message, JointState):
            angle, wrong = self._of_joint(message)
            self._guard.steer(angle, to_ns(message.header.stamp), fault or wrong)
        else:
            stamp_ns = self._now_ns() if isinstance(message, Twist) else to_ns(message.header.stamp)
            twist = message if isinstance(message, Twist) else message.twist
            angle, wrong = self._of_twist(twist)
            self._guard.steer(angle, stamp_ns, fault or wrong, twist.linear.x)
        self._send(self._guard.command(self._now_ns()))

    def _of_joint(self, joints: JointState) -> tuple[float, str | None]:
        joint = self.settings.value.joint
        if joint in joints.name[: len(joints.position)]:
            return joints.position[joints.name.index(joint)], None
        return math.nan, f"steering has no position of the joint {joint!r}, but of {list(joints.name)}"

    def _of_twist(self, twist: Twist) -> tuple[float, str | None]:
        if twist.linear.x:
            return math.atan(self.settings.value.wheelbase * twist.angular.z / twist.linear.x), None
        return 0.0, "a turn on the spot is asked for: nothing guards the sides" if twist.angular.z else None

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
        header = Header(stamp=to_stamp(command.stamp_ns), frame_id=self._base)
        twist = Twist()
        twist.linear.x, twist.angular.z = command.speed, command.yaw_rate
        self._commands.publish(TwistStamped(header=header, twist=twist) if self._kind is TwistStamped else twist)
        if self._drives is not None:
            drive = AckermannDriveStamped(header=header)
            drive.drive.speed, drive.drive.steering_angle = command.speed, command.steering
            self._drives.publish(drive)
        self._sent_ns = self._now_ns()
        before, self._command = self._command, command
        if before is None or (before.reason is None) != (command.reason is None):
            self.report()
        self._log()

    def _log(self) -> None:
        """Log that the robot stands or drives: each once a second at most, and the last line is true in the end."""
        assert self._command is not None  # `_send` has it
        drives, now_s = self._command.reason is None, time.monotonic()
        if drives == self._logged or now_s < self._logged_s[drives] + LOG_S:
            return
        self._logged, self._logged_s[drives] = drives, now_s
        if drives:
            self.get_logger().info("driving")
        else:
            self.get_logger().warning(f"stop: {self._reason()}")

    def _reason(self) -> str:
        """Why the robot stands, and who is silent; empty while it drives."""
        reason = self._command.reason if self._command else "no steering yet"
        limit_s = SILENCE * self.settings.value.frame_timeout
        silence = self._steerers.silence(limit_s)
        if silence and (self._camera.heard or not self._steerers.heard):  # not every camera calibrates its colour
            silence = self._camera.silence(limit_s) or silence
        if not (silence or self._depths.heard) and self.settings.value.require_depth:
            silence = self._depths.absence("depth image", IMAGES)
        return f"{reason}; {silence}" if reason and silence else reason or ""

    def report(self) -> None:
        """State, reason and speed."""
        c = self._command or Command(0.0, 0.0, 0.0, 0, "no steering yet")
        reason, crowds = self._reason(), [senders.crowd() for senders in (self._steerers, *self._commanders)]
        warning = "; ".join(filter(None, (c.warning, *crowds)))
        self.say(
            ERROR if reason else WARN if warning else OK,
            reason or warning or "driving",
            state="stopped" if reason else "driving",
            reason=reason,
            warning=warning,
            speed_mps=c.speed,
            steering_rad=c.steering,
        )


def main(args: list[str] | None = None) -> int:
    """Run the guard until a signal."""
    return run(lambda: [GuardNode()], args)


if __name__ == "__main__":
    sys.exit(main())
