"""Recordings of ROS, opened without ROS: rosbag2 (mcap, sqlite3, zstd) and ROS 1 bags.

The one opener of the camera and of the data sets. Files are told apart by their first bytes; a folder without
metadata.yaml (the recorder was killed, or the file was lost) is read from its files.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import quote

from edgeflock.runtime.cameras.base import existing, numbered
from edgeflock.runtime.cameras.encodings import COLOR_ENCODINGS, is_color, is_depth
from edgeflock.runtime.errors import CameraError, EdgeflockError
from edgeflock.runtime.extras import needs

METADATA = "metadata.yaml"
IMAGE, COMPRESSED = IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
NOT_COLOR = ("depth", "infra", "disparity", "mask")
STEP_NS = 250_000_000  # messages are written later than others by less
_ZSTD = b"\x28\xb5\x2f\xfd"
_MAGIC = {b"\x89MCAP0\r\n": ".mcap", b"SQLite format 3\x00": ".db3", b"#ROSBAG V": ".bag", _ZSTD: ".zstd"}
_SUFFIXES = (".mcap", ".db3", ".bag")

# Not among the common interfaces, and sqlite3 bags from before Iron carry no definitions.
_ACKERMANN = {
    "ackermann_msgs/msg/AckermannDrive": (
        "float32 steering_angle\nfloat32 steering_angle_velocity\nfloat32 speed\nfloat32 acceleration\nfloat32 jerk\n"
    ),
    "ackermann_msgs/msg/AckermannDriveStamped": "std_msgs/Header header\nackermann_msgs/AckermannDrive drive\n",
}


class Message(NamedTuple):
    """One recorded message."""

    topic: str
    type: str
    logged_ns: int  # the recorder's clock
    content: Any


class Topic(NamedTuple):
    """What a recording holds on one topic."""

    type: str
    messages: int


def storage_of(path: Path) -> str | None:
    """What a file holds by its first bytes, as a suffix: .mcap, .db3, .bag (ROS 1), .zstd; None for anything else."""
    with path.open("rb") as file:
        begin = file.read(16)
    return next((suffix for magic, suffix in _MAGIC.items() if begin.startswith(magic)), None)


def is_recording(path: Path) -> bool:
    """Whether a file or folder is, or is called, a recording of ROS."""
    if path.is_dir():
        return (path / METADATA).exists() or bool(recorded_files(path))
    return path.name == METADATA or _called(path) or (path.is_file() and storage_of(path) is not None)


def recorded_files(folder: Path) -> list[Path]:
    """Files of a folder that are called .mcap, .db3 or .bag, also .zstd of those, in the order of their numbers."""
    found = [path for path in folder.iterdir() if path.is_file() and _called(path)]
    return sorted(found, key=numbered)


def _called(path: Path) -> bool:
    return path.name.lower().removesuffix(".zstd").endswith(_SUFFIXES)


def is_realsense(path: Path) -> bool:
    """Whether librealsense wrote this file: its topics begin with /device_0 (rosbag2 from 2.57 on, ROS 1 before)."""
    storage = storage_of(path)
    if storage == ".bag":
        # The list of connections stands at the end, and each connection before its first message.
        with path.open("rb") as file:
            begin = file.read(1 << 20)
            file.seek(max(0, path.stat().st_size - (1 << 20)))
            return b"/device_0/" in begin or b"/device_0/" in file.read()
    if storage != ".db3":
        return False
    try:
        db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
    except sqlite3.Error:
        return False
    try:
        return bool(db.execute("SELECT 1 FROM topics WHERE name LIKE '/device_%' LIMIT 1").fetchone())
    except sqlite3.Error:
        return False
    finally:
        db.close()


class Bag:
    """One recording: its topics, and its messages by the recorder's clock. Close it, or use it as a context manager.

    Parameters
    ----------
    path : str or Path
        Bag folder or its metadata.yaml; one .mcap, .db3 or ROS 1 .bag file; also with zstd around it.
    what, extra : str
        For the message where rosbags is missing: who reads, and which extra brings it.

    Attributes
    ----------
    path : Path
    topics : dict of str to Topic
    notes : list of str
        What had to be assumed.

    Raises
    ------
    CameraError
        There is no recording, or it is not whole; the message says how it can be saved.
    MissingExtra
        The package rosbags is not installed.
    """

    def __init__(self, path: str | Path, what: str = "the bag source", extra: str = "ros") -> None:
        with needs(what, extra):
            from rosbags.highlevel import AnyReader
            from rosbags.typesys import Stores, get_types_from_msg, get_typestore
        self.path = existing(path, "a recording (folder, .mcap, .db3, .bag)")
        if self.path.name == METADATA:
            self.path = self.path.absolute().parent
        self.notes: list[str] = []
        self._scratch: TemporaryDirectory | None = None
        # The messages of the standard packages have not changed since.
        store = get_typestore(Stores.ROS2_HUMBLE)
        for name, text in _ACKERMANN.items():
            store.register(get_types_from_msg(text, name))
        self._reader: Any = None
        try:
            with self._worded():
                self._reader = AnyReader(self._storages(), default_typestore=store)
                self._reader.open()
                self.topics = {
                    name: Topic(info.msgtype or "several types", info.msgcount)
                    for name, info in sorted(self._reader.topics.items())
                }
        except BaseException:
            self.close()
            raise

    def listing(self) -> str:
        """The topics with type and number of messages."""
        topics = [f"{name} ({topic.type}, {topic.messages})" for name, topic in self.topics.items()]
        return ", ".join(topics) or "no topic"

    def messages(self, *topics: str) -> Iterator[Message]:
        """Messages of some topics, in the order of the recorder's clock.

        Raises
        ------
        CameraError
            The recording is broken there.
        """
        chosen = [c for c in self._reader.connections if c.topic in topics]
        with self._worded():
            for connection, logged_ns, data in self._reader.messages(chosen) if chosen else ():
                # Compressed one by one, which only the lost metadata.yaml would tell. CDR begins with 0.
                whole = _zstd().decompress(data) if bytes(data[:4]) == _ZSTD else data
                content = self._reader.deserialize(whole, connection.msgtype)
                yield Message(connection.topic, connection.msgtype, logged_ns, content)

    def passed_twice(self) -> list[tuple[int, int]]:
        """Spans of the recorder's clock, ns, in which messages of two moments lie: the clock was set back meanwhile.

        Messages come sorted by that clock; only the order in which they were written shows it. Of an mcap file the
        chunks are looked at, so that a step within its last chunk is not seen.
        """
        spans = []
        with self._worded():
            for reader in self._reader.readers if self._reader.is2 else ():
                for storage in getattr(reader.storage, "storages", [reader.storage]):
                    newest, before = 0, 0
                    for first, last in _written(storage):
                        if first < newest - STEP_NS:
                            spans.append((min(first, before), newest))
                        newest, before = max(newest, last), first
        return spans

    def close(self) -> None:
        """Let the files go; a second call does nothing."""
        if self._reader is not None and self._reader.stack:
            self._reader.close()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _storages(self) -> list[Path]:
        """What rosbags is to open: the folder, or files."""
        parts = recorded_files(self.path) if self.path.is_dir() else [self.path]
        for wal in (part.with_name(part.name + "-wal") for part in parts):
            if wal.exists() and wal.stat().st_size:  # SQLite's journal: the recorder was killed
                merge = f"sqlite3 {wal.name.removesuffix('-wal')} 'PRAGMA wal_checkpoint(TRUNCATE)'"
                self.notes.append(f"{self.path}: the last messages are in {wal.name} and not read: `{merge}` adds them")
        if not self.path.is_dir():
            return [self._plain(self.path)]
        metadata = self.path / METADATA
        if metadata.exists() and metadata.read_bytes().strip():
            if not _odd(self.path):
                return [self.path]
        else:
            self.notes.append(
                f"{self.path}: {METADATA} is {'empty' if metadata.exists() else 'missing'}, read without it"
            )
        files = recorded_files(self.path)
        names = {re.sub(r"_\d+$", "", file.name.split(".")[0]) for file in files}
        if not files:
            raise CameraError(
                f"expected a recording in {self.path}, got no .mcap or .db3 file: give the bag's own folder."
            )
        if len(names) > 1:
            listed = ", ".join(file.name for file in files)
            raise CameraError(f"expected one recording in {self.path}, got {listed}: give one of these files.")
        return [self._plain(file) for file in files]

    def _plain(self, path: Path) -> Path:
        """A path that rosbags opens: unpacked, named by its content, and without what SQLite's URIs split at."""
        storage = storage_of(path)
        if storage is None:
            with path.open("rb") as file:
                begin = file.read(4096)
            what = "another kind of file" if begin.strip(b"\x00") else "only zeros" if begin else "an empty file"
            raise CameraError(
                f"expected a bag (mcap, sqlite3 or ROS 1), got {what} in {path}: give a recording; of one that a power "
                "cut left empty nothing can be saved."
            )
        if storage == path.suffix != ".zstd" and not _odd(path):
            return path
        if self._scratch is None:
            self._scratch = TemporaryDirectory(prefix="edgeflock-bag-")
        link = Path(self._scratch.name, f"{len(list(Path(self._scratch.name).iterdir()))}{storage}")
        if storage != ".zstd":
            link.symlink_to(path.absolute())
            return link
        with path.open("rb") as packed, _zstd().open(packed, "rb") as unpacked, link.open("wb") as out:
            shutil.copyfileobj(unpacked, out)
        named = link.with_name(f"{link.stem}_{storage_of(link) or '.raw'}")
        return self._plain(link.rename(named))

    @contextmanager
    def _worded(self) -> Iterator[None]:
        """What rosbags stumbles over (errors of struct, zstd, apsw, yaml) becomes a CameraError with the way out."""
        try:
            yield
        except EdgeflockError:
            raise
        except Exception as error:
            reason = str(error).strip().rstrip(".") or type(error).__name__
            raise CameraError(
                f"expected a whole bag (mcap, sqlite3 or ROS 1), reading {self.path} failed: {reason}. "
                f"{self._hint(reason)}"
            ) from error

    def _hint(self, reason: str) -> str:
        if "files are missing" in reason:
            return f"Copy them too, or move {METADATA} away: what is there is then read without it."
        if "metadata" in reason.lower() or "YAML" in reason:
            return f"Move {METADATA} away, the files are then read without it; or write it anew: `ros2 bag reindex`."
        files = recorded_files(self.path) if self.path.is_dir() else [self.path]
        kind = files[0].name.lower() if files else ""
        if ".mcap" in kind:
            return "One that was cut off can often be saved: `mcap recover IN.mcap -o OUT.mcap`."
        if ".db3" in kind:
            return "One that was cut off can often be saved: `sqlite3 IN.db3 .recover | sqlite3 OUT.db3`."
        if kind.endswith(".bag"):
            return "One that was cut off can often be saved: `rosbag reindex` (ROS 1)."
        return "Copy it from the robot again."


