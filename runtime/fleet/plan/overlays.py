"""Overlays: the directed edges along which silos exchange models, one function per shape.

Every function returns edges (m, 2) as rows from, to; an undirected overlay lists both directions.
"""

from __future__ import annotations

import numpy as np

from edgeflock.runtime.fleet.plan.delay import Delays


def star(n: int, hub: int = 0) -> np.ndarray:
    """Every silo to the hub, then the hub to every silo.

    The published hub has the highest load centrality in the graph of all pairs' latencies. There no detour is shorter
    (every pair adds 4 ms), so every load is 0 and the tie falls to the first silo of the file: the default here.
    """
    others = np.delete(np.arange(n), hub)
    hubs = np.full(n - 1, hub)
    return np.concatenate([np.stack([others, hubs], axis=1), np.stack([hubs, others], axis=1)])


def best_hub(delays: Delays) -> int:
    """The hub whose farthest silo is nearest, there and back."""
    way = np.maximum(delays.core_ms, (len(delays) - 1) * delays.access_ms) + delays.latency_ms
    both = way + way.T
    np.fill_diagonal(both, 0)
    return int(both.max(axis=1).argmin())


def complete(n: int) -> np.ndarray:
    """Every silo to every other."""
    return np.argwhere(~np.eye(n, dtype=bool))


def ring(tour: list[int]) -> np.ndarray:
    """Directed ring through the silos in the order of `tour`."""
    return np.stack([tour, np.roll(tour, -1)], axis=1)


def mst(delays: Delays) -> np.ndarray:
    """Minimum spanning tree on `compute + latency + M/core` (Marfoq et al. 2020, arXiv 2010.12229)."""
    weights = delays.compute_ms + delays.latency_ms + delays.core_ms
    return both_ways(grow_tree((weights + weights.T) / 2, len(delays)))


def delta_mbst(delays: Delays) -> np.ndarray:
    """Spanning tree of the smallest cycle time under bounded degree (arXiv 2010.12229).

    Candidates are a Hamiltonian path in the cube of the minimum spanning tree, and the trees that Prim's algorithm
    grows when no silo may have more than delta neighbours, for every delta up to where the bound no longer binds.
    """
    weights = delays.compute_ms + delays.latency_ms + 2 * np.maximum(delays.core_ms, delays.access_ms)
    weights = (weights + weights.T) / 2
    free = grow_tree(weights, len(delays))
    candidates = [_cube_path(free, weights), free]
    candidates += [grow_tree(weights, delta) for delta in range(2, int(np.bincount(free.ravel()).max()))]
    return min(map(both_ways, candidates), key=lambda edges: _slowest_pair(delays, edges))


def both_ways(pairs: np.ndarray) -> np.ndarray:
    """Undirected pairs as directed edges: all forth, then all back."""
    return np.concatenate([pairs, pairs[:, ::-1]])


def grow_tree(weights: np.ndarray, max_degree: int) -> np.ndarray:
    """Prim's algorithm from silo 0 on symmetric weights, no silo with more than `max_degree` neighbours: (n-1, 2)."""
    n = len(weights)
    inside, degree = np.zeros(n, dtype=bool), np.zeros(n, dtype=int)
    inside[0] = True
    pairs = np.empty((n - 1, 2), dtype=int)
    # nearest[j]: the silo of the tree with a free place that j is nearest to
    nearest, cost = np.zeros(n, dtype=int), weights[0].copy()
    for k in range(n - 1):
        j = int(np.where(inside, np.inf, cost).argmin())
        i = int(nearest[j])
        pairs[k] = i, j
        inside[j] = True
        degree[[i, j]] += 1
        if degree[j] < max_degree:
            nearer = weights[j] < cost
            nearest[nearer], cost[nearer] = j, weights[j, nearer]
        if degree[i] == max_degree:
            open_ = np.flatnonzero(inside & (degree < max_degree))
            lost = np.flatnonzero(~inside & (nearest == i))
            choice = weights[np.ix_(open_, lost)].argmin(axis=0)
            nearest[lost], cost[lost] = open_[choice], weights[open_[choice], lost]
    return pairs


def _cube_path(tree: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Hamiltonian path that steps over three tree edges at most (Sekanina), without its longest possible step.

    A walk that notes silos of even depth on the way down and of odd depth on the way up never steps farther.
    """
    near: dict[int, list[int]] = {}
    for i, j in tree.tolist():
        near.setdefault(i, []).append(j)
        near.setdefault(j, []).append(i)
    order: list[int] = []
    stack = [(0, -1, 0, False)]
    while stack:
        silo, parent, depth, leaving = stack.pop()
        if leaving == bool(depth % 2):
            order.append(silo)
        if not leaving:
            stack.append((silo, parent, depth, True))
            stack.extend((child, silo, depth + 1, False) for child in near[silo] if child != parent)
    steps = ring(order)
    return np.delete(steps, weights[steps[:, 0], steps[:, 1]].argmax(), axis=0)


def _slowest_pair(delays: Delays, edges: np.ndarray) -> float:
    """Cycle mean of a tree in both directions: its slowest pair's mean."""
    d = delays.along(edges)
    return float((d[: len(d) // 2] + d[len(d) // 2 :]).max() / 2)


def laplacian(n: int, pairs: np.ndarray, weights: np.ndarray | float = 1.0) -> np.ndarray:
    """Laplacian of an undirected graph with edge weights, (n, n)."""
    found = np.zeros((n, n))
    found[pairs[:, 0], pairs[:, 1]] = weights
    found += found.T
    return np.diag(found.sum(axis=0)) - found
