"""Rendered faces and scenes with a known emotion: synthetic.

They are for tests, and for nets that must run before real data is at hand. Nothing measured on them says how well a net
reads people. A sample depends on the seed and its own number alone, so the first n of a longer set are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import cv2
import numpy as np

from edgeflock.export.datasets.synthetic.head import ACTION_UNITS, Head
from edgeflock.export.datasets.synthetic.scenery import draw_body, draw_scenery
from edgeflock.runtime.errors import InputError

EMOTIONS = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
"""Names that the labels are indices of, alphabetical as GLAMOR-Net's; other nets' orders are matched by name."""

# Which action units make an expression (EMFACS), and how strong they are at its peak.
_EXPRESSIONS: dict[str, dict[str, float]] = {
    "Anger": {"AU4": 1.0, "AU5": 0.4, "AU7": 0.8, "AU23": 0.9, "AU17": 0.3},
    "Disgust": {"AU9": 1.0, "AU10": 0.9, "AU4": 0.4, "AU15": 0.3, "AU17": 0.4, "AU7": 0.3},
    "Fear": {"AU1": 0.9, "AU2": 0.5, "AU4": 0.5, "AU5": 1.0, "AU20": 0.9, "AU25": 0.9},
    "Happy": {"AU6": 0.9, "AU12": 1.0, "AU25": 0.6},
    "Neutral": {},
    "Sad": {"AU1": 0.9, "AU4": 0.6, "AU15": 1.0, "AU17": 0.5},
    "Surprise": {"AU1": 0.9, "AU2": 1.0, "AU5": 0.9, "AU26": 1.0, "AU25": 0.5},
}

_CIRCUMPLEX = {
    "Anger": (-0.51, 0.59),
    "Disgust": (-0.60, 0.35),
    "Fear": (-0.64, 0.60),
    "Happy": (0.76, 0.48),
    "Neutral": (0.0, 0.0),
    "Sad": (-0.63, -0.27),
    "Surprise": (0.40, 0.67),
}
"""Valence and arousal of an expression at its peak: pleasure and arousal as people rated the emotions' names (Russell
and Mehrabian 1977, "Evidence for a three-factor theory of emotions"; "joyful" for Happy). Neutral is the origin."""

SCENE = (240, 320)
CUE = 0.75
"""Share of scenes whose surroundings fit the emotion; the others show those of any emotion."""


def rendered_faces(n: int, seed: int, size: int = 112) -> tuple[np.ndarray, np.ndarray]:
    """Portraits, cropped around the face.

    Parameters
    ----------
    n : int
    seed : int
    size : int
        Side in pixels.

    Returns
    -------
    images : ndarray
        uint8 (n, size, size, 3), RGB.
    labels : ndarray
        int64 (n,), indices into `EMOTIONS`; as many of each as n allows.
    """
    images, labels = np.empty((n, size, size, 3), np.uint8), np.empty(n, np.int64)
    for i, (image, label, _) in enumerate(each_face(n, seed, size)):
        images[i], labels[i] = image, label
    return images, labels


def rendered_scenes(n: int, seed: int, size: tuple[int, int] = SCENE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One person each, in surroundings that mostly fit the emotion (`CUE`); face and surroundings both carry it.

    Parameters
    ----------
    n : int
    seed : int
    size : tuple of int
        Height and width in pixels.

    Returns
    -------
    images : ndarray
        uint8 (n, height, width, 3), RGB.
    boxes : ndarray
        int64 (n, 4): x1, y1, x2, y2 of the face in pixels, x2 and y2 excluded; some are cut by the border.
    labels : ndarray
        int64 (n,), indices into `EMOTIONS`.
    """
    images, boxes, labels = np.empty((n, *size, 3), np.uint8), np.empty((n, 4), np.int64), np.empty(n, np.int64)
    for i, (image, box, label, _) in enumerate(each_scene(n, seed, size)):
        images[i], boxes[i], labels[i] = image, box, label
    return images, boxes, labels


def each_face(n: int, seed: int, size: int = 112) -> Iterator[tuple[np.ndarray, int, tuple[float, float]]]:
    """Image and label of `rendered_faces` and what `shown_affect` says of it, one after the other."""
    _check(size)
    for i, label in enumerate(_labels(n, seed)):
        rng = np.random.default_rng([seed, i, 1])
        image = np.empty((size, size, 3), np.uint8)
        units = expression(EMOTIONS[label], rng)
        head = Head.random(rng, units)
        _backdrop(image, rng)
        scale = size * rng.uniform(0.42, 0.52)
        centre = (size / 2 + rng.normal(0, 0.03) * size, size * 0.5 + rng.normal(0, 0.03) * size)
        draw_body(image, rng, centre, scale, head.skin, "Neutral")
        head.draw(image, centre, scale)
        _light(image, rng)
        yield image, int(label), shown_affect(units)


