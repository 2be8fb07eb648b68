"""YuNet: OpenCV's decoding of its file, colours, scale, and what is refused."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from fixtures.faces import yunet_like

from edgeflock.export.datasets.synthetic.faces import each_scene
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.faces import open_detector
from edgeflock.runtime.faces.yunet import HEAD


@pytest.fixture(scope="module")
def yunet(tmp_path_factory):
    return yunet_like(tmp_path_factory.mktemp("yunet") / "yunet.onnx", 48)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_yunets_boxes_come_back_in_pixels_of_the_frame(yunet, encoding) -> None:
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[240:256, 320:336, 0 if encoding == "rgb8" else 2] = 255  # one cell of the shrunk frame
    find = open_detector(yunet, stream=True)
    [face] = find(frame, encoding)
    left, top, right, bottom = (edge * 96 for edge in HEAD)  # of what the net calls a face, 96 pixels of the frame wide
    assert face.box == pytest.approx((272 + left, 192 + top, 272 + right, 192 + bottom), abs=1e-3)
    assert face.score == pytest.approx(1, abs=0.01) and type(face.score) is float
    assert find(frame[:, :, ::-1].copy(), encoding) == []  # the other end of the colours


def test_yunets_faces_smaller_than_asked_for_are_left_out(tmp_path) -> None:
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[240:256, 320:336] = 255
    assert len(open_detector(yunet_like(tmp_path / "20.onnx", 20), stream=True)(frame)) == 1  # a head of 25 pixels
    assert open_detector(yunet_like(tmp_path / "18.onnx", 18), stream=True)(frame) == []


def test_yunet_takes_grey_frames_and_changing_sizes(yunet) -> None:
    find = open_detector(yunet, stream=True)
    for side in (480, 960):
        frame = np.zeros((side, side * 4 // 3), np.uint8)
        cell = side // 30
        frame[side // 2 : side // 2 + cell, side // 2 : side // 2 + cell] = 255
        [face] = find(frame, "mono8")
        assert face.box[2] - face.box[0] == pytest.approx(side / 5 * (HEAD[2] - HEAD[0]))


def test_what_is_not_yunet_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_detector(tmp_path / "no.onnx")
    (tmp_path / "no.onnx").write_bytes(b"no net")
    with pytest.raises(InputError, match="expected YuNet's ONNX file"):
        open_detector(tmp_path / "no.onnx")


# ---- with the real net


def one_person() -> tuple[np.ndarray, np.ndarray]:
    """A rendered scene of 480x640, and the box of its head."""
    image, box, *_ = next(each_scene(1, 3, (480, 640)))
    return image, np.array(box, float)


def middle(box) -> np.ndarray:
    return np.array([box[0] + box[2], box[1] + box[3]]) / 2


@pytest.mark.parametrize("gain", [1, 1 / 4, 1 / 12])
def test_a_head_is_found_whole_bright_or_dark(real_yunet, gain) -> None:
    image, box = one_person()
    [face] = open_detector(real_yunet)((image * gain).astype(np.uint8))
    assert np.abs(np.array(face.box) - box).max() < 0.2 * (box[2] - box[0]) and abs(face.roll) < 0.26


@pytest.mark.parametrize("degrees", [-30, 30])
def test_a_tilted_head_is_found_with_its_roll(real_yunet, degrees) -> None:
    image, box = one_person()
    turn = cv2.getRotationMatrix2D(middle(box).tolist(), degrees, 1.0)
    tilted = cv2.warpAffine(image, turn, (640, 480), borderMode=cv2.BORDER_REFLECT)
    upright, face = (
        min(open_detector(real_yunet)(frame), key=lambda face: np.abs(middle(face.box) - middle(box)).max())
        for frame in (image, tilted)
    )
    assert np.abs(middle(face.box) - middle(box)).max() < 0.25 * (box[2] - box[0])
    assert math.degrees(upright.roll - face.roll) == pytest.approx(degrees, abs=10)  # clockwise is positive


def test_a_small_head_is_found_in_a_picture(real_yunet) -> None:
    image, box = one_person()
    frame = np.full((480, 640, 3), 120, np.uint8)
    frame[:120, :160] = cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA)
    [face] = open_detector(real_yunet)(frame)
    assert np.abs(middle(face.box) - middle(box) / 4).max() < 0.25 * (box[2] - box[0]) / 4
