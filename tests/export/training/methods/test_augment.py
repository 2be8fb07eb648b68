"""Augmentation: the label changes with the geometry and with nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgeflock.export.training.methods import augment as module
from edgeflock.export.training.methods.augment import RAD_PER_PIXEL, augment
from edgeflock.runtime.errors import InputError

DRAWS = 200


@pytest.fixture
def geometry_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONTRAST", (1.0, 1.0))
    monkeypatch.setattr(module, "BRIGHTNESS", 0.0)
    monkeypatch.setattr(module, "GAMMA", 0.0)
    for effect in ("BLUR", "SHADOW", "CUTOUT", "NOISE"):
        monkeypatch.setattr(module, effect, (0.0, getattr(module, effect)[1]))


def ramp() -> np.ndarray:
    """Grey value = column // 2, so that every window and its mirror image can be told."""
    return np.tile((np.arange(320) // 2).astype(np.uint8), (240, 1))


def test_mirrored_images_have_the_opposite_sign(geometry_only: None) -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(DRAWS):
        image, angle = augment(ramp(), 0.2, rng)
        mirrored = bool(image[0, 0] > image[0, -1])
        assert angle == (-0.2 if mirrored else 0.2)
        np.testing.assert_array_equal(image[:, ::-1] if mirrored else image, ramp()[40:, 60:260])
        seen.add(mirrored)
    assert seen == {False, True}


def test_shifted_window_to_the_right_steers_more_to_the_left(geometry_only: None) -> None:
    rng = np.random.default_rng(0)
    frame = np.tile(np.concatenate([np.zeros(160), np.full(160, 255)]).astype(np.uint8), (240, 1))
    shifts = []
    for _ in range(DRAWS):
        image, angle = augment(frame, 0.0, rng, shift=20)
        if image[0, 0]:
            image, angle = image[:, ::-1], -angle
        edge = int(np.argmax(image[0] > 0))  # 100 in the centred window
        shifts.append(100 - edge)
        assert angle == pytest.approx(RAD_PER_PIXEL * shifts[-1])
    assert min(shifts) == -20 and max(shifts) == 20


def test_light_blur_noise_and_occlusion_change_pixels_but_not_the_angle() -> None:
    frame = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (240, 320), np.uint8), (0, 0), 5)
    original, rng = frame.copy(), np.random.default_rng(2)
    images = []
    for _ in range(DRAWS):
        image, angle = augment(frame, 0.3, rng)
        assert image.shape == (200, 200) and image.dtype == np.uint8 and abs(angle) == 0.3
        images.append(image)
    assert np.array_equal(frame, original)
    assert len({image.tobytes() for image in images}) == DRAWS


def test_same_seed_same_image() -> None:
    draws = [augment(ramp(), 0.1, np.random.default_rng(7), shift=10) for _ in range(2)]
    assert np.array_equal(draws[0][0], draws[1][0]) and draws[0][1] == draws[1][1]


def test_takes_frames_that_are_cropped_already(geometry_only: None) -> None:
    cropped = np.ascontiguousarray(ramp()[40:, 60:260])
    for seed in range(4):
        whole, part = (augment(frame, 0.1, np.random.default_rng(seed)) for frame in (ramp(), cropped))
        assert np.array_equal(whole[0], part[0]) and whole[1] == part[1]


def test_cropped_frames_cannot_be_shifted() -> None:
    with pytest.raises(InputError, match="shift 0"):
        augment(np.zeros((200, 200), np.uint8), 0.0, np.random.default_rng(0), shift=5)
