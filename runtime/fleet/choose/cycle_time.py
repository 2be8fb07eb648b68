"""Cycle time, three ways, because the literature mixes them.

`cycle_mean` is what the published table prints, `round_max` what the post's text says, `event` what a wall clock shows:
silos keep their own clocks and wait only for what they mix in.
"""

from __future__ import annotations

import numpy as np

from edgeflock.runtime.fleet.plan.schedule import Plan

ROUNDS = 6400  # of the published FEMNIST runs


def max_cycle_mean(weights: np.ndarray) -> float:
    """Largest mean weight of a cycle, by Karp's theorem.

    Parameters
    ----------
    weights : ndarray, shape (n, n)
        From row to column, -inf where there is no edge.

    Returns
    -------
    float
        -inf when there is no cycle.
    """
    n = len(weights)
    into = np.ascontiguousarray(weights.T)
    best = np.zeros((n + 1, n))  # best[k, v]: heaviest walk of k edges that ends in v
    for k in range(n):
        best[k + 1] = (into + best[k]).max(axis=1)
    last = best[n]
    reached = np.isfinite(last)
    if not reached.any():
        return -np.inf
    with np.errstate(invalid="ignore"):
        means = (last[reached] - best[:n, reached]) / (n - np.arange(n))[:, None]
    return float(means.min(axis=0).max())


def cycle_mean(plan: Plan, compute_ms: float, rounds: int = ROUNDS) -> float:
    """Mean over the rounds of the max-plus cycle mean of each round's graph, in ms (Karp; docs/decisions/0010).

    Weak edges weigh 0; a strong edge weighs what is left of its delay after the weak rounds before it, and no less than
    the local steps. The pattern repeats after the first round, so one period of it stands for all (`round_times` adds
    them up one by one). A star takes its edges twice, up and down, with the local steps once.
    """
    if plan.base == "star" and plan.states == 1:
        return star_cycle(plan, compute_ms)
    return _mean(plan, compute_ms, rounds, _karp(plan))


def round_max(plan: Plan, compute_ms: float, rounds: int = ROUNDS) -> float:
    """As `cycle_mean`, with the slowest strong edge as the time of a round."""
    if plan.base == "star" and plan.states == 1:
        return star_cycle(plan, compute_ms)
    return _mean(plan, compute_ms, rounds, _slowest)


def star_cycle(plan: Plan, compute_ms: float) -> float:
    """Round of a star: the slowest silo's way to the hub and back, with the local steps once."""
    up, down = np.split(plan.delay_ms, 2)
    return float((up + down).max() - compute_ms)


def event(plan: Plan, compute_ms: float) -> float:
    """Long-run time per round by the silos' own clocks, exact, in ms (max-plus spectral theory).

    A silo that finished its local steps sends; over an edge of period p the model of round `k - p + 1` is awaited in
    round k. State 0 has all edges strong, so nothing is under way after it, and one period of states is a max-plus
    linear map of the n clocks; its largest cycle mean is the period's length.
    """
    if plan.base == "star" and plan.states == 1:
        return star_cycle(plan, compute_ms)
    n, lags = plan.n, plan.periods
    deep = int(lags.max())
    order = np.argsort(plan.edges[:, 1], kind="stable")
    start = np.full((deep, n, n), -np.inf)  # start[k % deep, i]: clock of silo i before round k, by origin
    now = np.where(np.eye(n, dtype=bool), 0.0, -np.inf)
    for k in range(1, plan.states + 1):
        start[k % deep] = now
        now = now + compute_ms
        bound = order[plan.strong(k)[order]]
        source, target = plan.edges[bound].T
        arrivals = start[(k - lags[bound] + 1) % deep, source] + plan.delay_ms[bound, None]
        firsts = np.flatnonzero(np.diff(target, prepend=-1))
        waited = np.maximum.reduceat(arrivals, firsts, axis=0)
        now[target[firsts]] = np.maximum(now[target[firsts]], waited)
    return max_cycle_mean(now.T) / plan.states


def round_times(plan: Plan, compute_ms: float, rounds: int, measure: str = "cycle_mean") -> np.ndarray:
    """Time of each of the first rounds under `cycle_mean` or `round_max`, one by one, in ms: (rounds,)."""
    tau = _karp(plan) if measure == "cycle_mean" else _slowest
    times = np.empty(rounds)
    background = np.zeros(len(plan.edges))  # weak time since the edge was strong
    weak_before = np.zeros(len(plan.edges), dtype=bool)
    for k in range(rounds):
        strong = plan.strong(k)
        left = np.where(weak_before, np.maximum(compute_ms, plan.delay_ms - background), plan.delay_ms)
        times[k] = tau(np.where(strong, left, 0.0))
        background = np.where(strong, 0.0, background + times[k])
        weak_before = ~strong
    return times


def _mean(plan: Plan, compute_ms: float, rounds: int, tau) -> float:
    measure = "round_max" if tau is _slowest else "cycle_mean"
    states = plan.states
    if rounds <= states + 1:
        return float(round_times(plan, compute_ms, rounds, measure).mean())
    # After round 0, where every edge has its whole delay, rounds 1..S repeat (no edge looks back beyond state 0).
    times = round_times(plan, compute_ms, states + 1, measure)
    whole, rest = divmod(rounds - 1, states)
    return float((times[0] + whole * times[1:].sum() + times[1 : 1 + rest].sum()) / rounds)


def _slowest(weights: np.ndarray) -> float:
    return float(weights.max())


def _karp(plan: Plan):
    """Function of the edges' weights: the largest cycle mean. On a single ring that is the mean over its edges."""
    source, target = plan.edges.T
    if _is_ring(plan):
        return lambda weights: float(weights.mean())
    graph = np.full((plan.n, plan.n), -np.inf)

    def tau(weights: np.ndarray) -> float:
        graph[source, target] = weights
        return max_cycle_mean(graph)

    return tau


def _is_ring(plan: Plan) -> bool:
    after = dict(plan.edges.tolist())
    if not len(after) == len(plan.edges) == plan.n:
        return False
    silo, seen = 0, 0
    while seen < plan.n and silo in after:
        silo, seen = after[silo], seen + 1
        if silo == 0:
            break
    return silo == 0 and seen == plan.n
