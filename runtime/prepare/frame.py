"""From a camera frame to the net's input, the same bytes on every board and in every data set.

Grey conversion, then resize to 320x240 (w x h), then the authors' 200x200 crop: horizontally centred, bottom-aligned
(`aioz-ai/FADNet`). The pixels stay 0..255; normalisation is part of the net. Both OpenCV steps are fixed-point:
15-bit grey weights and INTER_LINEAR_EXACT, which agree bit for bit between ARM and x86, where INTER_LINEAR and
INTER_AREA do not (docs/decisions/0007-exact-preparation.md).
"""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np

from edgeflock.runtime.bundle.manifest import ImageInput, InputSpec, TrainedCamera
from edgeflock.runtime.cameras.encodings import Encoding
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount
from edgeflock.runtime.prepare.view import CanonicalView

WIDTH, HEIGHT = 320, 240
CROP = 200
MIN_SIDE = 8

STEERING_INPUT = ImageInput(
    name="image",
    shape=(1, 1, CROP, CROP),
    color="grey",
    resize=(WIDTH, HEIGHT),
    crop="bottom-centre 200x200",
    interpolation="linear_exact",
    range=(0, 255),
)
"""What every steering net takes."""

_TO_GREY = {"rgb8": cv2.COLOR_RGB2GRAY, "bgr8": cv2.COLOR_BGR2GRAY}


def grey_320x240(image: np.ndarray, encoding: Encoding = "rgb8") -> np.ndarray:
    """Grey, resized frame as the data sets store it.

    Parameters
    ----------
    image : ndarray
        uint8, (H, W, 3) for rgb8 and bgr8 or (H, W) for mono8; H, W >= 8, any strides.
    encoding : {"rgb8", "bgr8", "mono8"}
        Channel order, by its ROS name.

    Returns
    -------
    ndarray
        uint8 (240, 320), newly allocated.

    Raises
    ------
    InputError
        Wrong type, dtype, shape or encoding.
    """
    check_image(image, encoding)
    return _resize(_grey(image, encoding, None), None)


def squeezed(width: int, height: int) -> str | None:
    """What to tell about frames that are no 4:3, or None: `grey_320x240` changes their aspect."""
    aspect = width / height * HEIGHT / WIDTH
    if abs(aspect - 1) < 0.02:
        return None
    side = "width" if aspect > 1 else "height"
    return (
        f"frames of {width}x{height} are squeezed to 4:3, by {max(aspect, 1 / aspect):.2f} in {side}: record 4:3, or "
        "train on frames of this camera"
    )


def crop_200(grey: np.ndarray) -> np.ndarray:
    """View (200, 200) of a (240, 320) grey frame: horizontally centred, bottom-aligned; (200, 200) stays as it is."""
    if grey.shape == (CROP, CROP):
        return grey
    if grey.shape != (HEIGHT, WIDTH):
        raise InputError(
            f"crop_200 takes a ({HEIGHT}, {WIDTH}) frame, got shape {grey.shape}: pass it through grey_320x240 first."
        )
    left = (WIDTH - CROP) // 2
    return grey[HEIGHT - CROP :, left : left + CROP]