def each_scene(
    n: int, seed: int, size: tuple[int, int] = SCENE
) -> Iterator[tuple[np.ndarray, tuple[int, int, int, int], int, tuple[float, float]]]:
    """Image, box and label of `rendered_scenes` and what `shown_affect` says of the face, one after the other."""
    height, width = size
    _check(min(size))
    for i, label in enumerate(_labels(n, seed)):
        rng = np.random.default_rng([seed, i, 2])
        image = np.empty((height, width, 3), np.uint8)
        emotion = EMOTIONS[label]
        cue = emotion if rng.random() < CUE else EMOTIONS[rng.integers(len(EMOTIONS))]
        draw_scenery(image, rng, cue)
        scale = height * rng.uniform(0.15, 0.25)
        x, y = width * rng.uniform(0.12, 0.88), height * rng.uniform(0.3, 0.5)
        units = expression(emotion, rng)
        head = Head.random(rng, units)
        draw_body(image, rng, (x, y), scale, head.skin, cue)
        head.draw(image, (x, y), scale)
        _light(image, rng)
        left, right = (int(np.clip(x + side * 0.86 * scale, 0, width)) for side in (-1, 1))
        top, bottom = int(max(y - scale, 0)), int(min(y + 1.05 * scale, height))
        yield image, (left, top, right, bottom), int(label), shown_affect(units)


def expression(emotion: str, rng: np.random.Generator) -> dict[str, float]:
    """Action units of one person who shows an emotion: each weaker or stronger, and a little of everything else."""
    strength = rng.uniform(0.55, 1.1)
    units = {name: float(max(0, rng.normal(0, 0.07))) for name in ACTION_UNITS}
    if emotion != "Happy" and emotion != "Surprise":
        units["AU26"] *= 0.3
    for name, peak in _EXPRESSIONS[emotion].items():
        units[name] = float(np.clip(peak * strength * rng.uniform(0.75, 1.25), 0, 1.2))
    return units


_PEAKS = np.array([[_EXPRESSIONS[name].get(unit, 0.0) for unit in ACTION_UNITS] for name in EMOTIONS])
_FROM_UNITS = np.linalg.pinv(_PEAKS)  # (15, 7): how much of each expression least squares find in the units
_AT_PEAK = np.array([_CIRCUMPLEX[name] for name in EMOTIONS])


def shown_affect(units: Mapping[str, float]) -> tuple[float, float]:
    """Valence and arousal, each in [-1, 1], of a drawn face: exact by definition, and synthetic like the face.

    The face is taken apart into expressions, least squares over its action units, and each pulls from the centre of the
    circumplex towards its own place as strongly as it shows. So the intensity counts, and faces of one emotion differ;
    the label does not enter.
    """
    shares = np.maximum(np.array([units[name] for name in ACTION_UNITS]) @ _FROM_UNITS, 0)
    valence, arousal = np.clip(shares @ _AT_PEAK, -1, 1)
    return float(valence), float(arousal)


def _labels(n: int, seed: int) -> np.ndarray:
    """Emotions in turn, each group of seven shuffled by itself, so that every beginning is balanced."""
    groups = [
        np.random.default_rng([seed, group]).permutation(len(EMOTIONS)) for group in range(-(-n // len(EMOTIONS)))
    ]
    return np.concatenate([*groups, np.empty(0, np.int64)])[:n].astype(np.int64)


def _check(side: int) -> None:
    if side < 32:
        raise InputError(f"images must have at least 32 pixels on a side, got {side}.")


def _backdrop(image: np.ndarray, rng: np.random.Generator) -> None:
    """Two blurred colours with a few blobs."""
    size = len(image)
    coarse = rng.uniform(30, 230, (4, 4, 3)) * rng.uniform(0.5, 1) + rng.uniform(0, 40)
    image[:] = cv2.resize(np.clip(coarse, 0, 255).astype(np.uint8), (size, size), interpolation=cv2.INTER_CUBIC)


def _light(image: np.ndarray, rng: np.random.Generator) -> None:
    """Light from one side, exposure, colour of the light, blur, and noise of the sensor; in place."""
    height, width = image.shape[:2]
    angle, contrast = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35)
    gain = rng.uniform(0.7, 1.15) * rng.uniform(0.93, 1.07, 3)
    ramp_x = np.linspace(-1, 1, width, dtype=np.float32) * np.cos(angle)
    ramp_y = np.linspace(-1, 1, height, dtype=np.float32) * np.sin(angle)
    field = 1 + contrast * (ramp_y[:, None] + ramp_x[None])
    lit = image * field[:, :, None] * gain.astype(np.float32)
    if rng.random() < 0.4:
        lit = cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.4, 1.2) * height / 112)
    noise = rng.standard_normal((height, width), np.float32)[:, :, None] * np.float32(rng.uniform(1, 6))
    np.clip(lit + noise, 0, 255, out=lit)
    image[:] = lit