def choose_image(bag: Bag, asked: str | None, way_out: str) -> str:
    """Topic with colour or grey images: the one that is asked for, else the only one.

    Where there are several, those with "color" or "rgb" in their name go before others, colour before infrared, and a
    raw topic before its compressed twin, as a RealSense's `ros2 bag record -a` has them.

    Raises
    ------
    CameraError
        There is no such topic, none, or a choice; the message lists them and ends with `way_out`.
    """
    if asked:
        check_image_topic(bag, asked)
        return asked
    images = [name for name, topic in bag.topics.items() if topic.type in IMAGES]
    refused = {}
    found = []
    for name in images:
        first = next(bag.messages(name), None)
        if first is None or is_depth(first.content):
            continue
        if is_color(first.content):
            found.append(name)
        else:
            refused[name] = getattr(first.content, "encoding", None) or first.content.format
    color = [name for name in found if not any(word in name.lower() for word in NOT_COLOR)] or found
    named = [name for name in color if "color" in name.lower() or "rgb" in name.lower()] or color
    raw = [name for name in named if bag.topics[name].type == IMAGE] or named
    if len(raw) == 1:
        return raw[0]
    if raw:
        raise CameraError(f"{bag.path}: expected one topic with colour images, got {', '.join(raw)}: {way_out}.")
    got = ", ".join(f"{name} as {kind!r}" for name, kind in refused.items())
    read = f" (JPEG, PNG, {', '.join(COLOR_ENCODINGS)}), got {got}" if got else ", there is none"
    raise CameraError(f"{bag.path}: expected a topic with colour or grey images{read}. It holds: {bag.listing()}.")


