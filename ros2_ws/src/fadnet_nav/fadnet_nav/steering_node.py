"""Node `steering` (lifecycle): camera frame in, front wheel angle out.

    configure   loads and verifies the bundle, replays its reference vectors, warms up; nothing is allocated later
    activate    subscribes; deactivate ends that; cleanup drops the bundle

Subscribes (relative names)
    camera/color/camera_info    lens of the frames, where the mount is known
    camera/color/image_raw      any of `encodings.COLOR_ENCODINGS`, or CompressedImage where it is remapped to a topic
                                `.../compressed`; keep-last 1: the middleware overwrites a frame that was not taken
                                yet, so a slow net always gets the newest one
    odom, ~/inputs/NAME         what else the net takes: its speed, and any other numbers, see `edgeflock_ros.inputs`.
                                Without them no frame is answered, and the guard stops
Publishes
    steering                    sensor_msgs/JointState: name "steering", position in rad (left positive), stamp of the
                                frame; position NaN when the net gave none: the guard then stops
    ackermann_cmd               ackermann_msgs/AckermannDriveStamped with the angle, where that package is installed;
                                its speed is 0: only the guard moves the robot
    /diagnostics                at every change and at 1 Hz, of the newest frame: age_ms, inference_ms, frames, dropped,
                                engine, precision, bundle, view; WARN while no image comes, with who should send it

Services (relative names)
    ~/reload                    std_srvs/Trigger: opens, verifies, replays and warms up what lies at `bundle` now, in a
                                thread of its own, and drives with it from the next frame on. Where it is refused, the
                                answer says why, and the one before drives on. With `follow` the node does so by itself
                                when the link `bundle` comes to point elsewhere, as `edgeflock fleet promote` lets it

With the mount of the camera (`camera_height` ...) and its camera_info every frame is brought to the view of the camera
that the net was trained with (`edgeflock.runtime.prepare.view`); frames wait for the first camera_info. Without a mount
they are taken as they are, which is warned of once. With `mount_from` tf the mount is that of the images' frame in the
static part of TF, and frames wait for that, too.

Parameters: `SteeringParameters`; mount and gain may change at any time. See `managed`.
"""

from __future__ import annotations

import edgeflock_ros.before_rclpy  # noqa: F401

# isort: split
import math
import os
import sys
import threading
from typing import TYPE_CHECKING, cast

import numpy as np
from builtin_interfaces.msg import Time
from pydantic import Field
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_srvs.srv import Trigger

from edgeflock.runtime.cameras.encodings import decode_color
from edgeflock.runtime.errors import EdgeflockError, InputError, in_our_words
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount
from edgeflock_ros import topics
from edgeflock_ros.frames import MountInTree, TreeParameters
from edgeflock_ros.inputs import InputTopics
from edgeflock_ros.managed import ImageNetParameters, ManagedNode
from edgeflock_ros.messages import ERROR, OK, ImageReader, qos, to_intrinsics, to_ns
from edgeflock_ros.newest import NewestFrame
from edgeflock_ros.process import run
from edgeflock_ros.senders import IMAGES, INFOS, Senders
from fadnet_nav.ackermann import AckermannDriveStamped

if TYPE_CHECKING:
    from edgeflock.runtime.prepare.frame import Encoding
    from edgeflock.runtime.tasks.steering import SteeringPolicy

WARM_UP = 5
POOR_VIEW = 0.8  # share of what the net looks at


