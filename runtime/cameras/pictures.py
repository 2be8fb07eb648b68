"""Picture files as people have them: which endings are read, and how a file becomes eight bits per channel."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from edgeflock.runtime.cameras.encodings import decode_compressed
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs

HEIC = (".heic", ".heif", ".hif")
"""Endings of photographs as phones take them; the extra `heic` reads them."""

PICTURES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif",
    ".pgm", ".ppm", ".pbm", ".pnm", ".jp2", *HEIC,
)  # fmt: skip
"""Endings of what OpenCV reads (GIF: from 4.11 on), or the extra `heic`; of several pictures in a file the first."""

UNREAD = (".avif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".psd", ".svg")
"""Endings of pictures that are not read, so that they are named where they lie among others."""

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def is_picture(path: Path) -> bool:
    """Whether a file's ending says that `read_picture` reads it; hidden files are none."""
    return path.suffix.lower() in PICTURES and not path.name.startswith(".")


def not_read(paths: Iterable[Path]) -> str:
    """What lies beside pictures and is a picture of a kind that is not read, as "3 .avif, 1 .dng"; "" for none."""
    endings = [path.suffix.lower() for path in paths if not path.name.startswith(".")]
    return ", ".join(f"{endings.count(ending)} {ending}" for ending in UNREAD if ending in endings)


def read_picture(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """Pixels of a picture file: uint8 (H, W, 3) BGR, upright by its EXIF; see `decode_picture`.

    Raises
    ------
    OSError
        It cannot be read.
    InputError
        It is damaged, too large, or of a kind that is not read; names the file.
    MissingExtra
        It is HEIC, and what reads that is not installed.
    """
    try:
        return decode_picture(path.read_bytes(), path.suffix, flags)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def decode_picture(data: bytes, kind: str = "", flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """Decode a picture to eight bits per channel.

    Sixteen bits are scaled by the fewest of 10, 12, 14 or 16 that hold the brightest pixel: a camera of 12 bits writes
    0..4095 into them, which would be black, and no lit picture of 16 bits has nothing brighter.

    Parameters
    ----------
    data : bytes
    kind : str
        Ending of its file, for the message.
    flags : int
        IMREAD_COLOR for (H, W, 3) BGR, IMREAD_ANYCOLOR for grey (H, W) where the picture is grey.

    Raises
    ------
    InputError, MissingExtra
        See `read_picture`.
    """
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return _heic(data, kind)
    if kind.lower() in UNREAD:
        raise InputError(f"expected a picture of {', '.join(PICTURES)}, got {kind}: make JPEG or PNG of it.")
    image = decode_compressed(data, kind, flags | cv2.IMREAD_ANYDEPTH)
    if image.dtype == np.uint16:
        bits = next(bits for bits in (10, 12, 14, 16) if image.max() < 1 << bits)
        return cv2.convertScaleAbs(image, alpha=255 / ((1 << bits) - 1))
    if image.dtype != np.uint8:
        raise InputError(f"expected 8 or 16 bits per channel, got {kind} of {image.dtype}: make PNG or JPEG of it.")
    return image


def _heic(data: bytes, kind: str) -> np.ndarray:
    with needs("Reading HEIC pictures"):
        import pi_heif
    try:
        image = np.asarray(pi_heif.open_heif(data, bgr_mode=True))
    except (ValueError, RuntimeError, EOFError, OSError) as error:
        raise InputError(f"expected a whole HEIC picture, got {len(data)} bytes of {kind}: {error}.") from None
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else np.ascontiguousarray(image[:, :, :3])
