"""What every camera node has in common: a thread reads a source and publishes its frames as realsense-ros would.

Publishes (relative names)
    camera/color/image_raw, camera_info                      rgb8; one camera_info per frame, of the same stamp
    camera/aligned_depth_to_color/image_raw, camera_info     16UC1 mm, where the source has depth
    /diagnostics                                             1 Hz: frames, rate, source

Stamps: those of a live source, as a simulation's pose or a camera's exposure time; a recorded frame gets the time at
which it is handed over (its own stamp would be stale to the guard).
"""

from __future__ import annotations

import threading
import traceback
from abc import abstractmethod
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from pydantic import BaseModel, ConfigDict, Field
from rclpy.node import Node

from edgeflock.runtime.cameras.base import Frame, FrameSource
from edgeflock.runtime.errors import EdgeflockError
from edgeflock_ros import topics
from edgeflock_ros.messages import ERROR, OK, WARN, ImagePublisher, diagnostics, to_stamp
from edgeflock_ros.params import Parameters
from edgeflock_ros.timers import steady_timer

OnFrame = Callable[[np.ndarray, Time], None]
READ_TIMEOUT_S = 2.0


class FrameParameters(BaseModel):
    """Parameters of every camera node."""

    model_config = ConfigDict(frozen=True)

    qos: Literal["reliable", "sensor_data"] = Field(default="reliable", description="of the image publishers")
    frame_id: str = Field(default="camera_color_optical_frame", description="frame of all images")


Model = TypeVar("Model", bound=FrameParameters)


class Camera(Node, Generic[Model]):
    """The node `camera`: reads its source in a thread of its own and publishes from there.

    Parameters
    ----------
    model : type of FrameParameters
    on_frame : callable, optional
        ``on_frame(rgb uint8 (H, W, 3), stamp)`` gets each frame before its image is published: the short way to a
        steering node in the same process (see `fadnet_nav.composed`).
    """

    def __init__(self, model: type[Model], on_frame: OnFrame | None = None) -> None:
        super().__init__("camera")
        self.done: int | None = None
        self._on_frame = on_frame
        self.settings = Parameters(self, model, lambda _: "the camera reads its parameters at start only")
        self._source: FrameSource | None = None
        self._frames = self._reported = 0
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, 10)
        steady_timer(self, 1.0, self._report)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._capture, name="capture", daemon=True)

    @property
    @abstractmethod
    def origin(self) -> tuple[str, str]:
        """Kind of the source, and which one of its kind."""

    @abstractmethod
    def open(self) -> FrameSource:
        """Open the source; called in the thread that reads it."""

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def _capture(self) -> None:
        """Open, read and publish until the end, an error or `close`; all in one thread, as OpenGL wants it."""
        try:
            self._source = self.open()
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
        color = ImagePublisher(self, topics.COLOR, source.intrinsics, "rgb8", p.frame_id, p.qos)
        depth = None
        if source.depth_intrinsics is not None:
            depth = ImagePublisher(self, topics.DEPTH, source.depth_intrinsics, "16UC1", p.frame_id, p.qos)
        kind, which = self.origin
        i = source.intrinsics
        self.get_logger().info(
            f"{kind} ({which}): {i.width}x{i.height} at {source.fps:.1f} Hz, depth: {depth is not None}"
        )
        for note in getattr(source, "notes", ()):
            self.get_logger().warning(note)
        while not (self._stop.is_set() or self.awaited(source, color)):
            self._stop.wait(0.01)
        while not self._stop.is_set():
            frame = source.read(READ_TIMEOUT_S)
            if frame is None:
                if not self._stop.is_set():
                    self.get_logger().info(f"end of {which} after {self._frames} frames")
                return
            stamp = to_stamp(frame.stamp_ns) if source.live else self.get_clock().now().to_msg()
            self._publish(frame, stamp, color, depth)

    def awaited(self, source: FrameSource, color: ImagePublisher) -> bool:
        """Whether all are there for whom the first frame has to wait."""
        return True

    def _publish(self, frame: Frame, stamp: Time, color: ImagePublisher, depth: ImagePublisher | None) -> None:
        if depth is not None and frame.depth is not None:
            depth.publish(frame.depth, stamp)  # before colour: the guard has it when the steering comes
        if self._on_frame is not None:
            self._on_frame(frame.color, stamp)
        color.publish(frame.color, stamp)
        self._frames += 1

    def _report(self) -> None:
        kind, which = self.origin
        rate, self._reported = self._frames - self._reported, self._frames
        expected = self._source.fps if self._source else 0.0
        level, message = (
            (OK, "streaming") if rate >= 0.8 * expected > 0 else (WARN, "starting" if not self._frames else "slow")
        )
        if self.done:
            level, message = ERROR, "stopped"
        self._diagnostics.publish(
            diagnostics(
                self,
                "frames",
                level,
                message,
                f"{kind} {which}",
                source=kind,
                frames=self._frames,
                rate_hz=rate,
                expected_hz=float(expected),
            )
        )

    def close(self) -> None:
        """End the thread; the source closes there."""
        self._stop.set()
        self._thread.join(timeout=READ_TIMEOUT_S + 1.0)
