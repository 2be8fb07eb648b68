"""Any video that OpenCV reads, or a V4L2 camera (/dev/videoN)."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np

from edgeflock.runtime.cameras.base import Frame, Intrinsics, Pace, existing
from edgeflock.runtime.errors import CameraError


class VideoSource:
    """Frames of a video file or a webcam, without depth and uncalibrated.

    Parameters
    ----------
    path : str or Path
        Video file, or /dev/videoN for a live camera.
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
        found = existing(path, "a video file or /dev/videoN")
        self.live = found.is_char_device()
        self._capture = cv2.VideoCapture(str(found), cv2.CAP_V4L2 if self.live else cv2.CAP_ANY)
        if self.live:
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not a queue of old ones
        ok, first = self._capture.read() if self._capture.isOpened() else (False, None)
        if not ok or first is None:
            self._capture.release()
            hint = "is another program using it?" if self.live else "convert it: `ffmpeg -i IN -c:v mjpeg OUT.avi`."
            raise CameraError(f"expected a video that OpenCV {cv2.__version__} decodes, got {found}: {hint}")
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
            raise CameraError(f"expected {self._rgb.shape} as in the first frame of {self._path}, got {bgr.shape}.")
        cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=self._rgb)
        stamp_ns = time.time_ns() if self.live else round(self._index / self.fps * 1e9)
        if self._pace:
            self._pace.wait(stamp_ns)
        frame = Frame(stamp_ns, self._rgb, None, self._index)
        self._index += 1
        return frame

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
