"""A RealSense recording goes through the code that drives a live camera, and comes out bit for bit."""

import time

import numpy as np
import pytest

from edgeflock.runtime.cameras import kind_of, open_source
from edgeflock.runtime.cameras.realsense import RealSenseSource
from edgeflock.runtime.errors import CameraError

pytestmark = pytest.mark.usefixtures("record_realsense")


@pytest.fixture
def opened():
    sources = []

    def opener(**options):
        sources.append(RealSenseSource(**options))
        return sources[-1]

    yield opener
    for source in sources:
        source.close()


def test_every_frame_comes_out_as_recorded_then_the_end(opened, realsense_recording):
    source = opened(path=realsense_recording.path, real_time=False)
    seen, with_depth = [], 0
    while (frame := source.read()) is not None:
        n = round(frame.stamp_ns * 30 / 1e9)  # recorded at n / 30 s
        np.testing.assert_array_equal(frame.color, realsense_recording.scenes[n][0])
        assert frame.index == len(seen)
        seen.append(n)
        if frame.depth is not None:
            measured = frame.depth != 0  # aligning rounds, and leaves holes where no pixel lands
            assert frame.depth.dtype == np.uint16 and measured.mean() > 0.9
            assert np.all(frame.depth[measured] == realsense_recording.scenes[n][1][measured])
            with_depth += 1
    # librealsense itself may drop a set at the start, or pair one late when the machine is busy.
    assert len(seen) >= 10 and np.all(np.diff(seen) == 1) and with_depth >= len(seen) - 2
    assert source.read() is None  # and stays at the end


def test_intrinsics_are_the_cameras_and_depth_is_aligned_to_colour(opened, realsense_recording):
    source, lens = opened(path=realsense_recording.path), realsense_recording.lens
    i = source.intrinsics
    assert (i.width, i.height, i.cx, i.cy) == (320, 240, lens["ppx"], lens["ppy"])
    assert (i.fx, i.fy) == pytest.approx((lens["fx"], lens["fy"]))
    assert source.depth_intrinsics == i
    assert source.fps == 30.0
    assert not source.live


def test_depth_is_millimetres_whatever_the_cameras_unit(opened, record_realsense, scenes, tmp_path):
    path = tmp_path / "close_range.db3"
    record_realsense(path, [(color, np.full_like(depth, 2001)) for color, depth in scenes[:4]], depth_units=0.00025)
    assert np.unique(opened(path=path, real_time=False).read().depth).tolist() == [500]


def test_real_time_keeps_the_recorded_pace(opened, realsense_recording):
    def seconds(real_time):
        source = opened(path=realsense_recording.path, real_time=real_time)
        began = time.monotonic()
        while source.read() is not None:
            pass
        return time.monotonic() - began

    assert seconds(True) > 0.3  # recorded in 0.4 s
    assert any(seconds(False) < 0.3 for _ in range(20))  # a busy machine may hold up some


def test_a_loop_starts_over(opened, realsense_recording):
    source = opened(path=realsense_recording.path, loop=True, real_time=False)
    assert [source.read().index for _ in range(30)] == list(range(30))


def test_without_a_camera_the_message_tells_how_to_get_one():
    with pytest.raises(CameraError, match=r"got none.*udev rules.*give a recording"):
        RealSenseSource()


def test_a_file_that_is_no_recording_is_refused(tmp_path):
    other = tmp_path / "notes.bag"
    other.write_text("no bag")
    with pytest.raises(CameraError, match="expected a RealSense recording"):
        RealSenseSource(path=other)
    with pytest.raises(CameraError, match="does not exist"):
        RealSenseSource(path=tmp_path / "nowhere.bag")


def test_a_recording_without_colour_is_refused(record_realsense, scenes, tmp_path):
    path = tmp_path / "depth.db3"
    record_realsense(path, scenes[:3], color=False)
    with pytest.raises(CameraError, match="expected a colour stream"):
        RealSenseSource(path=path)


def test_the_recording_is_told_from_a_rosbag2_of_the_same_suffix(realsense_recording, write_bag, scenes, tmp_path):
    assert kind_of(realsense_recording.path) == "realsense"
    bag = write_bag(tmp_path / "bag", [("/camera/color/image_raw", 1, ("rgb8", scenes[0][0]))], storage="sqlite3")
    assert kind_of(bag) == kind_of(next(bag.glob("*.db3"))) == "bag"
    source = open_source(kind_of(realsense_recording.path), realsense_recording.path)
    assert isinstance(source, RealSenseSource)
    source.close()
    source.close()  # twice does no harm
