"""Bags as people record them: raw and compressed, with and without depth, several cameras, odd encodings."""

import time

import cv2
import numpy as np
import pytest

from edgeflock.runtime.cameras.bag import BagSource
from edgeflock.runtime.errors import CameraError
from edgeflock.runtime.intrinsics import Intrinsics

COLOR, DEPTH = "/camera/color/image_raw", "/camera/aligned_depth_to_color/image_raw"
LENS = Intrinsics(32, 24, 30.0, 31.0, 16.5, 11.5, "plumb_bob", (0.1, -0.2, 0.0, 0.0, 0.05))
MS = 10**6


def rgb(n):
    return np.random.default_rng(n).integers(0, 256, (24, 32, 3), np.uint8)


@pytest.fixture
def bag(write_bag, tmp_path):
    """``bag(messages, storage)`` -> path of a bag; stamps are ms."""

    def make(messages, storage="mcap"):
        path = tmp_path / f"bag{len(list(tmp_path.iterdir()))}"
        return write_bag(path, [(topic, round(ms * MS) + 10**18, content) for topic, ms, content in messages], storage)

    return make


def read(path, **options):
    source = BagSource(path, real_time=False, **options)
    frames = []
    while (frame := source.read()) is not None:
        frames.append((frame.stamp_ns, frame.color.copy(), None if frame.depth is None else frame.depth.copy()))
    source.close()
    return frames


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_frames_come_in_order_with_their_stamps_and_calibration(bag, storage):
    messages = [(COLOR.replace("image_raw", "camera_info"), -60_000, LENS)]  # long before the first frame
    path = bag(messages + [(COLOR, 33.4 * n, ("rgb8", rgb(n))) for n in range(5)], storage)
    frames = read(path)
    assert [(stamp - 10**18) / MS for stamp, _, _ in frames] == pytest.approx([33.4 * n for n in range(5)])
    for n, (_, color, depth) in enumerate(frames):
        np.testing.assert_array_equal(color, rgb(n))
        assert depth is None
    source = BagSource(path)
    assert source.intrinsics == LENS and source.depth_intrinsics is None
    assert source.fps == pytest.approx(1000 / 33.4)
    source.close()
    source.close()  # twice does no harm


def test_a_single_mcap_file_without_its_folder_is_read(bag):
    path = bag([(COLOR, 0, ("rgb8", rgb(0)))])
    assert len(read(next(path.glob("*.mcap")))) == 1


@pytest.mark.parametrize("order", ["depth first", "colour first"])
def test_each_frame_gets_the_depth_of_its_own_stamp(bag, order):
    messages = []
    for n in range(4):
        pair = [(COLOR, 33 * n, ("rgb8", rgb(n))), (DEPTH, 33 * n, ("16UC1", np.full((24, 32), 100 + n, np.uint16)))]
        messages += pair if order == "colour first" else pair[::-1]
    assert [depth[0, 0] for _, _, depth in read(bag(messages))] == [100, 101, 102, 103]


def test_depth_that_stopped_is_not_kept_for_later_frames(bag):
    messages = [(DEPTH, 0, ("16UC1", np.ones((24, 32), np.uint16)))]
    depths = [d for _, _, d in read(bag(messages + [(COLOR, 33 * n, ("rgb8", rgb(n))) for n in range(5)]))]
    assert depths[0] is not None and depths[-1] is None and depths[-2] is None


def test_depth_in_metres_or_compressed_becomes_millimetres(bag):
    metres = np.full((24, 32), 1.2346, np.float32)
    metres[0, :3] = np.nan, np.inf, -1
    png = bytes(12) + cv2.imencode(".png", np.full((24, 32), 777, np.uint16))[1].tobytes()
    messages = [
        (COLOR, 0, ("rgb8", rgb(0))),
        ("/camera/aligned_depth/metres", 0, ("32FC1", metres)),
        ("/depth/compressedDepth", 0, ("16UC1; compressedDepth png", png)),
    ]
    path = bag(messages)
    depth = read(path)[0][2]
    assert depth[5, 5] in (1234, 1235) and depth[0, :3].tolist() == [0, 65535, 0]
    assert read(path, depth_topic="/depth/compressedDepth")[0][2][3, 3] == 777


