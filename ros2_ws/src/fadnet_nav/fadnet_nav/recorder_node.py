"""Node `recorder` (lifecycle): camera frames with the steering of the person who drives, for the robot's learner.

    configure   opens the data folder, and finishes what was cut off there
    activate    subscribes; deactivate finishes the recording that is open

Subscribes (relative names)
    camera/color/image_raw   any of `encodings.COLOR_ENCODINGS`
    driver/steering          what the person steers: JointState, Twist, TwistStamped, and where ackermann_msgs is
                             installed AckermannDrive, AckermannDriveStamped; the type is that of who sends
    driver/deadman           std_msgs/Bool, or sensor_msgs/Joy with `button`: whether the person drives; repeated more
                             often than `deadman_timeout`. Both names are parameters; without this one, steering that
                             comes is enough
    odom                     nav_msgs/Odometry: the speed, where there is one; else that of the steering message
Publishes
    /diagnostics             1 Hz: OK while it records, else WARN with the reason, ERROR where the disk refuses; frames,
                             frames left out by reason, size of the folder

What is kept and where: `edgeflock.runtime.recording`. The node has a process of its own at low priority and takes
images without holding their sender up; what it is too late for is overwritten by the middleware.

Parameters: `RecorderParameters`; see `managed`.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from pydantic import Field
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image, JointState, Joy
from std_msgs.msg import Bool

from edgeflock.runtime.cameras.encodings import decode_color
from edgeflock.runtime.errors import EdgeflockError, InputError
from edgeflock.runtime.prepare.frame import grey_320x240
from edgeflock.runtime.recording.angles import ACKERMANN, JOINTS, TWISTS, speed_of, steering_angle
from edgeflock.runtime.recording.folder import DriveFolder
from edgeflock.runtime.recording.limits import RecordingLimits
from edgeflock.runtime.recording.recorder import DISK, Recorder
from edgeflock_ros import topics
from edgeflock_ros.managed import ManagedNode, ManagedParameters
from edgeflock_ros.messages import ERROR, OK, WARN, ImageReader, qos, to_ns
from edgeflock_ros.process import run
from edgeflock_ros.senders import IMAGES, Senders
from fadnet_nav.ackermann import AckermannDrive, AckermannDriveStamped

STEERED: dict[str, Any] = {JOINTS: JointState, TWISTS[0]: Twist, TWISTS[1]: TwistStamped}
if AckermannDrive is not None:
    STEERED |= dict(zip(ACKERMANN, (AckermannDriveStamped, AckermannDrive), strict=True))
SWITCHES: dict[str, Any] = {"std_msgs/msg/Bool": Bool, "sensor_msgs/msg/Joy": Joy}
NICE = 10
DEPTH = 100  # messages that may wait while a frame is written


class RecorderParameters(RecordingLimits, ManagedParameters):
    """Parameters of the recorder node: what it keeps, and whom it listens to."""

    folder: str = Field(default="", description="data folder, gets train/ and val/")
    steering_topic: str = Field(default=topics.DRIVER, min_length=1, description="what the person steers")
    deadman_topic: str = Field(default=topics.DEADMAN, description="empty = who does not drive sends no steering")
    button: int = Field(default=4, ge=0, le=31, description="of a Joy: held while the person drives")


class RecorderNode(ManagedNode[RecorderParameters]):
    """Messages and time for a `Recorder`; see the module."""

    held = "the folder is open"

    def __init__(self) -> None:
        super().__init__("recorder", RecorderParameters, "recording")
        self._folder: DriveFolder | None = None
        self._reader: ImageReader | None = None
        self._found: dict[str, Subscription | None] = {}
        self.start()

    def load(self) -> None:
        """Open the folder."""
        p = self.settings.value
        if not p.folder:
            raise InputError("recorder: expected a data folder, got none: give folder:=PATH (record:=PATH at launch).")
        about = {"robot": self.hardware_id, "node": self.get_fully_qualified_name()}
        self._folder = DriveFolder(Path(p.folder).expanduser().absolute(), p, about)

    def begin(self) -> None:
        """Listen."""
        assert self._folder is not None
        p = self.settings.value
        self._recorder = Recorder(p, self._folder, deadman=bool(p.deadman_topic))
        self._unread, self._told, self._came = "", 0, 0
        self._reader = ImageReader(self, "sensor_data", self._on_image)
        self._odometry = self.create_subscription(Odometry, topics.ODOMETRY, self._on_odometry, qos("sensor_data"))
        self._found = {topic: None for topic in (p.steering_topic, p.deadman_topic) if topic}
        self._missing = self._look()

    def release(self) -> None:
        """End the subscriptions and the recording."""
        if self._reader is None or self._folder is None:
            return
        self._reader.close()
        self._reader = None
        for subscription in (self._odometry, *self._found.values()):
            if subscription is not None:
                self.destroy_subscription(subscription)
        try:
            self._folder.close()
        except OSError as error:  # it is finished at the next start
            self.get_logger().error(f"the recording stays open: {error}")

    def unload(self) -> None:
        """Let the folder go."""
        self._folder = None

    def _look(self) -> str:
        """Subscribe to the topics whose type is known by now; why one is not, or nothing."""
        types = dict(self.get_topic_names_and_types())
        p = self.settings.value
        for topic, subscription in self._found.items():
            known, take = (STEERED, self._on_steering) if topic == p.steering_topic else (SWITCHES, self._on_switch)
            if subscription is not None:
                continue
            name = self.resolve_topic_name(topic)
            sent = types.get(name, [])
            if not sent:
                return f"nobody sends {name}"
            if len(sent) > 1 or sent[0] not in known:
                return f"expected one of {', '.join(known)} on {name}, got {' and '.join(sent)}"
            of_kind = partial(take, sent[0])
            self._found[topic] = self.create_subscription(known[sent[0]], name, of_kind, qos("sensor_data", DEPTH))
        return ""

    def _on_steering(self, kind: str, message: Any) -> None:
        try:
            angle = steering_angle(kind, message, self.settings.value.wheelbase)
        except EdgeflockError as error:
            self._unread = str(error)
            return
        self._unread = ""
        stamp = to_ns(message.header.stamp) if hasattr(message, "header") else 0
        at_ns = stamp or self.get_clock().now().nanoseconds
        self._recorder.steer(float("nan") if angle is None else angle, at_ns, speed_of(kind, message))

    def _on_switch(self, kind: str, message: Any) -> None:
        button = self.settings.value.button
        held = message.data if kind.endswith("Bool") else len(message.buttons) > button and message.buttons[button]
        self._recorder.hold(bool(held), time.monotonic_ns())

    def _on_odometry(self, message: Odometry) -> None:
        self._recorder.move(message.twist.twist.linear.x, time.monotonic_ns())

    def _on_image(self, image: Image | CompressedImage) -> None:
        self._came += 1
        stamp = to_ns(image.header.stamp) or self.get_clock().now().nanoseconds
        now_ns = time.monotonic_ns()
        if not self._recorder.wants(stamp, now_ns):
            return
        try:
            pixels, encoding = decode_color(image)
            self._recorder.take(grey_320x240(pixels, encoding), stamp, now_ns)
        except EdgeflockError as error:
            self._unread = str(error)

    def report(self) -> None:
        """Whether it records, and if not, why."""
        assert self._folder is not None and self._reader is not None
        self._missing = self._look()
        absence = "" if self._came else Senders(self, self._reader.topic).absence("image", IMAGES)
        why = absence or self._missing or self._unread or self._recorder.reason
        self._came = 0
        full = self._recorder.left_out[DISK] > self._told
        self._told = self._recorder.left_out[DISK]
        left_out = ", ".join(f"{reason} {count}" for reason, count in sorted(self._recorder.left_out.items()))
        values = {"frames": self._folder.written, "left_out": left_out, "missed": self._reader.missed}
        size = {"folder": self._folder.path, "folder_mb": self._folder.bytes / 1e6}
        level = ERROR if full else WARN if why else OK
        self.say(level, f"not recorded: {why}" if why else f"recording to {self._folder.split}", **values, **size)


def main(args: list[str] | None = None) -> int:
    """Run the recorder until a signal; it stands back behind the nodes that drive."""
    os.nice(NICE)
    return run(lambda: [RecorderNode()], args)


if __name__ == "__main__":
    sys.exit(main())
