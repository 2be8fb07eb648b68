"""Images of a bag of ROS as a camera."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgeflock.runtime.cameras.base import Frame, Pace
from edgeflock.runtime.cameras.encodings import decode_depth, decode_rgb
from edgeflock.runtime.cameras.rosbag import IMAGE, IMAGES, Bag, check_image_topic, choose_image
from edgeflock.runtime.errors import CameraError, InputError
from edgeflock.runtime.intrinsics import Intrinsics

WAY_OUT = "name one: --image-topic of `edgeflock drive`, --topic of `edgeflock calibrate`, `topic` of the camera node"


class BagSource:
    """Colour frames of a bag, each with the depth image that belongs to it.

    Parameters
    ----------
    path : str or Path
        See `Bag`.
    topic : str, optional
        Colour topic (Image or CompressedImage), see `choose_image`.
    depth_topic : str, optional
        Depth topic registered to the colour image, see `decode_depth`. Without it the one with "aligned_depth" in its
        name, if there is one.
    real_time : bool
        Hand frames over at the pace of their header stamps; False: as fast as they are read.
    loop : bool
        Start over at the end.

    Raises
    ------
    CameraError
        Not a bag, no colour topic, more than one (the message lists them), an encoding that is not read, or an image of
        another size than the first one.
    MissingExtra
        The package rosbags is not installed.
    """

    live = False

    def __init__(
        self,
        path: str | Path,
        topic: str | None = None,
        depth_topic: str | None = None,
        real_time: bool = True,
        loop: bool = False,
    ) -> None:
        self._bag = Bag(path)
        self.notes = self._bag.notes
        try:
            self.topic = choose_image(self._bag, topic, WAY_OUT)
            self.depth_topic = self._choose_depth(depth_topic)
            logged = [message.logged_ns for message in islice(self._bag.messages(self.topic), 30)]
            period_ns = float(np.median(np.diff(logged))) if len(logged) > 1 else 0.0
            self.fps = 1e9 / period_ns if period_ns > 0 else 30.0
            if self._bag.passed_twice():
                self.notes.append(
                    f"{path}: the recorder's clock was set back, so frames of two moments alternate there"
                )
            self._loop = loop
            self._index = 0
            self._frames = self._pairs()
            self._first: Frame | None = self._peek()
        except BaseException:
            self.close()
            raise
        self._pace = Pace() if real_time else None

    def _choose_depth(self, asked: str | None) -> str | None:
        """The depth topic that was asked for, else the aligned one, raw before its twins; None without any message."""
        if asked:
            check_image_topic(self._bag, asked)
            return asked
        images = [name for name, found in self._bag.topics.items() if found.type in IMAGES and found.messages]
        aligned = [name for name in images if "aligned_depth" in name and not name.endswith("/compressed")]
        return min(aligned, key=lambda name: self._bag.topics[name].type != IMAGE, default=None)

    def _peek(self) -> Frame:
        """First frame; it tells the sizes that the intrinsics need."""
        color = self._first_image(self.topic, decode_rgb)
        self._shape, self._depth_shape = color.shape, None
        self.intrinsics = self._camera_info(self.topic, color)
        self.depth_intrinsics = None
        if self.depth_topic is not None:  # known from the recording: depth may start later than colour
            depth = self._first_image(self.depth_topic, decode_depth)
            self._depth_shape = depth.shape
            self.depth_intrinsics = self._camera_info(self.depth_topic, depth)
        return next(self._frames)

    def _first_image(self, topic: str, decode: Callable[[Any], np.ndarray]) -> np.ndarray:
        for message in self._bag.messages(topic):
            return self._decode(decode, message.content, topic, None)
        raise CameraError(f"expected frames on {topic} in {self._bag.path}, got none.")

    def _camera_info(self, topic: str, image: np.ndarray) -> Intrinsics:
        """Calibration beside the topic, e.g. camera/color/camera_info for camera/color/image_raw/compressed.

        The size is always the image's: one of another size is scaled to it, or left out with a note.
        """
        height, width = image.shape[:2]
        beside = [topic.rsplit("/", n)[0] + "/camera_info" for n in (1, 2)]
        types = {name: found.type for name, found in self._bag.topics.items()}
        infos = [name for name in beside if types.get(name, "").endswith("/CameraInfo")]
        for message in self._bag.messages(*infos):
            info = message.content
            k, d = (info.k, info.d) if hasattr(info, "k") else (info.K, info.D)  # ROS 1 has capitals
            where = f"{self._bag.path}, topic {message.topic}"
            if not (info.width and info.height and k[0] and k[4]):
                self.notes.append(f"{where}: holds no calibration ({info.width}x{info.height}, fx {k[0]:g})")
                break
            x, y = width / info.width, height / info.height
            if abs(x - y) > 0.01 * x:
                self.notes.append(
                    f"{where}: left out, {info.width}x{info.height} is no scale of {width}x{height} images"
                )
                break
            if x != 1:
                self.notes.append(f"{where}: scaled from {info.width}x{info.height} to {width}x{height}")
            coeffs = tuple(float(c) for c in d) or (0.0,) * 5
            model = info.distortion_model or "plumb_bob"
            return Intrinsics(width, height, k[0] * x, k[4] * y, k[2] * x, k[5] * y, model, coeffs)
        return Intrinsics.uncalibrated(width, height)

    def read(self, timeout_s: float = 1.0) -> Frame | None:
        """Next colour frame; None at the end of the bag.

        Raises
        ------
        CameraError
            An image cannot be decoded; the message names its encoding.
        """
        frame: Frame | None
        if self._first is not None:
            frame, self._first = self._first, None
        else:
            frame = next(self._frames, None)
        if frame is not None and self._pace:
            self._pace.wait(frame.stamp_ns)
        return frame

    def _pairs(self) -> Iterator[Frame]:
        """Colour frames in order; one waits for a depth image of its own stamp, which may lie behind it in the bag."""
        wanted = [self.topic, *([self.depth_topic] if self.depth_topic else [])]
        while True:
            waiting: tuple[int, np.ndarray] | None = None
            depth: tuple[int, np.ndarray] | None = None
            for message in self._bag.messages(*wanted):
                stamp = message.content.header.stamp
                stamp_ns = stamp.sec * 10**9 + stamp.nanosec or message.logged_ns
                if message.topic == self.topic:
                    if waiting:
                        yield self._frame(waiting, depth)
                    waiting = stamp_ns, self._decode(decode_rgb, message.content, message.topic, self._shape)
                else:
                    depth = stamp_ns, self._decode(decode_depth, message.content, message.topic, self._depth_shape)
                if waiting and (self.depth_topic is None or (depth and depth[0] >= waiting[0])):
                    yield self._frame(waiting, depth)
                    waiting = None
            if waiting:
                yield self._frame(waiting, depth)
            if not self._loop:
                return

    def _frame(self, color: tuple[int, np.ndarray], depth: tuple[int, np.ndarray] | None) -> Frame:
        near = depth is not None and abs(depth[0] - color[0]) * self.fps < 1.5e9  # at most a frame and a half apart
        frame = Frame(color[0], color[1], depth[1] if depth is not None and near else None, self._index)
        self._index += 1
        return frame

    def _decode(
        self, decode: Callable[[Any], np.ndarray], message: Any, topic: str, shape: tuple[int, ...] | None
    ) -> np.ndarray:
        try:
            image = decode(message)
        except InputError as error:
            raise CameraError(f"{self._bag.path}, topic {topic}: {error}") from error
        if shape is not None and image.shape != shape:
            raise CameraError(
                f"expected {topic} in {self._bag.path} as {shape[1]}x{shape[0]} as its first image, got "
                f"{image.shape[1]}x{image.shape[0]}: split the recording where the camera changed."
            )
        return image

    def close(self) -> None:
        """Close the bag."""
        self._bag.close()
