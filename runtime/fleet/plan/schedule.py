"""Plans: which edges bind in which round.

A multigraph gives every edge of an overlay a period: the edge is strong (the receiver waits for it) in every round that
its period divides, and weak (its transfer runs in the background) in between. A ring where all periods are 1 is the
plain ring. A plan is a pure function of the roster, the delay matrix and t, so every robot computes the same, and its
hash tells when two do not.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import canonical_json, parse_json
from edgeflock.runtime.fleet.plan.delay import Delays
from edgeflock.runtime.fleet.plan.overlays import complete, delta_mbst, mst, ring, star
from edgeflock.runtime.fleet.plan.tours import improved_tour

VERSION = 1
T = 5  # periods up to this; the post's value
MAX_STATES = 5040  # the least common multiple of 1 to 10 is 2520, of 1 to 11 already 27720
DECIMALS = 6  # of delays in plans, in ms: a nanosecond
BASES: dict[str, Callable[[Delays], np.ndarray]] = {
    "ring": lambda delays: ring(improved_tour(delays.pairs)),
    "mst": mst,
    "delta_mbst": delta_mbst,
    "star": lambda delays: star(len(delays)),
    "complete": lambda delays: complete(len(delays)),
}
"""Overlays by name, each from its delays."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Edges of an overlay, and how often each one binds.

    Parameters
    ----------
    roster : tuple of str
        Names of the silos; the index of an edge's end counts here.
    base : str
        Name of the overlay.
    t : int
        Largest period allowed.
    edges : ndarray of int, shape (m, 2)
        From, to.
    periods : ndarray of int, shape (m,)
        Edge e is strong in the rounds k with `k % periods[e] == 0`.
    delay_ms : ndarray, shape (m,)
        From the start of the sender's local steps to the receiver's having the model.
    """

    roster: tuple[str, ...]
    base: str
    t: int
    edges: np.ndarray
    periods: np.ndarray
    delay_ms: np.ndarray

    @property
    def n(self) -> int:
        """Number of silos."""
        return len(self.roster)

    @cached_property
    def states(self) -> int:
        """Rounds after which the pattern repeats: the least common multiple of the periods."""
        return math.lcm(*map(int, np.unique(self.periods)))

    @property
    def staleness(self) -> int:
        """Age in rounds of the oldest model that is ever mixed in."""
        return int(self.periods.max()) - 1

    @cached_property
    def mutual(self) -> bool:
        """Whether every edge has its reverse, of the same period."""
        there = {(int(i), int(j)): int(p) for (i, j), p in zip(self.edges, self.periods, strict=True)}
        return all(there.get((j, i)) == p for (i, j), p in there.items())

    def strong(self, k: int) -> np.ndarray:
        """Which edges bind in round k: bool (m,)."""
        return k % self.periods == 0

    def isolated(self, k: int) -> np.ndarray:
        """Indices of the silos that neither wait nor are waited for in round k."""
        return np.setdiff1d(np.arange(self.n), self.edges[self.strong(k)])

    def content(self) -> dict:
        """What the hash covers, as plain JSON values."""
        edges = [
            {
                "from": self.roster[i],
                "to": self.roster[j],
                "period": int(p),
                "delay_ms": round(float(d), DECIMALS),
            }
            for (i, j), p, d in zip(self.edges.tolist(), self.periods, self.delay_ms, strict=True)
        ]
        return {"version": VERSION, "roster": list(self.roster), "base": self.base, "t": self.t, "edges": edges}

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON."""
        return hashlib.sha256(canonical_json(self.content())).hexdigest()

    def to_json(self) -> str:
        """JSON with the hash, for `from_json`."""
        return json.dumps(self.content() | {"states": self.states, "hash": self.hash}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: bytes | str, source: str | Path = "the plan") -> Plan:
        """Plan from its JSON; `DataError` when it is none, is inconsistent, or is not what its hash says."""
        try:
            data = parse_json(text)
            if data["version"] != VERSION:
                raise DataError(f"{source} is a plan of version {data['version']}, expected {VERSION}: make it again.")
            roster = tuple(data["roster"])
            at = {name: i for i, name in enumerate(roster)}
            edges = np.array([(at[e["from"]], at[e["to"]]) for e in data["edges"]])
            periods = np.array([e["period"] for e in data["edges"]])
            delay = np.array([e["delay_ms"] for e in data["edges"]], dtype=float)
            plan = cls(roster, data["base"], data["t"], edges, periods, delay)
            stated = data["hash"]
        except (ValueError, KeyError, TypeError) as e:
            raise DataError(
                f"{source} is no plan ({type(e).__name__}: {e}). Make it again: edgeflock fleet plan"
            ) from e
        if periods.dtype.kind != "i" or periods.min() < 1 or not np.isfinite(delay).all():
            raise DataError(f"{source}: periods are whole numbers from 1 up, delays are finite. Make it again.")
        if stated != plan.hash:
            raise DataError(f"{source} was changed: its content has the hash {plan.hash}, it states {stated}.")
        return plan


