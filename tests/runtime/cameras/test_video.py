"""Videos: all frames, in RGB, at their pace."""

import time

import cv2
import numpy as np
import pytest

from edgeflock.runtime.cameras import kind_of
from edgeflock.runtime.cameras.video import VideoSource
from edgeflock.runtime.errors import CameraError


@pytest.fixture
def video(tmp_path):
    """Ten frames at 50 Hz, red with rising brightness."""
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 50, (64, 48))
    for n in range(10):
        writer.write(np.full((48, 64, 3), (0, 0, 100 + 10 * n), np.uint8))  # BGR
    writer.release()
    return path


def test_all_frames_come_in_rgb_with_stamps_of_the_frame_rate_then_the_end(video):
    source = VideoSource(video, real_time=False)
    for n in range(10):
        frame = source.read()
        assert frame.index == n and frame.stamp_ns == n * 20_000_000 and frame.depth is None
        assert frame.color[24, 32].tolist() == pytest.approx([100 + 10 * n, 0, 0], abs=4)
    assert source.read() is None
    source.close()


def test_a_video_is_uncalibrated_and_has_no_depth(video):
    source = VideoSource(video)
    assert (source.intrinsics.width, source.intrinsics.height, source.intrinsics.fx) == (64, 48, 0.0)
    assert source.depth_intrinsics is None and source.fps == 50 and not source.live


def test_real_time_keeps_the_frame_rate(video):
    source = VideoSource(video)
    began = time.monotonic()
    while source.read() is not None:
        pass
    assert time.monotonic() - began > 0.17


def test_a_loop_goes_on(video):
    source = VideoSource(video, real_time=False, loop=True)
    reds = [int(source.read().color[24, 32, 0]) for _ in range(13)]
    assert reds[10:] == pytest.approx(reds[:3], abs=4)


def test_a_folder_of_pictures_is_a_camera_in_the_order_of_their_numbers(tmp_path):
    for n in (2, 10, 1):
        cv2.imwrite(str(tmp_path / f"frame_{n}.png"), np.full((24, 32, 3), n, np.uint8))
    (tmp_path / "notes.txt").touch()
    assert kind_of(tmp_path) == "video"
    source = VideoSource(tmp_path, real_time=False, loop=True)
    assert (source.intrinsics.width, source.intrinsics.height, source.fps, source.live) == (32, 24, 30.0, False)
    assert [source.read().color[0, 0, 0] for _ in range(5)] == [1, 2, 10, 1, 2]


def test_a_picture_that_is_broken_or_of_another_size_is_named(tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((24, 32, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((48, 32, 3), np.uint8))
    source = VideoSource(tmp_path, real_time=False)
    assert source.read() is not None
    with pytest.raises(CameraError, match=r"expected 32x24 as the first frame .*got 32x48 in frame 1"):
        source.read()
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(CameraError, match=r"1.png: expected a whole JPEG or PNG image, got 0 bytes"):
        VideoSource(tmp_path)


def test_what_is_no_video_is_refused(tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    assert kind_of(text) == "video"
    with pytest.raises(CameraError, match=r"or a video that OpenCV .* decodes, got .*ffmpeg"):
        VideoSource(text)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(CameraError, match=r"got an empty file: .*empty.mp4"):
        VideoSource(tmp_path / "empty.mp4")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CameraError, match=r"expected a recording or pictures .* got neither"):
        VideoSource(tmp_path / "folder")
    with pytest.raises(CameraError, match=r"/dev/video99.*does not exist"):
        VideoSource("/dev/video99")