class SteeringParameters(TreeParameters, ImageNetParameters):
    """Parameters of the steering node; the mount by the names that the guard has it by."""

    follow: bool = Field(default=False, description="reload by itself when the link `bundle` points elsewhere")
    camera_height: float = Field(default=0.0, ge=0.0, le=4.0, description="ground to camera, m; 0: not known")
    camera_pitch: float = Field(default=0.0, ge=-1.5, le=1.5, description="camera pitch, rad, positive looks down")
    camera_yaw: float = Field(default=0.0, ge=-1.5, le=1.5, description="camera yaw, rad, positive looks to the left")
    camera_roll: float = Field(default=0.0, ge=-1.5, le=1.5, description="camera roll, rad, positive: left side up")
    steering_gain: float = Field(default=1.0, gt=0.0, le=10.0, description="what the net's angle is multiplied by")

    @property
    def mount(self) -> Mount | None:
        """Where the camera is; None where nobody measured it."""
        return Mount.of(self) if self.camera_height else None


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
        self._lock = threading.RLock()
        self._policy: SteeringPolicy | None = None
        self._reader: ImageReader | None = None
        self._others: InputTopics | None = None
        self._infos: Subscription | None = None
        self._tree: MountInTree | None = None
        self._reloading: Future | None = None
        self._refused = ""
        self.start()

    def load(self) -> None:
        """Load, verify and warm up the bundle."""
        self._camera: Intrinsics | None = None
        self._take(self._open())
        self._wear(self.settings.value)
        self._frames = 0
        self._steering = self.create_lifecycle_publisher(JointState, topics.STEERING, qos("reliable", 5))
        self._ackermann = None
        if AckermannDriveStamped is not None:
            self._ackermann = self.create_lifecycle_publisher(
                AckermannDriveStamped, topics.ACKERMANN, qos("reliable", 5)
            )
        # Of its own: in the node's group no frame would be answered while the call is open.
        apart = MutuallyExclusiveCallbackGroup()
        self._service = self.create_service(Trigger, "~/reload", self._on_reload, callback_group=apart)

    def _open(self) -> SteeringPolicy:
        """What lies at `bundle` now: verified, replayed and warm."""
        from edgeflock.runtime.tasks.steering import SteeringPolicy

        p = self.settings.value
        self._place = os.path.realpath(p.bundle)
        policy = SteeringPolicy(p.bundle or None, p.precision or None, p.threads or None, p.engine or None, p.trusted)
        for _ in range(WARM_UP):
            policy(*policy.example())
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
            if self._others is not None and policy.others != self._others.specs:
                raise InputError("it takes other inputs beside the picture: clean up and configure for that.")
            camera, mount = self._camera, self._mount
            view = None
            if camera is not None and mount is not None and policy.bundle.manifest.trained_camera:
                view = self._look(policy, camera, mount)
            with self._lock:  # between two frames
                if self._policy is None:
                    raise InputError("the node was cleaned up meanwhile.")
                answer = True, self._take(policy)
                if view is not None and self._mount == mount:
                    self._constant["view"] = view
                else:
                    self._wear(self.settings.value)
        except Exception as error:  # whatever it is: what drives goes on driving, and the caller is told
            answer = False, f"{in_our_words(error) or error} The bundle before drives on."
            self.get_logger().error(f"reload: {answer[1]}")
        self._refused = "" if answer[0] else answer[1]
        self._reloading = None
        done.set_result(answer)

    def accept(self, new: SteeringParameters) -> str | None:
        """The gain may change at any time, and a mount may take another's place."""
        old = self.settings.value
        free = {"steering_gain"}
        if new.mount and old.mount:
            free |= {f"camera_{field}" for field in Mount.model_fields}
        if new.model_dump(exclude=free) != old.model_dump(exclude=free):
            return super().accept(new)
        if new.mount != old.mount and self._policy is not None:
            self._wear(new)
        return None

    def _wear(self, p: SteeringParameters) -> None:
        """Begin with a mount: the next camera_info gives the view. Without one say what is assumed."""
        assert self._policy is not None
        trained = self._policy.bundle.manifest.trained_camera
        with self._lock:
            self._lens, self._held, self._unplaced = b"", None, ""
            mounted = p.mount is not None or p.mount_from == "tf"
            self._mount = p.mount if trained and p.mount_from == "parameters" else None
            self._awaits_lens = bool(trained) and mounted
            self._constant["view"] = "waits for camera_info" if self._awaits_lens else "as the camera sees it"
        if trained and not mounted:
            self.get_logger().warning(
                f"NO MOUNT (camera_height is 0): frames are taken as if the camera were the trained one, {trained}. "
                "Another one steers wrongly: `edgeflock calibrate mount` measures height and pitch"
            )
        elif mounted and not trained:
            self.get_logger().warning("the bundle does not name its trained camera: frames are taken as they are")

    def begin(self) -> None:
        """Begin to answer frames."""
        p = self.settings.value
        if p.mount_from == "tf":
            self._tree = MountInTree(self, p.frame_prefix + p.base_frame, self._on_tree)
        self._infos = self.create_subscription(
            CameraInfo, topics.info(topics.COLOR), self._on_info, qos("sensor_data"), raw=True
        )
        if self._subscribe:
            self._reader = ImageReader(self, p.qos, self._on_image)
        assert self._policy is not None
        self._others = InputTopics(self, self._policy.others, self.get_logger().error)
        self._newest = NewestFrame(self._tell, self._absence)

    def release(self) -> None:
        """Stop answering; the guard then stops the robot."""
        with self._lock:  # composed, frames come from the camera's thread: wait until it is out
            self.active = False
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._infos is not None:
            self.destroy_subscription(self._infos)
            self._infos = None
        if self._others is not None:
            self._others.close()
            self._others = None
        if self._tree is not None:
            self._tree.close()
            self._tree = None

    def unload(self) -> None:
        """Drop the bundle."""
        self.destroy_service(self._service)
        for publisher in (self._steering, self._ackermann):
            if publisher is not None:
                self.destroy_lifecycle_publisher(publisher)
        with self._lock:
            self._policy = None

    def _on_info(self, data: bytes) -> None:
        """Look through the lens that camera_info tells of; from frame to frame only its stamp changes."""
        lens = data[12:]  # CDR: 4 bytes of encapsulation, then the stamp
        if lens == self._lens or not (self._awaits_lens or self._mount):
            return
        info = deserialize_message(data, CameraInfo)
        mount = self._mount if self._tree is None else self._in_tree(self._tree, info.header.frame_id)
        if mount is None:
            return
        with self._lock:
            assert self._policy is not None
            self._mount, self._camera = mount, to_intrinsics(info)
            self._constant["view"] = self._look(self._policy, self._camera, mount)
            self._lens, self._awaits_lens = lens, False
        held, self._held = self._held, None
        if held is not None:
            self._on_image(held)

    def _on_tree(self) -> None:
        self._lens = b""  # the next camera_info looks again

    def _in_tree(self, tree: MountInTree, frame: str) -> Mount | None:
        try:
            found = tree.find(frame)
            self._unplaced = "" if found else tree.absence(frame)
        except InputError as error:
            found, self._unplaced = None, f"TF of {frame}: {error}"
        return found[2] if found else None

    def _look(self, policy: SteeringPolicy, camera: Intrinsics, mount: Mount) -> str:
        try:
            seen = policy.look_through(camera, mount).coverage
        except InputError as error:
            self.get_logger().warning(f"frames are taken as they are: {error}")
            return "as the camera sees it"
        said = f"frames are brought to the view of the trained camera; this one, {mount}, sees {seen:.0%} of it"
        if seen < POOR_VIEW:
            self.get_logger().warning(f"{said}: the rest repeats its edge, a wider lens sees more")
        else:
            self.get_logger().info(said)
        return f"canonical, {seen:.0%} seen"

    def _on_image(self, image: Image | CompressedImage) -> None:
        if self._awaits_lens:
            self._held = image
            return
        try:
            pixels, encoding = decode_color(image)
        except EdgeflockError as error:
            self._fail(image.header.stamp, error)
            return
        self.on_frame(pixels, image.header.stamp, encoding)

    def on_frame(self, pixels: np.ndarray, stamp: Time, encoding: str = "rgb8") -> None:
        """Answer one frame: uint8 (H, W, 3) or (H, W)."""
        with self._lock:
            if self.active and not self._awaits_lens:
                self._answer(pixels, stamp, encoding)

    def _answer(self, pixels: np.ndarray, stamp: Time, encoding: str) -> None:
        assert self._policy is not None
        try:
            if absence := self._others.absence if self._others else "":
                raise InputError(absence)
            values = self._others.values if self._others else {}
            answer = self._policy(pixels, cast("Encoding", encoding), values)  # it refuses any other
        except EdgeflockError as error:
            self._fail(stamp, error)
            return
        self._frames += 1
        angle = self.settings.value.steering_gain * answer.angle
        self._publish(stamp, angle)
        age_ms = (self.get_clock().now().nanoseconds - to_ns(stamp)) / 1e6
        level, message = (OK, "steering") if math.isfinite(answer.angle) else (ERROR, f"the net says {answer.angle}")
        self._newest.note(level, message, age_ms=age_ms, inference_ms=answer.inference_ns / 1e6, angle_rad=angle)

    def _fail(self, stamp: Time, error: EdgeflockError) -> None:
        """A frame that cannot be read steers nowhere: NaN stops the robot, the reason is in log and diagnostics."""
        self.get_logger().error(str(error), throttle_duration_sec=1.0)
        self._publish(stamp, math.nan)
        self._newest.note(ERROR, str(error))

    def _publish(self, stamp: Time, angle: float) -> None:
        joint = JointState(name=["steering"], position=[angle])
        joint.header.stamp = stamp
        self._steering.publish(joint)
        if self._ackermann is not None:
            command = AckermannDriveStamped()
            command.header.stamp = stamp
            command.drive.steering_angle = angle
            self._ackermann.publish(command)

    def _tell(self, level: bytes, message: str, **values: float) -> None:
        counts = {"frames": self._frames, "dropped": self._reader.missed if self._reader else 0}
        refused = {"reload": self._refused} if self._refused else {}
        self.say(level, message, **values, **counts, **self._constant, **refused)

    def report(self) -> None:
        """The newest frame, or that none comes any more; and look where the bundle's link points."""
        p = self.settings.value
        if p.follow and self._reloading is None and os.path.realpath(p.bundle) != self._place:
            self._reload()
        with self._lock:
            self._newest.report()

    def _absence(self) -> str:
        if self._unplaced:
            return self._unplaced
        if self._reader is None:
            return "no image from the camera of this process"
        if self._held is not None:
            assert self._infos is not None
            absence = Senders(self, self._infos.topic_name).absence("camera_info", INFOS)
            return f"the mount needs the lens: images come, but {absence}"
        return Senders(self, self._reader.topic).absence("image", IMAGES)


def main(args: list[str] | None = None) -> int:
    """Run the steering node until a signal; a bundle that cannot be used ends it with the error's exit code."""
    return run(lambda: [SteeringNode()], args)


if __name__ == "__main__":
    sys.exit(main())
