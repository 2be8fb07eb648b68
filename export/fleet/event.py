"""Silos by their own clocks, round by round: stragglers, jitter, and one Wi-Fi channel for all.

A silo trains, sends, waits for the models that bind it in this round, mixes, and goes on. Nobody waits for the round of
others. `cycle_time.event` gives the long-run pace of a calm network exactly; this module shows all others.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from edgeflock.export.fleet.matcha import Matcha
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.plan.delay import Delays
from edgeflock.runtime.fleet.plan.overlays import both_ways
from edgeflock.runtime.fleet.plan.schedule import Plan

ROUNDS = 1000
CROSSINGS = 2  # robot to access point, access point to robot


@dataclass(frozen=True)
class Conditions:
    """What disturbs a fleet.

    Parameters
    ----------
    stragglers : mapping of int to float
        Silo index and by how much its local steps take longer.
    jitter : float
        Coefficient of variation of every local step and transfer; Gamma distributed, the mean stays.
    wifi_ms : float
        Time that one model occupies the one channel that all robots share (`wifi_airtime`); requests queue. It comes on
        top of the delays of the plan. 0: every pair has its own channel.
    seed : int
        Of the jitter.
    """

    stragglers: Mapping[int, float] = field(default_factory=dict)
    jitter: float = 0.0
    wifi_ms: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.jitter >= 0 and self.wifi_ms >= 0 and all(f > 0 for f in self.stragglers.values())):
            raise InputError("jitter and wifi_ms are numbers from 0 up, a straggler's factor is above 0.")

    @property
    def calm(self) -> bool:
        """Whether nothing disturbs, so that `cycle_time.event` holds exactly."""
        return not (self.stragglers or self.jitter or self.wifi_ms)


CALM = Conditions()


def wifi_airtime(model_bits: float, bps: float) -> float:
    """Milliseconds that one model takes on a channel of `bps` usable bits per second, over an access point."""
    return CROSSINGS * model_bits / bps * 1e3


@dataclass(frozen=True, eq=False)
class _Traffic:
    """What binds in each round: `strong(k)` bool (m,); the model of round `k - lag + 1` is the one awaited."""

    n: int
    edges: np.ndarray
    lags: np.ndarray
    strong: Callable[[int], np.ndarray]
    work: np.ndarray  # (rounds, n), ms
    transfer: np.ndarray  # (rounds, m), ms, by the round that awaits it
    star: bool = False  # the first half of the edges goes up to the hub, the second comes down


def simulate(plan: Plan, compute_ms: float, rounds: int = ROUNDS, conditions: Conditions = CALM) -> np.ndarray:
    """Clocks of the silos under a plan, in ms.

    Returns
    -------
    ndarray, shape (rounds + 1, n)
        Row k: when each silo begins round k.
    """
    transfer = np.broadcast_to(plan.delay_ms - compute_ms, (rounds, len(plan.edges)))
    star = plan.base == "star" and plan.states == 1
    return _run(plan.n, plan.edges, plan.periods, plan.strong, compute_ms, transfer, conditions, star)


def simulate_matcha(
    matcha: Matcha, delays: Delays, rounds: int = ROUNDS, conditions: Conditions = CALM, seed: int = 0
) -> np.ndarray:
    """As `simulate`, for drawn matchings."""
    active = matcha.draw(rounds, seed)
    transfer = matcha.edge_delays(delays, active) - delays.compute_ms
    bound = np.tile(active[:, matcha.matching], 2)
    edges = both_ways(matcha.pairs)
    lags = np.ones(len(edges), dtype=int)

    def strong(k: int) -> np.ndarray:
        return bound[min(k, rounds - 1)]

    return _run(matcha.n, edges, lags, strong, delays.compute_ms, np.tile(transfer, 2), conditions, False)


def pace(clocks: np.ndarray) -> float:
    """Milliseconds per round in the long run: the slope after the first quarter."""
    first = len(clocks) // 4
    return float((clocks[-1] - clocks[first]).mean() / (len(clocks) - 1 - first))


def _run(n, edges, lags, strong, compute_ms, transfer, conditions: Conditions, star: bool) -> np.ndarray:
    rounds = len(transfer)
    work = np.full((rounds, n), float(compute_ms))
    for silo, factor in conditions.stragglers.items():
        work[:, silo] *= factor
    if conditions.jitter:
        chance, shape = np.random.default_rng(conditions.seed), conditions.jitter**-2
        work = work * chance.gamma(shape, 1 / shape, work.shape)
        transfer = transfer * chance.gamma(shape, 1 / shape, transfer.shape)
    traffic = _Traffic(n, edges, lags, strong, work, transfer, star)
    return _shared(traffic, conditions.wifi_ms) if conditions.wifi_ms else _free(traffic)


def _free(traffic: _Traffic) -> np.ndarray:
    """Every pair has its own channel: one max-plus step per round."""
    rounds, n = traffic.work.shape
    source, target = traffic.edges.T
    deep = int(traffic.lags.max())
    clocks, sent = np.zeros((rounds + 1, n)), np.zeros((deep, n))
    half = len(source) // 2
    for k in range(rounds):
        ready = clocks[k] + traffic.work[k]
        now = ready.copy()
        if traffic.star:
            hub = target[0]
            now[hub] = max(ready[hub], (ready[source[:half]] + traffic.transfer[k, :half]).max())
            now[target[half:]] = np.maximum(ready[target[half:]], now[hub] + traffic.transfer[k, half:])
        else:
            sent[k % deep] = ready
            e = np.flatnonzero(traffic.strong(k))
            of_round = np.maximum(k - traffic.lags[e] + 1, 0)
            np.maximum.at(now, target[e], sent[of_round % deep, source[e]] + traffic.transfer[k, e])
        clocks[k + 1] = now
    return clocks


def _shared(traffic: _Traffic, airtime: float) -> np.ndarray:
    """One channel for all transfers, first come, first served: events in the order of time."""
    rounds, n = traffic.work.shape
    source, target = traffic.edges.T.tolist()
    out: list[list[int]] = [[] for _ in range(n)]
    for e, i in enumerate(source):
        out[i].append(e)
    lags = traffic.lags.tolist()
    strong = [traffic.strong(k) for k in range(rounds + int(traffic.lags.max()))]
    waits = np.ones((rounds, n), dtype=int)  # own local steps, and the models awaited
    for k in range(rounds):
        waits[k] += np.bincount(traffic.edges[strong[k], 1], minlength=n)
    hub = target[0] if traffic.star else -1
    clocks, latest = np.zeros((rounds + 1, n)), np.zeros((rounds, n))
    free_at = 0.0
    queue: list[tuple[float, int, int, bool]] = [(float(traffic.work[0, i]), i, 0, False) for i in range(n)]
    heapq.heapify(queue)

    def tick(j: int, k: int, time: float) -> None:
        """One thing that silo j awaited in round k came at `time`."""
        latest[k, j] = max(latest[k, j], time)
        waits[k, j] -= 1
        if waits[k, j]:
            return
        clocks[k + 1, j] = latest[k, j]
        if j == hub:
            heapq.heappush(queue, (latest[k, j], j, k, True))
        if k + 1 < rounds:
            heapq.heappush(queue, (latest[k, j] + traffic.work[k + 1, j], j, k + 1, False))

    while queue:
        time, i, k, answer = heapq.heappop(queue)
        if not answer:
            tick(i, k, time)
        if i == hub and not answer:
            continue  # the hub sends when it has mixed
        for e in out[i]:
            awaited = {k + lags[e] - 1, 0} if k == 0 else {k + lags[e] - 1}
            for r in sorted(awaited):
                if r < rounds and strong[r][e]:
                    free_at = max(free_at, time) + airtime
                    tick(target[e], r, free_at + traffic.transfer[r, e])
    return clocks
