"""Face boxes, crops and masked contexts: what reaches the emotion nets, pixel by pixel."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.face import (
    CONTEXT_INPUT,
    EmotionPreprocess,
    context_input,
    crop_face,
    face_box,
    face_input,
    masked_context,
)

GLAMOR = [face_input(96, (0, 1)), CONTEXT_INPUT]
LDLVA = [face_input(224, (-1, 1))]


def frame(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), np.uint8)


def small() -> np.ndarray:
    return np.zeros((128, 171, 3), np.uint8)


def one(prepare: EmotionPreprocess, image, box, encoding="rgb8") -> None:
    assert list(prepare.batches(image, [box], encoding)) == [1]


# ---- boxes


def test_a_box_is_rounded_outwards() -> None:
    assert face_box([1.2, 2.9, 30.1, 40], frame()) == (1, 2, 31, 40)
    assert face_box(np.array([-5, -6, 30, 40], np.float32), frame()) == (-5, -6, 30, 40)


@pytest.mark.parametrize("box", [None, (0, 0, 0, 0), np.zeros(4, np.int64)])
def test_no_face_has_two_spellings(box) -> None:
    assert face_box(box, frame()) is None


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((1, 2, 3), "4 finite numbers"),
        ((1, 2, float("nan"), 9), "4 finite numbers"),
        ((1, 2, float("inf"), 9), "4 finite numbers"),
        ((10, 10, 10, 20), "x1 < x2 and y1 < y2"),
        ((50, 60, 20, 30), "is it x, y, width, height"),
        ((160, 0, 170, 10), "lies outside the image of 160x120"),
        ((-9, -9, 0, 5), "lies outside"),
    ],
)
def test_other_boxes_are_refused(box, message: str) -> None:
    with pytest.raises(InputError, match=message):
        face_box(box, frame())


# ---- face


def test_a_face_is_the_exact_resize_of_its_box() -> None:
    image, out = frame(), np.empty((96, 96, 3), np.uint8)
    crop_face(image, (20, 10, 90, 100), out)
    expected = cv2.resize(image[10:100, 20:90].copy(), (96, 96), interpolation=cv2.INTER_LINEAR_EXACT)
    assert np.array_equal(out, expected)


def test_a_tilted_head_is_turned_upright_about_the_middle_of_its_box() -> None:
    image = cv2.GaussianBlur(frame(), (0, 0), 3)
    box, roll = (60, 30, 110, 80), math.radians(30)
    turn = cv2.getRotationMatrix2D((84.5, 54.5), -30, 1.0)  # clockwise; middles of pixels are whole numbers
    tilted = cv2.warpAffine(image, turn, image.shape[1::-1])
    upright, found, as_it_is = (
        crop_face(pixels, box, np.zeros((50, 50, 3), np.uint8), at).astype(int)
        for pixels, at in ((image, 0.0), (tilted, roll), (tilted, 0.0))
    )
    assert np.abs(found - upright).mean() < 2 < 6 < np.abs(as_it_is - upright).mean()


def test_a_head_that_is_nearly_upright_is_read_with_the_same_bytes() -> None:
    crops = [crop_face(frame(), (60, 30, 110, 80), np.zeros((32, 32, 3), np.uint8), roll) for roll in (0, -0.25, 0.25)]
    assert np.array_equal(crops[0], crops[1]) and np.array_equal(crops[0], crops[2])


def test_what_lies_beyond_the_frame_is_black_and_the_rest_keeps_its_place() -> None:
    image, out = np.full((100, 100, 3), 200, np.uint8), np.full((96, 96, 3), 7, np.uint8)
    crop_face(image, (-50, 0, 50, 100), out)  # its left half is outside
    assert not out[:, :48].any() and (out[:, 48:] == 200).all()
    crop_face(image, (0, 75, 100, 175), out)  # its lower three quarters
    assert (out[:24] == 200).all() and not out[24:].any()


def test_a_sliver_of_a_huge_box_still_gives_a_face() -> None:
    out = np.empty((96, 96, 3), np.uint8)
    crop_face(np.full((20, 20, 3), 200, np.uint8), (-100_000, -100_000, 1, 1), out)
    assert (out == 200).all(2).sum() == 1


# ---- context


def test_the_context_is_the_exact_resize_of_the_frame() -> None:
    image = frame()
    expected = cv2.resize(image, (171, 128), interpolation=cv2.INTER_LINEAR_EXACT)
    assert np.array_equal(masked_context(image, None, small()), expected)


def test_nothing_of_the_face_shows_in_the_context_whatever_the_sizes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width = rng.integers(8, 500, 2)
        x1, x2 = sorted(rng.choice(width + 1, 2, replace=False).tolist())
        y1, y2 = sorted(rng.choice(height + 1, 2, replace=False).tolist())
        image = frame(height, width)
        before = masked_context(image, (x1, y1, x2, y2), small())
        image[y1:y2, x1:x2] = rng.integers(0, 256, (y2 - y1, x2 - x1, 3))
        assert np.array_equal(masked_context(image, (x1, y1, x2, y2), small()), before)


def test_the_mask_is_no_larger_than_it_must_be() -> None:
    image = np.full((256, 342, 3), 200, np.uint8)
    masked = masked_context(image, (100, 50, 200, 150), small())
    columns, rows = np.flatnonzero(~masked.any((0, 2))), np.flatnonzero(~masked.any((1, 2)))
    black = ~masked.any(2)
    assert columns.size == rows.size == 0  # the mask is a box, not a cross
    assert (np.flatnonzero(black.any(0))[[0, -1]] == [50, 99]).all()  # 100..200 at half the size
    assert (np.flatnonzero(black.any(1))[[0, -1]] == [25, 74]).all()
    assert (masked[~black] == 200).all()


def test_a_change_outside_the_face_changes_the_context() -> None:
    image = frame()
    before = masked_context(image, (40, 40, 80, 80), small())
    image[10, 10] ^= 255
    assert not np.array_equal(masked_context(image, (40, 40, 80, 80), small()), before)


# ---- whole


def test_inputs_have_the_nets_ranges() -> None:
    image = np.zeros((128, 171, 3), np.uint8)
    image[:, :, 0] = 255
    glamor, ldlva = EmotionPreprocess(GLAMOR), EmotionPreprocess(LDLVA)
    one(glamor, image, (0, 0, 50, 50))
    one(ldlva, image, (0, 0, 50, 50))
    assert np.unique(glamor.inputs["face"][0, 0]).tolist() == [1.0] and not glamor.inputs["face"][0, 1:].any()
    assert np.unique(ldlva.inputs["face"][0, 0]).tolist() == [1.0]
    assert np.unique(ldlva.inputs["face"][0, 1:]).tolist() == [-1.0]
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(14, 0).repeat(14, 1)
    one(ldlva, grey, (0, 0, 224, 224), "mono8")
    expected = ((grey.astype(np.float64) - 127.5) / 127.5).astype(np.float32)
    np.testing.assert_allclose(ldlva.inputs["face"][0], np.stack([expected] * 3), atol=1.2e-7)


def test_the_context_is_cut_as_the_authors_test_crop() -> None:
    image = frame(128, 171)  # resizing keeps it
    glamor = EmotionPreprocess(GLAMOR)
    one(glamor, image, None)
    expected = image[8:120, 29:141].transpose(2, 0, 1) * np.float32(1 / 255)
    assert np.array_equal(glamor.inputs["context"][0], expected) and not glamor.inputs["face"].any()


def test_each_face_of_a_batch_has_its_own_context() -> None:
    image, boxes = frame(), [(5, 5, 60, 70), None, (80, 30, 200, 100), (0, 90, 40, 120)]
    three = EmotionPreprocess([face_input(96, (0, 1), 3), context_input(3)])
    one_by_one, slot = EmotionPreprocess(GLAMOR), 0
    for count in three.batches(image, boxes):
        for place in range(count):
            one(one_by_one, image, boxes[slot])
            assert all(np.array_equal(three.inputs[name][place], one_by_one.inputs[name][0]) for name in three.inputs)
            slot += 1
    assert (slot, three.batch) == (4, 3)


def test_a_bad_box_is_refused_before_any_face_is_prepared() -> None:
    prepare = EmotionPreprocess(GLAMOR)
    with pytest.raises(InputError, match="lies outside"):
        next(prepare.batches(frame(), [(5, 5, 60, 70), (500, 500, 510, 510)]))
    assert not prepare.inputs["face"].any()


def test_encodings_agree() -> None:
    image, glamor = frame(), EmotionPreprocess(GLAMOR)
    one(glamor, image, (5, 5, 99, 99), "rgb8")
    rgb = {name: array.copy() for name, array in glamor.inputs.items()}
    one(glamor, np.ascontiguousarray(image[..., ::-1]), (5, 5, 99, 99), "bgr8")
    assert all(np.array_equal(glamor.inputs[name], rgb[name]) for name in rgb)
    grey = image[..., 0].copy()
    one(glamor, np.stack([grey] * 3, 2), (5, 5, 99, 99))
    rgb = {name: array.copy() for name, array in glamor.inputs.items()}
    one(glamor, grey, (5, 5, 99, 99), "mono8")
    assert all(np.array_equal(glamor.inputs[name], rgb[name]) for name in rgb)


def test_a_face_net_without_a_face_is_an_error() -> None:
    with pytest.raises(InputError, match="no face was given"):
        one(EmotionPreprocess(LDLVA), frame(), (0, 0, 0, 0))


@pytest.mark.parametrize(
    "specs",
    [
        [CONTEXT_INPUT],
        [*GLAMOR, CONTEXT_INPUT],
        [face_input(96, (0, 1)).model_copy(update={"interpolation": "linear"}), CONTEXT_INPUT],
        [face_input(96, (0, 1)), CONTEXT_INPUT.model_copy(update={"crop": "random"})],
        [face_input(96, (0, 1), 2), CONTEXT_INPUT],
        [face_input(96, (0, 1)), face_input(96, (0, 1)).model_copy(update={"name": "body"})],
    ],
)
def test_other_preparations_are_refused(specs) -> None:
    with pytest.raises(InputError, match=r"the bundle"):
        EmotionPreprocess(specs)
