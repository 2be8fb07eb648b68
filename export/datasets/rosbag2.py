"""rosbag2 recordings (mcap and sqlite3, read without ROS): an image topic and a steering topic, matched by time.

Steering is taken from sensor_msgs/JointState (the joint "steering", or the only one with "steer" in its name), std_msgs
Float32 or Float64 (rad), ackermann_msgs/AckermannDriveStamped, or geometry_msgs/TwistStamped through the bicycle model,
angle = atan(wheelbase * yaw rate / speed), where the robot moves. Times are the header stamps if both topics have
them, else the recorder's. A frame's angle is interpolated linearly between the steering messages around it; a frame
without one within `max_gap_s` on both sides is left out, with a note.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from edgeflock.export.datasets.base import SteeringDataset, concatenate, parse_angle
from edgeflock.export.datasets.images import console, decode_grey
from edgeflock.runtime.errors import DataError, EdgeflockError, InputError, MissingExtra
from edgeflock.runtime.preprocess import Encoding, grey_320x240

_RAW, _COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_JOINTS, _ACKERMANN = "sensor_msgs/msg/JointState", "ackermann_msgs/msg/AckermannDriveStamped"
_FLOATS, _TWIST = ("std_msgs/msg/Float32", "std_msgs/msg/Float64"), "geometry_msgs/msg/TwistStamped"
_STEERING = (_JOINTS, _ACKERMANN, *_FLOATS, _TWIST)

# ROS encoding -> channels, and the name of the first three.
_ENCODINGS: dict[str, tuple[int, Encoding]] = {
    "mono8": (1, "mono8"),
    "8UC1": (1, "mono8"),
    "rgb8": (3, "rgb8"),
    "bgr8": (3, "bgr8"),
    "8UC3": (3, "bgr8"),
    "rgba8": (4, "rgb8"),
    "bgra8": (4, "bgr8"),
}
# Below this the yaw rate of a robot says nothing about its wheels.
_MOVING_MPS = 0.05


def read_rosbag2(
    path: str | Path,
    image_topic: str | None = None,
    steering_topic: str | None = None,
    wheelbase: float | None = None,
    max_gap_s: float = 0.1,
) -> SteeringDataset:
    """Read one recording, or all recordings in a folder; each becomes a group.

    Parameters
    ----------
    path : str or pathlib.Path
        A bag folder with metadata.yaml, an .mcap or .db3 file, or a folder of those.
    image_topic, steering_topic : str, optional
        Needed only where the bag leaves a choice.
    wheelbase : float, optional
        In m, for a TwistStamped topic.
    max_gap_s : float
        Largest distance in s between a frame and the steering messages before and after it.

    Raises
    ------
    InputError
        If the topics cannot be chosen from what the bag holds; the message lists them.
    DataError
        If the recording is truncated, a message broken, or no frame has steering.
    MissingExtra
        If `rosbags` is not installed.
    """
    path = Path(path)
    return concatenate([_read_bag(bag, image_topic, steering_topic, wheelbase, max_gap_s) for bag in _bags(path)])


def _bags(path: Path) -> list[Path]:
    if path.is_file() or (path / "metadata.yaml").exists():
        return [path]
    bags = sorted(file.parent for file in path.glob("*/metadata.yaml"))
    files = sorted([*path.glob("*.mcap"), *path.glob("*.db3")])
    if not bags + files:
        raise DataError(f"{path}: expected a rosbag2 folder with metadata.yaml, or .mcap or .db3 files, found none")
    return bags + files


def _read_bag(
    path: Path, image_topic: str | None, steering_topic: str | None, wheelbase: float | None, max_gap_s: float
) -> SteeringDataset:
    with _open(path) as reader:
        image_topic = image_topic or _choose_image(reader, path)
        steering_topic = steering_topic or _choose_steering(reader, path)
        steering = _read_steering(reader, path, steering_topic, wheelbase)
        frames, stamps = _read_images(reader, path, image_topic)
    # Header stamps only if both have them: they and the recorder's clock need not agree.
    clock = 0 if (stamps[:, 0] > 0).all() and (steering[:, 0] > 0).all() else 1
    times = stamps[:, clock]
    angles = _interpolate(times, steering[:, clock], steering[:, 2], max_gap_s)
    known = np.flatnonzero(np.isfinite(angles))
    if not known.size:
        raise DataError(
            f"{path}: expected {steering_topic} within {max_gap_s} s before and after frames of {image_topic}, "
            f"no frame has that; frames are from {times.min():.3f} to {times.max():.3f} s, "
            f"steering from {steering[:, clock].min():.3f} to {steering[:, clock].max():.3f} s"
        )
    if known.size < len(frames):
        console.print(
            f"{path}: {len(frames) - known.size} of {len(frames)} frames left out, "
            f"no message on {steering_topic} within {max_gap_s} s before and after them"
        )
    return SteeringDataset(
        frames=np.stack([frames[i] for i in known]),
        angles=angles[known].astype(np.float32),
        groups=np.zeros(known.size, np.int32),
        group_names=[path.stem],
        names=[f"{path.name}:{image_topic}[{i}]" for i in known],
    )


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """A rosbags reader; whatever it stumbles over becomes a DataError."""
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise MissingExtra.pip("Reading rosbag2 recordings", "export", error) from error
    try:
        # Recordings made by Humble in sqlite3 carry no message definitions; the standard ones have not changed since.
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
            yield reader
    except EdgeflockError:
        raise
    except Exception as error:  # rosbags lets errors of struct, zstd, sqlite3 and yaml through
        raise DataError(
            f"{path}: expected a whole rosbag2 recording (mcap or sqlite3), reading it failed: "
            f"{str(error).rstrip('.') or type(error).__name__}. One that was cut off can often be saved: "
            "`mcap recover` for an .mcap file, `ros2 bag reindex` where metadata.yaml is missing"
        ) from error


def _messages(reader: Any, path: Path, topic: str, allowed: tuple[str, ...]) -> Iterator[tuple[int, str, Any]]:
    """(recorder's time in ns, type, message) of one topic."""
    connections = [connection for connection in reader.connections if connection.topic == topic]
    if not connections or connections[0].msgtype not in allowed:
        got = connections[0].msgtype if connections else "no such topic"
        raise InputError(f"{path}: topic {topic}: expected {' or '.join(allowed)}, got {got}. {_listing(reader)}")
    for connection, time_ns, raw in reader.messages(connections):
        yield time_ns, connection.msgtype, reader.deserialize(raw, connection.msgtype)


def _listing(reader: Any) -> str:
    topics = [f"{name} ({info.msgtype}, {info.msgcount})" for name, info in sorted(reader.topics.items())]
    return f"The bag holds: {', '.join(topics) or 'no topic'}"


def _choose_image(reader: Any, path: Path) -> str:
    def usable(topic: str) -> bool:
        # Depth images have the same type; their encoding tells them apart.
        for _, msgtype, message in _messages(reader, path, topic, (_RAW, _COMPRESSED)):
            return "compressedDepth" not in message.format if msgtype == _COMPRESSED else message.encoding in _ENCODINGS
        return False

    found = sorted({c.topic for c in reader.connections if c.msgtype in (_RAW, _COMPRESSED) and usable(c.topic)})
    return _only(found, found, reader, path, "image_topic", "a colour or grey image")


def _choose_steering(reader: Any, path: Path) -> str:
    types = {c.topic: c.msgtype for c in reader.connections if c.msgtype in _STEERING}
    ours = sorted(topic for topic in types if topic.rsplit("/", 1)[-1] == "steering")
    clear = sorted(topic for topic, msgtype in types.items() if msgtype == _ACKERMANN or "steer" in topic.lower())
    # A bare number could be anything, so it needs the name.
    found = ours or clear or sorted(topic for topic, msgtype in types.items() if msgtype not in _FLOATS)
    return _only(found, sorted(types), reader, path, "steering_topic", "steering")


def _only(found: list[str], shown: list[str], reader: Any, path: Path, argument: str, what: str) -> str:
    if len(found) != 1:
        candidates = f"the candidates are {', '.join(shown)}" if shown else "there is none"
        raise InputError(
            f"{path}: expected one topic with {what}, {candidates}; name it: read_rosbag2(path, {argument}=...). "
            f"{_listing(reader)}"
        )
    return found[0]


def _read_images(reader: Any, path: Path, topic: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Grey frames, and (N, 2) header and recorder's time of each in s."""
    frames: list[np.ndarray] = []
    stamps = []
    count = reader.topics[topic].msgcount if topic in reader.topics else 0
    messages = _messages(reader, path, topic, (_RAW, _COMPRESSED))
    for time_ns, msgtype, message in track(messages, f"Reading {path.name}", count, console=console, transient=True):
        where = f"{path}, topic {topic}, message {len(frames)}"
        frames.append(
            decode_grey(message.data.tobytes(), where) if msgtype == _COMPRESSED else _grey_of_raw(message, where)
        )
        stamps.append((_header_s(message), time_ns * 1e-9))
    if not frames:
        raise DataError(f"{path}, topic {topic}: expected images, found none")
    return frames, np.array(stamps)


def _grey_of_raw(message: Any, where: str) -> np.ndarray:
    if message.encoding not in _ENCODINGS:
        raise DataError(f"{where}: expected encoding {', '.join(_ENCODINGS)}, got {message.encoding!r}")
    channels, encoding = _ENCODINGS[message.encoding]
    height, width, step = message.height, message.width, message.step
    if step < width * channels or message.data.size < height * step:
        raise DataError(
            f"{where}: expected {height} rows of at least {width * channels} bytes, "
            f"got {message.data.size} bytes with step {step}"
        )
    rows = message.data[: height * step].reshape(height, step)[:, : width * channels]
    image = rows if channels == 1 else rows.reshape(height, width, channels)[:, :, :3]
    return grey_320x240(np.ascontiguousarray(image), encoding)


def _read_steering(reader: Any, path: Path, topic: str, wheelbase: float | None) -> np.ndarray:
    """(M, 3): header and recorder's time in s, angle in rad."""
    rows = []
    for number, (time_ns, msgtype, message) in enumerate(_messages(reader, path, topic, _STEERING)):
        where = f"{path}, topic {topic}, message {number}"
        angle = _angle(msgtype, message, wheelbase, where)
        if angle is not None:
            rows.append((_header_s(message), time_ns * 1e-9, parse_angle(str(angle), where)))
    if not rows:
        raise DataError(f"{path}, topic {topic}: expected steering of a moving robot, found none")
    return np.array(rows)


def _angle(msgtype: str, message: Any, wheelbase: float | None, where: str) -> float | None:
    """Steering angle in rad, or None where a twist does not tell."""
    if msgtype == _ACKERMANN:
        return float(message.drive.steering_angle)
    if msgtype in _FLOATS:
        return float(message.data)
    if msgtype == _JOINTS:
        names = [name for name in message.name if name == "steering"]
        names = names or [name for name in message.name if "steer" in name.lower()]
        if len(names) != 1 or len(message.position) != len(message.name):
            raise DataError(
                f"{where}: expected one joint 'steering' and a position per joint, "
                f"got {message.name} and {len(message.position)} positions"
            )
        return float(message.position[message.name.index(names[0])])
    if wheelbase is None:
        raise InputError(f"{where}: a TwistStamped needs the wheelbase in m: read_rosbag2(path, wheelbase=...)")
    speed, yaw_rate = message.twist.linear.x, message.twist.angular.z
    return None if abs(speed) < _MOVING_MPS else math.atan(wheelbase * yaw_rate / speed)


def _header_s(message: Any) -> float:
    """Header stamp in s; 0 where there is none."""
    header = getattr(message, "header", None)
    return header.stamp.sec + header.stamp.nanosec * 1e-9 if header else 0.0


def _interpolate(at: np.ndarray, times: np.ndarray, values: np.ndarray, max_gap_s: float) -> np.ndarray:
    """`values` at the times `at`; NaN without a value within `max_gap_s` on both sides."""
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    after = np.searchsorted(times, at)
    before = np.searchsorted(times, at, side="right") - 1
    inside = (before >= 0) & (after < len(times))
    before, after = before.clip(0), after.clip(max=len(times) - 1)
    near = inside & (at - times[before] <= max_gap_s) & (times[after] - at <= max_gap_s)
    return np.where(near, np.interp(at, times, values), np.nan)
