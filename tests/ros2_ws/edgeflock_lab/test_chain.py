"""Scope chain: real nodes, real middleware, a short video."""

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from edgeflock.runtime.bundle.bundle import default_bundle
from edgeflock.runtime.errors import EdgeflockError
from edgeflock_lab.chain import chain


@pytest.fixture
def video(tmp_path):
    """``video(seconds)``: a small video at 20 Hz."""

    def make(seconds):
        path = tmp_path / "road.avi"
        out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (160, 120))
        for n in range(round(20 * seconds)):
            out.write(np.full((120, 160, 3), n % 256, np.uint8))
        out.release()
        return str(path)

    return make


def test_frames_are_timed_from_their_stamp_to_their_command(video):
    found = chain(default_bundle(), "onnxruntime-cpu", "int8", video(12), 20.0, 1.5, 0.3)
    assert len(found.latency_ns) + found.dropped >= 20
    assert 0 < found.latency_ns.min() < 1e9
    assert (found.engine, found.precision) == ("onnxruntime-cpu", "int8")
    assert found.cpu_ns > 0 and found.peak_rss_mib > 50
    assert found.seconds == pytest.approx(1.5, abs=0.1)


def test_a_recording_that_ends_too_early_is_an_error(video):
    with pytest.raises(EdgeflockError, match="ended"):
        chain(default_bundle(), "onnxruntime-cpu", "int8", video(2), 20.0, 30.0, 0.3)
