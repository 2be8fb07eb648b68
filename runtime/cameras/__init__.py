"""Frame sources: RealSense (live or recorded), bags of ROS, videos, folders of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgeflock.runtime.cameras.base import Frame, FrameSource, existing
from edgeflock.runtime.cameras.rosbag import is_realsense, is_recording
from edgeflock.runtime.intrinsics import Intrinsics

__all__ = ["Frame", "FrameSource", "Intrinsics", "Kind", "kind_of", "open_source"]

Kind = Literal["realsense", "bag", "video"]


def kind_of(path: str | Path) -> Kind:
    """Which source reads this, by its content: a RealSense recording, a bag of ROS, or a video or folder of pictures.

    librealsense writes ROS 1 bags, from 2.57 on rosbag2 files; its topics begin with /device_.

    Raises
    ------
    CameraError
        There is nothing at `path`, or a file that cannot be read.
    """
    found = existing(path, "a recording, video, folder of pictures or /dev/videoN")
    if found.is_file() and is_realsense(found):
        return "realsense"
    return "bag" if is_recording(found) else "video"


def open_source(kind: Kind, path: str | Path | None = None, *, real_time: bool = True, **options) -> FrameSource:
    """Open a source by name; `path` empty or None is the first live RealSense. Each needs its own extra only.

    Parameters
    ----------
    kind : {"realsense", "bag", "video"}
        See `kind_of`.
    path : str or Path, optional
        Recording, video file, folder of pictures or /dev/videoN.
    real_time : bool
        Hand recorded frames over at the pace of their stamps; False: as fast as they are read.
    **options
        Of the source's constructor (`serial`, `width`, `height`, `fps`, `topic`, `depth_topic`, `loop`).
    """
    if kind == "realsense":
        from edgeflock.runtime.cameras.realsense import RealSenseSource

        return RealSenseSource(path=path or None, real_time=real_time, **options)
    if kind == "bag":
        from edgeflock.runtime.cameras.bag import BagSource

        return BagSource(path or "", real_time=real_time, **options)
    from edgeflock.runtime.cameras.video import VideoSource

    return VideoSource(path or "", real_time=real_time, **options)
