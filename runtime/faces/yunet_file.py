"""YuNet's file: which ones are known, where this machine keeps it, and how it comes there.

The net is not part of edgeflock. A file is known by its SHA-256, whatever its name.
"""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edgeflock.runtime.errors import FileError, InputError
from edgeflock.runtime.files import cache_folder, sha256_of, write_atomically

_BLOCK = 1 << 14
_PATIENCE_S = 20.0
"""Without a byte, until a connection is given up."""


class Weights(NamedTuple):
    """A file of YuNet."""

    name: str
    size: int
    """Bytes."""
    licence: str
    source: str


ZOO = Weights(
    "face_detection_yunet_2023mar.onnx",
    232_589,
    "MIT, Copyright (c) 2020 Shiqi Yu",
    "https://github.com/opencv/opencv_zoo/tree/f12e12798e8314f7c074a6656816c048dcc95b7a/models/face_detection_yunet",
)
AUTHORS = Weights(
    "yunet_n_640_640.onnx",
    317_466,
    "Apache-2.0, Copyright (c) 2022 Shiqi Yu",
    "https://github.com/ShiqiYu/libfacedetection.train/tree/0047ac24afb1a50a0c6105001c89d1b5b805dbf1/onnx",
)
KNOWN = {
    "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4": ZOO,
    "25a606a145a5b6d7271ae138fbd00eba91dad8b83222ae3f2c7ecd0f4a7b0e31": AUTHORS,
}
"""By SHA-256."""

ADDRESS = (
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/f12e12798e8314f7c074a6656816c048dcc95b7a/"
    f"models/face_detection_yunet/{ZOO.name}"
)


def folder() -> Path:
    """Where this user's file is looked for: any `.onnx` there whose SHA-256 is known.

    Raises
    ------
    FileError
        This user has no home.
    """
    return cache_folder("faces")


def find() -> tuple[Path | None, str]:
    """YuNet's file on this machine, or None and the reason with the way out."""
    try:
        place = folder()
        files = sorted(place.glob("*.onnx"))
        path = next((path for path in files if sha256_of(path) in KNOWN), None)
    except (FileError, OSError) as error:
        return None, f"YuNet's file cannot be looked for ({error})."
    if path is not None:
        return path, ""
    others = f", only {', '.join(file.name for file in files)} with another SHA-256" if files else ""
    return None, f"no YuNet in {place}{others}. `edgeflock faces get` fetches it once ({ZOO.size // 1000} kB)."


def get(source: str = ADDRESS, on_bytes: Callable[[int], object] = lambda count: None) -> tuple[Path, Weights]:
    """Bring YuNet's file to this machine, whole and checked or not at all.

    Parameters
    ----------
    source : str
        Address (http, https) or path of a copy.
    on_bytes : callable
        Is told how many more bytes have come.

    Returns
    -------
    Path, Weights
        Where it lies now, and what it is.

    Raises
    ------
    FileError
        It cannot be fetched or read.
    InputError
        What came is no file that is known.
    """
    content = _fetched(source, on_bytes) if "://" in source else _read(Path(source).expanduser())
    found = hashlib.sha256(content).hexdigest()
    if found not in KNOWN:
        wanted = " or ".join(f"{weights.name} ({sha[:12]}...)" for sha, weights in KNOWN.items())
        raise InputError(
            f"expected YuNet's file by its SHA-256, {wanted}, got {len(content)} bytes with {found[:12]}... from "
            f"{source}: it is another version, or was cut off or changed on its way. Nothing was written."
        )
    weights = KNOWN[found]
    path = folder() / weights.name
    write_atomically(path, content)
    return path, weights


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"expected YuNet's file ({ZOO.name}), got {path}, which is none.")
    with path.open("rb") as file:
        return file.read(_limit())


def _fetched(address: str, on_bytes: Callable[[int], object]) -> bytes:
    content = b""
    try:
        with urllib.request.urlopen(address, timeout=_PATIENCE_S) as answer:
            while len(content) < _limit() and (block := answer.read(_BLOCK)):
                content += block
                on_bytes(len(block))
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise FileError(
            f"{address} cannot be fetched ({getattr(error, 'reason', error)}). Without a network here: fetch it on "
            f"another machine, copy {ZOO.name} to this one, and run `edgeflock faces get --from {ZOO.name}`."
        ) from None
    return content


def _limit() -> int:
    """One byte more than the largest known file: what is longer needs not be read to its end."""
    return max(weights.size for weights in KNOWN.values()) + 1
