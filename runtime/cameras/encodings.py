"""ROS image messages to pixels: the one table of encodings, for recordings, data sets and nodes.

A message is a `sensor_msgs/Image` or `CompressedImage` as rclpy or rosbags has it; only its fields are looked at. Names
of encodings are those of `sensor_msgs/image_encodings.hpp`; conversions follow `cv_bridge`. Depth is in mm as `16UC1`
and in m as `32FC1` (REP 118).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from edgeflock.runtime.errors import InputError

Encoding = Literal["rgb8", "bgr8", "mono8"]
"""What nets and drawings take; all that cameras send becomes one of these."""


@dataclass(frozen=True)
class _Color:
    """How the bytes of one encoding become `to`."""

    to: Encoding
    channels: int
    conversion: int | None = None  # of OpenCV; None: the pixels are that already
    dtype: type = np.uint8
    planes: tuple[int, int] = (1, 1)  # rows of the message per row of the image


# OpenCV names a Bayer pattern by its second row's second and third pixel, ROS by the first row's first two.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_UYVY, _YUYV = (_Color("rgb8", 2, code) for code in (cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2RGB_YUYV))
_COLOR = {
    "rgb8": _Color("rgb8", 3),
    "bgr8": _Color("bgr8", 3),
    "mono8": _Color("mono8", 1),
    "8UC1": _Color("mono8", 1),
    "8UC3": _Color("bgr8", 3),  # cv_bridge's default is BGR
    "8UC4": _Color("bgr8", 4, cv2.COLOR_BGRA2BGR),
    "rgba8": _Color("rgb8", 4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Color("bgr8", 4, cv2.COLOR_BGRA2BGR),
    "mono16": _Color("mono8", 1, dtype=np.uint16),
    "rgb16": _Color("rgb8", 3, dtype=np.uint16),
    "bgr16": _Color("bgr8", 3, dtype=np.uint16),
    "rgba16": _Color("rgb8", 4, cv2.COLOR_RGBA2RGB, np.uint16),
    "bgra16": _Color("bgr8", 4, cv2.COLOR_BGRA2BGR, np.uint16),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": _Color("rgb8", 1, cv2.COLOR_YUV2RGB_NV12, planes=(3, 2)),
    "nv21": _Color("rgb8", 1, cv2.COLOR_YUV2RGB_NV21, planes=(3, 2)),
    **{f"bayer_{name}8": _Color("rgb8", 1, code) for name, code in _BAYER.items()},
    **{f"bayer_{name}16": _Color("rgb8", 1, code, np.uint16) for name, code in _BAYER.items()},
}
_MILLIMETRES, _METRES = ("16UC1", "mono16"), ("32FC1", "64FC1")

COLOR_ENCODINGS = tuple(_COLOR)
"""All that `decode_color` reads."""

DEPTH_ENCODINGS = (*_MILLIMETRES, *_METRES)
"""All that `decode_depth` reads."""

_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH_HEADER = struct.Struct("<iff")  # compressed_depth_image_transport: format, and a and b of inverse depth


def is_compressed(message: Any) -> bool:
    """Whether it is a CompressedImage."""
    return not hasattr(message, "encoding")


def is_color(message: Any) -> bool:
    """Whether `decode_color` reads messages like this one; depth is told from grey by encoding or format."""
    if not is_compressed(message):
        return message.encoding in _COLOR
    return not is_depth(message) and "h264" not in message.format.lower()


def is_depth(message: Any) -> bool:
    """Whether it is a depth image, by encoding or format; `mono16` may be either and counts as colour."""
    name = message.encoding if not is_compressed(message) else message.format.split(";")[0].strip()
    compressed_depth = is_compressed(message) and "compressedDepth" in message.format
    return compressed_depth or (name in DEPTH_ENCODINGS and name not in _COLOR)


def decode_color(message: Any) -> tuple[np.ndarray, Encoding]:
    """Pixels of a colour or grey image, in the form that is cheapest to get.

    Parameters
    ----------
    message : Image or CompressedImage
        JPEG, PNG or what else OpenCV decodes; raw in one of `COLOR_ENCODINGS`, rows padded or not, of either byte
        order. 16 bits are scaled to 8 by 255 / 65535, as cv_bridge does.

    Returns
    -------
    ndarray
        uint8 (H, W, 3), or (H, W) for mono8; a view into the message where nothing has to be converted.
    {"rgb8", "bgr8", "mono8"}
        What the pixels are.

    Raises
    ------
    InputError
        The encoding is no colour, the image is empty or cut off, or too short for its size.
    """
    if is_compressed(message):
        image = decode_compressed(message.data, message.format)
        return image, "mono8" if image.ndim == 2 else "bgr8"
    if message.encoding not in _COLOR:
        raise InputError(_refusal("a colour image", COLOR_ENCODINGS, message.encoding))
    how = _COLOR[message.encoding]
    many, per = how.planes
    if how.planes != (1, 1) and (message.height % per or message.width % per):
        raise InputError(f"expected an even size for {message.encoding}, got {message.width}x{message.height}.")
    height = message.height * many // per
    image = _rows(message, how.dtype, how.channels, height)
    if how.dtype is np.uint16:
        image = cv2.convertScaleAbs(image, alpha=255.0 / 65535.0)
    if how.conversion is not None:
        if how.channels == 2 and message.width % 2:
            raise InputError(f"expected an even width for {message.encoding}, got {message.width}.")
        image = cv2.cvtColor(np.ascontiguousarray(image), how.conversion)
    return image, how.to


def decode_rgb(message: Any) -> np.ndarray:
    """Pixels of a colour or grey image as uint8 (H, W, 3) RGB; errors as `decode_color`."""
    image, encoding = decode_color(message)
    if encoding == "rgb8":
        return np.ascontiguousarray(image)
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2RGB if encoding == "bgr8" else cv2.COLOR_GRAY2RGB)


def decode_depth(message: Any) -> np.ndarray:
    """Depth image in mm.

    Parameters
    ----------
    message : Image or CompressedImage
        Raw in one of `DEPTH_ENCODINGS`, of either byte order; compressedDepth as PNG of 16UC1 or 32FC1 (the transport
        stores a / depth + b, a and b in its header); or a 16-bit PNG.

    Returns
    -------
    ndarray
        uint16 (h, w) millimetres along the optical axis. 0: no measurement (also NaN, negative and -inf); what is
        farther than 65.535 m, also +inf, is 65535.

    Raises
    ------
    InputError
        It is no depth image, it went through JPEG, or it is empty, cut off or too short for its size.
    """
    if is_compressed(message):
        return _compressed_depth(message)
    if message.encoding in _MILLIMETRES:
        return _rows(message, np.uint16)
    if message.encoding in _METRES:
        return _millimetres(_rows(message, np.float32 if message.encoding == "32FC1" else np.float64))
    raise InputError(_refusal("depth", DEPTH_ENCODINGS, message.encoding))


def _refusal(what: str, accepted: tuple[str, ...], got: str) -> str:
    way_out = "set another format in the camera's driver"
    if got in DEPTH_ENCODINGS:
        way_out = "that is a depth image, name the topic of the colour image"
    elif got in _COLOR:
        way_out = "that is a colour image, name the topic of the depth image"
    return f"expected {what}, got {got!r}: {way_out}. Read are {', '.join(accepted)}."


def _compressed_depth(message: Any) -> np.ndarray:
    data = bytes(message.data)
    encoding, _, transport = (part.strip() for part in message.format.partition(";"))
    header = 0 if data.startswith(_PNG) or "compressedDepth" not in message.format else _DEPTH_HEADER.size
    if "rvl" in transport.lower():
        raise InputError(
            f"expected compressedDepth as PNG, got format {message.format!r}: record the raw depth topic, or set the "
            "publisher's parameter <topic>.compressedDepth.format to png."
        )
    image = decode_compressed(data[header:], message.format, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint16 or image.ndim != 2:
        raise InputError(
            f"expected depth as 16-bit PNG, got {image.dtype} {image.shape} of format {message.format!r}: JPEG does "
            "not keep depth, take the raw topic or its compressedDepth twin."
        )
    if encoding not in _METRES:
        return image
    if not header:
        raise InputError(f"expected compressedDepth with its header, got a plain PNG of format {message.format!r}.")
    _, a, b = _DEPTH_HEADER.unpack(data[:header])
    if not (np.isfinite((a, b)).all() and a > 0):
        raise InputError(f"expected inverse depth a / depth + b with a > 0, got a = {a:g}, b = {b:g}: broken header.")
    with np.errstate(divide="ignore"):
        metres = np.float32(a) / (image.astype(np.float32) - np.float32(b))
    return _millimetres(np.where(image == 0, np.float32(0), metres))


def _millimetres(metres: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(np.nan_to_num(metres, nan=0.0, posinf=65.535, neginf=0.0) * 1000.0, 0, 65535)).astype(
        np.uint16
    )


def decode_compressed(data: Any, kind: str = "", flags: int = cv2.IMREAD_ANYCOLOR) -> np.ndarray:
    """Decode one compressed image, as OpenCV does: by default uint8 (H, W) grey or (H, W, 3) BGR.

    Parameters
    ----------
    data : bytes-like
        JPEG, PNG, ...
    kind : str
        What it is said to be, for the message.
    flags : int
        Of `cv2.imdecode`.

    Raises
    ------
    InputError
        It is empty, cut off, or no image that OpenCV reads.
    """
    raw = bytes(data)
    # Older OpenCV fills the missing end of a cut JPEG with grey instead of refusing it.
    cut = raw[:2] == b"\xff\xd8" and raw.rfind(b"\xff\xd9") < raw.rfind(b"\xff\xda")
    said = f" (format {kind!r})" if kind else ""
    try:
        image = None if cut or not raw else cv2.imdecode(np.frombuffer(raw, np.uint8), flags)
    except cv2.error as error:  # more pixels than OpenCV takes, or a header that lies
        if "MAX_IMAGE" in str(error):
            raise InputError(
                "expected at most 2^30 pixels and 2^20 each way, got an image that says it has more: shrink it, as by "
                f"`convert IN -resize 25% OUT`{said}"
            ) from None
        image = None
    if image is None:
        raise InputError(f"expected a whole JPEG or PNG image, got {len(raw)} bytes that do not decode{said}")
    return image


def _rows(message: Any, dtype: type, channels: int = 1, height: int | None = None) -> np.ndarray:
    """Pixels of a raw message in this machine's byte order; a view where they are in it."""
    order = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    image = rows(message.data, height or message.height, message.width, message.step, order, channels)
    return image.astype(dtype, copy=False)


def rows(data: Any, height: int, width: int, step: int, dtype: np.dtype, channels: int = 1) -> np.ndarray:
    """View (height, width[, channels]) of a sensor_msgs/Image's bytes, whose rows may be padded up to `step` bytes.

    Raises
    ------
    InputError
        There are fewer bytes than that, or no pixels.
    """
    used = width * channels * dtype.itemsize
    if not used or not height:
        raise InputError(f"expected an image, got {width}x{height} pixels: the message is empty.")
    if step < used or len(data) < height * step:
        raise InputError(
            f"expected an image of {height} rows of at least {used} bytes, got step {step} and {len(data)} bytes: "
            "the message is broken."
        )
    padded = np.frombuffer(data, np.uint8, height * step).reshape(height, step)
    image = padded[:, :used].view(dtype)
    return image if channels == 1 else image.reshape(height, width, channels)
