"""Faces of a frame by OpenCV: YuNet where the user gives its ONNX file, otherwise the Haar cascade of OpenCV 4.

Both look at a frame that is shrunk until the smallest face wanted is `SMALLEST` pixels wide: the cost does not depend
on the resolution of the camera. Measured on rendered scenes of 640x480, that finds as many faces as the full frame
(docs/emotion.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.faces.face import Face
from edgeflock.runtime.prepare.frame import Encoding, check_image

MIN_FACE = 0.1
"""Of the frame's shorter side: width of the smallest face that is looked for."""

SMALLEST = 24
"""Pixels of the smallest face in the shrunk frame; the cascade's own window has 20."""

CASCADE = "haarcascade_frontalface_alt2.xml"
CASCADE_FOLDERS = (
    "/usr/share/opencv4/haarcascades",
    "/usr/local/share/opencv4/haarcascades",
    "/usr/share/opencv/haarcascades",
)
"""Where OpenCV's packages of Debian, Ubuntu and JetPack, which have no `cv2.data`, keep the cascades."""

HEAD = (0.0, -0.15, 1.0, 1.08)
"""The cascade's square, as wide as the head, ends between the eyes and the crown and above the chin: its box made the
head's, in widths of the square. Median over 140 rendered scenes."""

WHITE = 0.99
"""Share of a frame's pixels that are darker than what becomes white before the cascade looks at it."""
MOST_GAIN = 32.0
"""A frame that needs more shows its noise, not faces."""

_TO_GREY = {"rgb8": cv2.COLOR_RGB2GRAY, "bgr8": cv2.COLOR_BGR2GRAY}


class FaceDetector(Protocol):
    """Whatever finds faces."""

    def __call__(self, image: np.ndarray, encoding: Encoding = "rgb8") -> list[Face]:
        """Faces of a frame, the largest first, without ids.

        Parameters
        ----------
        image : ndarray
            uint8, (H, W, 3) for rgb8 and bgr8 or (H, W) for mono8.
        encoding : {"rgb8", "bgr8", "mono8"}

        Raises
        ------
        InputError
            The image is none of these.
        """


def open_detector(model: str | Path | None = None, min_face: float = MIN_FACE) -> FaceDetector:
    """Detector that is there: YuNet for a model, else Haar.

    Parameters
    ----------
    model : path, optional
        YuNet's ONNX file (`face_detection_yunet_2023mar.onnx` of OpenCV's model zoo).
    min_face : float
        See `MIN_FACE`.

    Raises
    ------
    InputError
        The file is not YuNet, or `min_face` is not within 0..1.
    MissingExtra
        This OpenCV brings no cascade.
    """
    return HaarDetector(min_face) if model is None else YuNetDetector(model, min_face)


class HaarDetector:
    """Viola and Jones' cascade on the grey frame: upright faces that look at the camera.

    The frame is made as bright as a lit one and equalised by parts (CLAHE), so that faces in the dark and against the
    light are found too; where that shows none, it is only made brighter (docs/emotion.md has how many).

    The score is n / (n + 1) for n overlapping finds; it orders faces, it is no probability.

    Parameters
    ----------
    min_face : float
        See `MIN_FACE`.
    step : float
        Ratio of the sizes that are tried one after the other.
    neighbours : int
        Overlapping finds that make a face; fewer find more, also where there is none.
    """

    def __init__(self, min_face: float = MIN_FACE, step: float = 1.1, neighbours: int = 2) -> None:
        self._cascade = _cascade()
        self._min_face, self._step, self._neighbours = _checked(min_face), step, neighbours
        self._equalise = cv2.createCLAHE(2.0, (8, 8))
        self._size: tuple[int, int] | None = None

    def __call__(self, image: np.ndarray, encoding: Encoding = "rgb8") -> list[Face]:
        """Faces of a frame; see `FaceDetector`."""
        check_image(image, encoding)
        if self._size != image.shape[:2]:
            self._size = height, width = image.shape[:2]
            self._scale = _scale(height, width, self._min_face)
            self._grey = np.empty((height, width), np.uint8)
            self._small = np.empty((round(height * self._scale), round(width * self._scale)), np.uint8)
        grey = image if encoding == "mono8" else cv2.cvtColor(image, _TO_GREY[encoding], dst=self._grey)
        if self._scale != 1:
            grey = cv2.resize(grey, self._small.shape[::-1], dst=self._small, interpolation=cv2.INTER_AREA)
        side = round(self._scale * self._min_face * min(image.shape[:2]))
        bright = _brightened(grey)
        for seen in (self._equalise.apply(bright), bright):
            squares, finds = self._cascade.detectMultiScale2(
                seen, scaleFactor=self._step, minNeighbors=self._neighbours, minSize=(side, side)
            )
            if len(squares):
                break
        return _largest_first(
            Face(tuple((at + part * w) / self._scale for at, part in zip((x, y, x, y), HEAD, strict=True)), n / (n + 1))
            for (x, y, w, _), n in zip(np.array(squares).tolist(), np.ravel(finds).tolist(), strict=True)
        )


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
                f"({' '.join(str(error).split())[:200]}): take face_detection_yunet_2023mar.onnx of OpenCV's model zoo."
            ) from None
        self._min_face = _checked(min_face)
        self._size: tuple[int, int] | None = None

    def __call__(self, image: np.ndarray, encoding: Encoding = "rgb8") -> list[Face]:
        """Faces of a frame; see `FaceDetector`."""
        check_image(image, encoding)
        if self._size != image.shape[:2]:
            self._size = height, width = image.shape[:2]
            self._scale = _scale(height, width, self._min_face)
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
        return _largest_first(face for face in faces if face.box[2] - face.box[0] >= least)


def _brightened(grey: np.ndarray) -> np.ndarray:
    """The frame with `WHITE` of its pixels below white, if no more than `MOST_GAIN` does that."""
    below = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().cumsum()
    white = int(np.searchsorted(below, WHITE * below[-1]))
    return cv2.convertScaleAbs(grey, alpha=min(255 / max(white, 1), MOST_GAIN))


def _cascade() -> cv2.CascadeClassifier:
    if not hasattr(cv2, "CascadeClassifier"):
        raise MissingExtra(
            f"OpenCV {cv2.__version__} has no Haar cascades any more: give YuNet's ONNX file as the detector "
            f'(face_detection_yunet_2023mar.onnx of OpenCV\'s model zoo), or pip install "opencv-python-headless<5".'
        )
    data = getattr(cv2, "data", None)
    folders = [*([data.haarcascades] if data else []), *CASCADE_FOLDERS]
    path = next((path for folder in folders if (path := Path(folder) / CASCADE).is_file()), None)
    if path is None:
        raise MissingExtra.apt(f"The face detector, which looked for {CASCADE} in {', '.join(folders)},", "opencv-data")
    return cv2.CascadeClassifier(str(path))


def _checked(min_face: float) -> float:
    if not 0 < min_face <= 1:
        raise InputError(f"min_face is a share of the frame's shorter side, above 0 and at most 1, got {min_face}.")
    return min_face


def _scale(height: int, width: int, min_face: float) -> float:
    return min(1.0, SMALLEST / (min_face * min(height, width)))


def _largest_first(faces: Iterable[Face]) -> list[Face]:
    # Equal ones by place: the cascade's threads give them in any order.
    return sorted(faces, key=lambda face: ((face.box[0] - face.box[2]) * (face.box[3] - face.box[1]), face.box))