class FramePreprocess:
    """Frame to net input, into buffers that are allocated once per frame size.

    Parameters
    ----------
    spec : InputSpec
        The input of the bundle's manifest.
    buffer : ndarray, optional
        float32, of the shape of the spec: where to write; by default one of its own.

    Raises
    ------
    InputError
        The manifest asks for a preparation that this version does not do.

    Attributes
    ----------
    view : CanonicalView or None
        To which frames are brought; None: they are resized as they are.
    """

    def __init__(self, spec: InputSpec = STEERING_INPUT, buffer: np.ndarray | None = None) -> None:
        known = STEERING_INPUT.model_copy(update={"name": spec.name})
        for field, value in known:
            if getattr(spec, field) != value:
                raise InputError(
                    f"input '{spec.name}' of the bundle wants {field}={getattr(spec, field)!r}, this edgeflock "
                    f"prepares frames with {field}={value!r} only. Let the net itself begin with what makes the one of "
                    f"the other and export it again; `edgeflock bench run --scope net` measures the bundle as it is."
                )
        self.spec = spec
        self.buffer = np.zeros(spec.shape, np.float32) if buffer is None else buffer
        self.view: CanonicalView | None = None
        self._size: tuple[int, int] | None = None

    def look_through(self, trained: TrainedCamera, camera: Intrinsics, mount: Mount) -> CanonicalView:
        """Bring frames of this camera at this mount to the view of the trained one, from the next one on.

        Raises
        ------
        InputError
            See `CanonicalView`; frames are then taken as they are.
        """
        self.view = self._size = None
        crop = (WIDTH - CROP) // 2, HEIGHT - CROP, CROP, CROP
        self.view = CanonicalView(trained, camera, mount, crop, (WIDTH, HEIGHT))
        return self.view

    def __call__(self, image: np.ndarray, encoding: Encoding = "rgb8") -> np.ndarray:
        """Prepare one frame.

        Parameters
        ----------
        image, encoding
            As for `grey_320x240`.

        Returns
        -------
        ndarray
            float32 (1, 1, 200, 200), 0..255: `self.buffer`, overwritten by the next call.

        Raises
        ------
        InputError
            Wrong type, dtype, shape or encoding, or not the size of the camera that it looks through; the buffer then
            keeps the last good frame.
        """
        check_image(image, encoding)
        if self._size != image.shape[:2]:
            self._allocate(*image.shape[:2])
        grey = _grey(image[self._seen], encoding, self._full)
        if self.view is not None:
            self.view(grey, self._small)
        else:
            cv2.resize(grey, self._small.shape[::-1], dst=self._small, interpolation=cv2.INTER_LINEAR_EXACT)
        np.copyto(self.buffer[0, 0], self._window)
        return self.buffer

    def _allocate(self, height: int, width: int) -> None:
        if self.view is not None and (height, width) != (self.view.camera.height, self.view.camera.width):
            raise InputError(
                f"expected frames of the camera's {self.view.camera.width}x{self.view.camera.height}, got "
                f"{width}x{height}: image and camera_info must be of one stream."
            )
        self._size = height, width
        seen = self.view.seen if self.view else crop_source(height, width)
        self._seen = seen or (slice(0, height), slice(0, width))
        rows, columns = self._seen
        self._full = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        self._small = np.empty((CROP, CROP) if seen else (HEIGHT, WIDTH), np.uint8)
        self._window = crop_200(self._small)


def crop_source(height: int, width: int) -> tuple[slice, slice] | None:
    """Rows and columns of a frame that alone make up its 200x200 crop; None where the whole frame has to be resized.

    With a width divisible by 16 and a height divisible by 6, as of nearly every camera, the crop begins and ends at
    whole pixels of the frame; not enlarged, its pixels depend on nothing outside. Resized alone, its sample points are
    the same numbers, multiples of 1/40 and 1/80 of a pixel, which are never half-way between two of the 256 weights of
    INTER_LINEAR_EXACT: the bytes are identical, and half of the frame is never touched.
    """
    if width < WIDTH or height < HEIGHT or width % 16 or height % 6:
        return None
    left, top = (WIDTH - CROP) // 2 * width // WIDTH, (HEIGHT - CROP) * height // HEIGHT
    return slice(top, height), slice(left, left + CROP * width // WIDTH)


def check_image(image: np.ndarray, encoding: str) -> None:
    """Refuse, with an InputError, what is not an image of this encoding with sides of at least `MIN_SIDE`."""
    if encoding not in get_args(Encoding):
        raise InputError(f"image encoding must be one of {', '.join(get_args(Encoding))}, got {encoding!r}.")
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image must be a numpy array, got {type(image).__name__}: use numpy.asarray.")
    if image.dtype != np.uint8:
        raise InputError(f"an image must be uint8 with values 0..255, got dtype {image.dtype}.")
    channels: tuple[int, ...] = () if encoding == "mono8" else (3,)
    if image.ndim != 2 + len(channels) or image.shape[2:] != channels or min(image.shape[:2]) < MIN_SIDE:
        wanted = ", ".join(["H", "W", *map(str, channels)])
        raise InputError(
            f"a {encoding} image must have shape ({wanted}) with H and W at least {MIN_SIDE}, got {image.shape}."
        )


def _grey(image: np.ndarray, encoding: str, out: np.ndarray | None) -> np.ndarray:
    return image if encoding == "mono8" else cv2.cvtColor(image, _TO_GREY[encoding], dst=out)


def _resize(grey: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    return cv2.resize(grey, (WIDTH, HEIGHT), dst=out, interpolation=cv2.INTER_LINEAR_EXACT)
