"""Detectors: faces where they are, at any resolution and encoding, and a way out where OpenCV has none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.faces import detector, open_detector


def overlap(a, b) -> float:
    """Intersection over union."""
    w, h = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return w * h / (sum(areas) - w * h)


def left_to_right(faces):
    return sorted(face.box for face in faces)


def test_each_rendered_face_is_found_once_and_as_the_whole_head(haar, crowd) -> None:
    for frame, boxes in zip(crowd.frames, crowd.boxes, strict=True):
        faces = haar(frame)
        assert len(faces) == 4
        assert min(overlap(a, b) for a, b in zip(left_to_right(faces), boxes, strict=True)) > 0.6
        assert all(0 < face.score < 1 and face.id is None for face in faces)
        assert all(type(value) is float for face in faces for value in (*face.box, face.score))


def test_the_largest_face_comes_first(haar, crowd) -> None:
    areas = [(x2 - x1) * (y2 - y1) for (x1, y1, x2, y2), *_ in haar(crowd.frames[0])]
    assert areas == sorted(areas, reverse=True)


def test_encodings_agree_and_the_frame_is_left_alone(haar, crowd) -> None:
    frame = crowd.frames[0].copy()
    faces = haar(frame)
    assert np.array_equal(frame, crowd.frames[0])
    assert haar(np.ascontiguousarray(frame[:, :, ::-1]), "bgr8") == haar(frame[:, :, ::-1], "bgr8") == faces
    assert haar(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), "mono8") == faces


def test_a_frame_of_another_resolution_shows_the_same_faces(haar, crowd) -> None:
    double = cv2.resize(crowd.frames[0], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    for a, b in zip(left_to_right(haar(double)), crowd.boxes[0], strict=True):
        assert overlap(a, 2 * b) > 0.6


def backlit(frame):
    """Dark, between two bright windows."""
    windows = np.zeros(frame.shape)
    windows[:, :40] = windows[:, -40:] = 120
    return (frame * 0.15 + windows).astype(np.uint8)


LIGHT = {"very dark": lambda frame: frame // 12, "dark": lambda frame: frame // 4, "against the light": backlit}


@pytest.mark.parametrize("change", LIGHT.values(), ids=LIGHT)
def test_faces_in_the_dark_and_against_the_light_are_found_too(haar, crowd, change) -> None:
    for frame, boxes in zip(crowd.frames, crowd.boxes, strict=True):
        faces = haar(change(frame))
        assert min(max(overlap(face.box, box) for face in faces) for box in boxes) > 0.6


def test_the_noise_of_a_black_frame_is_no_face(haar) -> None:
    noise = np.random.default_rng(0).poisson(0.5, (480, 640, 3)).astype(np.uint8)
    assert haar(noise) == []


def test_faces_smaller_than_asked_for_are_not_looked_for(crowd) -> None:
    assert open_detector(min_face=0.5)(crowd.frames[0]) == []
    for share in (0, -1, 1.1, float("nan")):
        with pytest.raises(InputError, match="min_face is a share"):
            open_detector(min_face=share)


def test_a_frame_without_a_face_has_none(haar) -> None:
    assert haar(np.full((480, 640, 3), 90, np.uint8)) == []
    assert haar(np.zeros((8, 8), np.uint8), "mono8") == []


@pytest.mark.parametrize(
    ("image", "encoding", "message"),
    [
        (np.zeros((1, 1, 3), np.uint8), "rgb8", "at least 8"),
        (np.zeros((480, 640), np.uint8), "rgb8", r"shape \(H, W, 3\)"),
        (np.zeros((480, 640, 3), np.uint8), "yuv422", "encoding must be one of"),
        (np.zeros((480, 640, 3), np.uint16), "rgb8", "uint8"),
    ],
)
def test_what_is_no_image_is_refused(haar, image, encoding, message) -> None:
    with pytest.raises(InputError, match=message):
        haar(image, encoding)


# ---- where the cascade is


def test_opencvs_apt_packages_keep_the_cascade_elsewhere(crowd, haar, tmp_path, monkeypatch) -> None:
    cascade = tmp_path / detector.CASCADE
    cascade.write_bytes((Path(cv2.data.haarcascades) / detector.CASCADE).read_bytes())
    monkeypatch.delattr(cv2, "data")
    monkeypatch.setattr(detector, "CASCADE_FOLDERS", ("/nowhere", str(tmp_path)))
    assert open_detector()(crowd.frames[0]) == haar(crowd.frames[0])


def test_without_the_cascade_the_apt_line_is_named(monkeypatch) -> None:
    monkeypatch.setattr(cv2, "data", SimpleNamespace(haarcascades="/nowhere"))
    monkeypatch.setattr(detector, "CASCADE_FOLDERS", ())
    with pytest.raises(MissingExtra, match="apt-get install -y opencv-data"):
        open_detector()


def test_opencv_5_has_no_cascades_and_yunet_is_named(monkeypatch) -> None:
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(MissingExtra, match="YuNet"):
        open_detector()


# ---- YuNet


def yunet_like(path: Path, side: int) -> Path:
    """A net with YuNet's outputs that sees a face of `side` pixels wherever a cell of 8x8 pixels is red.

    Weights of YuNet itself are not at hand: this holds OpenCV's decoding, colour order and scale, not the net.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    red = np.array([0, 0, 1 / 255], np.float32).reshape(1, 3, 1, 1)  # OpenCV feeds blue, green, red
    nodes, outputs, constants = [helper.make_node("Conv", ["input", "red"], ["reds"])], [], []
    constants.append(numpy_helper.from_array(red, "red"))
    for stride in (8, 16, 32):
        nodes.append(
            helper.make_node("MaxPool", ["reds"], [f"p{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2)
        )
        for name, width, factor in (("cls", 1, 1.0), ("obj", 1, 1.0), ("bbox", 4, 0.0), ("kps", 10, 0.0)):
            scale = np.full((width, 1, 1, 1), factor if stride == 8 else 0.0, np.float32)
            bias = np.zeros(width, np.float32)
            if name == "bbox":  # centred on the cell's corner; log of the sides in strides
                bias[2:] = np.log(side / 8)
            key = f"{name}_{stride}"
            constants += [numpy_helper.from_array(scale, f"w_{key}"), numpy_helper.from_array(bias, f"b_{key}")]
            constants.append(numpy_helper.from_array(np.array([1, -1, width]), f"s_{key}"))
            nodes += [
                helper.make_node("Conv", [f"p{stride}", f"w_{key}", f"b_{key}"], [f"c_{key}"]),
                helper.make_node("Transpose", [f"c_{key}"], [f"t_{key}"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"t_{key}", f"s_{key}"], [key]),
            ]
            outputs.append(helper.make_tensor_value_info(key, TensorProto.FLOAT, [1, None, width]))
    graph = helper.make_graph(
        nodes,
        "yunet",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "h", "w"])],
        outputs,
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


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
