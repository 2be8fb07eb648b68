"""The distribution of one tensor's values, small enough to keep and merge: over samples, shards, processes.

Merging is exact: the histogram of all samples is the same, bit for bit, whether they were added one by one, in another
order, or on several machines. Three choices give that. The bin width is a power of two that follows from the largest
magnitude alone; a value's bin is truncated towards zero, so that a bin of twice the width is exactly two bins; and the
mean of the per-sample extremes is kept as the extremes themselves.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from heapq import merge as merge_sorted

import numpy as np

from edgeflock.runtime.errors import InputError

FORMAT = 1
"""Of the bins and of what is kept; goes into the key of the cache."""

_BITS = 12
HALF = 1 << _BITS
"""Bins of each sign. The largest magnitude lies in the upper half of them, so a bin is at most 1/2048 of it wide."""

FINEST = -126
"""2^126 is the largest scale that float32 has; all-zero tensors stay here until a value comes."""
_STEP = 1 << 17  # values binned at once: 1 MB of scratch, which stays in the processor's cache


@dataclass
class Histogram:
    """Values of one tensor.

    Attributes
    ----------
    exponent : int
        Bins are ``width = 2**exponent`` wide.
    counts : ndarray
        int64 (2 * HALF - 1,): entry ``HALF - 1 + i`` counts the values of ``trunc(value / width) == i``, so the one in
        the middle is (-width, width).
    lows, highs : list of float
        Smallest and largest value of each sample, ascending.
    """

    exponent: int = FINEST
    counts: np.ndarray = field(default_factory=lambda: np.zeros(2 * HALF - 1, np.int64))
    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)

    @property
    def samples(self) -> int:
        """How many samples were added."""
        return len(self.lows)

    @property
    def low(self) -> float:
        """Smallest value of all."""
        return self.lows[0]

    @property
    def high(self) -> float:
        """Largest value of all."""
        return self.highs[-1]

    @property
    def width(self) -> float:
        """Of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def magnitudes(self) -> np.ndarray:
        """int64 (HALF,): how many values have ``trunc(abs(value) / width) == i``."""
        middle = HALF - 1
        folded = self.counts[middle:].copy()
        folded[1:] += self.counts[:middle][::-1]
        return folded

    @property
    def centres(self) -> np.ndarray:
        """float64 (2 * HALF - 1,): value in the middle of each bin."""
        index = np.arange(1 - HALF, HALF)
        return (index + 0.5 * np.sign(index)) * self.width

    def add(self, values: np.ndarray) -> None:
        """Count one sample, of any shape and float type.

        Raises
        ------
        InputError
            There is no value, or one is not finite; the histogram is as it was.
        """
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        low, high = (float(flat.min()), float(flat.max())) if flat.size else (math.nan, math.nan)
        if not math.isfinite(low + high):
            raise InputError(f"expected finite values, got a range of [{low}, {high}] in {flat.size} values.")
        self._coarsen(exponent_of(max(-low, high)))
        scale, counts = np.float32(math.ldexp(1.0, -self.exponent)), self.counts
        for start in range(0, flat.size, _STEP):
            index = (flat[start : start + _STEP] * scale).astype(np.intp)  # a cast truncates
            index += HALF - 1
            counts += np.bincount(index, minlength=counts.size)
        insort(self.lows, low)
        insort(self.highs, high)

    def _coarsen(self, exponent: int) -> None:
        """Widen the bins to ``2**exponent`` where they are narrower."""
        shift = exponent - self.exponent
        if shift <= 0:
            return
        index = np.arange(1 - HALF, HALF)
        folded = np.zeros_like(self.counts)
        np.add.at(folded, HALF - 1 + np.sign(index) * (np.abs(index) >> min(shift, _BITS)), self.counts)
        self.counts, self.exponent = folded, exponent


def merge(a: Histogram, b: Histogram) -> Histogram:
    """Histogram of the samples of both; associative, commutative and exact."""
    wide, narrow = (a, b) if a.exponent >= b.exponent else (b, a)
    narrow = Histogram(narrow.exponent, narrow.counts)
    narrow._coarsen(wide.exponent)
    return Histogram(
        wide.exponent,
        wide.counts + narrow.counts,
        list(merge_sorted(a.lows, b.lows)),
        list(merge_sorted(a.highs, b.highs)),
    )


def merged(seen: Sequence[dict[str, Histogram]]) -> dict[str, Histogram]:
    """Histograms of the samples of all, tensor by tensor; all have the same tensors."""
    first, *others = seen
    return {name: reduce(merge, (other[name] for other in others), histogram) for name, histogram in first.items()}


def exponent_of(largest: float) -> int:
    """Of the narrowest bins whose HALF hold this magnitude."""
    return max(math.frexp(largest)[1] - _BITS, FINEST) if largest else FINEST


def to_arrays(histograms: dict[str, Histogram]) -> dict[str, np.ndarray]:
    """Flat arrays to store; counts without the empty bins at both ends."""
    arrays = {}
    for name, histogram in histograms.items():
        filled = np.flatnonzero(histogram.counts)
        first, last = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, 0)
        arrays[f"bins/{name}"] = np.array([histogram.exponent, first], np.int64)
        arrays[f"counts/{name}"] = histogram.counts[first:last]
        arrays[f"extremes/{name}"] = np.array([histogram.lows, histogram.highs], np.float32)
    return arrays


def from_arrays(arrays: dict[str, np.ndarray]) -> dict[str, Histogram]:
    """Inverse of `to_arrays`."""
    histograms = {}
    for name in (key.removeprefix("bins/") for key in arrays if key.startswith("bins/")):
        exponent, first = map(int, arrays[f"bins/{name}"])
        histogram = Histogram(exponent)
        trimmed = arrays[f"counts/{name}"]
        histogram.counts[first : first + trimmed.size] = trimmed
        histogram.lows, histogram.highs = arrays[f"extremes/{name}"].astype(np.float64).tolist()
        histograms[name] = histogram
    return histograms