def make_plan(
    roster: Sequence[str],
    delays: Delays | np.ndarray,
    t: int = T,
    base: str | list[int] = "ring",
) -> Plan:
    """Multigraph plan of a fleet.

    The same for every order of the roster and on every machine: names are sorted and delays are rounded to nanoseconds
    first.

    Parameters
    ----------
    roster : sequence of str
        Names of the silos, each once.
    delays : Delays, or ndarray of shape (n, n)
        A matrix holds, from row to column, the measured time of local steps and transfer in ms.
    t : int
        Largest period: a model is at most `t - 1` rounds old when it is mixed in; 1 is the plain overlay.
    base : str or list of int
        Overlay by name (`BASES`), or the order of the silos in a ring.

    Raises
    ------
    InputError
        Names twice, delays missing or not above 0, t below 1 or with too many states, no such base.
    """
    names, sorted_delays, order = canonical(roster, delays)
    return plan_of(names, sorted_delays, t, [order.index(i) for i in base] if isinstance(base, list) else base)


def canonical(roster: Sequence[str], delays: Delays | np.ndarray) -> tuple[tuple[str, ...], Delays, list[int]]:
    """Roster sorted by name, delays in that order and in whole nanoseconds, and where each silo stood before."""
    n = len(roster)
    if n < 2 or len(set(roster)) < n:
        raise InputError(f"a roster needs two silos or more, each once; got {', '.join(roster) or 'none'}.")
    apart = ~np.eye(n, dtype=bool)
    if not isinstance(delays, Delays):
        matrix = np.asarray(delays, dtype=float)
        delays = Delays(0.0, np.where(apart, matrix, 0) if matrix.shape == (n, n) else matrix, np.zeros((n, n)), 0.0)
    if delays.latency_ms.shape != (n, n) or not (np.isfinite(delays.pairs[apart]) & (delays.pairs[apart] > 0)).all():
        raise InputError(
            f"expected delays of {n} x {n} pairs, numbers above 0 off the diagonal; got {delays.latency_ms.shape}."
        )
    order = sorted(range(n), key=lambda i: roster[i])
    latency, core = (np.round(part, DECIMALS)[np.ix_(order, order)] for part in (delays.latency_ms, delays.core_ms))
    return tuple(roster[i] for i in order), Delays(delays.compute_ms, latency, core, delays.access_ms), order


def plan_of(roster: Sequence[str], delays: Delays, t: int = T, base: str | list[int] = "ring") -> Plan:
    """As `make_plan`, in the order that the roster has; for tables and simulations of one machine."""
    if t < 1:
        raise InputError(f"t is the largest period, from 1 up; got {t}.")
    if isinstance(base, list):
        if sorted(base) != list(range(len(roster))):
            raise InputError(f"a ring visits each of the {len(roster)} silos once; got the order {base}.")
        name, edges = "ring", ring(base)
    elif base in BASES:
        name, edges = base, BASES[base](delays)
    else:
        raise InputError(f"no base '{base}': expected one of {', '.join(BASES)}.")
    delay = np.round(delays.along(edges), DECIMALS)
    plan = Plan(tuple(roster), name, t, edges, multiplicities(edges, delay, t), delay)
    if plan.states > MAX_STATES:
        raise InputError(f"t = {t} gives {plan.states} states, more than {MAX_STATES}: choose t = 10 or less.")
    return plan


def multiplicities(edges: np.ndarray, delay_ms: np.ndarray, t: int) -> np.ndarray:
    """Copies of every edge, `min(t, round(d / d_min))`, of which one is strong (arXiv 2207.09657).

    `d_min` is the smallest delay of the overlay. Both directions of a pair get the slower one's, to stay in step.
    """
    slower: dict[tuple[int, int], float] = {}
    for (i, j), d in zip(edges.tolist(), delay_ms.tolist(), strict=True):
        pair = (min(i, j), max(i, j))
        slower[pair] = max(d, slower.get(pair, 0.0))
    delay = np.array([slower[min(i, j), max(i, j)] for i, j in edges.tolist()])
    return np.minimum(t, np.rint(delay / delay_ms.min())).astype(int)
