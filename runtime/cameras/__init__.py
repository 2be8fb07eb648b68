"""Frame sources: RealSense (live or recorded), rosbag2, video."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal

from edgeflock.runtime.cameras.base import Frame, FrameSource, Intrinsics, existing

__all__ = ["Frame", "FrameSource", "Intrinsics", "Kind", "kind_of", "open_source"]

Kind = Literal["realsense", "bag", "video"]


def kind_of(path: str | Path) -> Kind:
    """Which source reads this file: a RealSense recording (.bag, .db3), a rosbag2 (folder, .mcap, .db3) or a video.

    librealsense from 2.57 on records rosbag2 files too; its topics begin with /device_.
    """
    found = existing(path, "a recording or video")
    if found.is_dir() or found.suffix == ".mcap":
        return "bag"
    if found.suffix == ".bag":
        return "realsense"
    if found.suffix == ".db3":
        with sqlite3.connect(f"file:{found}?mode=ro", uri=True) as db:
            try:
                own = db.execute("SELECT 1 FROM topics WHERE name LIKE '/device_%' LIMIT 1").fetchone()
            except sqlite3.DatabaseError:
                own = None
        return "realsense" if own else "bag"
    return "video"


def open_source(kind: Kind, path: str | Path | None = None, *, real_time: bool = True, **options) -> FrameSource:
    """Open a source by name; `path` empty or None is the first live RealSense. Each needs its own extra only.

    Parameters
    ----------
    kind : {"realsense", "bag", "video"}
        See `kind_of`.
    path : str or Path, optional
        Recording, video file or /dev/videoN.
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
