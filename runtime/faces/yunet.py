"""Faces by YuNet (Wu et al. 2023), whose file is not part of edgeflock: `edgeflock.runtime.faces.yunet_file`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.faces.face import Face
from edgeflock.runtime.faces.search import Search, Seen, around
from edgeflock.runtime.prepare.frame import Encoding

HEAD = (-0.13, -0.17, 1.13, 1.03)
"""YuNet's box ends at the hair and before the ears: its box made the head's, in its widths and heights. Median over 70
rendered scenes."""

_TO_BGR = {"rgb8": cv2.COLOR_RGB2BGR, "mono8": cv2.COLOR_GRAY2BGR}


class YuNetDetector(Search):
    """YuNet (Wu et al. 2023) by OpenCV's own net engine: also turned and partly hidden faces, with their roll.

    Parameters
    ----------
    model : path
    min_face, stream
        See `Search`.
    score : float
        Of a face to be kept.

    Raises
    ------
    InputError
        The file is not YuNet.
    MissingExtra
        This OpenCV is too old for it.
    """

    min_face = 0.02
    turns = (-35.0, 35.0)
    coarse, most_scale = 400, 1.5

    def __init__(
        self, model: str | Path, min_face: float | None = None, stream: bool = False, score: float = 0.6
    ) -> None:
        super().__init__(min_face, stream)
        path = Path(model).expanduser()
        if not path.is_file():
            raise InputError(f"expected YuNet's ONNX file, got {path}, which does not exist.")
        if not hasattr(cv2, "FaceDetectorYN"):
            raise MissingExtra(f'OpenCV {cv2.__version__} runs no YuNet: pip install "opencv-python-headless>=4.8,<5".')
        try:
            self._net = cv2.FaceDetectorYN.create(str(path), "", (320, 240), score)
            self._net.detect(np.zeros((240, 320, 3), np.uint8))
        except cv2.error as error:
            raise InputError(
                f"expected YuNet's ONNX file, got {path}, which OpenCV {cv2.__version__} does not run as such "
                f"({' '.join(str(error).split())[:200]}): `edgeflock faces get` brings one, for OpenCV 4.8 and newer."
            ) from None

    def _seen(self, image: np.ndarray, encoding: Encoding, scale: float, level: int) -> Seen:
        small = self._resized(image, scale, level)
        if encoding != "bgr8":
            small = self._into("bgr", level, by=cv2.cvtColor, src=small, code=_TO_BGR[encoding])
        return (self._brightened(small, level),)

    def _find(self, seen: Seen, turns: Sequence[float], finer: bool) -> list[Face]:
        return [face for turn in turns for face in self._in_turn(seen[0], turn)]

    def _in_turn(self, seen: np.ndarray, turn: float) -> list[Face]:
        frame, back = self._turned(seen, turn)
        self._net.setInputSize(frame.shape[1::-1])
        rows = self._net.detect(frame)[1]
        faces = []
        for x, y, width, height, *eyes_and_more, score in [] if rows is None else rows.tolist():
            middle_x, middle_y = (back @ (x + width / 2, y + height / 2, 1)).tolist()
            right, left = (back @ (*eyes_and_more[at : at + 2], 1) for at in (0, 2))
            roll = math.atan2(left[1] - right[1], left[0] - right[0])
            faces.append(Face(around(middle_x, middle_y, width, height, HEAD), score, roll=roll))
        return faces
