"""rosbag2 recordings in mcap and sqlite3, written on the fly (synthetic)."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeflock.export.datasets import ReadOptions, open_dataset
from edgeflock.export.datasets.formats.rosbag2 import read_rosbag2
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.prepare.frame import grey_320x240

pytest.importorskip("rosbags")
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

WHEELBASE = ReadOptions(wheelbase=0.36)
TYPES = get_typestore(Stores.ROS2_JAZZY)
ACKERMANN = "ackermann_msgs/msg/AckermannDriveStamped"
TYPES.register(
    get_types_from_msg(
        "float32 steering_angle\nfloat32 steering_angle_velocity\nfloat32 speed\nfloat32 acceleration\nfloat32 jerk\n",
        "ackermann_msgs/msg/AckermannDrive",
    )
)
TYPES.register(get_types_from_msg("std_msgs/Header header\nackermann_msgs/AckermannDrive drive\n", ACKERMANN))
T = {name.split("/")[-1]: type_ for name, type_ in TYPES.types.items()}

START_NS = 1_700_000_000_000_000_000
FRAME_NS = 33_333_333


def header(time_ns: int):
    return T["Header"](stamp=T["Time"](sec=time_ns // 10**9, nanosec=time_ns % 10**9), frame_id="camera")


def picture(i: int) -> np.ndarray:
    """Smooth colour frame (48, 64, 3) that differs from frame to frame."""
    return cv2.GaussianBlur(np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8), (0, 0), 4)


def raw(time_ns: int, image: np.ndarray, encoding: str = "rgb8", padding: int = 0):
    height, width = image.shape[:2]
    rows = np.pad(image.reshape(height, -1), ((0, 0), (0, padding)))
    return T["Image"](
        header=header(time_ns),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=rows.shape[1],
        data=np.ascontiguousarray(rows).view(np.uint8).reshape(-1),
    )


def jpeg(time_ns: int, image: np.ndarray):
    data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].reshape(-1)
    return T["CompressedImage"](header=header(time_ns), format="jpeg", data=data)


def joints(time_ns: int, *positions: float, names=("steering",)):
    empty = np.zeros(0)
    return T["JointState"](
        header=header(time_ns), name=list(names), position=np.array(positions), velocity=empty, effort=empty
    )


def number(_: int, angle: float):
    return T["Float64"](data=angle)


def ackermann(time_ns: int, angle: float):
    drive = T["AckermannDrive"](
        steering_angle=angle, steering_angle_velocity=0.0, speed=1.0, acceleration=0.0, jerk=0.0
    )
    return T["AckermannDriveStamped"](header=header(time_ns), drive=drive)


def twist(time_ns: int, angle: float, speed: float = 1.0):
    turn = T["Vector3"](x=0.0, y=0.0, z=speed * math.tan(angle) / 0.36)
    linear = T["Vector3"](x=speed, y=0.0, z=0.0)
    return T["TwistStamped"](header=header(time_ns), twist=T["Twist"](linear=linear, angular=turn))


def frame_times(count: int) -> list[int]:
    return [START_NS + i * FRAME_NS for i in range(count)]


def bag(path: Path, topics: dict[str, list], plugin: StoragePlugin = StoragePlugin.MCAP, delay_ns: int = 0) -> Path:
    """Write (time_ns, message) lists per topic; the recorder's clock is `delay_ns` behind the stamps."""
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        stamped = []
        for topic, messages in topics.items():
            msgtype = messages[0][1].__msgtype__
            connection = writer.add_connection(topic, msgtype, typestore=TYPES)
            stamped += [(time_ns + delay_ns, connection, message, msgtype) for time_ns, message in messages]
        for time_ns, connection, message, msgtype in sorted(stamped, key=lambda entry: entry[0]):
            writer.write(connection, time_ns, TYPES.serialize_cdr(message, msgtype))
    return path


def drive(count: int = 6, steering=joints, image=raw, topic: str = "/steering") -> dict[str, list]:
    """A camera and a steering topic with one angle per frame, 0.1, 0.2 ... rad."""
    times = frame_times(count)
    return {
        "/camera/color/image_raw": [(t, image(t, picture(i))) for i, t in enumerate(times)],
        topic: [(t, steering(t, 0.1 * (i + 1))) for i, t in enumerate(times)],
    }


