"""Node `steering` (lifecycle): camera frame in, front wheel angle out.

    configure   loads and verifies the bundle, replays its reference vectors, warms up; nothing is allocated later
    activate    subscribes; deactivate ends that; cleanup drops the bundle

Subscribes (relative names)
    camera/color/image_raw      rgb8, bgr8 or mono8; keep-last 1: the middleware overwrites a frame that was not taken
                                yet, so a slow net always gets the newest one
Publishes
    steering                    sensor_msgs/JointState: name "steering", position in rad (left positive), stamp of the
                                frame; position NaN when the net gave none: the guard then stops
    ackermann_cmd               ackermann_msgs/AckermannDriveStamped with the angle, where that package is installed;
                                its speed is 0: only the guard moves the robot
    /diagnostics                per frame: age_ms, inference_ms, frames, dropped, engine, precision, bundle

Parameters: `SteeringParameters`; they hold from the next configure, so a change needs the state unconfigured.
With `autostart` (default) the node configures and activates itself, for a start without a lifecycle manager.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from pydantic import BaseModel, ConfigDict, Field
from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image, JointState

from edgeflock.runtime.errors import EdgeflockError, InputError
from fadnet_nav.messages import ERROR, OK, diagnostics, qos, to_array, to_ns
from fadnet_nav.params import Parameters
from fadnet_nav.process import run

if TYPE_CHECKING:
    from edgeflock.runtime.preprocess import Encoding
    from edgeflock.runtime.tasks.steering import SteeringPolicy

try:
    from ackermann_msgs.msg import AckermannDriveStamped
except ImportError:  # optional: not among the common interfaces
    AckermannDriveStamped = None

WARM_UP = 5
NUMBERED = hasattr(Subscription, "CallbackType")  # Humble's rclpy hands over no message info: drops stay unknown there


class SteeringParameters(BaseModel):
    """Parameters of the steering node."""

    model_config = ConfigDict(frozen=True)

    bundle: str = Field(default="", description="folder of the bundle; empty = the one that edgeflock brings")
    engine: str = Field(default="", description="onnxruntime-cpu, openvino ...; empty = what edgeflock tune chose")
    precision: str = Field(default="", description="fp32, int8 ...; empty = what edgeflock tune or the bundle chose")
    threads: int = Field(default=0, ge=0, le=64, description="of the engine; 0 = what edgeflock tune chose, else 1")
    qos: Literal["sensor_data", "reliable"] = Field(default="sensor_data", description="of the image subscription")
    autostart: bool = Field(default=True, description="configure and activate at start, without a lifecycle manager")


class SteeringNode(LifecycleNode):
    """Owns one SteeringPolicy; see the module.

    Parameters
    ----------
    subscribe : bool
        False: frames come through `on_frame` from a camera node in the same process.
    """

    def __init__(self, subscribe: bool = True) -> None:
        super().__init__("steering")
        self.done: int | None = None
        self._subscribe = subscribe
        self._error: EdgeflockError | None = None
        self._lock = threading.Lock()
        self._active = False
        self._policy: SteeringPolicy | None = None
        self._subscription: Any = None
        self.settings = Parameters(self, SteeringParameters, self._accept)
        if self.settings.value.autostart:
            self._start()

    def _start(self) -> None:
        """Both transitions in a row; an error ends the process with its exit code."""
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                raise self._error or InputError("steering: the start failed, see the log.")

    def _accept(self, _: SteeringParameters) -> str | None:
        if self._policy is None:
            return None
        return "the bundle is loaded: deactivate and clean up first (ros2 lifecycle set steering cleanup)"

    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Load, verify and warm up the bundle."""
        from edgeflock.runtime.tasks.steering import SteeringPolicy

        p = self.settings.value
        try:
            self._policy = SteeringPolicy(p.bundle or None, p.precision or None, p.threads or None, p.engine or None)
        except EdgeflockError as error:
            self._error = error
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        for _ in range(WARM_UP):
            self._policy(np.zeros((480, 640, 3), np.uint8), "rgb8")
        self._frames = self._dropped = 0
        self._sequence = 0
        self._steering = self.create_lifecycle_publisher(JointState, "steering", qos("reliable", 5))
        self._diagnostics = self.create_lifecycle_publisher(DiagnosticArray, "/diagnostics", 10)
        self._ackermann = None
        if AckermannDriveStamped is not None:
            self._ackermann = self.create_lifecycle_publisher(
                AckermannDriveStamped, "ackermann_cmd", qos("reliable", 5)
            )
        digest, engine = self._policy.bundle.digest, self._policy.engine
        self._constant = {"engine": engine.name, "precision": self._policy.precision, "bundle": digest}
        self.get_logger().info(f"bundle {digest[:12]}, {engine.name}, {self._policy.precision}")
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Begin to answer frames."""
        if self._subscribe:
            profile = qos(self.settings.value.qos)
            callback: Any = self._on_numbered_image if NUMBERED else self._on_image
            self._subscription = self.create_subscription(Image, "camera/color/image_raw", callback, profile)
        result = super().on_activate(state)  # the publishers
        self._active = True
        return result

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Stop answering; the guard then stops the robot."""
        self._release()
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Drop the bundle."""
        self._release()
        for publisher in (self._steering, self._diagnostics, self._ackermann):
            if publisher is not None:
                self.destroy_lifecycle_publisher(publisher)
        self._policy = None
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """End the process in order."""
        self._release()
        self.done = 0
        return TransitionCallbackReturn.SUCCESS

    def _release(self) -> None:
        with self._lock:  # composed, frames come from the camera's thread: wait until it is out
            self._active = False
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None

    def _on_numbered_image(self, image: Image, info: dict[str, int]) -> None:
        # The writer numbers its messages, so a gap is exactly what this reader did not get or overwrote.
        sequence = info["publication_sequence_number"]
        if 0 < self._sequence < sequence:
            self._dropped += sequence - self._sequence - 1
        self._sequence = sequence
        self._on_image(image)

    def _on_image(self, image: Image) -> None:
        try:
            pixels = to_array(image)
        except EdgeflockError as error:
            self._fail(image.header.stamp, error)
            return
        self.on_frame(pixels, image.header.stamp, image.encoding)

    def on_frame(self, pixels: np.ndarray, stamp: Time, encoding: str = "rgb8") -> None:
        """Answer one frame: uint8 (H, W, 3) or (H, W)."""
        with self._lock:
            if self._active:
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
        self._report(
            stamp, level, message, age_ms=age_ms, inference_ms=answer.inference_ns / 1e6, angle_rad=answer.angle
        )

    def _fail(self, stamp: Time, error: EdgeflockError) -> None:
        """A frame that cannot be read steers nowhere: NaN stops the robot, the reason is in log and diagnostics."""
        self.get_logger().error(str(error), throttle_duration_sec=1.0)
        self._publish(stamp, math.nan)
        self._report(stamp, ERROR, str(error))

    def _publish(self, stamp: Time, angle: float) -> None:
        joint = JointState(name=["steering"], position=[angle])
        joint.header.stamp = stamp
        self._steering.publish(joint)
        if self._ackermann is not None:
            command = AckermannDriveStamped()
            command.header.stamp = stamp
            command.drive.steering_angle = angle
            self._ackermann.publish(command)

    def _report(self, stamp: Time, level: bytes, message: str, **values: Any) -> None:
        name = f"{self.get_fully_qualified_name()}: frames"
        counts = {"frames": self._frames, "dropped": self._dropped if NUMBERED else "unknown"}
        hardware = self._constant["bundle"][:12]
        self._diagnostics.publish(
            diagnostics(stamp, name, level, message, hardware, **values, **counts, **self._constant)
        )

    def close(self) -> None:
        """Nothing outlives the node."""
        self._release()


def main(args: list[str] | None = None) -> int:
    """Run the steering node until a signal; a bundle that cannot be used ends it with the error's exit code."""
    return run(lambda: [SteeringNode()], args)


if __name__ == "__main__":
    sys.exit(main())
