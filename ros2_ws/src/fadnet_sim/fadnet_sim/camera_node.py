"""Node `camera` (lifecycle) of the simulation: renders the world from poses. What it publishes: `edgeflock_ros.camera`.

Subscribes (relative names)
    odom                the pose to render from; a frame carries the stamp of the pose that it shows

Parameters: `SimCameraParameters`; see `edgeflock_ros.managed`.
"""

from __future__ import annotations

import edgeflock_ros.before_rclpy  # noqa: F401

# isort: split
import math
import sys
import threading
from dataclasses import replace

from nav_msgs.msg import Odometry
from pydantic import Field
from rclpy.node import Node

from edgeflock.runtime.cameras.base import Frame, FrameSource
from edgeflock.runtime.extras import needs
from edgeflock.runtime.mount import Mount
from edgeflock_ros import topics
from edgeflock_ros.camera import Camera, FrameParameters
from edgeflock_ros.messages import to_ns
from edgeflock_ros.process import run
from fadnet_sim.scene import Kind

EARLY = 0.15  # of the frame period: odometry at 100 Hz, or ticks of whole physics steps, never meet it exactly


class SimCameraParameters(FrameParameters):
    """Parameters of the simulated camera."""

    world: Kind = Field(default="indoor", description="kind of world, as the base's")
    seed: int = Field(default=2, ge=0, le=2**31 - 1, description="seed of the world, as the base's")
    width: int = Field(default=640, ge=16, le=1920, description="image width, px")
    height: int = Field(default=480, ge=16, le=1080, description="image height, px")
    fps: int = Field(default=30, ge=1, le=240, description="frames per second")
    camera_height: float = Field(default=0.0, ge=0.0, le=4.0, description="ground to camera, m; 0: mount of the world")
    camera_pitch: float = Field(default=0.15, ge=-1.5, le=1.5, description="camera pitch, rad, positive looks down")
    camera_yaw: float = Field(default=0.0, ge=-1.5, le=1.5, description="camera yaw, rad, positive looks to the left")
    camera_roll: float = Field(default=0.0, ge=-1.5, le=1.5, description="camera roll, rad, positive: left side up")
    camera_fovy: float = Field(default=0.0, ge=0.0, le=2.8, description="top to bottom, rad; 0: lens of the world")

    @property
    def look(self) -> dict[str, float]:
        """What of the world's `CameraLook` is replaced."""
        lens = {"fovy": self.camera_fovy} if self.camera_fovy else {}
        if not self.camera_height:
            return lens
        return {**dict(Mount.of(self)), **lens}


class Poses:
    """The newest pose on `odom` for which a frame is due.

    Odometry at 100 Hz gives a frame for every pose that reaches the next multiple of the frame period; in lock-step
    every pose is due. A repeated stamp asks for its frame again (lock-step repeats tick 0 until somebody answers).
    """

    def __init__(self, node: Node, fps: float) -> None:
        self._period_ns = 1e9 / fps
        self._due_ns = 0.0
        self._last_ns = -1
        self._waiting: Odometry | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._node = node
        self._subscription = node.create_subscription(Odometry, topics.ODOMETRY, self._on_odom, 10)

    def _on_odom(self, odom: Odometry) -> None:
        stamp = to_ns(odom.header.stamp)
        late = stamp - self._due_ns
        if late < -EARLY * self._period_ns and stamp > self._last_ns:
            return
        # After a gap, or when the base starts again, count from here.
        self._due_ns = (self._due_ns if abs(late) < self._period_ns else stamp) + self._period_ns
        self._last_ns = stamp
        with self._changed:
            self._waiting = odom
            self._changed.notify()

    def next(self) -> Odometry | None:
        """Wait for the next pose; None after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._closed)
            odom, self._waiting = self._waiting, None
            return None if self._closed else odom

    def close(self) -> None:
        """Listen no more, and wake the waiting thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._node.destroy_subscription(self._subscription)


class SimSource:
    """Renders what the robot sees. To be made and used in one thread (OpenGL).

    Parameters
    ----------
    poses : Poses
        Where the robot is.
    parameters : SimCameraParameters
        World and seed as the base has them; width and height of the colour image, depth is a quarter of it.

    Raises
    ------
    MissingExtra
        mujoco or EGL is not installed.
    """

    live = True  # the stamps are those of the poses, on the clock of all nodes

    def __init__(self, poses: Poses, parameters: SimCameraParameters) -> None:
        with needs("the simulated camera", "sim"):
            from fadnet_sim.camera import SimCamera
            from fadnet_sim.world import make_world
        p = parameters
        world = make_world(p.world, p.seed)
        self._camera = SimCamera(replace(world, look=replace(world.look, **p.look)), p.width, p.height)
        self._poses = poses
        self.intrinsics = self._camera.intrinsics
        self.depth_intrinsics = self._camera.depth_intrinsics
        self.fps = float(p.fps)

    def read(self, timeout_s: float = 1.0) -> Frame | None:
        """Frame for the next pose, however long that takes (lock-step waits for the other nodes); None after close."""
        odom = self._poses.next()
        if odom is None:
            return None
        p, q = odom.pose.pose.position, odom.pose.pose.orientation
        roll = math.atan2(2 * (q.w * q.x + q.y * q.z), 1 - 2 * (q.x**2 + q.y**2))
        pitch = math.asin(max(-1.0, min(1.0, 2 * (q.w * q.y - q.z * q.x))))
        yaw = math.atan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y**2 + q.z**2))
        stamp_ns = to_ns(odom.header.stamp)
        index = round(stamp_ns * self.fps / 1e9)  # of the stamp, not a count: the same tick looks the same in every run
        return Frame(stamp_ns, *self._camera.render(p.x, p.y, yaw, p.z, roll, pitch, index=index), index)

    def close(self) -> None:
        """Free the OpenGL contexts."""
        self._camera.close()


class SimCameraNode(Camera[SimCameraParameters]):
    """The camera of the simulated robot."""

    def __init__(self) -> None:
        super().__init__(SimCameraParameters)
        self._poses: Poses | None = None
        self.start()

    def load(self) -> None:
        """Listen for poses, then as every camera does."""
        self._poses = Poses(self, self.settings.value.fps)
        super().load()

    @property
    def origin(self) -> tuple[str, str]:
        """That it is the simulation, and which world."""
        p = self.settings.value
        return "sim", f"{p.world} {p.seed}"

    def open(self) -> FrameSource:
        """Make the world and its renderer."""
        assert self._poses is not None
        return SimSource(self._poses, self.settings.value)

    def wake(self) -> None:
        """Let the thread, which may be waiting for a pose, go on."""
        if self._poses is not None:
            self._poses.close()
            self._poses = None


def main(args: list[str] | None = None) -> int:
    """Run the simulated camera until a signal or an error (its exit code)."""
    return run(lambda: [SimCameraNode()], args)


if __name__ == "__main__":
    sys.exit(main())
