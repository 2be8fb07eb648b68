"""Recordings as they come from robots: packed, cut off, without metadata, by odd names, from ROS 1."""

import sqlite3
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeflock.runtime.cameras import kind_of
from edgeflock.runtime.cameras.bag import BagSource
from edgeflock.runtime.cameras.rosbag import Bag
from edgeflock.runtime.errors import CameraError

pytest.importorskip("rosbags")
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

COLOR = "/camera/color/image_raw"
FRAMES = 12
PICTURE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


@pytest.fixture
def bag(write_bag, tmp_path):
    """A recording of twelve frames: ``bag(storage)`` -> folder."""

    def make(storage="mcap", name="run"):
        messages = [(COLOR, 10**18 + n * 33_000_000, ("rgb8", PICTURE)) for n in range(FRAMES)]
        return write_bag(tmp_path / name, messages, storage)

    return make


def file_of(folder):
    [file] = [path for path in folder.iterdir() if path.name != "metadata.yaml"]
    return file


def frames(path):
    """Frames that the camera gives; told apart by content first, as every verb does."""
    assert kind_of(path) == "bag"
    source = BagSource(path, real_time=False)
    count = 0
    while (frame := source.read()) is not None:
        np.testing.assert_array_equal(frame.color, PICTURE)
        count += 1
    source.close()
    return count


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("lost", ["gone", "empty"])
def test_a_folder_without_its_metadata_is_read_with_a_note(bag, storage, lost):
    path = bag(storage)
    (path / "metadata.yaml").unlink() if lost == "gone" else (path / "metadata.yaml").write_text("")
    assert frames(path) == FRAMES
    with Bag(path) as opened:
        assert "metadata.yaml is" in opened.notes[0]


def test_its_metadata_as_path_is_the_folder(bag):
    assert frames(bag() / "metadata.yaml") == FRAMES


@pytest.mark.parametrize("name", ["run#3.db3", "run?x.db3", "run%41.db3", "run 4 ümläut.db3", "run.sqlite", "RUN.DB3"])
@pytest.mark.parametrize("inside", ["", "a#b"])
def test_the_name_of_a_file_changes_nothing_and_nothing_is_left_beside_it(bag, tmp_path, name, inside):
    folder = tmp_path / "data" / inside
    folder.mkdir(parents=True)
    file = file_of(bag("sqlite3")).rename(folder / name)
    assert frames(file) == FRAMES
    assert [path.name for path in folder.iterdir()] == [name]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_folder_with_an_odd_name_is_read(bag, storage):
    path = bag(storage)
    assert frames(path.rename(path.with_name("run#7"))) == FRAMES


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("metadata", [True, False])
def test_zstd_is_unpacked_with_and_without_metadata(tmp_path, write_bag, mode, metadata):
    store = get_typestore(Stores.ROS2_HUMBLE)
    plain = write_bag(tmp_path / "plain", [(COLOR, 10**18 + n, ("rgb8", PICTURE)) for n in range(FRAMES)])
    writer = Writer(tmp_path / "packed", version=9, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer, Bag(plain) as source:
        connection = writer.add_connection(COLOR, "sensor_msgs/msg/Image", typestore=store)
        for message in source.messages(COLOR):
            # Of its own store: rosbags makes classes anew for each.
            content = store.deserialize_cdr(
                source._reader.typestore.serialize_cdr(message.content, message.type), message.type
            )
            writer.write(connection, message.logged_ns, store.serialize_cdr(content, message.type))
    if not metadata:
        (tmp_path / "packed/metadata.yaml").unlink()
    assert frames(tmp_path / "packed") == FRAMES


def test_a_zstd_file_alone_is_unpacked_and_the_copy_removed(bag, tmp_path, monkeypatch):
    from edgeflock.runtime.cameras.rosbag import _zstd

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    packed = tmp_path / "run_0.mcap.zstd"
    packed.write_bytes(_zstd().compress(file_of(bag()).read_bytes()))
    assert frames(packed) == FRAMES
    assert not list((tmp_path / "scratch").iterdir())


def test_split_recordings_are_one_also_without_metadata(bag, tmp_path):
    folder = tmp_path / "split"
    folder.mkdir()
    for n in (0, 1, 10):
        file_of(bag(name=f"part{n}")).rename(folder / f"run_{n}.mcap")
    assert frames(folder) == 3 * FRAMES
    (folder / "run_1.mcap").rename(folder / "other.mcap")
    with pytest.raises(
        CameraError, match=r"expected one recording .* got other.mcap, run_0.mcap, run_10.mcap: give one"
    ):
        Bag(folder)


def test_a_ros_1_bag_of_a_webcam_is_no_realsense(tmp_path):
    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types
    with Writer1(tmp_path / "run.bag") as writer:
        connection = writer.add_connection("/usb_cam/image_raw", "sensor_msgs/msg/Image", typestore=store)
        for n in range(FRAMES):
            stamp = types["builtin_interfaces/msg/Time"](sec=100, nanosec=n * 33_000_000)
            header = types["std_msgs/msg/Header"](seq=n, stamp=stamp, frame_id="cam")
            image = types["sensor_msgs/msg/Image"](header, 24, 32, "rgb8", 0, 96, PICTURE.ravel())
            writer.write(connection, 10**11 + n, store.serialize_ros1(image, "sensor_msgs/msg/Image"))
    assert frames(tmp_path / "run.bag") == FRAMES


@pytest.mark.parametrize(
    ("storage", "keep", "way_out"),
    [
        ("mcap", 0.5, "`mcap recover"),
        ("mcap", 0.99, "`mcap recover"),
        ("sqlite3", 0.5, r"`sqlite3 IN.db3 \.recover"),
        ("mcap", 0, "an empty file"),
        ("sqlite3", 0, "an empty file"),
    ],
)
def test_a_recording_that_was_cut_off_says_how_it_can_be_saved(bag, storage, keep, way_out):
    path = bag(storage)
    file = file_of(path)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * keep)])
    with pytest.raises(CameraError, match=way_out):
        frames(file)
    with pytest.raises(CameraError, match=r"recover|seems to be empty|missing tables"):
        frames(path)


