"""From a frame and a face box to what the emotion nets take, the same bytes on every board and in training.

Both steps are exact between ARM and x86: INTER_LINEAR_EXACT (docs/decisions/0007), then one product and one sum per
value. Source of the context's preparation: `minhnhatvt/glamor-net`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from edgeflock.runtime.bundle.manifest import Color, ImageInput, InputSpec
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.frame import Encoding, check_image
from edgeflock.runtime.prepare.image import CONVERSIONS

Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels, x2 and y2 excluded; it may reach beyond the frame."""

UPRIGHT = 0.26
"""rad: a head that is tilted by no more is read as it is, as in training."""

CONTEXT_SIZE = (171, 128)  # w x h of the whole frame
CONTEXT_CROP = (slice(8, 120), slice(29, 141))  # rows, columns: the centre 112x112


def face_input(size: int, range_: tuple[float, float], batch: int = 1, color: Color = "rgb") -> ImageInput:
    """A face net's input: the box, stretched to a square; black where it reaches beyond the frame."""
    return ImageInput(
        name="face",
        shape=(batch, 1 if color == "grey" else 3, size, size),
        color=color,
        resize=(size, size),
        crop="face box",
        interpolation="linear_exact",
        range=range_,
    )


CONTEXT_INPUT = ImageInput(
    name="context",
    shape=(1, 3, 112, 112),
    color="rgb",
    resize=CONTEXT_SIZE,
    crop="face box black, rows 8:120, columns 29:141",
    interpolation="linear_exact",
    range=(0, 1),
)
"""GLAMOR-Net's second input, of one face."""


def context_input(batch: int) -> ImageInput:
    """`CONTEXT_INPUT` of several faces at once."""
    return CONTEXT_INPUT.model_copy(update={"shape": (batch, *CONTEXT_INPUT.shape[1:])})


def face_box(box: Sequence[float] | np.ndarray | None, image: np.ndarray) -> Box | None:
    """Check a box and round it outwards to whole pixels.

    Parameters
    ----------
    box : sequence of 4 float or None
        x1, y1, x2, y2 in pixels of the image, x2 and y2 excluded. None and (0, 0, 0, 0) mean: no face.
    image : ndarray
        (H, W) or (H, W, 3).

    Returns
    -------
    tuple of int or None

    Raises
    ------
    InputError
        Not four finite numbers, nothing in it, or no part of it inside the image.
    """
    if box is None:
        return None
    values = [float(value) for value in box]
    if len(values) != 4 or not all(math.isfinite(value) for value in values):
        raise InputError(f"a face box must be 4 finite numbers x1, y1, x2, y2 in pixels, got {tuple(values)}.")
    if not any(values):
        return None
    height, width = image.shape[:2]
    x1, y1, x2, y2 = values
    if not (x1 < x2 and y1 < y2):
        raise InputError(f"a face box must have x1 < x2 and y1 < y2, got {tuple(values)}: is it x, y, width, height?")
    if not (x1 < width and y1 < height and x2 > 0 and y2 > 0):
        raise InputError(f"the face box {tuple(values)} lies outside the image of {width}x{height} pixels (w x h).")
    return math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)


