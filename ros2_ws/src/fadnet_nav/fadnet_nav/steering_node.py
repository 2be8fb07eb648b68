"""Node `steering` (lifecycle): camera frame in, front wheel angle out.

    configure   loads and verifies the bundle, replays its reference vectors, warms up; nothing is allocated later
    activate    subscribes; deactivate ends that; cleanup drops the bundle

Subscribes (relative names)
    camera/color/image_raw      any of `encodings.COLOR_ENCODINGS`; keep-last 1: the middleware overwrites a frame that
                                was not taken yet, so a slow net always gets the newest one
Publishes
    steering                    sensor_msgs/JointState: name "steering", position in rad (left positive), stamp of the
                                frame; position NaN when the net gave none: the guard then stops
    ackermann_cmd               ackermann_msgs/AckermannDriveStamped with the angle, where that package is installed;
                                its speed is 0: only the guard moves the robot
    /diagnostics                at every change and at 1 Hz, of the newest frame: age_ms, inference_ms, frames, dropped,
                                engine, precision, bundle; WARN while no image comes, with who should send it

Services (relative names)
    ~/reload                    std_srvs/Trigger: opens, verifies, replays and warms up what lies at `bundle` now, in a
                                thread of its own, and drives with it from the next frame on. Where it is refused, the
                                answer says why, and the one before drives on. With `follow` the node does so by itself
                                when the link `bundle` comes to point elsewhere, as `edgeflock fleet promote` lets it

Parameters: `SteeringParameters`; see `managed`.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from typing import TYPE_CHECKING, cast

import numpy as np
from builtin_interfaces.msg import Time
from pydantic import Field
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from edgeflock.runtime.cameras.encodings import decode_color
from edgeflock.runtime.errors import EdgeflockError, InputError, in_our_words
from edgeflock_ros import topics
from edgeflock_ros.managed import ManagedNode, NetParameters
from edgeflock_ros.messages import ERROR, OK, WARN, ImageReader, qos, to_ns
from edgeflock_ros.process import run
from edgeflock_ros.senders import Senders

if TYPE_CHECKING:
    from edgeflock.runtime.prepare.frame import Encoding
    from edgeflock.runtime.tasks.steering import SteeringPolicy

try:
    from ackermann_msgs.msg import AckermannDriveStamped
except ImportError:  # optional: not among the common interfaces
    AckermannDriveStamped = None

WARM_UP = 5


class SteeringParameters(NetParameters):
    """Parameters of the steering node."""

    follow: bool = Field(default=False, description="reload by itself when the link `bundle` points elsewhere")


class SteeringNode(ManagedNode[SteeringParameters]):
    """Owns one SteeringPolicy; see the module.

    Parameters
    ----------
    subscribe : bool
        False: frames come through `on_frame` from a camera node in the same process.
    """

    def __init__(self, subscribe: bool = True) -> None:
        super().__init__("steering", SteeringParameters, "frames")
        self._subscribe = subscribe
        self._lock = threading.Lock()
        self._policy: SteeringPolicy | None = None
        self._reader: ImageReader | None = None
        self._reloading: Future | None = None
        self._refused = ""
        self.start()

    def load(self) -> None:
        """Load, verify and warm up the bundle."""
        self._take(self._open())
        self._frames = 0
        self._steering = self.create_lifecycle_publisher(JointState, topics.STEERING, qos("reliable", 5))
        self._ackermann = None
        if AckermannDriveStamped is not None:
            self._ackermann = self.create_lifecycle_publisher(
                AckermannDriveStamped, topics.ACKERMANN, qos("reliable", 5)
            )
        self._service = self.create_service(Trigger, "~/reload", self._on_reload)

    def _open(self) -> SteeringPolicy:
        """What lies at `bundle` now: verified, replayed and warm."""
        from edgeflock.runtime.tasks.steering import SteeringPolicy

        p = self.settings.value
        self._place = os.path.realpath(p.bundle)
        policy = SteeringPolicy(p.bundle or None, p.precision or None, p.threads or None, p.engine or None, p.trusted)
        for _ in range(WARM_UP):
            policy(np.zeros((480, 640, 3), np.uint8), "rgb8")
        return policy

    def _take(self, policy: SteeringPolicy) -> str:
        """Drive with a bundle; says which."""
        self._policy = policy
        digest, engine = policy.bundle.digest, policy.engine.name
        self.hardware_id = digest[:12]
        self._constant = {"engine": engine, "precision": policy.precision, "bundle": digest}
        said = f"bundle {digest[:12]}, {engine}, {policy.precision}"
        self.get_logger().info(said)
        return said

    async def _on_reload(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._reloading is not None:
            response.message = "it is being reloaded already: ask again when that is done."
        else:
            response.success, response.message = await self._reload()
        return response

    def _reload(self) -> Future:
        """Begin to take what lies at `bundle` now; gives whether it drives, and which or why not."""
        self._reloading = done = Future()
        threading.Thread(target=self._renew, args=(done,), name="reload", daemon=True).start()
        return done  # not the attribute: the thread may be done already

    def _renew(self, done: Future) -> None:
        try:
            policy = self._open()
            with self._lock:  # between two frames
                if self._policy is None:
                    raise InputError("the node was cleaned up meanwhile.")
                answer = True, self._take(policy)
        except Exception as error:  # whatever it is: what drives goes on driving, and the caller is told
            answer = False, f"{in_our_words(error) or error} The bundle before drives on."
            self.get_logger().error(f"reload: {answer[1]}")
        self._refused = "" if answer[0] else answer[1]
        self._reloading = None
        done.set_result(answer)

    def begin(self) -> None:
        """Begin to answer frames."""
        if self._subscribe:
            self._reader = ImageReader(self, self.settings.value.qos, self._on_image)
        self._came = self._reported = 0
        self._newest: tuple[bytes, str, dict[str, float]] = WARN, "", {}

    def release(self) -> None:
        """Stop answering; the guard then stops the robot."""
        with self._lock:  # composed, frames come from the camera's thread: wait until it is out
            self.active = False
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def unload(self) -> None:
        """Drop the bundle."""
        self.destroy_service(self._service)
        for publisher in (self._steering, self._ackermann):
            if publisher is not None:
                self.destroy_lifecycle_publisher(publisher)
        with self._lock:
            self._policy = None

    def _on_image(self, image: Image) -> None:
        try:
            pixels, encoding = decode_color(image)
        except EdgeflockError as error:
            self._fail(image.header.stamp, error)
            return
        self.on_frame(pixels, image.header.stamp, encoding)

    def on_frame(self, pixels: np.ndarray, stamp: Time, encoding: str = "rgb8") -> None:
        """Answer one frame: uint8 (H, W, 3) or (H, W)."""
        with self._lock:
            if self.active:
                self._answer(pixels, stamp, encoding)

    def _answer(self, pixels: np.ndarray, stamp: Time, encoding: str) -> None:
        assert self._policy is not None
        try:
            answer = self._policy(pixels, cast("Encoding", encoding))  # it refuses any other
        except EdgeflockError as error:
            self._fail(stamp, error)
            return
        self._frames += 1
        self._publish(stamp, answer.angle)
        age_ms = (self.get_clock().now().nanoseconds - to_ns(stamp)) / 1e6
        level, message = (OK, "steering") if math.isfinite(answer.angle) else (ERROR, f"the net says {answer.angle}")
        self._note(level, message, age_ms=age_ms, inference_ms=answer.inference_ns / 1e6, angle_rad=answer.angle)

    def _fail(self, stamp: Time, error: EdgeflockError) -> None:
        """A frame that cannot be read steers nowhere: NaN stops the robot, the reason is in log and diagnostics."""
        self.get_logger().error(str(error), throttle_duration_sec=1.0)
        self._publish(stamp, math.nan)
        self._note(ERROR, str(error))

    def _publish(self, stamp: Time, angle: float) -> None:
        joint = JointState(name=["steering"], position=[angle])
        joint.header.stamp = stamp
        self._steering.publish(joint)
        if self._ackermann is not None:
            command = AckermannDriveStamped()
            command.header.stamp = stamp
            command.drive.steering_angle = angle
            self._ackermann.publish(command)

    def _note(self, level: bytes, message: str, **values: float) -> None:
        """Keep what is to be said of the newest frame, and say it now if it is news."""
        news = (level, message) != self._newest[:2]
        self._newest = level, message, values
        self._came += 1
        if news:
            self._tell()

    def _tell(self) -> None:
        level, message, values = self._newest
        counts = {"frames": self._frames, "dropped": self._reader.missed if self._reader else 0}
        refused = {"reload": self._refused} if self._refused else {}
        self.say(level, message, **values, **counts, **self._constant, **refused)

    def report(self) -> None:
        """The newest frame, or that none comes any more; and look where the bundle's link points."""
        p = self.settings.value
        if p.follow and self._reloading is None and os.path.realpath(p.bundle) != self._place:
            self._reload()
        with self._lock:
            if self._came == self._reported:
                self._newest = WARN, self._absence(), {}
            self._reported = self._came
            self._tell()

    def _absence(self) -> str:
        if self._reader is None:
            return "no image from the camera of this process"
        return Senders(self, self._reader.topic).absence("image")


def main(args: list[str] | None = None) -> int:
    """Run the steering node until a signal; a bundle that cannot be used ends it with the error's exit code."""
    return run(lambda: [SteeringNode()], args)


if __name__ == "__main__":
    sys.exit(main())
