"""Faces of a frame by OpenCV: YuNet where its file is, otherwise the Haar cascade of OpenCV 4."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.faces import yunet_file
from edgeflock.runtime.faces.face import Face
from edgeflock.runtime.faces.haar import HaarDetector
from edgeflock.runtime.faces.yunet import YuNetDetector
from edgeflock.runtime.prepare.frame import Encoding


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


def open_detector(
    detector: str | Path = "auto",
    min_face: float | None = None,
    stream: bool = False,
    say: Callable[[str], object] | None = None,
) -> FaceDetector:
    """Detector of that name.

    Parameters
    ----------
    detector : {"auto", "cascade"} or path
        YuNet's ONNX file; "cascade": OpenCV's Haar cascade; "auto": YuNet where its file is
        (`edgeflock.runtime.faces.yunet_file`), else the cascade.
    min_face, stream
        See `edgeflock.runtime.faces.search.Search`.
    say : callable, optional
        Is told why "auto" took the cascade, and how YuNet comes here.

    Raises
    ------
    InputError
        The file is not YuNet, or `min_face` is not within 0..1.
    MissingExtra
        This OpenCV brings no cascade, or does not run YuNet.
    """
    if detector == "cascade":
        return HaarDetector(min_face, stream)
    if detector != "auto":
        if not str(detector):
            raise InputError("expected a face detector: auto, cascade, or YuNet's ONNX file, got an empty name.")
        return YuNetDetector(detector, min_face, stream)
    path, reason = yunet_file.find()
    if path is not None:
        try:
            return YuNetDetector(path, min_face, stream)
        except (InputError, MissingExtra) as error:
            reason = str(error)
    if say is not None:
        say(f"Faces by OpenCV's cascade, which misses turned and small ones: {reason}")
    return HaarDetector(min_face, stream)
