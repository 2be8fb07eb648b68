"""Pixels of a whole data set: in memory, or, where they are many, in files that are made once and mapped."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import cache_folder

IN_MEMORY = 2 << 30
"""Bytes up to which pixels are simply held; RAF-DB for a face net of 224x224 is just below."""


def filled(
    count: int,
    shapes: Sequence[tuple[int, ...]],
    fill: Callable[[int, list[np.ndarray]], None],
    key: Callable[[], str],
    what: str,
    console: Console | None = None,
) -> list[np.ndarray]:
    """One uint8 array (count, *shape) per shape, whose examples `fill` writes, on all cores.

    More than `IN_MEMORY` bytes go to files in the cache (`edgeflock.runtime.files.cache_folder`), are written once, and
    come back read-only and mapped: the operating system then keeps in memory what is in use, and indexing costs no
    decoding.

    Parameters
    ----------
    count : int
    shapes : sequence of tuple of int
    fill : callable
        ``fill(i, parts)`` writes example i into its part of each array.
    key : callable
        Names everything that the pixels derive from; asked for only where they go to files.
    what : str
        For the progress bar.
    console : Console, optional
        Shows the progress.

    Raises
    ------
    InputError
        No room on the disk.
    """
    whole = [(count, *shape) for shape in shapes]
    size = sum(int(np.prod(shape)) for shape in whole)
    if size <= IN_MEMORY:
        arrays = [np.empty(shape, np.uint8) for shape in whole]
        _fill(arrays, fill, what, console)
        return arrays
    folder = cache_folder("pixels") / key()
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder.parent).free) < size:  # a map over a full disk would end the process
            raise InputError(
                f"{what}: expected {size / 1e9:.1f} GB of room for the pixels in {folder.parent}, there are "
                f"{free / 1e9:.1f} GB. Delete old folders there, or name another disk with EDGEFLOCK_CACHE."
            )
        making = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        try:
            arrays = _maps(making, whole, "w+")
            _fill(arrays, fill, what, console)
            del arrays
            making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        if console is not None:
            console.print(f"{what}: {size / 1e9:.1f} GB of pixels are kept in {folder}", highlight=False)
    return _maps(folder, whole, "r")


def _maps(folder: Path, shapes: list[tuple[int, ...]], mode) -> list[np.ndarray]:
    # As plain arrays: slices of a memmap are memmaps, which cost much more to make.
    return [np.asarray(np.memmap(folder / f"{i}.u8", np.uint8, mode, shape=shape)) for i, shape in enumerate(shapes)]


def _fill(
    arrays: list[np.ndarray], fill: Callable[[int, list[np.ndarray]], None], what: str, console: Console | None
) -> None:
    count = len(arrays[0])

    def some(chunk: range) -> None:
        for i in chunk:
            fill(i, [array[i] for array in arrays])

    chunks = [range(start, min(start + 64, count)) for start in range(0, count, 64)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(some, chunks)
        for _ in track(done, what, len(chunks), console=console) if console else done:
            pass