TENTHS = np.float32([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_both_storages_give_frames_and_angles(tmp_path, plugin):
    data = open_dataset(bag(tmp_path / "run1", drive(), plugin))
    np.testing.assert_allclose(data.angles, TENTHS, atol=1e-6)
    np.testing.assert_array_equal(data.frames, [grey_320x240(picture(i), "rgb8") for i in range(6)])
    assert data.group_names == ["run1"]
    assert data.names[2] == "run1:/camera/color/image_raw[2]"


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_bare_file_without_metadata(tmp_path, plugin):
    bag(tmp_path / "run1", drive(), plugin)
    (tmp_path / "run1/metadata.yaml").unlink()
    [file] = (tmp_path / "run1").iterdir()
    assert len(open_dataset(file)) == len(open_dataset(tmp_path / "run1")) == 6


def test_bags_of_a_folder_become_groups(tmp_path):
    bag(tmp_path / "train/b", drive(2))
    bag(tmp_path / "train/a", drive(3))
    data = open_dataset(tmp_path, "train")
    assert data.group_names == ["a", "b"]
    assert data.groups.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("steering", "topic"),
    [
        (joints, "/joint_states"),
        (lambda t, angle: joints(t, 9.0, angle, 8.0, names=("wheel", "front_steer", "arm")), "/joint_states"),
        (number, "/steering_angle"),
        (ackermann, "/drive"),
        (twist, "/cmd_vel"),
        (lambda t, angle: twist(t, angle).twist, "/cmd_vel"),
    ],
)
def test_every_steering_type(tmp_path, steering, topic):
    path = bag(tmp_path / "run", drive(steering=steering, topic=topic))
    np.testing.assert_allclose(read_rosbag2(path, WHEELBASE).angles, TENTHS, atol=1e-6)


def test_compressed_images(tmp_path):
    data = read_rosbag2(bag(tmp_path / "run", drive(image=jpeg)))
    expected = np.stack([grey_320x240(picture(i), "rgb8") for i in range(6)]).astype(int)
    assert np.abs(data.frames - expected).mean() < 2


@pytest.mark.parametrize(
    ("encoding", "convert"),
    [
        ("bgr8", lambda image: image[:, :, ::-1]),
        ("bgra8", lambda image: np.dstack([image[:, :, ::-1], image[:, :, :1]])),
        ("rgba8", lambda image: np.dstack([image, image[:, :, :1]])),
    ],
)
def test_encodings_and_padded_rows_give_the_same_frames(tmp_path, encoding, convert):
    def image(t, picture):
        return raw(t, np.ascontiguousarray(convert(picture)), encoding, padding=12)

    data = read_rosbag2(bag(tmp_path / "run", drive(2, image=image)))
    np.testing.assert_array_equal(data.frames, [grey_320x240(picture(i), "rgb8") for i in range(2)])


def test_grey_images(tmp_path):
    data = read_rosbag2(bag(tmp_path / "run", drive(2, image=lambda t, p: raw(t, p[:, :, 0].copy(), "mono8"))))
    np.testing.assert_array_equal(data.frames[1], grey_320x240(picture(1)[:, :, 0].copy(), "mono8"))


def test_angles_are_interpolated_in_time_and_gaps_left_out(tmp_path, capsys):
    times = frame_times(10)
    topics = drive(10)
    # Steering at 10 Hz, 5 ms after frames 0, 3 and 9; between 3 and 9 it is silent for 0.2 s.
    topics["/steering"] = [(times[i] + 5_000_000, joints(times[i] + 5_000_000, 0.1 * i)) for i in (0, 3, 9)]
    data = read_rosbag2(bag(tmp_path / "run", topics), max_gap_s=0.11)
    expected = [0.1 * (i - 0.005 / 0.033333333) for i in (1, 2, 3, 6)]
    np.testing.assert_allclose(data.angles, expected, atol=1e-5)
    assert [name[-3:] for name in data.names] == ["[1]", "[2]", "[3]", "[6]"]
    assert "6 of 10 frames left out" in " ".join(capsys.readouterr().err.split())


def test_recorders_clock_only_where_a_header_is_missing(tmp_path):
    """An hour between the stamps and the recorder's clock shows which of the two is used."""
    hour = 3600 * 10**9
    unstamped = drive(steering=number)
    assert len(read_rosbag2(bag(tmp_path / "unstamped", unstamped, delay_ns=hour))) == 6
    late = drive()
    late["/steering"] = [(t + 10**9, message) for t, message in late["/steering"]]  # recorded 1 s later than stamped
    np.testing.assert_allclose(read_rosbag2(bag(tmp_path / "late", late)).angles, TENTHS, atol=1e-6)


def test_a_clock_that_was_set_back_while_recording_does_not_mix_the_labels(tmp_path, capsys):
    """Stamps jump back by 1.5 s after 45 frames; left before, right after, and nothing in between."""
    recorded = {"/camera/color/image_raw": [], "/steering": []}
    for i, t in enumerate(frame_times(90)):
        stamp = t - (1_500_000_000 if i >= 45 else 0)
        recorded["/camera/color/image_raw"].append((t, raw(stamp, picture(i % 5))))
        recorded["/steering"].append((t, joints(stamp, 0.3 if i < 45 else -0.3)))
    data = open_dataset(bag(tmp_path / "run", recorded))
    np.testing.assert_allclose(data.angles, [0.3] * 45 + [-0.3] * 45, atol=1e-6)
    assert "stamps jump by -1.50 s against the recorder's clock" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("plugin", list(StoragePlugin))
@pytest.mark.parametrize("stamps_too", [True, False])
def test_time_that_passed_twice_for_the_recorder_is_left_out(tmp_path, capsys, plugin, stamps_too):
    """The computer's clock is set back by 1 s after 60 of 120 frames: stamps and recorder both run on it."""
    image_type, joint_type = T["Image"].__msgtype__, T["JointState"].__msgtype__
    with Writer(tmp_path / "run", version=9, storage_plugin=plugin) as writer:
        images = writer.add_connection("/camera/color/image_raw", image_type, typestore=TYPES)
        steering = writer.add_connection("/steering", joint_type, typestore=TYPES)
        for i, t in enumerate(frame_times(120)):
            logged = t - (10**9 if i >= 60 else 0)
            stamp = logged if stamps_too else t
            big = np.random.default_rng(i).integers(0, 256, (480, 640, 3), np.uint8)
            writer.write(images, logged, TYPES.serialize_cdr(raw(stamp, big), image_type))
            writer.write(steering, logged, TYPES.serialize_cdr(joints(stamp, 0.3 if i < 60 else -0.3), joint_type))
    data = open_dataset(tmp_path / "run")
    assert 55 <= len(data) <= 62 and 25 <= (data.angles == np.float32(0.3)).sum() <= 31
    assert set(data.angles.tolist()) == {np.float32(0.3), np.float32(-0.3)}
    assert data.names[0].endswith("[0]") and data.names[-1].endswith("[119]")
    assert "the recorder's clock was set back" in " ".join(capsys.readouterr().err.split())


def test_twist_of_a_standing_robot_says_nothing(tmp_path):
    topics = drive(steering=lambda t, angle: twist(t, angle, speed=1.0 if angle < 0.35 else 0.0), topic="/cmd_vel")
    np.testing.assert_allclose(read_rosbag2(bag(tmp_path / "run", topics), WHEELBASE).angles, TENTHS[:3], atol=1e-6)


def test_our_own_recording_needs_no_topic_names(tmp_path):
    """Colour and depth, steering and cmd_vel: what the nodes of fadnet_nav publish."""
    topics = drive()
    depth = np.zeros((48, 64), np.uint16)
    times = frame_times(6)
    topics["/camera/aligned_depth_to_color/image_raw"] = [(t, raw(t, depth, "16UC1")) for t in times]
    topics["/cmd_vel"] = [(t, twist(t, 0.0)) for t in times]
    topics["/speed"] = [(t, number(t, 1.0)) for t in times]
    np.testing.assert_allclose(open_dataset(bag(tmp_path / "run", topics)).angles, TENTHS, atol=1e-6)


def test_degrees_are_read_where_they_are_said_to_be(tmp_path):
    in_degrees = drive(steering=lambda t, angle: joints(t, math.degrees(angle)))
    path = bag(tmp_path / "run", in_degrees)
    np.testing.assert_allclose(open_dataset(path, options=ReadOptions(unit="deg")).angles, TENTHS, atol=1e-6)


@pytest.mark.parametrize("steering", [joints, number, ackermann])
def test_steering_from_minus_one_to_one_is_scaled_by_the_full_lock(tmp_path, steering):
    path = bag(tmp_path / "run1", drive(steering=steering))
    left, right = (ReadOptions(unit="normalised", full_lock=lock) for lock in (0.5, -0.5))
    np.testing.assert_allclose(open_dataset(path, options=left).angles, 0.5 * TENTHS, atol=1e-6)
    np.testing.assert_allclose(open_dataset(path, options=right).angles, -0.5 * TENTHS, atol=1e-6)
    with pytest.raises(InputError, match=r"topic /steering, message 0: steering runs from -1 to 1 here.*--full-lock"):
        open_dataset(path, options=ReadOptions(unit="normalised"))
    beyond = bag(tmp_path / "run2", {**drive(), "/steering": [(START_NS, steering(START_NS, 1.5))]})
    with pytest.raises(DataError, match=r"message 0: expected steering from -1 to 1, got 1.5"):
        open_dataset(beyond, options=left)


def test_the_unit_is_not_applied_to_a_twist_whose_angle_is_computed(tmp_path):
    path = bag(tmp_path / "run1", drive(steering=twist, topic="/cmd_vel"))
    data = open_dataset(path, options=ReadOptions(wheelbase=0.36, unit="deg"))
    np.testing.assert_allclose(data.angles, TENTHS, atol=1e-6)


def test_angles_that_no_front_wheel_has_are_said(tmp_path, capsys):
    path = bag(tmp_path / "run", drive(steering=lambda t, angle: joints(t, 5 * angle)))  # +-2.9 "degrees"
    open_dataset(path)
    assert "they look like degrees" in " ".join(capsys.readouterr().err.split())
    open_dataset(path, options=ReadOptions(unit="rad"))
    assert "degrees" not in capsys.readouterr().err


def test_other_encodings_and_all_topics_of_a_realsense_robot_need_no_question(tmp_path):
    topics = drive(image=lambda t, p: raw(t, cv2.cvtColor(p, cv2.COLOR_RGB2YUV_YUY2), "yuv422_yuy2"))
    times = frame_times(6)
    topics["/camera/color/image_raw/compressed"] = [(t, jpeg(t, picture(i))) for i, t in enumerate(times)]
    topics["/camera/infra1/image_rect_raw"] = [(t, raw(t, picture(0)[:, :, 0].copy(), "mono8")) for t in times]
    topics["/camera/depth/image_rect_raw"] = [(t, raw(t, np.zeros((48, 64), np.uint16), "16UC1")) for t in times]
    data = open_dataset(bag(tmp_path / "run", topics))
    expected = np.stack([grey_320x240(picture(i), "rgb8") for i in range(6)]).astype(int)
    assert data.names[0] == "run:/camera/color/image_raw[0]" and np.abs(data.frames - expected).mean() < 4


def test_an_encoding_that_is_not_read_is_named_with_its_topic(tmp_path):
    path = bag(tmp_path / "run", drive(image=lambda t, p: raw(t, p.astype(np.int32), "32SC3")))
    with pytest.raises(InputError, match=r"\(JPEG, PNG, rgb8, .*\), got /camera/color/image_raw as '32SC3'"):
        open_dataset(path)


def test_topics_are_listed_where_the_bag_leaves_a_choice(tmp_path):
    topics = drive(topic="/left/steering") | {"/right/steering": drive()["/steering"]}
    topics["/front/color/image_raw"] = topics["/camera/color/image_raw"]
    path = bag(tmp_path / "run", topics)
    with pytest.raises(InputError, match=r"got /camera/color/image_raw, /front/color/image_raw: give --image-topic"):
        read_rosbag2(path)
    with pytest.raises(InputError, match=r"candidates are /left/steering, /right/steering; give --steering-topic"):
        read_rosbag2(path, ReadOptions(image_topic="/front/color/image_raw"))
    assert (
        len(read_rosbag2(path, ReadOptions(image_topic="/front/color/image_raw", steering_topic="/left/steering"))) == 6
    )
    with pytest.raises(
        InputError, match=r"topic /gone: .*no such topic. It holds: .*/right/steering \(.*JointState, 6\)"
    ):
        read_rosbag2(path, ReadOptions(image_topic="/front/color/image_raw", steering_topic="/gone"))
    with pytest.raises(
        InputError, match=r"topic /front/color/image_raw: expected sensor_msgs/msg/JointState or .*msg/Image"
    ):
        read_rosbag2(path, ReadOptions(image_topic="/front/color/image_raw", steering_topic="/front/color/image_raw"))


def test_a_bare_number_is_not_taken_for_steering(tmp_path):
    path = bag(tmp_path / "run", drive(steering=number, topic="/speed"))
    with pytest.raises(InputError, match=r"expected one topic with steering, the candidates are /speed"):
        read_rosbag2(path)
    assert len(read_rosbag2(path, ReadOptions(steering_topic="/speed"))) == 6


def test_twist_needs_the_wheelbase(tmp_path):
    with pytest.raises(InputError, match=r"needs the wheelbase in m"):
        read_rosbag2(bag(tmp_path / "run", drive(steering=twist, topic="/cmd_vel")))


def cut_image(t, picture):
    message = raw(t, picture)
    message.data = message.data[:-1]
    return message


def cut_jpeg(t, picture):
    message = jpeg(t, picture)
    message.data = message.data[:200]
    return message


BROKEN = {
    "no images": (
        lambda: {"/steering": drive()["/steering"]},
        r"expected a topic with colour or grey images, there is none",
    ),
    "no steering": (
        lambda: {"/image": drive()["/camera/color/image_raw"]},
        r"expected one topic with steering, there is none.*It holds: /image",
    ),
    "NaN": (lambda: drive(steering=lambda t, a: joints(t, math.nan)), r"topic /steering, message 0: .*got nan"),
    "NaN twist": (lambda: drive(steering=lambda t, a: twist(t, math.nan)), r"topic /steering, message 0: .*got nan"),
    "degrees": (
        lambda: drive(steering=lambda t, a: joints(t, 100 * a)),
        r"message 0: .*got 10.0; it looks like degrees",
    ),
    "two steering joints": (
        lambda: drive(steering=lambda t, a: joints(t, a, a, names=("left_steer", "right_steer"))),
        r"message 0: expected one joint 'steering'.*got \['left_steer', 'right_steer'\]",
    ),
    "joint without position": (
        lambda: drive(steering=lambda t, a: joints(t)),
        r"expected one joint .* and 0 positions",
    ),
    "short image": (
        lambda: drive(image=cut_image),
        r"message 0: expected an image of 48 rows of at least 192 bytes, got step 192 and 9215 bytes",
    ),
    "short jpeg": (lambda: drive(image=cut_jpeg), r"color/image_raw, message 0: expected a whole JPEG .*got 200 bytes"),
    "other times": (
        lambda: drive() | {"/steering": [(t + 10**10, joints(t + 10**10, 0.1)) for t in frame_times(6)]},
        r"expected /steering within 0.1 s .* no frame has that; frames are from 1700000000.000 .* from 1700000010.0",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_content_names_topic_message_and_expectation(tmp_path, name):
    topics, message = BROKEN[name]
    path = bag(tmp_path / "run", topics())
    with pytest.raises((DataError, InputError), match=message):
        read_rosbag2(path, WHEELBASE)


@pytest.mark.parametrize("plugin", list(StoragePlugin))
@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_truncated_recording(tmp_path, plugin, keep):
    path = bag(tmp_path / "run", drive(30), plugin)
    [file] = [file for file in path.iterdir() if file.name != "metadata.yaml"]
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * keep)])
    for opened in (path, file):
        with pytest.raises(
            DataError, match=r"expected a whole bag .*failed: .+ `(mcap recover|sqlite3) IN|got an empty file"
        ):
            read_rosbag2(opened)


def test_broken_or_lonely_metadata(tmp_path):
    path = bag(tmp_path / "run", drive())
    (path / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 9}")
    with pytest.raises(DataError, match=r"metadata key is missing.*Move metadata.yaml away"):
        read_rosbag2(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"expected a bag of ROS \(metadata.yaml, .mcap, .db3 or .bag files\), found none"
    ):
        read_rosbag2(tmp_path / "empty")
