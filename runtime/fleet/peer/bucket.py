"""A cap on what goes out per second."""

from __future__ import annotations

BURST_S = 4.0
"""So much of the rate may be saved up: as long as a neighbour waits at most before it asks again."""


class Bucket:
    """Token bucket: over `BURST_S` and longer no more than the rate passes.

    What does not pass is not queued. The neighbour asks again for what is missing, so a chunk is never sent twice.

    Parameters
    ----------
    rate : float
        Bytes per second; 0: no limit.
    now_ns : int
    """

    def __init__(self, rate: float, now_ns: int) -> None:
        self._rate, self._most = rate, rate * BURST_S
        self._there, self._at_ns = self._most, now_ns

    def take(self, size: int, now_ns: int) -> bool:
        """Whether `size` bytes may go now. A message larger than all that can be saved up passes a full bucket."""
        if not self._rate:
            return True
        self._there = min(self._most, self._there + (now_ns - self._at_ns) * self._rate / 1e9)
        self._at_ns = now_ns
        if self._there < min(size, self._most):
            return False
        self._there -= size
        return True
