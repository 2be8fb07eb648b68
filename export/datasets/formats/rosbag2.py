"""Bags of ROS (mcap, sqlite3, ROS 1; read without ROS): an image topic and a steering topic, matched by time.

What steering is taken from: `edgeflock.runtime.recording.angles`. Times are the header stamps if both topics have them
and they run as the recorder's clock does, else the recorder's. A frame's angle is interpolated linearly between the
steering messages around it; a frame without one within `max_gap_s` on both sides is left out, with a note.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.progress import track

from edgeflock.export.datasets.base import SteeringDataset, concatenate, parse_angle
from edgeflock.export.datasets.clocks import choose_clock
from edgeflock.export.datasets.images import console
from edgeflock.export.datasets.options import ReadOptions
from edgeflock.runtime.cameras.encodings import decode_color
from edgeflock.runtime.cameras.rosbag import METADATA, Bag, Message, choose_image, is_recording, recorded_files
from edgeflock.runtime.errors import CameraError, DataError, InputError
from edgeflock.runtime.prepare.frame import grey_320x240, squeezed
from edgeflock.runtime.recording.angles import ACKERMANN, FLOATS, STEERING, TWISTS, steering_angle


def _name_it(option: str, argument: str) -> str:
    return f"give {option} (`edgeflock train`, `edgeflock export`), in Python ReadOptions({argument}=...)"


def read_rosbag2(path: str | Path, options: ReadOptions | None = None, max_gap_s: float = 0.1) -> SteeringDataset:
    """Read one recording, or all recordings in a folder; each becomes a group.

    Parameters
    ----------
    path : str or pathlib.Path
        What `Bag` opens, or a folder of those.
    options : ReadOptions, optional
        Topics, where the bag leaves a choice; wheelbase, for Twist; unit of the angles.
    max_gap_s : float
        Largest distance in s between a frame and the steering messages before and after it.

    Raises
    ------
    InputError
        If the topics cannot be chosen from what the bag holds; the message lists them.
    DataError
        If the recording is truncated, a message broken, its clocks disagree, or no frame has steering.
    MissingExtra
        If `rosbags` is not installed.
    """
    return concatenate([_read_bag(bag, options or ReadOptions(), max_gap_s) for bag in _bags(Path(path))])


def _bags(path: Path) -> list[Path]:
    if path.is_file() or (path / METADATA).exists():
        return [path]
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and is_recording(folder))
    bags = [*folders, *recorded_files(path)]
    if not bags:
        raise DataError(f"{path}: expected a bag of ROS ({METADATA}, .mcap, .db3 or .bag files), found none")
    return bags


def _read_bag(path: Path, options: ReadOptions, max_gap_s: float) -> SteeringDataset:
    with _opened(path) as bag:
        for note in bag.notes:
            console.print(note, soft_wrap=True)
        try:
            image_topic = choose_image(bag, options.image_topic, _name_it("--image-topic", "image_topic"))
        except CameraError as error:
            raise InputError(str(error)) from error
        steering_topic = options.steering_topic or _choose_steering(bag)
        steering = _read_steering(bag, steering_topic, options)
        frames, stamps = _read_images(bag, image_topic)
        spans = np.array(bag.passed_twice()).reshape(-1, 2) * 1e-9
    numbers = np.arange(len(frames))
    if len(spans):
        first, twice = spans[0, 0], [_within(times[:, 1], spans) for times in (stamps, steering)]
        console.print(
            f"{path}: the recorder's clock was set back: {twice[0].sum()} of {len(frames)} frames left out that were "
            f"recorded while the same time passed twice, from {first:.3f} s on",
            soft_wrap=True,
        )
        numbers = numbers[~twice[0]]
        stamps, steering = stamps[~twice[0]], steering[~twice[1]]
        if not (len(stamps) and len(steering)):
            raise DataError(f"{path}: expected frames and steering outside of that time, got none: record again")
    clock, why = choose_clock({image_topic: stamps, steering_topic: steering[:, :2]}, str(path))
    if why:
        console.print(f"{path}: {why}", soft_wrap=True)
    times = stamps[:, clock]
    angles = _interpolate(times, steering[:, clock], steering[:, 2], max_gap_s)
    known = np.flatnonzero(np.isfinite(angles))
    if not known.size:
        raise DataError(
            f"{path}: expected {steering_topic} within {max_gap_s} s before and after frames of {image_topic}, "
            f"no frame has that; frames are from {times.min():.3f} to {times.max():.3f} s, "
            f"steering from {steering[:, clock].min():.3f} to {steering[:, clock].max():.3f} s"
        )
    if known.size < len(numbers):
        console.print(
            f"{path}: {len(numbers) - known.size} of {len(frames)} frames left out, "
            f"no message on {steering_topic} within {max_gap_s} s before and after them"
        )
    return SteeringDataset(
        frames=np.stack([frames[i] for i in numbers[known]]),
        angles=angles[known].astype(np.float32),
        groups=np.zeros(known.size, np.int32),
        group_names=[path.stem],
        names=[f"{path.name}:{image_topic}[{i}]" for i in numbers[known]],
        stamps=times[known],
    )


@contextmanager
def _opened(path: Path) -> Iterator[Bag]:
    """The bag; what is broken in it is a DataError here."""
    try:
        with Bag(path, "Reading bags of ROS", "export") as bag:
            yield bag
    except CameraError as error:
        raise DataError(str(error)) from error


def _choose_steering(bag: Bag) -> str:
    types = {name: topic.type for name, topic in bag.topics.items() if topic.type in STEERING and topic.messages}
    ours = [topic for topic in types if topic.rsplit("/", 1)[-1] == "steering"]
    clear = [topic for topic, msgtype in types.items() if msgtype in ACKERMANN or "steer" in topic.lower()]
    # A bare number could be anything, so it needs the name.
    found = ours or clear or [topic for topic, msgtype in types.items() if msgtype not in FLOATS]
    if len(found) == 1:
        return found[0]
    if types:
        way_out = f"the candidates are {', '.join(types)}; {_name_it('--steering-topic', 'steering_topic')}"
    else:
        way_out = f"there is none. Read are {', '.join(STEERING)}: record one of them beside the images"
    raise InputError(f"{bag.path}: expected one topic with steering, {way_out}. It holds: {bag.listing()}.")


def _read_images(bag: Bag, topic: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Grey frames, and (N, 2) header and recorder's time of each in s."""
    frames: list[np.ndarray] = []
    stamps: list[tuple[float, float]] = []
    count = bag.topics[topic].messages
    for message in track(bag.messages(topic), f"Reading {bag.path.name}", count, console=console, transient=True):
        try:
            image, encoding = decode_color(message.content)
            frames.append(grey_320x240(image, encoding))
        except InputError as error:
            raise DataError(f"{bag.path}, topic {topic}, message {len(frames)}: {error}") from error
        if not stamps and (note := squeezed(image.shape[1], image.shape[0])):
            console.print(f"{bag.path}: {note}", soft_wrap=True)
        stamps.append(_times(message))
    if not frames:
        raise DataError(f"{bag.path}, topic {topic}: expected images, found none")
    return frames, np.array(stamps)


