"""Image files to grey 320x240 frames, on all cores, with a progress bar."""

from __future__ import annotations

import os
from collections import Counter
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


def decode_grey(data: bytes, where: str) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode one JPEG or PNG to uint8 (240, 320) grey, the bytes that the robot's net would see; its width and height.

    Raises
    ------
    DataError
        If the bytes are not a whole image; `where` names it.
    """
    image = decode(data, where)
    return grey_320x240(image, "mono8" if image.ndim == 2 else "bgr8"), (image.shape[1], image.shape[0])


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
    sizes: list[tuple[int, int]] = [(0, 0)] * len(paths)

    def load(chunk: range) -> None:
        for i in chunk:
            try:
                data = paths[i].read_bytes()
            except OSError as error:
                raise DataError(f"{origins[i]}: cannot read image {paths[i]}: {error.strerror}") from error
            frames[i], sizes[i] = decode_grey(data, f"{origins[i]}: {paths[i]}")

    chunks = [range(start, min(start + 64, len(paths))) for start in range(0, len(paths), 64)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(load, chunks)
        for _ in track(done, f"Reading {what}", len(chunks), console=console, transient=True):
            pass
    say_sizes(what, sizes)
    return frames


def say_sizes(what: str, sizes: Sequence[tuple[int, int]]) -> None:
    """Tell of frames (width, height) that are squeezed, or of several sizes."""
    found = Counter(sizes)
    if len(found) > 1:
        counted = ", ".join(f"{width}x{height} ({count})" for (width, height), count in found.most_common(4))
        console.print(
            f"{what}: expected frames of one size, got {counted}: if several cameras took them, give each recording by "
            "itself, a mount holds for one",
            soft_wrap=True,
        )
    for note in filter(None, (squeezed(*size) for size in found)):
        console.print(f"{what}: {note}", soft_wrap=True)
