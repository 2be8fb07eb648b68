"""Faces by YuNet (Wu et al. 2023), whose file is not part of edgeflock: `edgeflock.runtime.faces.yunet_file`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.faces.face import Face
from edgeflock.runtime.faces.search import MIN_FACE, checked, largest_first, scale_of
from edgeflock.runtime.prepare.frame import Encoding, check_image


class YuNetDetector:
    """YuNet (Wu et al. 2023) by OpenCV's own net engine: also turned and partly hidden faces.

    Parameters
    ----------
    model : path
    min_face : float
        See `MIN_FACE`.
    score : float
        Of a face to be kept.

    Raises
    ------
    InputError
        The file is not YuNet.
    """

    def __init__(self, model: str | Path, min_face: float = MIN_FACE, score: float = 0.7) -> None:
        path = Path(model).expanduser()
        if not path.is_file():
            raise InputError(f"expected YuNet's ONNX file, got {path}, which does not exist.")
        try:
            self._net = cv2.FaceDetectorYN.create(str(path), "", (320, 240), score)
            self._net.detect(np.zeros((240, 320, 3), np.uint8))
        except cv2.error as error:
            raise InputError(
                f"expected YuNet's ONNX file, got {path}, which OpenCV {cv2.__version__} does not run as such "
                f"({' '.join(str(error).split())[:200]}): `edgeflock faces get` brings one, for OpenCV 4.8 and newer."
            ) from None
        self._min_face = checked(min_face)
        self._size: tuple[int, int] | None = None

    def __call__(self, image: np.ndarray, encoding: Encoding = "rgb8") -> list[Face]:
        """Faces of a frame; see `FaceDetector`."""
        check_image(image, encoding)
        if self._size != image.shape[:2]:
            self._size = height, width = image.shape[:2]
            self._scale = scale_of(height, width, self._min_face)
            self._small = np.empty((round(height * self._scale), round(width * self._scale), 3), np.uint8)
            self._small_grey, self._bgr = np.empty(self._small.shape[:2], np.uint8), np.empty_like(self._small)
            self._net.setInputSize(self._small.shape[1::-1])
        buffer = self._small if image.ndim == 3 else self._small_grey
        small = cv2.resize(image, self._small.shape[1::-1], dst=buffer, interpolation=cv2.INTER_AREA)
        if encoding != "bgr8":
            code = cv2.COLOR_RGB2BGR if encoding == "rgb8" else cv2.COLOR_GRAY2BGR
            small = cv2.cvtColor(small, code, dst=self._bgr)
        rows = self._net.detect(small)[1]
        least = self._min_face * min(image.shape[:2])
        faces = (
            Face(tuple(v / self._scale for v in (x, y, x + w, y + h)), score)
            for x, y, w, h, *_, score in ([] if rows is None else rows.tolist())
        )
        return largest_first(face for face in faces if face.box[2] - face.box[0] >= least)
