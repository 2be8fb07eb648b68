"""How a detector goes over a frame: at which sizes, in how much light, upright and turned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.faces.face import Face
from edgeflock.runtime.prepare.frame import Encoding, check_image

STREAM_MIN_FACE = 0.1
"""Of the frame's shorter side: width of the smallest face that is looked for in a stream, by default."""

SMALLEST = 24
"""Pixels of the smallest face in the frame that is looked at; the cascade's own window has 20. The frame is scaled for
that, so the cost does not depend on the resolution of the camera."""

WHITE = 0.99
"""Share of a frame's pixels that are darker than what becomes white before a detector looks at it."""
MOST_GAIN = 32.0
"""A frame that needs more shows its noise, not faces."""

SAME = 0.5
"""Part of the smaller of two finds, in the other one, from which on they are one face: no face lies within another."""

Seen = Sequence[np.ndarray]
"""A frame in the lights that a detector looks at it in, one after the other until it finds something."""


class Search:
    """Base of the detectors: sizes and turns of the frame, and what is made of all finds.

    Parameters
    ----------
    min_face : float, optional
        Width of the smallest face, of the frame's shorter side; by default `STREAM_MIN_FACE` or the class's own
        `min_face`.
    stream : bool
        The frames follow each other, so each of them is to cost little: turned faces are looked for only where no
        upright one is, in one turn per frame, which stays for as long as it shows a face.

    Raises
    ------
    InputError
        `min_face` is not within 0..1.
    """

    min_face: ClassVar[float]
    """Of a picture."""
    turns: ClassVar[tuple[float, ...]]
    """Degrees, counter-clockwise, by which a frame is turned to show heads that are tilted the other way; heads of at
    least twice `min_face` where several sizes of the frame are looked at."""
    coarse: ClassVar[int]
    """Pixels of the shorter side from which on there is no smaller one."""
    most_scale: ClassVar[float]
    """By which a picture is enlarged at most."""

    def __init__(self, min_face: float | None, stream: bool) -> None:
        self._least = min_face if min_face is not None else STREAM_MIN_FACE if stream else self.min_face
        if not 0 < self._least <= 1:
            raise InputError(
                f"min_face is a share of the frame's shorter side, above 0 and at most 1, got {self._least}."
            )
        self._stream, self._turn = stream, 0
        self._buffers: dict[tuple[object, ...], np.ndarray] = {}

    def __call__(self, image: np.ndarray, encoding: Encoding = "rgb8") -> list[Face]:
        """Faces of a frame; see `FaceDetector`."""
        check_image(image, encoding)
        levels = [(scale, self._seen(image, encoding, scale, at)) for at, scale in enumerate(self._scales(image))]
        if not self._stream:
            return self._faces(image, levels, (0.0, *self.turns))
        found = self._faces(image, levels, (0.0,))
        if not found:
            found = self._faces(image, levels, (self.turns[self._turn],))
            if not found:
                self._turn = (self._turn + 1) % len(self.turns)
        return found

    def _seen(self, image: np.ndarray, encoding: Encoding, scale: float, level: int) -> Seen:
        """The frame as the detector looks at it, in the order in which it does; `level` counts the sizes of a frame."""
        raise NotImplementedError

    def _find(self, seen: Seen, turns: Sequence[float], finer: bool) -> list[Face]:
        """Faces in its pixels, in all turns; `finer` where a smaller size of the frame shows the large ones."""
        raise NotImplementedError

    def _into(self, *key: object, by: Callable[..., np.ndarray], **how: Any) -> np.ndarray:
        """What an operation of OpenCV makes, in the array that it made for this key of the frame before."""
        self._buffers[key] = made = by(**how, dst=self._buffers.get(key))
        return made

    def _brightened(self, seen: np.ndarray, level: int) -> np.ndarray:
        """The frame, grey or BGR, with `WHITE` of its pixels below white, if no more than `MOST_GAIN` does that."""
        below = cv2.calcHist([seen], [seen.ndim - 2], None, [256], [0, 256]).ravel().cumsum()  # of colours: green
        white = int(np.searchsorted(below, WHITE * below[-1]))
        gain = min(255 / max(white, 1), MOST_GAIN)
        return self._into("bright", level, by=cv2.convertScaleAbs, src=seen, alpha=gain)

    def _resized(self, image: np.ndarray, scale: float, level: int) -> np.ndarray:
        """The frame, larger or smaller."""
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        if (height, width) == image.shape[:2]:
            return image
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        return self._into("size", level, by=cv2.resize, src=image, dsize=(width, height), interpolation=how)

    def _turned(self, seen: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
        """The whole frame turned counter-clockwise, and the float64 (2, 3) that leads its points back."""
        if not degrees:
            return seen, np.eye(2, 3)
        height, width = seen.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        wide, high = (round(side) for side in np.abs(turn[:, :2]) @ (width, height))
        turn[:, 2] += (wide - width) / 2, (high - height) / 2
        how = {"src": seen, "M": turn, "dsize": (wide, high), "borderMode": cv2.BORDER_REPLICATE}
        return self._into("turned", degrees, by=cv2.warpAffine, **how), cv2.invertAffineTransform(turn)

    def _scales(self, image: np.ndarray) -> list[float]:
        short = min(image.shape[:2])
        scales = [min(1.0 if self._stream else self.most_scale, SMALLEST / (self._least * short))]
        while short * scales[-1] > self.coarse:
            scales.append(scales[-1] / 2)
        return scales

    def _faces(self, image: np.ndarray, levels: Sequence[tuple[float, Seen]], turns: Sequence[float]) -> list[Face]:
        found = []
        for at, (scale, seen) in enumerate(levels):
            finer = at + 1 < len(levels)
            # Where turned frames cost most, at the finest of several sizes, they find least.
            views = [turn for turn in turns if not (turn and finer and at == 0)]
            for face in self._find(seen, views, finer):
                x1, y1, x2, y2 = (edge / scale for edge in face.box)
                found.append(face._replace(box=(x1, y1, x2, y2)))
        least = self._least * min(image.shape[:2])
        return largest_first(merged([face for face in found if face.box[2] - face.box[0] >= least]))


def merged(faces: Sequence[Face]) -> list[Face]:
    """Each face once: of finds that share `SAME` of the smaller one the surest."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_shared(face.box, other.box) < SAME for other in kept):
            kept.append(face)
    return kept


def _shared(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two boxes, the part of the smaller one that lies in the other."""
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    return max(width, 0) * max(height, 0) / min((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b))


def largest_first(faces: Sequence[Face]) -> list[Face]:
    """Faces in the order in which a detector gives them."""
    # Equal ones by place: the cascade's threads give them in any order.
    return sorted(faces, key=lambda face: ((face.box[0] - face.box[2]) * (face.box[3] - face.box[1]), face.box))


def around(x: float, y: float, width: float, height: float, head: Sequence[float]) -> tuple[float, float, float, float]:
    """The head's box by a find's centre and sides, and by the `head`'s edges in widths and heights of the find."""
    left, top = x - width / 2, y - height / 2
    return left + head[0] * width, top + head[1] * height, left + head[2] * width, top + head[3] * height
