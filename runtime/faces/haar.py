"""Faces by the Haar cascade that OpenCV 4 brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edgeflock.runtime.errors import MissingExtra
from edgeflock.runtime.faces.face import Face
from edgeflock.runtime.faces.search import SMALLEST, Search, Seen, around
from edgeflock.runtime.prepare.frame import Encoding

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


class HaarDetector(Search):
    """Viola and Jones' cascade on the grey frame: faces that look at the camera.

    The frame is made as bright as a lit one and equalised by parts (CLAHE), so that faces in the dark and against the
    light are found too; where that shows none, it is only made brighter. In a picture the finds of all turns count
    together (docs/emotion.md has how many it finds).

    The score is n / (n + 1) for n overlapping finds; it orders faces, it is no probability.

    Parameters
    ----------
    min_face, stream
        See `Search`.
    step : float
        Ratio of the sizes that are tried one after the other.
    neighbours : int
        Overlapping finds beyond which it is a face; fewer find more, also where there is none.
    """

    min_face = 0.05
    turns = (-12.0, 12.0, -24.0, 24.0)
    coarse, most_scale = 320, 1.0

    def __init__(
        self, min_face: float | None = None, stream: bool = False, step: float = 1.1, neighbours: int = 2
    ) -> None:
        super().__init__(min_face, stream)
        self._cascade = _cascade()
        self._step, self._neighbours = step, neighbours
        self._equalise = cv2.createCLAHE(2.0, (8, 8))

    def _seen(self, image: np.ndarray, encoding: Encoding, scale: float, level: int) -> Seen:
        grey = image
        if encoding != "mono8":
            grey = self._into("grey", by=cv2.cvtColor, src=image, code=_TO_GREY[encoding])
        bright = self._brightened(self._resized(grey, scale, level), level)
        return self._into("equal", level, by=self._equalise.apply, src=bright), bright

    def _find(self, seen: Seen, turns: Sequence[float], finer: bool) -> list[Face]:
        most = round(2.5 * SMALLEST) if finer else 0  # 0: as large as there is
        for light in seen:
            squares = [square for turn in turns for square in self._squares(light, turn, most)]
            together, finds = cv2.groupRectangles(squares, self._neighbours, 0.2) if squares else ((), ())
            if len(together):
                break
        return [
            Face(around(x + side / 2, y + side / 2, side, side, HEAD), n / (n + 1))
            for (x, y, side, _), n in zip(np.array(together).tolist(), np.ravel(finds).tolist(), strict=True)
        ]

    def _squares(self, light: np.ndarray, turn: float, most: int) -> list[list[int]]:
        """x, y, side, side of every find, in the upright frame."""
        frame, back = self._turned(light, turn)
        found = self._cascade.detectMultiScale(
            frame, scaleFactor=self._step, minNeighbors=0, minSize=(SMALLEST, SMALLEST), maxSize=(most, most)
        )
        squares = np.reshape(found, (-1, 4)).astype(np.float64)
        centres = (squares[:, :2] + squares[:, 2:] / 2) @ back[:, :2].T + back[:, 2]
        return np.hstack([centres - squares[:, 2:] / 2, squares[:, 2:]]).round().astype(int).tolist()


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