def check_image_topic(bag: Bag, asked: str) -> None:
    """Refuse a topic that is not there, or holds no images, with the list of those that do."""
    got = bag.topics.get(asked)
    if got is None or got.type not in IMAGES:
        images = ", ".join(name for name, topic in bag.topics.items() if topic.type in IMAGES) or "none"
        what = f"it as {got.type}" if got else "no such topic"
        raise CameraError(f"{bag.path}: expected images on {asked}, got {what}: topics with images are {images}.")


def _written(storage: Any) -> list[tuple[int, int]]:
    """First and last time, ns, of each chunk (mcap) or message (sqlite3), in the order they were written."""
    if hasattr(storage, "dbconn"):
        return [(time, time) for (time,) in storage.dbconn.execute("SELECT timestamp FROM messages ORDER BY id")]
    chunks = sorted(storage.chunks, key=lambda chunk: chunk.chunk_start_offset)
    return [(chunk.message_start_time, chunk.message_end_time) for chunk in chunks if any(chunk.channel_count.values())]


def _odd(path: Path) -> bool:
    """Whether SQLite, to which rosbags gives an unquoted URI, would open another file."""
    return bool(set("#?%") & set(str(path.absolute())))


def _zstd() -> Any:
    """Python's own zstd from 3.14 on, before that the package that rosbags brings."""
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return zstd
