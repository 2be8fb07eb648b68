"""Photographs in the place of drawn surfaces."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgeflock.runtime.cameras.pictures import is_picture, read_picture
from edgeflock.runtime.errors import InputError

from .scene import Cover

SHARE = 0.7  # of the surfaces; the others stay as they are drawn
PART, LIGHT = (0.4, 1.0), (0.5, 1.3)  # of a photograph's shorter side, of its brightness


def photographs(folder: Path, seed: int) -> Cover:
    """Cover the surfaces of a world with what lies in a folder.

    A photograph is cut, lit anew, and mirrored to either side, so that its tiles meet without a seam.

    Raises
    ------
    InputError
        There is no picture in it, or a damaged one.
    """
    files = sorted(filter(is_picture, folder.iterdir())) if folder.is_dir() else []
    if not files:
        raise InputError(f"expected a folder with photographs of walls, floors or grounds, got {folder}: name one.")
    rng = np.random.default_rng([seed, 10])

    def cover(tile: np.ndarray) -> np.ndarray:
        if rng.random() > SHARE:
            return tile
        photo = cv2.cvtColor(read_picture(files[rng.integers(len(files))]), cv2.COLOR_BGR2RGB)
        side = max(1, int(min(photo.shape[:2]) * rng.uniform(*PART)))
        half = len(tile) // 2, len(tile) // 2
        y, x = (int(rng.integers(size - side + 1)) for size in photo.shape[:2])
        part = cv2.resize(photo[y : y + side, x : x + side], half, interpolation=cv2.INTER_AREA)
        lit = cv2.convertScaleAbs(part, alpha=rng.uniform(*LIGHT))
        row = np.concatenate([lit, lit[:, ::-1]], axis=1)
        return np.concatenate([row, row[::-1]])

    return cover