def test_what_a_power_cut_leaves_is_named(tmp_path):
    zeros = tmp_path / "run.db3"
    zeros.write_bytes(bytes(40960))
    with pytest.raises(CameraError, match=r"got only zeros in .*run.db3: .*nothing can be saved"):
        frames(zeros)


def test_messages_left_in_sqlites_journal_are_said(bag):
    file = file_of(bag("sqlite3"))
    file.with_name(file.name + "-wal").write_bytes(b"x" * 100)
    for path in (file, file.parent):
        with Bag(path) as opened:
            assert "the last messages are in run.db3-wal and not read" in opened.notes[0]


def test_a_part_that_is_missing_is_not_passed_over(bag):
    path = bag()
    file_of(path).rename(path.parent / "elsewhere.mcap")
    with pytest.raises(CameraError, match=r"files are missing.*Copy them too, or move metadata.yaml away"):
        Bag(path)


def test_ackermann_needs_no_definition_in_the_file(tmp_path):
    """Foxy and Humble write none into sqlite3, and the package is not among the common ones."""
    with Bag(ackermann_bag(tmp_path / "run")) as bag:
        assert [message.content.drive.steering_angle for message in bag.messages("/drive")] == pytest.approx([0.25])


def ackermann_bag(path: Path) -> Path:
    from rosbags.typesys import get_types_from_msg

    from edgeflock.runtime.cameras.rosbag import _ACKERMANN

    store = get_typestore(Stores.ROS2_HUMBLE)
    for name, text in _ACKERMANN.items():
        store.register(get_types_from_msg(text, name))
    drive, stamped = (store.types[name] for name in _ACKERMANN)
    time, header = store.types["builtin_interfaces/msg/Time"], store.types["std_msgs/msg/Header"]
    with Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection("/drive", stamped.__msgtype__, typestore=store)
        message = stamped(header(time(1, 0), ""), drive(0.25, 0.0, 1.0, 0.0, 0.0))
        writer.write(connection, 10**9, store.serialize_cdr(message, stamped.__msgtype__))
    with sqlite3.connect(file_of(path)) as db:
        db.execute("DROP TABLE message_definitions")
        db.execute("UPDATE schema SET schema_version = 3")
    return path


def test_a_folder_without_any_recording_says_what_it_holds(bag, tmp_path):
    bag(name="data/run")
    with pytest.raises(CameraError, match=r"expected a recording or pictures .*give one of its recordings: run"):
        from edgeflock.runtime.cameras.video import VideoSource

        VideoSource(tmp_path / "data")
    assert kind_of(tmp_path / "data") == "video"


def test_a_picture_is_no_bag(tmp_path):
    cv2.imwrite(str(tmp_path / "frame.jpg"), PICTURE)
    assert kind_of(tmp_path / "frame.jpg") == kind_of(tmp_path) == "video"
