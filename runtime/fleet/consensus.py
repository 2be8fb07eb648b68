"""How fast a plan makes the silos agree: cycle time alone misleads.

Disagreement shrinks by the same factor in every period of a plan. The half-life is how many rounds halve it, and
`time_to_consensus` is what a fleet waits for that.
"""

from __future__ import annotations

import math

import numpy as np

from edgeflock.runtime.fleet.schedule import Plan

NEGLIGIBLE = 1e-9  # second eigenvalue below which one period is exact averaging


def mixing_weights(plan: Plan, k: int) -> np.ndarray:
    """Weight that the receiver of each edge gives the sender's model in round k, 0 on weak edges: (m,).

    Where every edge has its reverse: Metropolis-Hastings, `1 / (1 + larger degree)` over the strong edges of the round,
    so every state is doubly stochastic. Otherwise the receiver keeps one half and shares the other equally.
    """
    strong = plan.strong(k)
    degree = np.bincount(plan.edges[strong, 1], minlength=plan.n)
    source, target = plan.edges.T
    if plan.mutual:
        weights = 1 / (1 + np.maximum(degree[source], degree[target]))
    else:
        weights = 0.5 / np.maximum(degree[target], 1)
    return np.where(strong, weights, 0.0)


def period_map(plan: Plan, stale: bool = True) -> np.ndarray:
    """What one period of mixing, from the round after state 0 through state 0, does to the silos' models: (n, n).

    Parameters
    ----------
    plan : Plan
        Its overlay, periods and weights by `mixing_weights`.
    stale : bool
        True mixes what the transfers bring: over an edge of period p the model of round `k - p + 1`. In mutual plans
        both ends then add the weighted *difference* of the two models of that round, which keeps the mean exactly.
        False mixes the models of round k, the product of the states' matrices.
    """
    source, target = plan.edges.T
    mutual = plan.mutual
    past = [np.eye(plan.n)] * int(plan.periods.max())
    states: dict[bytes, np.ndarray] = {}
    now = np.eye(plan.n)
    for k in range(1, plan.states + 1):
        past = [now, *past[:-1]]  # past[a]: models a rounds ago, before mixing
        key = plan.strong(k).tobytes()
        if key not in states:
            states[key] = mixing_weights(plan, k)
        weights = states[key]
        change = np.zeros_like(now)
        bound = np.flatnonzero(weights)
        ages = plan.periods[bound] - 1 if stale else np.zeros(len(bound), dtype=int)
        for age in np.unique(ages):
            e = bound[ages == age]
            old = past[age]
            own = old if mutual else now
            step = np.zeros_like(now)
            np.add.at(step, (target[e], source[e]), weights[e])
            change += step @ old - step.sum(axis=1)[:, None] * own
        now = now + change
    return now


def half_life(plan: Plan, stale: bool = True) -> float:
    """Rounds that halve the disagreement in the long run; 0 when a period averages exactly.

    `S ln 2 / -ln |lambda|` with lambda the second largest eigenvalue of the period's map. A star averages in one round.
    """
    if plan.base == "star" and plan.states == 1:
        return 0.0
    mixed = period_map(plan, stale)
    # Deflation by the consensus direction: rows sum to 1, so (1, ..., 1) is the first eigenvector.
    second = float(np.abs(np.linalg.eigvals(mixed - mixed.mean(axis=0))).max())
    if second < NEGLIGIBLE:
        return 0.0
    if second >= 1:
        return math.inf
    return plan.states * math.log(2) / -math.log(second)


def time_to_consensus(cycle_ms: float, half_life_rounds: float) -> float:
    """Time to halve the disagreement, ms: cycle time x half-life, and one round at least, for mixing ends a round."""
    return cycle_ms * max(half_life_rounds, 1.0)


def bytes_per_round(plan: Plan, model_bits: float) -> float:
    """Bytes that the whole fleet sends in a round, on average: one model per edge and period."""
    return float((1 / plan.periods).sum() * model_bits / 8)
