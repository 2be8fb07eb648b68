"""From a picture of any size to the image input of any net, the same bytes on every board.

What a manifest says of an image input is done in this order: colour, size, place. Size and place are one of three:

    crop None           stretched to the net's size
    crop "centre"       scaled until it covers the net's size, cut around the centre
    crop "letterbox"    scaled until it fits into the net's size, centred, the rest grey (114, as YOLO's own)

The values stay 0..255: what a net subtracts and divides by is part of its graph. Both OpenCV steps are fixed-point
(docs/decisions/0007-exact-preparation.md).
"""

from __future__ import annotations

import cv2
import numpy as np

from edgeflock.runtime.bundle.manifest import ImageInput, InputSpec
from edgeflock.runtime.cameras.encodings import Encoding
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.frame import STEERING_INPUT, FramePreprocess, check_image

INTERPOLATION = "linear_exact"
CROPS = (None, "centre", "letterbox")
PADDING = 114

_CHANNELS = {"grey": 1, "rgb": 3, "bgr": 3}
CONVERSIONS = {
    ("rgb8", "bgr"): cv2.COLOR_RGB2BGR,
    ("rgb8", "grey"): cv2.COLOR_RGB2GRAY,
    ("bgr8", "rgb"): cv2.COLOR_BGR2RGB,
    ("bgr8", "grey"): cv2.COLOR_BGR2GRAY,
    ("mono8", "rgb"): cv2.COLOR_GRAY2RGB,
    ("mono8", "bgr"): cv2.COLOR_GRAY2BGR,
}
"""OpenCV's code by encoding and the net's colours, where they differ."""


def preparation(spec: InputSpec, buffer: np.ndarray | None = None) -> FramePreprocess | ImagePreprocess:
    """What prepares a steering net's frames: FADNet's own way, or that of any other net; errors as for both."""
    ours = all(getattr(spec, field, None) == value for field, value in STEERING_INPUT if field != "name")
    return FramePreprocess(spec, buffer) if ours else ImagePreprocess(spec, buffer)


class ImagePreprocess:
    """Picture to net input.

    Parameters
    ----------
    spec : InputSpec
        The input of the bundle's manifest.
    buffer : ndarray, optional
        Of the shape and type of the spec: where to write; by default one of its own.

    Raises
    ------
    InputError
        The manifest asks for a preparation that this version does not do.
    """

    def __init__(self, spec: InputSpec, buffer: np.ndarray | None = None) -> None:
        size = spec.shape[:0:-1][:2] if isinstance(spec, ImageInput) and len(spec.shape) == 4 else None
        if (
            not isinstance(spec, ImageInput)
            or spec.shape[:2] != (1, _CHANNELS[spec.color])
            or spec.resize != size
            or spec.crop not in CROPS
            or spec.interpolation != INTERPOLATION
            or spec.range != (0, 255)
        ):
            raise InputError(
                f"input '{spec.name}' is {spec}: expected one image (1, C, H, W) of 0..255, resized to WxH by "
                f"{INTERPOLATION}, crop one of {', '.join(map(str, CROPS))}. A newer edgeflock may prepare it; "
                "`edgeflock bench run --scope net` measures the bundle as it is."
            )
        self.spec = spec
        self.buffer = np.zeros(spec.shape, spec.dtype) if buffer is None else buffer

    def __call__(self, image: np.ndarray, encoding: Encoding = "rgb8") -> np.ndarray:
        """Prepare one picture.

        Parameters
        ----------
        image : ndarray
            uint8, (H, W, 3) for rgb8 and bgr8 or (H, W) for mono8; H, W >= 8, any strides.
        encoding : {"rgb8", "bgr8", "mono8"}

        Returns
        -------
        ndarray
            (1, C, H, W), 0..255: `self.buffer`, overwritten by the next call.

        Raises
        ------
        InputError
            Wrong type, dtype, shape or encoding.
        """
        check_image(image, encoding)
        height, width = self.spec.shape[2:]
        image, (top, left) = self._cut(image)
        fewer = self.spec.color == "grey"
        if fewer:  # before the resize: one channel instead of three
            image = self._coloured(image, encoding)
        size = (width - 2 * left, height - 2 * top) if self.spec.crop == "letterbox" else (width, height)
        if image.shape[1::-1] != size:
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT)
        if not fewer:
            image = self._coloured(image, encoding)
        if size != (width, height):
            self.buffer[...] = PADDING
        pixels = image[:, :, None] if image.ndim == 2 else image
        np.copyto(self.buffer[0, :, top : top + size[1], left : left + size[0]], pixels.transpose(2, 0, 1))
        return self.buffer

    def _cut(self, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """The part of a picture that is resized, and how many rows and columns stay grey before it."""
        (height, width), (rows, columns) = self.spec.shape[2:], image.shape[:2]
        if self.spec.crop == "centre":  # whole pixels, so that nothing depends on how a board rounds
            kept = min(rows, max(1, columns * height // width)), min(columns, max(1, rows * width // height))
            top, left = (rows - kept[0]) // 2, (columns - kept[1]) // 2
            return image[top : top + kept[0], left : left + kept[1]], (0, 0)
        if self.spec.crop == "letterbox":
            fitting = min(height, max(1, rows * width // columns)), min(width, max(1, columns * height // rows))
            return image, ((height - fitting[0]) // 2, (width - fitting[1]) // 2)
        return image, (0, 0)

    def _coloured(self, image: np.ndarray, encoding: str) -> np.ndarray:
        conversion = CONVERSIONS.get((encoding, self.spec.color))
        return image if conversion is None else cv2.cvtColor(image, conversion)
