"""What all detectors share: how small a face is looked for, in how much light, and in which order faces are given."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.faces.face import Face

MIN_FACE = 0.1
"""Of the frame's shorter side: width of the smallest face that is looked for."""

SMALLEST = 24
"""Pixels of the smallest face in the shrunk frame; the cascade's own window has 20. So the cost does not depend on the
resolution of the camera, and on rendered scenes of 640x480 as many faces are found as in the full frame."""

WHITE = 0.99
"""Share of a frame's pixels that are darker than what becomes white before the cascade looks at it."""
MOST_GAIN = 32.0
"""A frame that needs more shows its noise, not faces."""


def brightened(grey: np.ndarray) -> np.ndarray:
    """The frame with `WHITE` of its pixels below white, if no more than `MOST_GAIN` does that."""
    below = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().cumsum()
    white = int(np.searchsorted(below, WHITE * below[-1]))
    return cv2.convertScaleAbs(grey, alpha=min(255 / max(white, 1), MOST_GAIN))


def checked(min_face: float) -> float:
    """`min_face`, or an InputError where it is no share."""
    if not 0 < min_face <= 1:
        raise InputError(f"min_face is a share of the frame's shorter side, above 0 and at most 1, got {min_face}.")
    return min_face


def scale_of(height: int, width: int, min_face: float) -> float:
    """By what a frame is shrunk so that the smallest face has `SMALLEST` pixels."""
    return min(1.0, SMALLEST / (min_face * min(height, width)))


def largest_first(faces: Iterable[Face]) -> list[Face]:
    """Faces in the order in which a detector gives them."""
    # Equal ones by place: the cascade's threads give them in any order.
    return sorted(faces, key=lambda face: ((face.box[0] - face.box[2]) * (face.box[3] - face.box[1]), face.box))
