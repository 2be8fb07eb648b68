"""Faces by the Haar cascade that OpenCV 4 brings."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgeflock.runtime.errors import MissingExtra
from edgeflock.runtime.faces.face import Face
from edgeflock.runtime.faces.search import MIN_FACE, brightened, checked, largest_first, scale_of
from edgeflock.runtime.prepare.frame import Encoding, check_image

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

_TO_GREY = {"rgb8": cv2.COLOR_RGB2GRAY, "bgr8": cv2.COLOR_BGR2GRAY}


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
        self._min_face, self._step, self._neighbours = checked(min_face), step, neighbours
        self._equalise = cv2.createCLAHE(2.0, (8, 8))
        self._size: tuple[int, int] | None = None

    def __call__(self, image: np.ndarray, encoding: Encoding = "rgb8") -> list[Face]:
        """Faces of a frame; see `FaceDetector`."""
        check_image(image, encoding)
        if self._size != image.shape[:2]:
            self._size = height, width = image.shape[:2]
            self._scale = scale_of(height, width, self._min_face)
            self._grey = np.empty((height, width), np.uint8)
            self._small = np.empty((round(height * self._scale), round(width * self._scale)), np.uint8)
        grey = image if encoding == "mono8" else cv2.cvtColor(image, _TO_GREY[encoding], dst=self._grey)
        if self._scale != 1:
            grey = cv2.resize(grey, self._small.shape[::-1], dst=self._small, interpolation=cv2.INTER_AREA)
        side = round(self._scale * self._min_face * min(image.shape[:2]))
        bright = brightened(grey)
        for seen in (self._equalise.apply(bright), bright):
            squares, finds = self._cascade.detectMultiScale2(
                seen, scaleFactor=self._step, minNeighbors=self._neighbours, minSize=(side, side)
            )
            if len(squares):
                break
        return largest_first(
            Face(tuple((at + part * w) / self._scale for at, part in zip((x, y, x, y), HEAD, strict=True)), n / (n + 1))
            for (x, y, w, _), n in zip(np.array(squares).tolist(), np.ravel(finds).tolist(), strict=True)
        )


def _cascade() -> cv2.CascadeClassifier:
    if not hasattr(cv2, "CascadeClassifier"):
        raise MissingExtra(
            f"OpenCV {cv2.__version__} has no Haar cascades any more: `edgeflock faces get` brings YuNet, "
            'or pip install "opencv-python-headless<5".'
        )
    data = getattr(cv2, "data", None)
    folders = [*([data.haarcascades] if data else []), *CASCADE_FOLDERS]
    path = next((path for folder in folders if (path := Path(folder) / CASCADE).is_file()), None)
    if path is None:
        raise MissingExtra.apt(f"The face detector, which looked for {CASCADE} in {', '.join(folders)},", "opencv-data")
    return cv2.CascadeClassifier(str(path))