def _read_steering(bag: Bag, topic: str, options: ReadOptions) -> np.ndarray:
    """(M, 3): header and recorder's time in s, angle in rad."""
    got = bag.topics.get(topic)
    if got is None or got.type not in STEERING:
        what = got.type if got else "no such topic"
        raise InputError(
            f"{bag.path}: topic {topic}: expected {' or '.join(STEERING)}, got {what}. It holds: {bag.listing()}"
        )
    if got.type in TWISTS and options.wheelbase is None:
        raise InputError(
            f"{bag.path}, topic {topic}: a Twist needs the wheelbase in m: {_name_it('--wheelbase', 'wheelbase')}"
        )
    rows = []
    if got.type in TWISTS:
        options = options.model_copy(update={"unit": None})  # the wheels' angle is computed, in rad
    for number, message in enumerate(bag.messages(topic)):
        where = f"{bag.path}, topic {topic}, message {number}"
        try:
            angle = steering_angle(message.type, message.content, options.wheelbase)
        except InputError as error:
            raise DataError(f"{where}: {error}") from error
        if angle is not None:
            rows.append((*_times(message), parse_angle(str(angle), where, options)))
    if not rows:
        raise DataError(f"{bag.path}, topic {topic}: expected steering of a moving robot, found none")
    return np.array(rows)


def _times(message: Message) -> tuple[float, float]:
    """Header stamp, 0 where there is none, and the recorder's time, both in s."""
    header = getattr(message.content, "header", None)
    stamped = header.stamp.sec + header.stamp.nanosec * 1e-9 if header else 0.0
    return stamped, message.logged_ns * 1e-9


def _within(times: np.ndarray, spans: np.ndarray) -> np.ndarray:
    return np.any((times[:, None] >= spans[:, 0]) & (times[:, None] <= spans[:, 1]), axis=1)


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
