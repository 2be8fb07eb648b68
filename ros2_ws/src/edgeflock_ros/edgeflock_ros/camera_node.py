"""Node `camera`: frames from the simulation, a RealSense, a bag or a video, as realsense-ros would publish them.

Publishes (relative names)
    camera/color/image_raw, camera_info                      rgb8; one camera_info per frame, of the same stamp
    camera/aligned_depth_to_color/image_raw, camera_info     16UC1 mm, where the source has depth
    /diagnostics                                             1 Hz: frames, rate, source
Subscribes
    odom                                                     source `sim` only: the pose to render from

Parameters: `CameraParameters`. All are read at start.

Stamps: a live camera's exposure time; a recorded frame gets the time at which it is handed over (its own stamp would be
stale to the guard); a simulated frame the stamp of the pose that it shows.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import Literal

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from pydantic import BaseModel, ConfigDict, Field
from rclpy.node import Node

from edgeflock.runtime.cameras import open_source
from edgeflock.runtime.cameras.base import Frame, FrameSource
from edgeflock.runtime.errors import EdgeflockError
from edgeflock_ros.messages import ERROR, OK, WARN, ImagePublisher, diagnostics, to_stamp
from edgeflock_ros.params import Parameters
from edgeflock_ros.process import run

OnFrame = Callable[[np.ndarray, Time], None]
READ_TIMEOUT_S = 2.0


class CameraParameters(BaseModel):
    """Parameters of the camera node."""

    model_config = ConfigDict(frozen=True)

    source: Literal["sim", "realsense", "bag", "video"] = Field(default="sim", description="where frames come from")
    path: str = Field(
        default="", description="recording, video, pictures or /dev/videoN; realsense: empty = live camera"
    )
    serial: str = Field(default="", description="realsense: which live camera; empty = the first")
    topic: str = Field(default="", description="bag: colour topic; empty = the only one")
    depth_topic: str = Field(default="", description="bag: depth topic registered to colour; empty = *aligned_depth*")
    width: int = Field(default=640, ge=16, le=1920, description="sim, live realsense: image width, px")
    height: int = Field(default=480, ge=16, le=1080, description="sim, live realsense: image height, px")
    fps: int = Field(default=30, ge=1, le=240, description="sim, live realsense: frames per second")
    real_time: bool = Field(default=True, description="recordings: at the pace they were made; false: as fast as read")
    wait_for_readers: int = Field(
        default=0, ge=0, le=100, description="recordings: begin when so many read the images; 0: at once"
    )
    loop: bool = Field(default=False, description="recordings: start over at the end")
    world: Literal["indoor", "outdoor"] = Field(default="indoor", description="sim: kind of world, as the base's")
    seed: int = Field(default=2, ge=0, le=2**31 - 1, description="sim: seed of the world, as the base's")
    qos: Literal["reliable", "sensor_data"] = Field(default="reliable", description="of the image publishers")
    frame_id: str = Field(default="camera_color_optical_frame", description="frame of all images")


class CameraNode(Node):
    """Reads its source in a thread of its own and publishes from there.

    Parameters
    ----------
    on_frame : callable, optional
        ``on_frame(rgb uint8 (H, W, 3), stamp)`` gets each frame before its image is published: the short way to a
        steering node in the same process (see `composed`).
    """

    def __init__(self, on_frame: OnFrame | None = None) -> None:
        super().__init__("camera")
        self.done: int | None = None
        self._on_frame = on_frame
        self.settings = Parameters(self, CameraParameters, lambda _: "the camera reads its parameters at start only")
        self._source: FrameSource | None = None
        self._frames = self._reported = 0
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(1.0, self._report)
        self._stop = threading.Event()
        if self.settings.value.source == "sim":
            from fadnet_sim.sim_source import Poses

            self._poses = Poses(self, self.settings.value.fps)
        self._thread = threading.Thread(target=self._capture, name="capture", daemon=True)
        self._thread.start()

    def _open(self) -> FrameSource:
        p = self.settings.value
        if p.source == "sim":
            from fadnet_sim.sim_source import SimSource

            return SimSource(self._poses, p.world, p.seed, p.width, p.height, p.fps)
        options: dict[str, object] = {"loop": p.loop}
        if p.source == "realsense":
            options |= {"serial": p.serial or None, "width": p.width, "height": p.height, "fps": p.fps}
        elif p.source == "bag":
            options |= {"topic": p.topic or None, "depth_topic": p.depth_topic or None}
        if p.source == "realsense" and not p.path:
            del options["loop"]
        return open_source(p.source, p.path or None, real_time=p.real_time, **options)

    def _capture(self) -> None:
        """Open, read and publish until the end, an error or `close`; all in one thread, as OpenGL wants it."""
        try:
            self._source = self._open()
            self._publish_from(self._source)
            code = 0
        except EdgeflockError as error:
            self.get_logger().error(str(error))
            code = error.exit_code
        except Exception:  # the thread must not die in silence: the process ends, and is started again
            self.get_logger().fatal(traceback.format_exc())
            code = 1
        finally:
            if self._source is not None:
                self._source.close()
        self.done = code

    def _publish_from(self, source: FrameSource) -> None:
        p = self.settings.value
        color = ImagePublisher(self, "camera/color", source.intrinsics, "rgb8", p.frame_id, p.qos)
        depth = None
        if source.depth_intrinsics is not None:
            topic = "camera/aligned_depth_to_color"
            depth = ImagePublisher(self, topic, source.depth_intrinsics, "16UC1", p.frame_id, p.qos)
        where = p.path or (f"{p.world} {p.seed}" if p.source == "sim" else "live")
        i = source.intrinsics
        self.get_logger().info(
            f"{p.source} ({where}): {i.width}x{i.height} at {source.fps:.1f} Hz, depth: {depth is not None}"
        )
        for note in getattr(source, "notes", ()):
            self.get_logger().warning(note)
        while not (self._stop.is_set() or source.live or color.readers >= p.wait_for_readers):
            self._stop.wait(0.01)
        while not self._stop.is_set():
            frame = source.read(READ_TIMEOUT_S)
            if frame is None:
                if not self._stop.is_set():
                    self.get_logger().info(f"end of {where} after {self._frames} frames")
                return
            stamp = to_stamp(frame.stamp_ns) if source.live else self.get_clock().now().to_msg()
            self._publish(frame, stamp, color, depth)

    def _publish(self, frame: Frame, stamp: Time, color: ImagePublisher, depth: ImagePublisher | None) -> None:
        if depth is not None and frame.depth is not None:
            depth.publish(frame.depth, stamp)  # before colour: the guard has it when the steering comes
        if self._on_frame is not None:
            self._on_frame(frame.color, stamp)
        color.publish(frame.color, stamp)
        self._frames += 1

    def _report(self) -> None:
        p = self.settings.value
        rate, self._reported = self._frames - self._reported, self._frames
        expected = self._source.fps if self._source else 0.0
        level, message = (
            (OK, "streaming") if rate >= 0.8 * expected > 0 else (WARN, "starting" if not self._frames else "slow")
        )
        if self.done:
            level, message = ERROR, "stopped"
        self._diagnostics.publish(
            diagnostics(
                self.get_clock().now().to_msg(),
                f"{self.get_fully_qualified_name()}: frames",
                level,
                message,
                p.path or p.source,
                source=p.source,
                frames=self._frames,
                rate_hz=rate,
                expected_hz=float(expected),
            )
        )

    def close(self) -> None:
        """End the thread; the source closes there."""
        self._stop.set()
        if self.settings.value.source == "sim":
            self._poses.close()
        self._thread.join(timeout=READ_TIMEOUT_S + 1.0)


def main(args: list[str] | None = None) -> int:
    """Run the camera until a signal, the end of the recording, or an error (its exit code)."""
    return run(lambda: [CameraNode()], args)


if __name__ == "__main__":
    sys.exit(main())
