"""Image files to grey 320x240 frames, on all cores, with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from edgeflock.runtime.cameras.encodings import decode_compressed
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.prepare.frame import grey_320x240, squeezed

# For progress and notes: stdout belongs to results.
console = Console(stderr=True)


def decode(data: bytes, where: str, flags: int = cv2.IMREAD_ANYCOLOR) -> np.ndarray:
    """Decode one JPEG or PNG as OpenCV does: uint8 (H, W) grey or (H, W, 3) BGR.

    Raises
    ------
    DataError
        If the bytes are not a whole image; `where` names it.
    """
    try:
        return decode_compressed(data, flags=flags)
    except InputError as error:
        raise DataError(f"{where}: {error}") from error


def decode_grey(data: bytes, where: str) -> np.ndarray:
    """Decode one JPEG or PNG to uint8 (240, 320) grey, the same bytes that the robot's net would see.

    Raises
    ------
    DataError
        If the bytes are not a whole image; `where` names it.
    """
    image = decode(data, where)
    return grey_320x240(image, "mono8" if image.ndim == 2 else "bgr8")


def image_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image file; None where OpenCV does not read it."""
    image = cv2.imread(str(path), cv2.IMREAD_ANYCOLOR)
    return None if image is None else (image.shape[1], image.shape[0])


def read_frames(paths: Sequence[Path], origins: Sequence[str], what: str) -> np.ndarray:
    """Read image files into one uint8 (N, 240, 320) array.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        The image files.
    origins : sequence of str
        For each, the file and row that asked for it; errors begin with it.
    what : str
        Name of the data set on the progress bar.

    Raises
    ------
    DataError
        If a file is missing, unreadable or truncated.
    """
    frames = np.empty((len(paths), 240, 320), np.uint8)

    def load(chunk: range) -> None:
        for i in chunk:
            try:
                data = paths[i].read_bytes()
            except OSError as error:
                raise DataError(f"{origins[i]}: cannot read image {paths[i]}: {error.strerror}") from error
            frames[i] = decode_grey(data, f"{origins[i]}: {paths[i]}")

    size = image_size(paths[0]) if paths and paths[0].is_file() else None
    if size and (note := squeezed(*size)):
        console.print(f"{what}: {note}", soft_wrap=True)
    chunks = [range(start, min(start + 64, len(paths))) for start in range(0, len(paths), 64)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(load, chunks)
        for _ in track(done, f"Reading {what}", len(chunks), console=console, transient=True):
            pass
    return frames
