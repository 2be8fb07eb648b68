"""What every camera node has in common: a thread reads a source and publishes its frames as realsense-ros would.

    configure   opens the source; cleanup closes it
    activate    sends its frames; deactivate ends that: a recording waits, but for those that librealsense plays

Publishes (relative names)
    camera/color/image_raw, camera_info                      rgb8; one camera_info per frame, of the same stamp
    camera/aligned_depth_to_color/image_raw, camera_info     16UC1 mm, where the source has depth
    /diagnostics                                             1 Hz: frames, rate, source
    /tf_static                                               camera_link -> the images' frame, where tf2_msgs is

Stamps: those of a live source, as a simulation's pose or a camera's exposure time; a recorded frame gets the time at
which it is handed over (its own stamp would be stale to the guard).
"""

from __future__ import annotations

import threading
import traceback
from abc import abstractmethod
from collections.abc import Callable
from typing import Literal, TypeVar

import numpy as np
from builtin_interfaces.msg import Time
from pydantic import Field

from edgeflock.runtime.cameras.base import Frame, FrameSource
from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock_ros import topics
from edgeflock_ros.frames import CAMERA, PrefixParameters, StaticFrames, optical
from edgeflock_ros.managed import ManagedNode, ManagedParameters
from edgeflock_ros.messages import ERROR, OK, WARN, ImagePublisher, to_stamp

OnFrame = Callable[[np.ndarray, Time], None]
READ_TIMEOUT_S = 2.0


class FrameParameters(PrefixParameters, ManagedParameters):
    """Parameters of every camera node."""

    qos: Literal["reliable", "sensor_data"] = Field(default="reliable", description="of the image publishers")
    frame_id: str = Field(default="camera_color_optical_frame", description="frame of all images")
    camera_frame: str = Field(default=CAMERA, description="its parent in TF, that looks along x; empty = no TF")


Model = TypeVar("Model", bound=FrameParameters)


