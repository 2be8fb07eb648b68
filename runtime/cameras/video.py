"""Any video that OpenCV reads, a folder of pictures, or a V4L2 camera (/dev/videoN)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgeflock.runtime.cameras.base import Frame, Pace, existing, numbered
from edgeflock.runtime.cameras.pictures import PICTURES, is_picture, read_picture
from edgeflock.runtime.cameras.rosbag import is_recording
from edgeflock.runtime.errors import CameraError, InputError
from edgeflock.runtime.intrinsics import Intrinsics

PICTURES_HZ = 30.0  # a folder of pictures does not say


class Pictures:
    """A folder of pictures, in the order of the numbers in their names, as a `cv2.VideoCapture`."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(filter(is_picture, folder.iterdir()), key=numbered)
        self._next = 0

    def isOpened(self) -> bool:
        """Whether there is any."""
        return bool(self._paths)

    def read(self, image: np.ndarray | None = None) -> tuple[bool, np.ndarray | None]:
        """Next picture, BGR."""
        if self._next >= len(self._paths):
            return False, None
        path = self._paths[self._next]
        self._next += 1
        try:
            return True, read_picture(path)
        except InputError as error:
            raise CameraError(str(error)) from error

    def get(self, what: int) -> float:
        """Rate or number of the pictures."""
        return PICTURES_HZ if what == cv2.CAP_PROP_FPS else float(len(self._paths))

    def set(self, what: int, value: float) -> bool:
        """Go to the picture of an index."""
        self._next = int(value)
        return what == cv2.CAP_PROP_POS_FRAMES

    def release(self) -> None:
        """Nothing is held."""


class VideoSource:
    """Frames of a video file, a folder of pictures or a webcam, without depth and uncalibrated.

    Parameters
    ----------
    path : str or Path
        Video file, folder of pictures (30 per second), or /dev/videoN for a live camera.
    real_time : bool
        Hand the frames of a file over at its frame rate; False: as fast as they are read.
    loop : bool
        Start a file over at its end.

    Raises
    ------
    CameraError
        No such file, or OpenCV cannot decode it.
    """

    def __init__(self, path: str | Path, real_time: bool = True, loop: bool = False) -> None:
        found = existing(path, "a video file, a folder of pictures or /dev/videoN")
        self.live = found.is_char_device()
        self._capture: Any = (
            Pictures(found)
            if found.is_dir()
            else cv2.VideoCapture(str(found), cv2.CAP_V4L2 if self.live else cv2.CAP_ANY)
        )
        if self.live:
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not a queue of old ones
        ok, first = self._capture.read() if self._capture.isOpened() else (False, None)
        if not ok or first is None:
            self._capture.release()
            raise CameraError(self._not_opened(found))
        height, width = first.shape[:2]
        self.intrinsics = Intrinsics.uncalibrated(width, height)
        self.depth_intrinsics = None
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = rate if 1.0 <= rate <= 1000.0 else 30.0  # containers without a rate say 0, NaN or 90000
        self._path, self._loop = found, loop
        self._pace = Pace() if real_time and not self.live else None
        self._pending: np.ndarray | None = first
        self._bgr, self._rgb = np.empty_like(first), np.empty_like(first)
        self._index = 0

    def read(self, timeout_s: float = 1.0) -> Frame | None:
        """Next frame; None at the end of a file.

        Raises
        ------
        CameraError
            The camera stopped delivering (V4L2 waits up to 10 s by itself), or the frame size changed.
        """
        bgr = self._next()
        if bgr is None:
            if self.live:
                raise CameraError(f"expected a frame from {self._path}, got none: check the cable (`dmesg`).")
            return None
        if bgr.shape != self._rgb.shape:
            (height, width), (h, w) = self._rgb.shape[:2], bgr.shape[:2]
            raise CameraError(
                f"expected {width}x{height} as the first frame of {self._path}, got {w}x{h} in frame {self._index}: "
                "give frames of one size."
            )
        cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=self._rgb)
        stamp_ns = time.time_ns() if self.live else round(self._index / self.fps * 1e9)
        if self._pace:
            self._pace.wait(stamp_ns)
        frame = Frame(stamp_ns, self._rgb, None, self._index)
        self._index += 1
        return frame

    def _not_opened(self, path: Path) -> str:
        if path.is_dir():
            inside = sorted(p.name for p in path.iterdir() if p.is_dir() and is_recording(p))
            way_out = (
                f"give one of its recordings: {', '.join(inside)}" if inside else "give the folder that holds them"
            )
            return f"expected a recording or pictures ({', '.join(PICTURES)}) in {path}, got neither: {way_out}."
        if self.live:
            return f"expected frames from {path}, got none: is another program using it?"
        if not path.stat().st_size:
            return f"expected a video or recording, got an empty file: {path}."
        return (
            f"expected a recording (.mcap, .db3, .bag) or a video that OpenCV {cv2.__version__} decodes, got {path}: a "
            "video of another format is converted by `ffmpeg -i IN -c:v mjpeg OUT.avi`; of an .mp4 that was cut off "
            "nothing is left, record .mkv."
        )

    def _next(self) -> np.ndarray | None:
        if self._pending is not None:
            first, self._pending = self._pending, None
            return first
        ok, bgr = self._capture.read(self._bgr)
        if not ok and self._loop and not self.live and self._capture.isOpened():
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            ok, bgr = self._capture.read(self._bgr)
        return bgr if ok else None

    def close(self) -> None:
        """Let the device or file go."""
        self._capture.release()
