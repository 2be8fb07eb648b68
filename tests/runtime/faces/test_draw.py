"""The picture: what is drawn, where, and what is left alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.faces import Face
from edgeflock.runtime.faces.draw import annotate
from edgeflock.runtime.faces.pipeline import FaceEmotion
from edgeflock.runtime.tasks.emotion import Emotion

LABELS = ("Anger", "Happy", "Sad")


def result(box=(100.0, 100.0, 180.0, 200.0), values=(0.1, 0.8, 0.1), attention=None) -> FaceEmotion:
    distribution = dict(zip(LABELS, values, strict=True))
    emotion = Emotion(distribution, "Happy", 0.8, attention, None, 1)
    return FaceEmotion(Face(box, 0.9, 3), emotion, distribution, "Happy", 0.8, None, None)


def room() -> np.ndarray:
    return np.full((480, 640, 3), 128, np.uint8)


def changed(image: np.ndarray, out: np.ndarray) -> np.ndarray:
    return (image != out).any(2)


def test_nothing_found_is_nothing_drawn_and_the_frame_is_never_touched() -> None:
    image = room()
    out = annotate(image, [])
    assert np.array_equal(out, image) and out is not image
    annotate(image, [result(attention=np.full((7, 7), 1 / 49, np.float32))])
    assert (image == 128).all()


def test_a_box_is_drawn_around_the_face_and_the_face_stays_visible() -> None:
    drawn = changed(room(), annotate(room(), [result()]))
    assert drawn[100:200, 100].all() and drawn[200, 100:180].all()
    assert not drawn[110:190, 110:170].any()


def test_bars_are_as_long_as_their_probabilities() -> None:
    out = annotate(room(), [result(values=(0.0, 1.0, 0.5))])
    colours = [(230, 80, 80), (120, 190, 90), (170, 120, 220)]
    lengths = [int((out[204:] == colour).all(2).sum(1).max()) for colour in colours]  # below the box
    assert lengths[1] / 2 == pytest.approx(lengths[2], abs=2) and lengths[1] > 30
    assert lengths[0] <= 1


def test_the_glow_lies_where_the_net_looked() -> None:
    attention = np.zeros((7, 7), np.float32)
    attention[0, 6] = 1  # top right of the centre crop: rows 8..24 of 128, columns 125..141 of 171
    plain = annotate(room(), [result(attention=attention)], attention=False)
    assert np.array_equal(plain, annotate(room(), [result()]))
    red = annotate(room(), [result(attention=attention)])[:, :, 0].astype(int) - plain[:, :, 0]
    y, x = np.unravel_index(np.argmax(red), red.shape)
    assert 8 / 128 * 480 <= y <= 24 / 128 * 480 and 125 / 171 * 640 <= x <= 141 / 171 * 640


@pytest.mark.parametrize("box", [(-40.0, -40.0, 30.0, 40.0), (600.0, 440.0, 700.0, 560.0), (-900.0, -900.0, 2e4, 2e4)])
@pytest.mark.parametrize("size", [(8, 8), (60, 80), (480, 640), (1080, 1920)])
def test_faces_at_the_border_of_frames_of_any_size_are_drawn(box, size) -> None:
    image = np.full((*size, 3), 128, np.uint8)
    attention = np.full((7, 7), 1 / 49, np.float32)
    assert annotate(image, [result(box, attention=attention)]).shape == image.shape


def test_the_picture_is_rgb_whatever_the_frame_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    out = annotate(image, [result()])
    assert np.array_equal(annotate(image[:, :, ::-1], [result()], "bgr8"), out)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert np.array_equal(annotate(grey, [], "mono8"), np.repeat(grey[:, :, None], 3, 2))
    with pytest.raises(InputError, match="encoding must be one of"):
        annotate(image, [], "yuv422")
