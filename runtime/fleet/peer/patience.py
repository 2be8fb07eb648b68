"""How long a round waits for a neighbour: learnt from when its models came."""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np

REMEMBERED = 33


class Patience:
    """Deadlines of median + k MAD of a neighbour's past waits, within bounds.

    A wait counts from the end of the own training, 0 if the model was there by then. Models that came after the round
    had closed count too, so that patience grows for a robot that became slow.

    Parameters
    ----------
    floor_ns, ceiling_ns : int
        Bounds; without any experience the ceiling.
    mads : float
        k. MAD is the median absolute deviation.
    """

    def __init__(self, floor_ns: int, ceiling_ns: int, mads: float) -> None:
        self._floor, self._ceiling, self._mads = floor_ns, ceiling_ns, mads
        self._waits: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def saw(self, peer: str, wait_ns: int) -> None:
        """Note a wait."""
        self._waits[peer].append(max(wait_ns, 0))

    def of(self, peer: str) -> int:
        """Longest wait for this neighbour, in ns."""
        waits = self._waits.get(peer)
        if not waits:
            return self._ceiling
        median = float(np.median(waits))
        mad = float(np.median(np.abs(np.array(waits) - median)))
        return round(min(max(median + self._mads * mad, self._floor), self._ceiling))
