"""Short round trips through all silos: the order of the ring.

`improved_tour` is the default: on the five networks of the literature it is never longer than Christofides' tour
(docs/fleet-topology.md). It counts in whole nanoseconds, so every robot finds the same tour from the same delays.
"""

from __future__ import annotations

import random
from collections import deque

import numpy as np

from edgeflock.runtime.extras import needs

NEIGHBOURS = 10
KICKS = 300


def tour_length(weights: np.ndarray, tour: list[int]) -> float:
    """Sum of the weights along a closed tour, in its direction."""
    return float(weights[tour, np.roll(tour, -1)].sum())


def christofides_tour(weights: np.ndarray) -> list[int]:
    """Christofides' tour (networkx) on symmetric weights, in the direction that is shorter."""
    with needs("Christofides' tour"):
        import networkx
    symmetric = (weights + weights.T) / 2
    tour = networkx.approximation.christofides(networkx.from_numpy_array(symmetric * (1 - np.eye(len(weights)))))
    return _directed(weights, tour[:-1])


def improved_tour(weights: np.ndarray) -> list[int]:
    """Greedy tour, improved by 2-opt and Or-opt, kicked and improved again (iterated local search).

    Parameters
    ----------
    weights : ndarray, shape (n, n)
        Delays in ms; the mean of both directions is what counts, the better direction is chosen at the end.

    Returns
    -------
    list of int
        Every silo once, from silo 0 on.
    """
    n = len(weights)
    if n < 4:
        return _directed(weights, list(range(n)))
    whole = np.rint((weights + weights.T) * 5e5).astype(np.int64)
    np.fill_diagonal(whole, np.iinfo(np.int64).max // 4)
    search = _Search(whole)
    search.improve(range(n))
    chance, best, length = random.Random(0), search.tour[:], search.length()
    for _ in range(KICKS if n >= 8 else 0):
        changed = search.kick(chance)
        search.improve(changed)
        if (found := search.length()) < length:
            best, length = search.tour[:], found
        else:
            search.adopt(best)
    return _directed(weights, best)


def _directed(weights: np.ndarray, tour: list[int]) -> list[int]:
    """The shorter direction, starting with silo 0; where both are equal, towards the smaller index."""
    tour = [int(i) for i in tour]
    first = tour.index(0)
    one = tour[first:] + tour[:first]
    other = one[:1] + one[:0:-1]
    there, back = tour_length(weights, one), tour_length(weights, other)
    if abs(there - back) <= 1e-9 * there:
        return min(one, other)
    return one if there < back else other


def _greedy(whole: np.ndarray) -> list[int]:
    """Tour of the shortest edges that leave every silo two neighbours and close no early circle."""
    n = len(whole)
    start, end = np.triu_indices(n, 1)
    near: list[list[int]] = [[] for _ in range(n)]
    root = list(range(n))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = i = root[root[i]]
        return i

    left = n - 1
    for e in np.argsort(whole[start, end], kind="stable"):
        i, j = int(start[e]), int(end[e])
        if len(near[i]) < 2 and len(near[j]) < 2 and find(i) != find(j):
            near[i].append(j)
            near[j].append(i)
            root[find(i)] = find(j)
            left -= 1
            if not left:
                break
    here = next(i for i in range(n) if len(near[i]) == 1)
    tour, before = [here], -1
    while len(tour) < n:
        here, before = next(j for j in near[here] if j != before), here
        tour.append(here)
    return tour


class _Search:
    """2-opt and Or-opt over the nearest neighbours of every silo."""

    def __init__(self, whole: np.ndarray) -> None:
        self.n = len(whole)
        order = np.argsort(whole, axis=1, kind="stable")[:, : min(NEIGHBOURS, self.n - 1)]
        self.near = order.tolist()
        self.d = whole.tolist()
        self.adopt(_greedy(whole))

    def adopt(self, tour: list[int]) -> None:
        self.tour = tour[:]
        self.at = [0] * self.n
        for position, silo in enumerate(self.tour):
            self.at[silo] = position

    def length(self) -> int:
        t = self.tour
        return sum(self.d[a][b] for a, b in zip(t, t[1:] + t[:1], strict=True))

    def improve(self, silos) -> None:
        """Apply improving moves until none is left around `silos` and around what changed."""
        waiting = deque(silos)
        queued = set(waiting)
        while waiting:
            silo = waiting.popleft()
            queued.discard(silo)
            while touched := self._two_opt(silo) or self._or_opt(silo):
                for other in touched:
                    if other not in queued:
                        queued.add(other)
                        waiting.append(other)

    def kick(self, chance: random.Random) -> list[int]:
        """Exchange two neighbouring stretches of the tour (a double bridge) at a random place."""
        n, t = self.n, self.tour
        reach = min(50, n - 1)
        turn = int(chance.random() * n)
        t = t[turn:] + t[:turn]
        a, b, c = sorted(1 + int(chance.random() * reach) for _ in range(3))
        self.adopt(t[:a] + t[b:c] + t[a:b] + t[c:])
        ends = (a - 1, a, b - 1, b, c - 1, c % n)
        return sorted({t[i] for i in ends})

    def _reverse(self, i: int, j: int) -> None:
        """Turn the stretch of positions i..j (cyclic) round; the shorter of it and the rest."""
        n, t, at = self.n, self.tour, self.at
        inside = (j - i) % n + 1
        if 2 * inside > n:
            i, j, inside = (j + 1) % n, (i - 1) % n, n - inside
        for _ in range(inside // 2):
            t[i], t[j] = t[j], t[i]
            at[t[i]], at[t[j]] = i, j
            i, j = (i + 1) % n, (j - 1) % n

    def _two_opt(self, a: int) -> tuple[int, ...]:
        n, t, at, d = self.n, self.tour, self.at, self.d
        for step in (1, -1):
            b = t[(at[a] + step) % n]
            for c in self.near[a]:
                gain = d[a][b] - d[a][c]
                if gain <= 0:
                    break
                e = t[(at[c] + step) % n]
                if gain + d[c][e] - d[b][e] > 0:
                    if step == 1:
                        self._reverse((at[a] + 1) % n, at[c])
                    else:
                        self._reverse(at[c], (at[a] - 1) % n)
                    return a, b, c, e
        return ()

    def _or_opt(self, a: int) -> tuple[int, ...]:
        """Move the stretch of one to three silos that begins or ends with `a` beside one of a's neighbours."""
        n, t, at, d = self.n, self.tour, self.at, self.d
        for size in (1, 2, 3):
            for step in (1, -1):
                if size + 3 > n:
                    return ()
                # the stretch runs from a away from its far end z; `a` will lie beside c
                stretch = [t[(at[a] + step * k) % n] for k in range(size)]
                z = stretch[-1]
                before, after = t[(at[a] - step) % n], t[(at[z] + step) % n]
                free = d[before][a] + d[z][after] - d[before][after]
                for c in self.near[a]:
                    if d[a][c] >= free:
                        break
                    if c in stretch:
                        continue
                    for side in (1, -1):
                        e = t[(at[c] + side) % n]
                        if e in stretch:
                            continue
                        if free + d[c][e] - d[c][a] - d[z][e] > 0:
                            self._move(stretch, c, e)
                            return a, z, before, after, c, e
        return ()

    def _move(self, stretch: list[int], c: int, e: int) -> None:
        """Put `stretch` between the neighbours c and e, its first silo beside c."""
        rest = [s for s in self.tour if s not in stretch]
        i, j = rest.index(c), rest.index(e)
        if (i + 1) % len(rest) == j:
            self.adopt(rest[: i + 1] + stretch + rest[i + 1 :])
        else:
            self.adopt(rest[: j + 1] + stretch[::-1] + rest[j + 1 :])