@pytest.mark.parametrize(
    ("encoding", "make"),
    [
        ("bgr8", lambda image: np.ascontiguousarray(image[..., ::-1])),
        ("8UC3", lambda image: np.ascontiguousarray(image[..., ::-1])),
        ("rgba8", lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)),
        ("bgra8", lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2BGRA)),
    ],
)
def test_encodings_become_rgb(bag, encoding, make):
    np.testing.assert_array_equal(read(bag([(COLOR, 0, (encoding, make(rgb(1))))]))[0][1], rgb(1))


def test_grey_becomes_grey_rgb(bag):
    grey = rgb(2)[..., 0].copy()
    np.testing.assert_array_equal(read(bag([(COLOR, 0, ("mono8", grey))]))[0][1], np.dstack([grey] * 3))


def test_padded_rows_are_cut(bag):
    wide = np.zeros((24, 40, 3), np.uint8)
    wide[:, :32] = rgb(3)
    np.testing.assert_array_equal(read(bag([(COLOR, 0, ("rgb8", wide[:, :32]))]))[0][1], rgb(3))


def test_compressed_colour_keeps_its_colours(bag):
    red = np.zeros((24, 32, 3), np.uint8)
    red[..., 0] = 250
    png = cv2.imencode(".png", red[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(read(bag([(COLOR + "/compressed", 0, ("png", png))]))[0][1], red)


def test_a_raw_topic_goes_before_its_compressed_twin_and_colour_before_infrared(bag):
    png = cv2.imencode(".png", rgb(9))[1].tobytes()
    infra = ("mono8", rgb(0)[..., 0].copy())
    messages = [(COLOR, 0, ("rgb8", rgb(1))), (COLOR + "/compressed", 0, ("png", png)), ("/camera/infra1", 0, infra)]
    assert BagSource(bag(messages)).topic == COLOR


def test_two_cameras_are_a_question_with_the_list(bag):
    path = bag([("/left/color", 0, ("rgb8", rgb(0))), ("/right/color", 0, ("rgb8", rgb(1)))])
    with pytest.raises(
        CameraError, match=r"one topic with colour images, got /left/color, /right/color: name one: --image-topic"
    ):
        BagSource(path)
    np.testing.assert_array_equal(read(path, topic="/right/color")[0][1], rgb(1))
    with pytest.raises(CameraError, match=r"images on /front, got no such topic: topics with images are /left/color"):
        BagSource(path, topic="/front")


def test_what_is_no_bag_or_cannot_be_read_says_so(bag, tmp_path):
    with pytest.raises(CameraError, match="does not exist"):
        BagSource(tmp_path / "nowhere")
    other = tmp_path / "x.mcap"
    other.write_bytes(b"no mcap")
    with pytest.raises(CameraError, match="expected a bag"):
        BagSource(other)
    with pytest.raises(CameraError, match=r"topic .*32SC3"):
        BagSource(bag([(COLOR, 0, ("32SC3", rgb(0)[..., 0].copy()))]))
    with pytest.raises(CameraError, match="JPEG or PNG"):
        BagSource(bag([(COLOR, 0, ("jpeg", b"broken"))]))
    with pytest.raises(CameraError, match="24 rows of at least 96 bytes"):
        BagSource(bag([(COLOR, 0, ("rgb8", rgb(0)[..., 0].copy()))]))


INFO = COLOR.replace("image_raw", "camera_info")


@pytest.mark.parametrize(
    ("info", "note", "expected"),
    [
        (Intrinsics(0, 0, 0.0, 0.0, 0.0, 0.0), "holds no calibration", Intrinsics.uncalibrated(32, 24)),
        (Intrinsics(32, 24, 0.0, 0.0, 0.0, 0.0), "holds no calibration", Intrinsics.uncalibrated(32, 24)),
        (
            Intrinsics(64, 48, 60.0, 62.0, 33.0, 23.0),
            "scaled from 64x48 to 32x24",
            Intrinsics(32, 24, 30, 31, 16.5, 11.5),
        ),
        (Intrinsics(64, 36, 60.0, 62.0, 33.0, 23.0), "left out, 64x36 is no scale", Intrinsics.uncalibrated(32, 24)),
    ],
)
def test_the_size_is_that_of_the_images_whatever_camera_info_claims(bag, info, note, expected):
    source = BagSource(bag([(INFO, 0, info), (COLOR, 0, ("rgb8", rgb(0)))]))
    assert source.intrinsics == expected and source.read().color.shape == (24, 32, 3)
    assert note in source.notes[0]


def test_depth_of_another_size_than_colour_keeps_its_own(bag):
    depth = ("16UC1", np.full((12, 16), 900, np.uint16))
    source = BagSource(bag([(COLOR, 0, ("rgb8", rgb(0))), (DEPTH, 0, depth)]), real_time=False)
    assert (source.depth_intrinsics.width, source.depth_intrinsics.height) == (16, 12)
    assert source.read().depth.shape == (12, 16)


@pytest.mark.parametrize("topic", [COLOR, DEPTH])
def test_a_size_that_changes_is_refused_by_topic_and_sizes(bag, topic):
    def images(n):
        big = 2 if n == 3 else 1
        color = np.zeros((24 * (big if topic == COLOR else 1), 32 * (big if topic == COLOR else 1), 3), np.uint8)
        depth = np.ones((24 * (big if topic == DEPTH else 1), 32 * (big if topic == DEPTH else 1)), np.uint16)
        return [(COLOR, 33 * n, ("rgb8", color)), (DEPTH, 33 * n, ("16UC1", depth))]

    with pytest.raises(CameraError, match=rf"expected {topic} .* as 32x24 as its first image, got 64x48: split"):
        read(bag([message for n in range(5) for message in images(n)]))


@pytest.mark.parametrize("data", [b"", cv2.imencode(".jpg", rgb(0))[1].tobytes()[:300]])
def test_a_compressed_image_that_is_empty_or_cut_names_topic_and_bytes(bag, data):
    whole = cv2.imencode(".jpg", rgb(0))[1].tobytes()
    topic = COLOR + "/compressed"
    path = bag([(topic, 33 * n, ("jpeg", data if n == 2 else whole)) for n in range(4)])
    with pytest.raises(CameraError, match=rf"topic {topic}: expected a whole JPEG or PNG image, got {len(data)} bytes"):
        read(path)


def test_what_a_realsense_robot_records_with_all_topics_needs_no_question(bag):
    png = cv2.imencode(".png", rgb(1)[..., ::-1])[1].tobytes()
    packed = bytes(12) + cv2.imencode(".png", np.full((24, 32), 5, np.uint16))[1].tobytes()
    messages = [
        (DEPTH + "/compressedDepth", 0, ("16UC1; compressedDepth png", packed)),
        (DEPTH, 0, ("16UC1", np.full((24, 32), 1200, np.uint16))),
        ("/camera/infra1/image_rect_raw", 0, ("mono8", rgb(0)[..., 0].copy())),
        ("/camera/infra2/image_rect_raw", 0, ("mono8", rgb(0)[..., 0].copy())),
        (COLOR + "/compressed", 0, ("rgb8; jpeg compressed bgr8", png)),
        (COLOR, 0, ("rgb8", rgb(1))),
    ]
    source = BagSource(bag(messages), real_time=False)
    assert (source.topic, source.depth_topic) == (COLOR, DEPTH)
    assert source.read().depth[0, 0] == 1200


def test_real_time_keeps_the_pace_and_skips_a_pause(bag):
    path = bag([(COLOR, ms, ("rgb8", rgb(0))) for ms in (0, 50, 100, 60_000)])
    source = BagSource(path)
    began = time.monotonic()
    while source.read() is not None:
        pass
    assert 0.09 < time.monotonic() - began < 30.0  # of the minute's pause nothing
    source.close()


def test_a_loop_goes_on(bag):
    source = BagSource(bag([(COLOR, 33 * n, ("rgb8", rgb(n))) for n in range(3)]), real_time=False, loop=True)
    assert [source.read().index for _ in range(8)] == list(range(8))
    source.close()
