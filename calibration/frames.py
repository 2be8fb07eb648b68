"""Choice of the samples that stand for all: for INT8 calibration and for a bundle's reference vectors.

A drive is mostly straight road in the same light, so a uniform draw shows the net few of the activations that its
extremes need (docs/calibration.md). Samples are therefore drawn by coverage: the range of each feature is cut into bins
of equal width, and every cell gives a sample before any cell gives its second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeflock.runtime.errors import InputError


def representative(features: np.ndarray, count: int, bins: Sequence[int], seed: int = 0) -> np.ndarray:
    """Choose samples that cover the range of every feature.

    Parameters
    ----------
    features : ndarray
        (N, k), finite: what makes samples differ, e.g. angle and brightness, label and brightness, or intensity and
        displacement.
    count : int
        Samples wanted; all N where there are fewer.
    bins : sequence of int
        k numbers: bins of equal width over the range that the data have. As many as there are classes make a column of
        class numbers 0..C-1 stratified.
    seed : int
        Decides which sample of a cell is taken, and which cells where there are more than `count`.

    Returns
    -------
    ndarray
        int64 (min(count, N),), ascending, no repetition; the same for the same arguments.

    Raises
    ------
    InputError
        Shapes do not agree, a feature is not finite, nothing to choose from or fewer than one sample wanted.
    """
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or len(features) == 0 or features.shape[1] != len(bins) or min(bins, default=0) < 1:
        raise InputError(
            f"expected features (N, k) with N >= 1 and k numbers of bins >= 1, got {features.shape} and {tuple(bins)}."
        )
    if not np.isfinite(features).all():
        row, column = np.argwhere(~np.isfinite(features))[0]
        raise InputError(f"feature {column} of sample {row} is not finite: drop that sample.")
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}.")

    low, extent = features.min(0), np.ptp(features, 0)
    scaled = (features - low) / np.where(extent > 0, extent, 1)
    cell = np.ravel_multi_index(tuple(np.minimum((scaled * bins).astype(np.int64), np.array(bins) - 1).T), tuple(bins))

    shuffled = np.random.default_rng(seed).permutation(len(features))
    by_cell = shuffled[np.argsort(cell[shuffled], kind="stable")]
    _, start, size = np.unique(cell[by_cell], return_index=True, return_counts=True)
    turn = np.empty(len(features), np.int64)  # rank of the sample within its cell
    turn[by_cell] = np.arange(len(features)) - np.repeat(start, size)

    chosen = shuffled[np.argsort(turn[shuffled], kind="stable")][:count]
    return np.sort(chosen)


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
    count, seed : int
        As for `representative`.
    angle_bins, brightness_bins : int
        An odd number of angle bins gives "straight" its own bin where left and right are symmetric.

    Returns
    -------
    ndarray
        As from `representative`.

    Raises
    ------
    InputError
        As from `representative`.
    """
    angles = np.asarray(angles, np.float64)
    if frames.ndim != 3 or len(frames) == 0 or angles.shape != frames.shape[:1]:
        raise InputError(
            f"expected grey frames (N, H, W) with N >= 1 and angles (N,), got {frames.shape} and {angles.shape}."
        )
    if not np.isfinite(angles).all():
        raise InputError(f"angle of frame {np.flatnonzero(~np.isfinite(angles))[0]} is not finite: drop that row.")
    brightness = [frame.mean() for frame in frames]  # frame by frame: a float copy of all would not fit
    return representative(np.column_stack([angles, brightness]), count, (angle_bins, brightness_bins), seed)
