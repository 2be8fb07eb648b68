"""What a set of latencies says: histogram, percentiles, and how sure one may be of them.

The confidence is MLPerf LoadGen's early-stopping rule (mlcommons/inference, loadgen/early_stopping.cc): of n latencies
the t largest may be over the bound, where t is the largest count for which seeing so few would be improbable if the
true percentile were above it. The binomial tail that it needs is LoadGen's regularised incomplete beta function,
I_p(h, t + 1) = P(at most t of h + t are over | each is over with probability 1 - p).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from pydantic import BaseModel, ConfigDict

CONFIDENCE = 0.99  # LoadGen's
PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
BINS_PER_OCTAVE = 32  # a bin is 2.2 % wide


def binomial_tail(n: int, p: float, most: int) -> np.ndarray:
    """P(at most t of n latencies are over the p-percentile) for t = 0..most.

    Parameters
    ----------
    n : int
        Latencies.
    p : float
        Percentile, 0..1: each latency is over it with probability 1 - p.
    most : int
        Largest t, below n.

    Returns
    -------
    ndarray (most + 1,) float64
        Ascending. Exact to rounding: each term comes from the logarithms of the ratios before it, so that a first term
        too small for a float64 does not take the others with it.
    """
    t = np.arange(most)
    steps = np.log(n - t) - np.log(t + 1) + math.log((1 - p) / p)
    return np.cumsum(np.exp(n * math.log(p) + np.concatenate([[0.0], np.cumsum(steps)])))


def find_min_passing(t: int, p: float, confidence: float = CONFIDENCE) -> int:
    """Fewest latencies h under a bound, beside t over it, that show with `confidence` that the bound holds at p.

    LoadGen's `find_min_passing` with tolerance 0.
    """
    low, high = 1, 2
    while binomial_tail(high + t, p, t)[t] > 1 - confidence:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if binomial_tail(middle + t, p, t)[t] <= 1 - confidence else (middle + 1, high)
    return low


@lru_cache
def samples_needed(p: float, confidence: float = CONFIDENCE) -> int:
    """Latencies below which the p-percentile is not stated: LoadGen's rule with one over the bound."""
    return find_min_passing(1, p, confidence) + 1


def upper_rank(n: int, p: float, confidence: float = CONFIDENCE) -> int | None:
    """How many of n latencies, from the largest, may be dropped so that the next bounds the p-percentile.

    Returns t: of the sorted latencies, number n - t (from 0) is at least the true percentile with `confidence`.
    None with fewer than `samples_needed`.
    """
    if n < samples_needed(p, confidence):
        return None
    tail = binomial_tail(n, p, min(n - 1, math.ceil(n * (1 - p))))
    return int(np.searchsorted(tail, 1 - confidence, side="right")) - 1


class Percentile(BaseModel):
    """One percentile; null where too few latencies were measured to state it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    ms: float | None
    """The latency at it, one that occurred (nearest rank)."""
    at_most_ms: float | None
    """The true percentile is at most this with a confidence of 99 %."""
    samples_needed: int


class LatencyHistogram(BaseModel):
    """Counts in bins of equal ratio: bin i holds the latencies from 2**(i/bins_per_octave) ns to the next edge."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    bins_per_octave: int = BINS_PER_OCTAVE
    first: int
    """Index of the first bin in `counts`."""
    counts: list[int]

    @classmethod
    def of(cls, ns: np.ndarray) -> LatencyHistogram:
        """Bin latencies (n,) in ns, all positive."""
        index = np.floor(np.log2(np.maximum(ns, 1)) * BINS_PER_OCTAVE).astype(int)
        first = int(index.min())
        return cls(first=first, counts=np.bincount(index - first).tolist())

    def edges_ms(self) -> np.ndarray:
        """Edges (len(counts) + 1,) of the bins, ms."""
        return 2.0 ** ((self.first + np.arange(len(self.counts) + 1)) / self.bins_per_octave) / 1e6

    def merged(self, other: LatencyHistogram) -> LatencyHistogram:
        """The histogram of both sets of latencies."""
        first = min(self.first, other.first)
        counts = np.zeros(max(h.first + len(h.counts) for h in (self, other)) - first, int)
        for h in (self, other):
            counts[h.first - first :][: len(h.counts)] += h.counts
        return LatencyHistogram(bins_per_octave=self.bins_per_octave, first=first, counts=counts.tolist())

    def percentile_ms(self, p: float) -> float:
        """Upper edge of the bin that holds the p-percentile (0..1), ms."""
        bin_ = int(np.searchsorted(np.cumsum(self.counts), math.ceil(p * sum(self.counts))))
        return float(self.edges_ms()[bin_ + 1])


class Latency(BaseModel):
    """Distribution of one latency. Nothing is clipped: the worst run counts like any other."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    samples: int
    min_ms: float
    mean_ms: float
    std_ms: float
    max_ms: float
    percentiles: dict[str, Percentile]
    """p50, p90, p95, p99, p99_9."""
    histogram: LatencyHistogram

    @classmethod
    def of(cls, ns: np.ndarray) -> Latency:
        """Describe latencies (n,) in ns; n is at least 1."""
        ordered, n = np.sort(ns), len(ns)
        percentiles = {}
        for name, p in PERCENTILES.items():
            over = upper_rank(n, p)
            percentiles[name] = Percentile(
                ms=None if over is None else ms(ordered[math.ceil(p * n) - 1]),
                at_most_ms=None if over is None else ms(ordered[n - over]),
                samples_needed=samples_needed(p),
            )
        return cls(
            samples=n,
            min_ms=ms(ordered[0]),
            mean_ms=ms(ns.mean()),
            std_ms=ms(ns.std()),
            max_ms=ms(ordered[-1]),
            percentiles=percentiles,
            histogram=LatencyHistogram.of(ns),
        )


def ms(ns: float) -> float:
    """Nanoseconds as milliseconds, to the tenth of a microsecond."""
    return round(float(ns) / 1e6, 4)
