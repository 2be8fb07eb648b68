"""The cascade: faces where they are, at any resolution, encoding and light, and a way out where OpenCV has none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.faces import haar as cascades
from edgeflock.runtime.faces import open_detector


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


def tilted(frame, degrees):
    turn = cv2.getRotationMatrix2D((320, 240), degrees, 1.0)
    return cv2.warpAffine(frame, turn, (640, 480), borderMode=cv2.BORDER_REPLICATE), turn


@pytest.mark.parametrize("degrees", [-24, 24])
def test_tilted_heads_are_found_in_pictures_and_in_a_stream_some_frames_later(crowd, degrees) -> None:
    frame, turn = tilted(crowd.frames[0], degrees)
    centres = ((crowd.boxes[0][:, :2] + crowd.boxes[0][:, 2:]) / 2) @ turn[:, :2].T + turn[:, 2]
    widths = crowd.boxes[0][:, 2] - crowd.boxes[0][:, 0]

    def hits(faces) -> int:
        found = [np.array([face.box[0] + face.box[2], face.box[1] + face.box[3]]) / 2 for face in faces]
        near = [min(np.abs(centre - at).max() for at in found) for centre in centres] if found else [np.inf]
        return int((np.array(near) < widths / 3).sum())

    assert hits(open_detector("cascade", min_face=0.1)(frame)) >= 3
    stream = open_detector("cascade", stream=True)
    seen = [hits(stream(frame)) for _ in range(8)]
    assert max(seen[:5]) >= 1 and seen[5:] == [max(seen)] * 3  # the turn that shows them stays


def test_the_frames_of_a_stream_share_their_buffers(haar, crowd) -> None:
    haar(crowd.frames[0])
    held = dict(haar._buffers)
    haar(crowd.frames[1])
    assert held and all(haar._buffers[key] is array for key, array in held.items())


def test_faces_smaller_than_asked_for_are_not_looked_for(crowd) -> None:
    assert open_detector("cascade", min_face=0.5)(crowd.frames[0]) == []
    for share in (0, -1, 1.1, float("nan")):
        with pytest.raises(InputError, match="min_face is a share"):
            open_detector("cascade", min_face=share)


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


def test_opencvs_apt_packages_keep_the_cascade_elsewhere(crowd, haar, tmp_path, monkeypatch) -> None:
    cascade = tmp_path / cascades.CASCADE
    cascade.write_bytes((Path(cv2.data.haarcascades) / cascades.CASCADE).read_bytes())
    monkeypatch.delattr(cv2, "data")
    monkeypatch.setattr(cascades, "CASCADE_FOLDERS", ("/nowhere", str(tmp_path)))
    assert open_detector("cascade", stream=True)(crowd.frames[0]) == haar(crowd.frames[0])


def test_without_the_cascade_the_apt_line_is_named(monkeypatch) -> None:
    monkeypatch.setattr(cv2, "data", SimpleNamespace(haarcascades="/nowhere"))
    monkeypatch.setattr(cascades, "CASCADE_FOLDERS", ())
    with pytest.raises(MissingExtra, match="apt-get install -y opencv-data"):
        open_detector("cascade")


def test_opencv_5_has_no_cascades_and_the_way_to_yunet_is_named(monkeypatch) -> None:
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(MissingExtra, match="`edgeflock faces get` brings YuNet"):
        open_detector("cascade")
