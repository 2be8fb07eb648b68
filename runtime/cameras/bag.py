"""Images of a rosbag2 (mcap, sqlite3) or ROS 1 bag, read without ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgeflock.runtime.cameras.base import Frame, Intrinsics, Pace, existing
from edgeflock.runtime.cameras.encodings import decode_depth, decode_rgb
from edgeflock.runtime.errors import CameraError, InputError, MissingExtra

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
NOT_COLOR = ("depth", "infra", "disparity", "mask")


class BagSource:
    """Colour frames of a bag, each with the depth image that belongs to it.

    Parameters
    ----------
    path : str or Path
        Bag folder, or one .mcap, .db3 or (ROS 1) .bag file.
    topic : str, optional
        Colour topic (Image or CompressedImage). Without it the only one, or the only one with "color" or "rgb" in its
        name; a raw topic goes before its compressed twin.
    depth_topic : str, optional
        Depth topic registered to the colour image (16UC1 mm, 32FC1 m, or compressedDepth PNG). Without it the one
        with "aligned_depth" in its name, if there is one.
    real_time : bool
        Hand frames over at the pace of their header stamps; False: as fast as they are read.
    loop : bool
        Start over at the end.

    Raises
    ------
    CameraError
        Not a bag, no colour topic, more than one (the message lists them), or an encoding that is not read.
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
        try:
            from rosbags.highlevel import AnyReader, AnyReaderError
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise MissingExtra.pip("the bag source", "ros", error) from error
        self._path = existing(path, "a bag (folder, .mcap, .db3)")
        try:
            # sqlite3 bags from before Iron carry no message definitions; those of the image messages never changed.
            self._reader = AnyReader([self._path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
            self._reader.open()
        except (AnyReaderError, OSError, ValueError) as error:
            raise CameraError(f"expected a bag (folder, .mcap, .db3), got {self._path} ({error}).") from error
        try:
            self._choose(topic, depth_topic)
            self._loop = loop
            self._index = 0
            self._frames = self._pairs()
            self._first = self._peek()
        except BaseException:
            self.close()
            raise
        self._pace = Pace() if real_time else None

    def _choose(self, topic: str | None, depth_topic: str | None) -> None:
        topics = {name: info for name, info in self._reader.topics.items() if info.msgtype in (IMAGE, COMPRESSED)}
        color = [name for name in topics if not any(word in name.lower() for word in NOT_COLOR)]
        named = [name for name in color if "color" in name.lower() or "rgb" in name.lower()] or color
        raw = [name for name in named if topics[name].msgtype == IMAGE] or named
        listed = ", ".join(f"{name} ({info.msgtype}, {info.msgcount})" for name, info in topics.items()) or "none"
        for asked in (topic, depth_topic):
            if asked and asked not in topics:
                raise CameraError(f"expected the image topic {asked} in {self._path}, got {listed}: give one of these.")
        if not topic and len(raw) != 1:
            raise CameraError(f"expected one colour topic in {self._path}, got {listed}: say which one (topic).")
        self.topic: str = topic or raw[0]
        aligned = [name for name in topics if "aligned_depth" in name]
        self.depth_topic = depth_topic or (aligned[0] if aligned else None)
        wanted = {self.topic, self.depth_topic}
        self._connections = [c for c in self._reader.connections if c.topic in wanted]
        color_only = [c for c in self._connections if c.topic == self.topic]
        logged = [t for _, t, _ in islice(self._reader.messages(color_only), 30)]
        period_ns = float(np.median(np.diff(logged))) if len(logged) > 1 else 0.0
        self.fps = 1e9 / period_ns if period_ns > 0 else 30.0

    def _peek(self) -> Frame | None:
        """First frame; it tells the sizes that the intrinsics need."""
        first = next(self._frames, None)
        if first is None:
            raise CameraError(f"expected frames on {self.topic} in {self._path}, got none.")
        self.intrinsics = self._camera_info(self.topic, first.color)
        # Known from the recording, not from the first frame: depth may start later.
        self.depth_intrinsics = None if self.depth_topic is None else self._camera_info(self.depth_topic, first.color)
        return first

    def _camera_info(self, topic: str, image: np.ndarray) -> Intrinsics:
        """Calibration beside the topic, e.g. camera/color/camera_info for camera/color/image_raw/compressed."""
        folders = [topic.rsplit("/", n)[0] + "/camera_info" for n in (1, 2)]
        connections = [c for c in self._reader.connections if c.topic in folders and c.msgtype.endswith("/CameraInfo")]
        for connection, _, data in self._reader.messages(connections) if connections else ():
            info: Any = self._reader.deserialize(data, connection.msgtype)
            k, d = (info.k, info.d) if hasattr(info, "k") else (info.K, info.D)  # ROS 1 has capitals
            model = info.distortion_model or "plumb_bob"
            coeffs = tuple(float(c) for c in d) or (0.0,) * 5
            return Intrinsics(info.width, info.height, k[0], k[4], k[2], k[5], model, coeffs)
        height, width = image.shape[:2]
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
        while True:
            waiting: tuple[int, np.ndarray] | None = None
            depth: tuple[int, np.ndarray] | None = None
            for connection, logged_ns, data in self._reader.messages(self._connections):
                message: Any = self._reader.deserialize(data, connection.msgtype)
                stamp = message.header.stamp
                stamp_ns = stamp.sec * 10**9 + stamp.nanosec or logged_ns
                if connection.topic == self.topic:
                    if waiting:
                        yield self._frame(waiting, depth)
                    waiting = stamp_ns, self._decode(decode_rgb, message, self.topic)
                else:
                    depth = stamp_ns, self._decode(decode_depth, message, connection.topic)
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

    def _decode(self, decode: Callable[[Any], np.ndarray], message: Any, topic: str) -> np.ndarray:
        try:
            return decode(message)
        except InputError as error:
            raise CameraError(f"{self._path}, topic {topic}: {error}") from error

    def close(self) -> None:
        """Close the bag."""
        if self._reader.stack:
            self._reader.close()
