"""Choice of the frames that stand for a whole drive: for INT8 calibration and for a bundle's reference vectors.

A drive is mostly straight road in the same light, so a uniform draw shows the net few of the activations that its
extremes need (facts/users.md 2.1). Frames are therefore drawn by coverage: the steering range and the brightness range
are cut into bins of equal width, and every bin gives a frame before any bin gives its second.
"""

from __future__ import annotations

import numpy as np

from edgeflock.runtime.errors import InputError


def representative_frames(
    frames: np.ndarray,
    angles: np.ndarray,
    count: int,
    *,
    angle_bins: int = 9,
    brightness_bins: int = 4,
    seed: int = 0,
) -> np.ndarray:
    """Choose frames that cover steering angle and brightness.

    Parameters
    ----------
    frames : ndarray
        uint8 (N, H, W), grey.
    angles : ndarray
        Steering labels in rad, (N,), finite.
    count : int
        Frames wanted; all N where there are fewer.
    angle_bins, brightness_bins : int
        Bins of equal width over the range that the data have. An odd number of angle bins gives "straight" its own
        bin where left and right are symmetric.
    seed : int
        Decides which frame of a bin is taken.

    Returns
    -------
    ndarray
        int64 (min(count, N),), indices into `frames`, ascending, no repetition; the same for the same arguments.

    Raises
    ------
    InputError
        Shapes do not agree, an angle is not finite, nothing to choose from or fewer than one frame wanted.
    """
    angles = np.asarray(angles, np.float64)
    if frames.ndim != 3 or len(frames) == 0 or angles.shape != frames.shape[:1]:
        raise InputError(
            f"expected grey frames (N, H, W) with N >= 1 and angles (N,), got {frames.shape} and {angles.shape}."
        )
    if not np.isfinite(angles).all():
        raise InputError(f"angle of frame {np.flatnonzero(~np.isfinite(angles))[0]} is not finite: drop that row.")
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}.")

    brightness = np.array([frame.mean() for frame in frames])  # frame by frame: a float copy of all would not fit
    cell = _bins(angles, angle_bins) * brightness_bins + _bins(brightness, brightness_bins)

    shuffled = np.random.default_rng(seed).permutation(len(frames))
    by_cell = shuffled[np.argsort(cell[shuffled], kind="stable")]
    _, start, size = np.unique(cell[by_cell], return_index=True, return_counts=True)
    turn = np.empty(len(frames), np.int64)  # the how-manieth of its cell a frame is
    turn[by_cell] = np.arange(len(frames)) - np.repeat(start, size)

    chosen = shuffled[np.argsort(turn[shuffled], kind="stable")][:count]
    return np.sort(chosen)


def _bins(values: np.ndarray, bins: int) -> np.ndarray:
    """Index (N,) of the equal-width bin that each value falls into."""
    low, high = values.min(), values.max()
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.minimum((scaled * bins).astype(np.int64), bins - 1)