def crop_face(image: np.ndarray, box: Box, out: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Stretch the box to `out`, uint8 (size, size) or (size, size, 3); black where it reaches beyond the image.

    A head whose `roll` (rad, clockwise) is beyond `UPRIGHT` is turned upright about the middle of its box, which OpenCV
    does not promise to do with the same bytes on every board.
    """
    size = len(out)
    if abs(roll) > UPRIGHT:
        return cv2.warpAffine(
            image, _upright(box, roll, size), (size, size), dst=out, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
    (left, right, x1, x2), (top, bottom, y1, y2) = (
        _visible(box[axis], box[axis + 2], image.shape[1 - axis], size) for axis in (0, 1)
    )
    target = out[y1:y2, x1:x2]
    if target.shape != out.shape:
        out[:] = 0
    part = image[top:bottom, left:right]
    if target.shape == out.shape:
        cv2.resize(part, (size, size), dst=out, interpolation=cv2.INTER_LINEAR_EXACT)
    else:  # OpenCV would not write into a part of `out`; faces at the border cost one small array
        target[:] = cv2.resize(part, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR_EXACT)
    return out


def _upright(box: Box, roll: float, size: int) -> np.ndarray:
    """float64 (2, 3): from pixels of the crop to those of the image, where whole numbers are the middles of pixels."""
    cos, sin = math.cos(roll), math.sin(roll)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([box[2] - box[0], box[3] - box[1]]) / size
    middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    return np.column_stack([linear, middle - 0.5 - linear @ np.full(2, (size - 1) / 2)])


def masked_context(image: np.ndarray, box: Box | None, out: np.ndarray) -> np.ndarray:
    """Shrink the frame to `out`, uint8 (128, 171) or (128, 171, 3), with every pixel black that shows any of the face.

    The face is blackened after shrinking, which leaves the caller's frame alone; as a pixel is the mean of its two
    nearest neighbours per axis, the black is widened by what that reaches.
    """
    height, width = out.shape[:2]
    cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_LINEAR_EXACT)
    if box is not None:
        out[face_mask(box, image.shape[0], image.shape[1])] = 0
    return out


def face_mask(box: Box, height: int, width: int, left: int = 0, top: int = 0) -> tuple[slice, slice]:
    """Rows and columns of the frame shrunk to `CONTEXT_SIZE` that show any of a box of the frame's height and width.

    Counted from `left` and `top` of the shrunk frame.
    """
    rows, columns = (
        slice(*(max(0, math.ceil((edge + reach) * small / whole - 0.5) - first) for edge, reach in ends))
        for ends, small, whole, first in (
            (((box[1], -0.5), (box[3], 0.5)), CONTEXT_SIZE[1], height, top),
            (((box[0], -0.5), (box[2], 0.5)), CONTEXT_SIZE[0], width, left),
        )
    )
    return rows, columns


class EmotionPreprocess:
    """Frame and boxes to the inputs of an emotion net, in buffers of the caller, as many faces at once as they hold.

    Parameters
    ----------
    specs : sequence of InputSpec
        The inputs of the bundle's manifest: faces, and possibly their contexts; both of the same batch.
    inputs : dict of ndarray, optional
        float32 buffers by name, each of its spec's shape; every call overwrites them. By default its own.

    Attributes
    ----------
    batch : int
        Faces that the net takes at once.
    needs_face : bool
        The net sees nothing else.

    Raises
    ------
    InputError
        The manifest asks for a preparation that this version does not do.
    """

    def __init__(self, specs: Sequence[InputSpec], inputs: dict[str, np.ndarray] | None = None) -> None:
        face = next((spec for spec in specs if spec.name == "face" and isinstance(spec, ImageInput)), None)
        if face is None or len(specs) > 2:
            raise InputError(
                f"an emotion net takes images, 'face' and possibly 'context', the bundle has {_names(specs)}."
            )
        self.batch = face.shape[0]
        wanted = face_input(face.shape[-1], face.range, self.batch, face.color)
        known = {"face": wanted, "context": context_input(self.batch)}
        for spec in specs:
            if spec != known.get(spec.name):
                raise InputError(
                    f"input '{spec.name}' of the bundle wants {spec.model_dump()}, this edgeflock prepares "
                    f"{known[spec.name].model_dump() if spec.name in known else _names(known.values())}: "
                    f"let the net itself begin with what makes the one of the other and export it again; "
                    f"`edgeflock bench run --scope net` measures the bundle as it is."
                )
        self.needs_face = len(specs) == 1
        self.inputs = inputs or {spec.name: np.zeros(spec.shape, np.float32) for spec in specs}
        self._range, self._color = face.range, face.color
        size = face.shape[-1]
        self._face = {channels: np.zeros((size, size, *channels), np.uint8) for channels in ((), (3,))}
        self._small = {channels: np.zeros((*CONTEXT_SIZE[::-1], *channels), np.uint8) for channels in ((), (3,))}
        self._context = np.zeros(CONTEXT_INPUT.shape[1:], np.float32)

    def batches(
        self,
        image: np.ndarray,
        boxes: Sequence[Sequence[float] | np.ndarray | None],
        encoding: Encoding = "rgb8",
        rolls: Sequence[float] | None = None,
    ) -> Iterator[int]:
        """Prepare the faces of one frame, a batch each step; what is left over in the last one keeps older faces.

        Parameters
        ----------
        image : ndarray
            uint8, (H, W, 3) for rgb8 and bgr8 or (H, W) for mono8.
        boxes : sequence
            Each as for `face_box`. Without a face the face input is all 0.
        encoding : {"rgb8", "bgr8", "mono8"}
        rolls : sequence of float, optional
            Of each head, as for `crop_face`.

        Yields
        ------
        int
            How many faces stand in the buffers, from the first slot on.

        Raises
        ------
        InputError
            Wrong image, encoding or box, or no face where the net sees nothing else; the buffers then stay.
        """
        check_image(image, encoding)
        faces = [face_box(box, image) for box in boxes]
        if self.needs_face and None in faces:
            raise InputError(
                "no face was given, and this net sees nothing but the face: pass its box, or skip the frame."
            )
        if faces and not self.needs_face:
            self._shrink(image, encoding)
        for start in range(0, len(faces), self.batch):
            part = faces[start : start + self.batch]
            for slot, box in enumerate(part):
                self._fill(slot, image, box, encoding, rolls[start + slot] if rolls else 0.0)
            yield len(part)

    def _shrink(self, image: np.ndarray, encoding: str) -> None:
        """The context without its mask, once for all faces of a frame."""
        small = masked_context(image, None, self._small[image.shape[2:]])
        to_range(_planes(small[CONTEXT_CROP], encoding, CONTEXT_INPUT.color), CONTEXT_INPUT.range, self._context)

    def _fill(self, slot: int, image: np.ndarray, box: Box | None, encoding: str, roll: float) -> None:
        face = self.inputs["face"][slot]
        if box is None:
            face[:] = 0
        else:
            pixels = crop_face(image, box, self._face[image.shape[2:]], roll)
            to_range(_planes(pixels, encoding, self._color), self._range, face)
        if self.needs_face:
            return
        context = self.inputs["context"][slot]
        np.copyto(context, self._context)
        if box is not None:
            top, left = (part.start for part in CONTEXT_CROP)
            rows, columns = face_mask(box, image.shape[0], image.shape[1], left, top)
            context[:, rows, columns] = CONTEXT_INPUT.range[0]


def _planes(pixels: np.ndarray, encoding: str, color: Color) -> np.ndarray:
    """(h, w, 3) as (3, h, w) in the net's order, or (h, w) for a net that takes grey; grey (h, w) as it is."""
    if pixels.ndim == 2:
        return pixels
    if color == "grey":
        return cv2.cvtColor(pixels, CONVERSIONS[encoding, color])
    channels = pixels[..., ::-1] if (encoding == "bgr8") != (color == "bgr") else pixels
    return channels.transpose(2, 0, 1)


def to_range(pixels: np.ndarray, range_: tuple[float, float], out: np.ndarray) -> np.ndarray:
    """Map 0..255 to a range, into `out` float32: x (high - low) / 255 + low."""
    low, high = range_
    np.copyto(out, pixels)
    np.multiply(out, np.float32((high - low) / 255), out=out)
    if low:
        np.add(out, np.float32(low), out=out)
    return out


def _visible(start: int, stop: int, whole: int, size: int) -> tuple[int, int, int, int]:
    """Part of start..stop inside 0..whole, and where it comes to lie when start..stop is stretched to 0..size."""
    first, last = max(start, 0), min(stop, whole)
    low, high = (round((edge - start) * size / (stop - start)) for edge in (first, last))
    low = min(low, size - 1)
    return first, last, low, max(high, low + 1)


def _names(specs) -> str:
    return ", ".join(f"'{spec.name}'" for spec in specs)
