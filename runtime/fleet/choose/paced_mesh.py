"""A schedule beyond the multigraph: the paced mesh.

1. A model that travels while its sender trains costs no time. Over an edge of delay d that binds every t-th round a
   silo never waits when a round takes d / t or more.
2. So take every pair with d <= t x round, not only neighbours on a ring: where the multigraph has one way round, this
   graph has short cuts, and disagreement dies in a few exchanges instead of n^2.
3. All edges bind in the same round, every t-th. Both ends mix the models of the round after the exchange before, which
   nobody else has touched since: mixing is as good as fresh, though every model was t rounds on its way.
4. Start from the tree of smallest bottleneck; add the pair whose ends differ most in the Fiedler vector, the direction
   in which the graph agrees slowest, until the bytes of the budget are spent (greedy algebraic connectivity).
5. Metropolis weights on mutual edges are doubly stochastic, so every exchange keeps the mean of all models.
6. Short rounds admit few edges, long rounds many: try round times from the tree's bottleneck / t up to what is allowed,
   and keep the one of the smallest time_to_consensus under the `event` clock.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.choose.consensus import half_life, time_to_consensus
from edgeflock.runtime.fleet.choose.cycle_time import event
from edgeflock.runtime.fleet.plan.delay import Delays
from edgeflock.runtime.fleet.plan.overlays import both_ways, grow_tree
from edgeflock.runtime.fleet.plan.schedule import DECIMALS, Plan, T

MAX_DEGREE = 8  # neighbours of a silo
TRIES = 12  # round times


def paced_mesh(
    roster: Sequence[str],
    delays: Delays,
    t: int = T,
    messages: float = 1.0,
    cycle_ms: float | None = None,
    max_degree: int = MAX_DEGREE,
) -> Plan:
    """Mesh whose transfers hide behind t rounds of training.

    Parameters
    ----------
    roster : sequence of str
        Names of the silos.
    delays : Delays
        Of the network and workload.
    t : int
        Period of every edge: a model is `t - 1` rounds old when it is mixed in, as in a multigraph of the same t.
    messages : float
        Models that a silo sends per round, on average, at most; a ring sends 1. A spanning tree's are the least.
    cycle_ms : float, optional
        Time of a round that is aimed at, twice the shortest possible by default; where the silos cannot be connected
        within it, up to a twentieth above the shortest possible.
    max_degree : int
        Neighbours of a silo, at most.
    """
    n = len(delays)
    if t < 1 or max_degree < 2:
        raise InputError(f"t is 1 or more and max_degree 2 or more; got {t} and {max_degree}.")
    pairs = np.maximum(delays.pairs, delays.pairs.T)
    tree = grow_tree(pairs, max_degree)
    shortest = max(float(delays.along(both_ways(tree)).max()) / t, delays.compute_ms)
    longest = max(shortest * 1.05, cycle_ms or 2 * shortest)
    count = max(n - 1, int(messages * n * t / 2 + 1e-9))
    tries: list[tuple[float, float, Plan]] = []
    for round_ms in np.geomspace(shortest, longest, TRIES):
        chosen = _mesh(pairs, tree, pairs <= t * round_ms * (1 + 1e-9), count, max_degree)
        edges = both_ways(chosen)
        delay = np.round(delays.along(edges), DECIMALS)
        plan = Plan(tuple(roster), "paced_mesh", t, edges, np.full(len(edges), t), delay)
        cycle = event(plan, delays.compute_ms)
        tries.append((time_to_consensus(cycle, half_life(plan)), cycle, plan))
    return min(tries, key=lambda found: found[:2])[2]


def _mesh(pairs: np.ndarray, tree: np.ndarray, allowed: np.ndarray, count: int, max_degree: int) -> np.ndarray:
    """The tree and as many more allowed pairs as there may be, each where it lifts the connectivity most."""
    n = len(pairs)
    chosen = [tuple(pair) for pair in tree.tolist()]
    open_ = np.triu(allowed, 1)
    graph = np.zeros((n, n))
    for i, j in chosen:
        graph[i, j] = graph[j, i] = 1
        open_[min(i, j), max(i, j)] = False
    while len(chosen) < count:
        degree = graph.sum(axis=0)
        room = degree < max_degree
        fiedler = np.linalg.eigh(np.diag(degree) - graph)[1][:, 1]
        gain = np.where(open_ & room[:, None] & room, np.abs(fiedler[:, None] - fiedler), 0)
        i, j = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[i, j] < 1e-9:
            break
        chosen.append((int(i), int(j)))
        graph[i, j] = graph[j, i] = 1
        open_[i, j] = False
    return np.array(chosen)