class Camera(ManagedNode[Model]):
    """The node `camera`: reads its source in a thread of its own and publishes from there.

    Parameters
    ----------
    model : type of FrameParameters
    on_frame : callable, optional
        ``on_frame(rgb uint8 (H, W, 3), stamp)`` gets each frame before its image is published: the short way to a
        steering node in the same process (see `fadnet_nav.composed`).
    """

    held = "the camera is open"

    def __init__(self, model: type[Model], on_frame: OnFrame | None = None) -> None:
        super().__init__("camera", model, "frames")
        self._on_frame = on_frame
        self._source: FrameSource | None = None
        self._color: ImagePublisher | None = None
        self._depth: ImagePublisher | None = None
        self._static: StaticFrames | None = None
        self._thread: threading.Thread | None = None
        self._stop, self._active = threading.Event(), threading.Event()
        self._sending = threading.Lock()
        self._frames = self._reported = 0

    @property
    @abstractmethod
    def origin(self) -> tuple[str, str]:
        """Kind of the source, and which one of its kind."""

    @abstractmethod
    def open(self) -> FrameSource:
        """Open the source; called in the thread that reads it."""

    def lens(self, source: FrameSource) -> Intrinsics:
        """Of the colour images."""
        return source.intrinsics

    def awaited(self, color: ImagePublisher, depth: ImagePublisher | None) -> bool:
        """Whether all are there for whom the first frame of a recording has to wait."""
        return True

    def wake(self) -> None:
        """Let a `read` of the source return that would wait for ever."""

    def load(self) -> None:
        """Open the source, and make the publishers that it needs."""
        self._stop, self._frames, self._reported = threading.Event(), 0, 0
        opened = threading.Event()
        self._thread = threading.Thread(target=self._capture, args=(opened, self._stop), name="capture", daemon=True)
        self._thread.start()
        opened.wait()
        if self._source is None:
            assert self._error is not None
            raise self._error
        source, p = self._source, self.settings.value
        try:
            lens = self.lens(source)
        except EdgeflockError:
            self.unload()
            raise
        frame = p.frame_prefix + p.frame_id
        if p.camera_frame:
            self._static = StaticFrames(self)
            self._static.tell(optical(p.frame_prefix + p.camera_frame, frame))
        self._color = ImagePublisher(self, topics.COLOR, lens, "rgb8", frame, p.qos)
        if source.depth_intrinsics is not None:
            self._depth = ImagePublisher(self, topics.DEPTH, source.depth_intrinsics, "16UC1", frame, p.qos)
        kind, which = self.origin
        self.hardware_id = f"{kind} {which}"
        self.get_logger().info(
            f"{kind} ({which}): {lens.width}x{lens.height} at {source.fps:.1f} Hz, depth: {self._depth is not None}"
        )
        for note in getattr(source, "notes", ()):
            self.get_logger().warning(note)

    def begin(self) -> None:
        """Send frames from now on."""
        self._active.set()

    def release(self) -> None:
        """Send no more; the frame in hand is out."""
        with self._sending:
            self._active.clear()

    def unload(self) -> None:
        """Close the source and take the topics back."""
        self._stop.set()
        self.wake()
        if self._thread is not None:
            self._thread.join(timeout=READ_TIMEOUT_S + 1.0)
        for publisher in (self._color, self._depth):
            if publisher is not None:
                publisher.close()
        if self._static is not None:
            self._static.close()
        self._color = self._depth = self._source = self._static = None

    def _capture(self, opened: threading.Event, stop: threading.Event) -> None:
        """Open, read and publish until the end, an error or `stop`; all in one thread, as OpenGL wants it."""
        source = None
        try:
            source = self._source = self.open()
            opened.set()
            self._read(source, stop)
            code = 0
        except EdgeflockError as error:
            self._error, code = error, error.exit_code
            if opened.is_set():
                self.get_logger().error(str(error))
        except Exception as error:  # the thread must not die in silence: the process ends, and is started again
            self._error, code = EdgeflockError(f"the camera failed: {error}"), 1
            self.get_logger().fatal(traceback.format_exc())
        finally:
            if source is not None:
                source.close()
        if opened.is_set() and not stop.is_set():
            self.done = code
        opened.set()

    def _read(self, source: FrameSource, stop: threading.Event) -> None:
        while not stop.is_set():
            if not (source.live or self._due()):
                stop.wait(0.005)
                continue
            frame = source.read(READ_TIMEOUT_S)
            if frame is None:
                if not stop.is_set():
                    self.get_logger().info(f"end of {self.origin[1]} after {self._frames} frames")
                return
            stamp = to_stamp(frame.stamp_ns) if source.live else self.get_clock().now().to_msg()
            with self._sending:
                if self._active.is_set():
                    self._publish(frame, stamp)

    def _due(self) -> bool:
        """Whether a recording goes on; of a live source every frame is read, so that none is old when it is sent."""
        if not self._active.is_set() or self._color is None:
            return False
        return bool(self._frames) or self.awaited(self._color, self._depth)

    def _publish(self, frame: Frame, stamp: Time) -> None:
        if self._depth is not None and frame.depth is not None:
            self._depth.publish(frame.depth, stamp)  # before colour: the guard has it when the steering comes
        if self._on_frame is not None:
            self._on_frame(frame.color, stamp)
        assert self._color is not None
        self._color.publish(frame.color, stamp)
        self._frames += 1

    def report(self) -> None:
        """Rate, against what the source promises."""
        rate, self._reported = self._frames - self._reported, self._frames
        expected = self._source.fps if self._source else 0.0
        level, message = (
            (OK, "streaming") if rate >= 0.8 * expected > 0 else (WARN, "starting" if not self._frames else "slow")
        )
        if self.done:
            level, message = ERROR, "stopped"
        frames = {"frames": self._frames, "rate_hz": rate, "expected_hz": float(expected)}
        self.say(level, message, source=self.origin[0], **frames)

    def close(self) -> None:
        """End the thread; the source closes there."""
        super().close()
        self.unload()
