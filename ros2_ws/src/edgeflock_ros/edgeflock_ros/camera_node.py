"""Node `camera` (lifecycle): frames from a RealSense, a bag or a video; what it publishes: `camera`.

Parameters: `CameraParameters`; see `managed`.
"""

from __future__ import annotations

import edgeflock_ros.before_rclpy  # noqa: F401

# isort: split
import sys
from pathlib import Path
from typing import Literal

from pydantic import Field

from edgeflock.runtime.cameras import open_source
from edgeflock.runtime.cameras.base import FrameSource
from edgeflock.runtime.cameras.camera_info import read_camera
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock_ros.camera import Camera, FrameParameters, OnFrame
from edgeflock_ros.messages import ImagePublisher
from edgeflock_ros.process import run


class CameraParameters(FrameParameters):
    """Parameters of the camera node."""

    source: Literal["realsense", "bag", "video"] = Field(default="realsense", description="where frames come from")
    path: str = Field(
        default="", description="recording, video, pictures or /dev/videoN; realsense: empty = live camera"
    )
    serial: str = Field(default="", description="realsense: which live camera; empty = the first")
    topic: str = Field(default="", description="bag: colour topic; empty = the only one")
    depth_topic: str = Field(default="", description="bag: depth topic registered to colour; empty = *aligned_depth*")
    camera_info_url: str = Field(
        default="", description="lens of the images: a file as edgeflock calibrate camera or ROS writes it, or file://"
    )
    width: int = Field(default=640, ge=16, le=1920, description="live realsense: image width, px")
    height: int = Field(default=480, ge=16, le=1080, description="live realsense: image height, px")
    fps: int = Field(default=30, ge=1, le=240, description="live realsense: frames per second")
    real_time: bool = Field(default=True, description="recordings: at the pace they were made; false: as fast as read")
    wait_for_readers: int = Field(
        default=0, ge=0, le=100, description="recordings: begin when so many read the images; 0: at once"
    )
    wait_for_depth_readers: int = Field(
        default=0, ge=0, le=100, description="recordings with depth: and so many the depth"
    )
    loop: bool = Field(default=False, description="recordings: start over at the end")


class CameraNode(Camera[CameraParameters]):
    """A camera of this robot, or a recording of one."""

    def __init__(self, on_frame: OnFrame | None = None) -> None:
        super().__init__(CameraParameters, on_frame)
        self.start()

    @property
    def origin(self) -> tuple[str, str]:
        """Kind of the source, and its path."""
        p = self.settings.value
        return p.source, p.path or "live"

    def open(self) -> FrameSource:
        """Open camera or recording."""
        p = self.settings.value
        options: dict[str, object] = {"loop": p.loop}
        if p.source == "realsense":
            options |= {"serial": p.serial or None, "width": p.width, "height": p.height, "fps": p.fps}
        elif p.source == "bag":
            options |= {"topic": p.topic or None, "depth_topic": p.depth_topic or None}
        if p.source == "realsense" and not p.path:
            del options["loop"]
        return open_source(p.source, p.path or None, real_time=p.real_time, **options)

    def lens(self, source: FrameSource) -> Intrinsics:
        """By `camera_info_url`, else what the source knows.

        Raises
        ------
        InputError
            The file is none of a lens, or of images of another size.
        """
        url = self.settings.value.camera_info_url
        if not url:
            return source.intrinsics
        lens, own = read_camera(Path(url.removeprefix("file://")).expanduser()), source.intrinsics
        if (lens.width, lens.height) != (own.width, own.height):
            raise InputError(
                f"camera_info_url: expected the lens of {own.width}x{own.height} images, got one of {lens.width}x"
                f"{lens.height} in {url}: calibrate at the size that the camera sends."
            )
        return lens

    def awaited(self, color: ImagePublisher, depth: ImagePublisher | None) -> bool:
        """A recording waits for its readers."""
        p = self.settings.value
        return color.readers >= p.wait_for_readers and (depth is None or depth.readers >= p.wait_for_depth_readers)


def main(args: list[str] | None = None) -> int:
    """Run the camera until a signal, the end of the recording, or an error (its exit code)."""
    return run(lambda: [CameraNode()], args)


if __name__ == "__main__":
    sys.exit(main())
