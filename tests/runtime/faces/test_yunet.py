"""YuNet: OpenCV's decoding of its file, colours, scale, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures.faces import yunet_like

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.faces import open_detector


@pytest.fixture(scope="module")
def yunet(tmp_path_factory):
    return yunet_like(tmp_path_factory.mktemp("yunet") / "yunet.onnx", 48)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_yunets_boxes_come_back_in_pixels_of_the_frame(yunet, encoding) -> None:
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[240:256, 320:336, 0 if encoding == "rgb8" else 2] = 255  # one cell of the shrunk frame
    find = open_detector(yunet)
    [face] = find(frame, encoding)
    assert face.box == pytest.approx((320 - 48, 240 - 48, 320 + 48, 240 + 48), abs=1e-3)
    assert face.score == pytest.approx(1, abs=0.01) and type(face.score) is float
    assert find(frame[:, :, ::-1].copy(), encoding) == []  # the other end of the colours


def test_yunets_faces_smaller_than_asked_for_are_left_out(tmp_path) -> None:
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[240:256, 320:336] = 255
    assert len(open_detector(yunet_like(tmp_path / "24.onnx", 24))(frame)) == 1  # of the shrunk frame
    assert open_detector(yunet_like(tmp_path / "20.onnx", 20))(frame) == []


def test_yunet_takes_grey_frames_and_changing_sizes(yunet) -> None:
    find = open_detector(yunet)
    for side in (480, 960):
        frame = np.zeros((side, side * 4 // 3), np.uint8)
        cell = side // 30
        frame[side // 2 : side // 2 + cell, side // 2 : side // 2 + cell] = 255
        [face] = find(frame, "mono8")
        assert face.box[2] - face.box[0] == pytest.approx(side / 5)


def test_what_is_not_yunet_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_detector(tmp_path / "no.onnx")
    (tmp_path / "no.onnx").write_bytes(b"no net")
    with pytest.raises(InputError, match="expected YuNet's ONNX file"):
        open_detector(tmp_path / "no.onnx")
