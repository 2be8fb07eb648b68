"""What was found, drawn into a copy of the frame: boxes, a bar per emotion, where GLAMOR-Net looked."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edgeflock.runtime.faces.pipeline import FaceEmotion
from edgeflock.runtime.prepare.face import CONTEXT_CROP, CONTEXT_SIZE
from edgeflock.runtime.prepare.frame import Encoding, check_image

_TO_RGB = {"bgr8": cv2.COLOR_BGR2RGB, "mono8": cv2.COLOR_GRAY2RGB}
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GLOW = (255, 120, 0)
_COLOURS = (
    (230, 80, 80),
    (120, 190, 90),
    (170, 120, 220),
    (250, 190, 60),
    (190, 190, 190),
    (90, 150, 240),
    (80, 210, 210),
)


def annotate(
    image: np.ndarray, results: Sequence[FaceEmotion], encoding: Encoding = "rgb8", attention: bool = True
) -> np.ndarray:
    """Draw the answers of `EmotionPipeline`.

    Parameters
    ----------
    image : ndarray
        The frame, uint8, (H, W, 3) for rgb8 and bgr8 or (H, W) for mono8.
    results : sequence of FaceEmotion
    encoding : {"rgb8", "bgr8", "mono8"}
        Of the frame.
    attention : bool
        Whether to lighten what the net looked at, the mean over the faces.

    Returns
    -------
    ndarray
        uint8 (H, W, 3), RGB whatever the frame is.
    """
    check_image(image, encoding)
    out = image.copy() if encoding == "rgb8" else cv2.cvtColor(image, _TO_RGB[encoding])
    maps = [result.emotion.attention for result in results if result.emotion.attention is not None]
    if attention and maps:
        _glow(out, np.mean(maps, 0))
    for result in results:
        _face(out, result)
    return out


def _glow(out: np.ndarray, attention: np.ndarray) -> None:
    height, width = out.shape[:2]
    (top, bottom), (left, right) = (
        (part.start * whole // small, part.stop * whole // small)
        for part, whole, small in zip(CONTEXT_CROP, (height, width), CONTEXT_SIZE[::-1], strict=True)
    )
    heat = cv2.resize(attention / attention.max(), (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    glow = (heat[:, :, None] * np.array(_GLOW, np.float32)).astype(np.uint8)
    region = out[top:bottom, left:right]
    region[:] = cv2.addWeighted(region, 0.7, glow, 0.5, 0)


def _face(out: np.ndarray, result: FaceEmotion) -> None:
    height, width = out.shape[:2]
    x1, y1, x2, y2 = (round(v) for v in result.face.box)
    labels = list(result.distribution)
    colour = _COLOURS[labels.index(result.label) % len(_COLOURS)]
    size = max(0.35, min(height, width) / 1200)
    line = round(32 * size)
    cv2.rectangle(out, (x1, y1), (x2, y2), colour, max(1, round(4 * size)))
    title = f"{result.label} {result.confidence:.2f}"
    if result.face.id is not None:
        title = f"#{result.face.id} {title}"
    _text(out, title, x1, max(y1 - line // 3, line), size, (0, 0, 0), 3)
    _text(out, title, x1, max(y1 - line // 3, line), size)
    panel, tall = round(240 * size), line * len(labels)
    left = min(max(x1, 0), max(width - panel, 0))
    below = y2 + 4 if y2 + 4 + tall <= height else y1 - line - 4 - tall
    top = min(max(below, 0), max(height - tall, 0))
    area = out[top : top + tall, left : left + panel]
    area[:] = area // 3
    start = left + round(0.56 * panel)
    for row, (label, value) in enumerate(result.distribution.items()):
        base = top + row * line
        end = start + round((left + panel - 3 - start) * value)
        cv2.rectangle(out, (start, base + 3), (end, base + line - 3), _COLOURS[row % len(_COLOURS)], cv2.FILLED)
        _text(out, label, left + 3, base + line - line // 3, size)


def _text(
    out: np.ndarray,
    text: str,
    x: int,
    y: int,
    size: float,
    colour: tuple[int, int, int] = (255, 255, 255),
    width: int = 1,
) -> None:
    cv2.putText(out, text, (x, y), _FONT, size, colour, width, cv2.LINE_AA)
