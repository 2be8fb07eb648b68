"""A plan without the robots that are absent: the gap closes by the same rule on every robot.

Where edges go both ways, the neighbours of a missing robot are linked in the order of their names, a path in place of
the star that they hung on; on directed plans each of its sources is linked to each of its targets, so that a ring stays
a ring. Robots are taken out in the order of their names, and the result depends on plan and set alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from edgeflock.runtime.fleet.plan.schedule import Plan


def without(plan: Plan, absent: Iterable[str]) -> Plan | None:
    """Plan of those that are there; None when fewer than two are left.

    A new edge has the larger period of the two that it replaces, and their delays together.
    """
    gone = [name for name in plan.roster if name in set(absent)]
    if not gone:
        return plan
    left = [name for name in plan.roster if name not in gone]
    if len(left) < 2:
        return None
    facts = {
        (plan.roster[i], plan.roster[j]): (int(p), float(d))
        for (i, j), p, d in zip(plan.edges.tolist(), plan.periods, plan.delay_ms, strict=True)
    }
    hubs = {plan.roster[i] for i in np.flatnonzero(np.bincount(plan.edges[:, 0]) > 1)} if plan.base == "star" else set()
    mutual = plan.mutual
    for name in sorted(gone):
        into = {i: fact for (i, j), fact in facts.items() if j == name}
        out = {j: fact for (i, j), fact in facts.items() if i == name}
        facts = {edge: fact for edge, fact in facts.items() if name not in edge}
        if mutual:
            beside = sorted(into)
            pairs = [*pairwise(beside), *pairwise(beside[::-1])]
        else:
            pairs = [(i, j) for i in sorted(into) for j in sorted(out) if i != j]
        for i, j in pairs:
            facts.setdefault((i, j), (max(into[i][0], out[j][0]), into[i][1] + out[j][1]))
    at = {name: index for index, name in enumerate(left)}
    return Plan(
        tuple(left),
        "path" if hubs & set(gone) else plan.base,
        plan.t,
        np.array([(at[i], at[j]) for i, j in facts]),
        np.array([p for p, _ in facts.values()]),
        np.array([d for _, d in facts.values()]),
    )
