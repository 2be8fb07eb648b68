"""How fast a plan makes the silos agree: cycle time alone misleads.

Disagreement shrinks by the same factor in every period of a plan. The half-life is how many rounds halve it, and
`time_to_consensus` is what a fleet waits for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeflock.runtime.fleet.mixing.rules import RULES, Mixing, fits
from edgeflock.runtime.fleet.plan.schedule import Plan

NEGLIGIBLE = 1e-9  # second eigenvalue below which one period is exact averaging


def period_map(plan: Plan, stale: bool = True, rule: str | None = None) -> np.ndarray:
    """What one period of mixing, from the round after state 0 through state 0, does to the silos' models: (n, n).

    Parameters
    ----------
    plan : Plan
        Its overlay and periods.
    stale : bool
        True mixes what the transfers bring, as `Mixing` does: over an edge of period p the model of round `k - p + 1`.
        False mixes the models of round k, the product of the states' matrices.
    rule : str, optional
        Of the weights, `mixing.RULES`. Of push-sum the map of the sums: its columns sum to 1.
    """
    mixing = Mixing(plan, rule, stale=stale)
    past = [np.eye(plan.n)] * int(plan.periods.max())
    now = np.eye(plan.n)
    for k in range(1, plan.states + 1):
        past = [now, *past[:-1]]  # past[a]: models a rounds ago, before mixing
        now = now + sum(matrix @ past[age] for age, matrix in mixing.matrices(k).items())
    return now


def half_life(plan: Plan, stale: bool = True, rule: str | None = None) -> float:
    """Rounds that halve the disagreement in the long run; 0 when a period averages exactly.

    `S ln 2 / -ln |lambda|` with lambda the second largest eigenvalue of the period's map. A star averages in one round.
    """
    mixed = period_map(plan, stale, rule)
    if rule == "push_sum":
        mixed = mixed.T
    # Deflation by the consensus direction: rows sum to 1, so (1, ..., 1) is the first eigenvector.
    second = float(np.abs(np.linalg.eigvals(mixed - mixed.mean(axis=0))).max())
    if second < NEGLIGIBLE:
        return 0.0
    if second >= 1:
        return math.inf
    return plan.states * math.log(2) / -math.log(second)


def influence(plan: Plan, stale: bool = True, rule: str | None = None) -> np.ndarray:
    """Weight of what each silo learns in what all agree on, times n: (states, n). All 1 if the mean is kept.

    Row `k - 1` is for what was learnt in round k: it matters how soon the others hear of it. Where a silo of a directed
    plan takes an old model for a share of its own, what both learnt since is lost in that share: the mean of all is
    then below 1, the part of the learning that lasts. The last row of `stale=False` is the stationary distribution that
    docs/fleet-mixing.md gives (there with the ring turned round, for the authors' code mixes in the model of the silo
    it sends to).
    """
    mixed = period_map(plan, stale, rule)
    equations = np.vstack([mixed.T - np.eye(plan.n), np.ones(plan.n)])
    stationary = np.linalg.lstsq(equations, np.r_[np.zeros(plan.n), plan.n], rcond=None)[0]
    mixing = Mixing(plan, rule, stale=stale)
    found = np.zeros((plan.states + 2, plan.n))
    found[-1] = stationary
    for k in range(plan.states, 0, -1):  # backwards: models of round k go on, and into those that mix them later
        found[k] += found[k + 1]
        for age, matrix in mixing.matrices(k).items():
            found[k - age] += matrix.T @ found[k + 1]
    return found[1:-1]


def influence_table(plan: Plan, rules: Sequence[str] | None = None, stale: bool = True) -> dict[str, dict[str, Any]]:
    """What each weight rule does to the average, as plain JSON values.

    By rule: `influence` by silo, the mean over the rounds; `least` and `most` of it, `..._round` of single rounds,
    `..._state_0` of the round of state 0, where all edges bind; `lasting`, the mean of all; `half_life_rounds`. Without
    `rules` all that fit the plan; `InputError` when one that is asked for does not.
    """
    table: dict[str, dict[str, Any]] = {}
    for rule in rules or [rule for rule in RULES if fits(plan, rule)]:
        found = influence(plan, stale, rule)
        mean = found.mean(axis=0)
        column: dict[str, Any] = {"influence": dict(zip(plan.roster, mean.tolist(), strict=True))}
        for kind, values in (("", mean), ("_round", found), ("_state_0", found[-1])):
            column |= {f"least{kind}": float(values.min()), f"most{kind}": float(values.max())}
        table[rule] = column | {"lasting": float(mean.mean()), "half_life_rounds": half_life(plan, stale, rule)}
    return table


def time_to_consensus(cycle_ms: float, half_life_rounds: float) -> float:
    """Time to halve the disagreement, ms: cycle time x half-life, and one round at least, for mixing ends a round."""
    return cycle_ms * max(half_life_rounds, 1.0)


def bytes_per_round(plan: Plan, model_bits: float) -> float:
    """Bytes that the whole fleet sends in a round, on average: one model per edge and period."""
    return float((1 / plan.periods).sum() * model_bits / 8)
