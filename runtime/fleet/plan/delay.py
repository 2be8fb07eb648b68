"""What one transfer takes: the delay of every edge of an overlay."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.plan.network import SiloNetwork

MOST = 1e15
"""Of bits, steps, ms or bit/s; beyond it sums lose what they add."""


@dataclass(frozen=True)
class Workload:
    """What a round computes and sends.

    Parameters
    ----------
    model_bits : float
        Size of one message.
    compute_ms : float
        One local step.
    local_steps : int
        Local steps per round.
    access_bps : float
        Capacity of every silo's own line, each way; its neighbours share it.
    """

    model_bits: float
    compute_ms: float
    local_steps: int = 1
    access_bps: float = 1e10

    def __post_init__(self) -> None:
        for name in ("model_bits", "compute_ms", "local_steps", "access_bps"):
            value = getattr(self, name)
            if not 0 < value <= MOST:
                raise InputError(f"{name} is {value:g}: expected a number above 0 and at most {MOST:g}.")


@dataclass(frozen=True, eq=False)
class Delays:
    """The parts of `d(i,j) = compute + latency + max(outdeg(i) M/C, indeg(j) M/C, M/core(i,j))` (docs/decisions/0010).

    Parameters
    ----------
    compute_ms : float
        Local steps of a round.
    latency_ms, core_ms : ndarray, shape (n, n)
        From row to column: latency, and the model's time on the links in between.
    access_ms : float
        The model's time on a silo's own line when it has one neighbour.
    """

    compute_ms: float
    latency_ms: np.ndarray
    core_ms: np.ndarray
    access_ms: float

    @classmethod
    def of(cls, network: SiloNetwork, work: Workload) -> Delays:
        """Delays of a workload on a network."""
        return cls(
            work.compute_ms * work.local_steps,
            network.latency_ms,
            work.model_bits * network.core_ms_per_bit,
            work.model_bits / work.access_bps * 1e3,
        )

    def __len__(self) -> int:
        return len(self.latency_ms)

    @property
    def pairs(self) -> np.ndarray:
        """Delay of every pair when both silos have this one neighbour, (n, n)."""
        return self.compute_ms + self.latency_ms + np.maximum(self.core_ms, self.access_ms)

    def relayed(self) -> Delays:
        """The same where a message may pass through other silos: latencies add up, the slowest part counts.

        The published stars are timed so (`get_star_overlay` of `aioz-ai/MultigraphFL`): every message takes the path
        of least delay among the pairs. With a large model that is often shorter than the direct way, whose links count
        one after the other.
        """
        way, latency, core = self.pairs, self.latency_ms.copy(), self.core_ms.copy()
        np.fill_diagonal(way, 0)
        for k in range(len(self)):
            over = way[:, k, None] + way[None, k]
            shorter = over < way
            way = np.where(shorter, over, way)
            latency = np.where(shorter, latency[:, k, None] + latency[None, k], latency)
            core = np.where(shorter, np.maximum(core[:, k, None], core[None, k]), core)
        return replace(self, latency_ms=latency, core_ms=core)

    def along(self, edges: np.ndarray) -> np.ndarray:
        """Delay of every edge of an overlay (m, 2), whose degrees share the silos' lines."""
        start, end = edges.T
        n = len(self)
        degree = np.maximum(np.bincount(start, minlength=n)[start], np.bincount(end, minlength=n)[end])
        bits = np.maximum(degree * self.access_ms, self.core_ms[start, end])
        return self.compute_ms + self.latency_ms[start, end] + bits
