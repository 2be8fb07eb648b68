"""Augmentation for steering and faces: the light of other cameras and hours, and for steering what changes the label.

All effects work on uint8 pixels, so that the net sees what a camera could have delivered.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.frame import CROP, HEIGHT, WIDTH, crop_200

CONTRAST = (0.6, 1.4)
BRIGHTNESS = 40.0  # grey levels, either way
GAMMA = 0.5  # exponent exp(-0.5) .. exp(0.5)
BLUR = (0.3, (0.5, 1.5))  # probability, sigma in px
SHADOW = (0.3, (0.4, 0.8))  # probability, remaining light
CUTOUT = (0.3, (10, 50))  # probability, side in px
NOISE = (0.5, 10.0)  # probability, largest standard deviation in grey levels
EXPOSURE = (0.35, 1.3)  # of a camera beside the one that took the picture, even in the logarithm
TEMPERATURE = 0.3  # exponent of what red gains and blue loses in warm light, either way
GREY = 0.25  # probability of a camera without colour

# Drawing 40,000 normal numbers costs more than all other effects together: every image takes a window of one field.
_FIELD = 2 * CROP
_NOISE_FIELD = np.random.default_rng(0).standard_normal((_FIELD, _FIELD), np.float32)

RAD_PER_PIXEL = 0.002  # of the authors' unused translation helper (`aioz-ai/FADNet`)


def augment(grey: np.ndarray, angle: float, rng: np.random.Generator, shift: int = 0) -> tuple[np.ndarray, float]:
    """One random variation of a frame and the steering angle that belongs to it.

    Parameters
    ----------
    grey : ndarray
        uint8 (240, 320), or (200, 200) if already cropped. Not changed.
    angle : float
        Steering angle in rad, left positive.
    rng : numpy.random.Generator
        The only source of chance.
    shift : int
        Largest shift of the crop window in px, at most 60; 0, the default, for frames recorded off the centre line
        with the expert's own label, as `edgeflock record` makes them. A window further right shows what a camera
        turned to the right would see, so the angle grows by `RAD_PER_PIXEL` for each pixel.

    Returns
    -------
    image : ndarray
        uint8 (200, 200).
    angle : float
        Angle for that image: mirrored images have the opposite sign; light, blur, noise and occlusion change nothing.

    Raises
    ------
    InputError
        Another frame size, or a shift of a frame that is cropped already.
    """
    if shift:
        if grey.shape != (HEIGHT, WIDTH):
            raise InputError(f"shifting needs frames of ({HEIGHT}, {WIDTH}), got {grey.shape}: train with shift 0.")
        pixels = int(rng.integers(-shift, shift + 1))
        left = (WIDTH - CROP) // 2 + pixels
        image, angle = grey[HEIGHT - CROP :, left : left + CROP], angle + RAD_PER_PIXEL * pixels
    else:
        image = crop_200(grey)
    if rng.random() < 0.5:
        image, angle = image[:, ::-1], -angle
    image = cv2.LUT(np.ascontiguousarray(image), _table(_tone(rng)))
    if rng.random() < SHADOW[0]:
        image = _shadow(image, rng)
    if rng.random() < BLUR[0]:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(*BLUR[1]))
    if rng.random() < CUTOUT[0]:
        height, width = rng.integers(*CUTOUT[1], size=2)
        top, left = rng.integers(0, CROP - height), rng.integers(0, CROP - width)
        image[top : top + height, left : left + width] = rng.integers(256)
    return _noisy(image, rng), angle


def relight(images: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Parts of one frame as another camera would have taken it: exposure, contrast, white balance, noise, or grey.

    Parameters
    ----------
    images : sequence of ndarray
        uint8 (h, w, 3), RGB. Not changed. Black pixels stay black: these are masked, or beyond the frame's border.
    rng : numpy.random.Generator
        The only source of chance.
    """
    warm, exposure = rng.uniform(-TEMPERATURE, TEMPERATURE), np.exp(rng.uniform(*np.log(EXPOSURE)))
    table = _table(_tone(rng)[:, None] * (exposure * np.exp([warm, 0, -warm])))
    grey = rng.random() < GREY
    made = []
    for image in images:
        lit = cv2.LUT(image, table[:, None])
        if grey:
            lit = cv2.cvtColor(cv2.cvtColor(lit, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        lit = _noisy(lit, rng)
        lit[~image.any(axis=2)] = 0
        made.append(lit)
    return made


def _tone(rng: np.random.Generator) -> np.ndarray:
    """Gamma, contrast about mid-grey and brightness: what each of the 256 levels becomes, not yet whole levels."""
    curve = 255 * np.linspace(0, 1, 256) ** np.exp(rng.uniform(-GAMMA, GAMMA))
    return (curve - 128) * rng.uniform(*CONTRAST) + 128 + rng.uniform(-BRIGHTNESS, BRIGHTNESS)


def _table(curve: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(curve), 0, 255).astype(np.uint8)


def _noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image, or now and then with a sensor's noise, alike in all channels."""
    if rng.random() >= NOISE[0]:
        return image
    top, left = rng.integers(0, _FIELD - CROP, size=2)
    rows, columns = ((start + np.arange(n)) % _FIELD for start, n in zip((top, left), image.shape, strict=False))
    noise = _NOISE_FIELD[np.ix_(rows, columns)] * np.float32(rng.uniform(0, NOISE[1]))
    return cv2.add(image, noise if image.ndim == 2 else cv2.merge([noise] * 3), dtype=cv2.CV_8U)


def _shadow(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken one side of a random straight edge or the band between two."""
    (a, b), (c, d) = rng.integers(-CROP // 2, CROP + CROP // 2, size=(2, 2))
    corners = np.array([[a, 0], [b, 0], [d, CROP], [c, CROP]], np.int32)
    mask = cv2.fillConvexPoly(np.zeros_like(image), cv2.convexHull(corners), 255)
    dark = cv2.convertScaleAbs(image, alpha=rng.uniform(*SHADOW[1]))
    return cv2.copyTo(dark, mask, image)
