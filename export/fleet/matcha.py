"""MATCHA: random matchings of a graph, active so often that the expected graph mixes best (arXiv 1905.09435).

On the underlay's links (`matcha_underlay`) and on all pairs (`matcha_connectivity`). The published table's names for
the two are swapped against the method's first paper, hence names that say which graph it is.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.fleet.plan.delay import Delays
from edgeflock.runtime.fleet.plan.overlays import laplacian

BUDGET = 0.5  # expected share of active matchings
ROUNDS = 2000  # drawn for the mean; the published table has 1000
GAP = 1e-4  # between connectivity reached and its upper bound, relative


@dataclass(frozen=True, eq=False)
class Matcha:
    """Matchings of a graph and how often each is active.

    Parameters
    ----------
    n : int
        Silos.
    pairs : ndarray of int, shape (m, 2)
        Undirected edges.
    matching : ndarray of int, shape (m,)
        Matching that the edge belongs to.
    probability : ndarray, shape (matchings,)
        Of a matching's being active in a round, independent of the others.
    """

    n: int
    pairs: np.ndarray
    matching: np.ndarray
    probability: np.ndarray

    @classmethod
    def of(cls, n: int, pairs: np.ndarray, budget: float = BUDGET) -> Matcha:
        """Colour the edges in the order of their ends, then choose the probabilities.

        Many colourings are proper, and which one it is moves the cycle time by a few per cent.
        """
        pairs = np.sort(pairs, axis=1)
        pairs = pairs[np.lexsort(pairs.T[::-1])]
        colours = edge_colouring(n, pairs)
        laplacians = np.stack([laplacian(n, pairs[colours == c]) for c in range(colours.max() + 1)])
        return cls(n, pairs, colours, activation_probabilities(laplacians, budget))

    def draw(self, rounds: int, seed: int = 0) -> np.ndarray:
        """Active matchings of every round, bool (rounds, matchings); a round with none is drawn again."""
        chance = np.random.default_rng(seed)
        active = chance.random((rounds, len(self.probability))) < self.probability
        while (none := ~active.any(axis=1)).any():
            active[none] = chance.random((none.sum(), len(self.probability))) < self.probability
        return active

    def edge_delays(self, delays: Delays, active: np.ndarray) -> np.ndarray:
        """Delay of every pair in every round when active, with that round's degrees: (rounds, m)."""
        degree = active @ self._touched()
        i, j = self.pairs.T
        bits = np.maximum(np.maximum(degree[:, i], degree[:, j]) * delays.access_ms, delays.core_ms[i, j])
        return delays.compute_ms + delays.latency_ms[i, j] + bits

    def cycle_ms(self, delays: Delays, rounds: int = ROUNDS, seed: int = 0) -> float:
        """Mean over drawn rounds of the slowest active edge."""
        active = self.draw(rounds, seed)
        return float((self.edge_delays(delays, active) * active[:, self.matching]).max(axis=1).mean())

    def messages(self) -> float:
        """Models sent per round, expected."""
        return float(2 * self.probability[self.matching].sum())

    def half_life(self) -> float:
        """Rounds that halve the mean-square-root disagreement under `W = I - alpha L`, alpha at its best.

        `E[W'W] = I - 2 alpha L1 + alpha^2 (L1^2 + 2 L2)` with L1 the mean Laplacian and L2 its variance, since a
        matching's Laplacian squared is twice itself.
        """
        from scipy.optimize import minimize_scalar

        p = self.probability[self.matching]
        mean = laplacian(self.n, self.pairs, p)
        second = mean @ mean + 2 * laplacian(self.n, self.pairs, p * (1 - p))
        apart = np.eye(self.n) - 1 / self.n

        def rate(alpha: float) -> float:
            return float(np.linalg.eigvalsh(apart - 2 * alpha * mean + alpha**2 * second)[-1])

        best = minimize_scalar(rate, bounds=(0, 1), method="bounded").fun
        return float(np.log(2) / (-0.5 * np.log(best)))

    def _touched(self) -> np.ndarray:
        """Whether a matching holds a silo: (matchings, n)."""
        touched = np.zeros((len(self.probability), self.n), dtype=int)
        touched[self.matching[:, None], self.pairs] = 1
        return touched


def edge_colouring(n: int, pairs: np.ndarray) -> np.ndarray:
    """Colours of the edges so that no silo has two of one colour: one more than the largest degree at most.

    Misra and Gries, "A constructive proof of Vizing's theorem" (1992).
    """
    colours = int(np.bincount(pairs.ravel()).max()) + 1
    other: list[list[int]] = [[-1] * colours for _ in range(n)]  # other[u][c]: silo at the end of u's edge of colour c
    colour: dict[tuple[int, int], int] = {}

    def free(u: int) -> int:
        return other[u].index(-1)

    def paint(u: int, v: int, c: int) -> None:
        other[u][c], other[v][c] = v, u
        colour[min(u, v), max(u, v)] = c

    def wipe(u: int, v: int) -> int:
        c = colour.pop((min(u, v), max(u, v)))
        other[u][c] = other[v][c] = -1
        return c

    for u, v in pairs.tolist():
        fan = [v]  # each edge of the fan has a colour that is free at the silo before it
        while True:
            last = fan[-1]
            grown = next(
                (w for c, w in enumerate(other[u]) if w >= 0 and w not in fan and other[last][c] < 0),
                None,
            )
            if grown is None:
                break
            fan.append(grown)
        c, d = free(u), free(fan[-1])
        if c != d:  # exchange c and d along the path that starts at u with d
            path, here, wanted = [u], u, d
            while (there := other[here][wanted]) >= 0:
                path.append(there)
                here, wanted = there, c if wanted == d else d
            steps = list(itertools.pairwise(path))
            old = [wipe(a, b) for a, b in steps]
            for (a, b), was in zip(steps, old, strict=True):
                paint(a, b, c if was == d else d)
        # the first prefix of the fan that is still a fan and ends where d is free
        for end in range(len(fan)):
            if other[fan[end]][d] < 0:
                break
            # beyond this silo the fan holds only while its next edge's colour is still free here
            if end + 1 < len(fan):
                next_colour = colour[min(u, fan[end + 1]), max(u, fan[end + 1])]
                if other[fan[end]][next_colour] >= 0:
                    raise EdgeflockError("the fan broke before a silo where the colour is free: Misra-Gries is wrong.")
        moved = [wipe(u, w) for w in fan[1 : end + 1]]
        for w, was in zip(fan[:end], moved, strict=True):
            paint(u, w, was)
        paint(u, fan[end], d)
    return np.array([colour[min(u, v), max(u, v)] for u, v in pairs.tolist()])


def activation_probabilities(laplacians: np.ndarray, budget: float = BUDGET) -> np.ndarray:
    """Probabilities that maximise the algebraic connectivity of the expected graph.

    `max lambda_2(sum p_i L_i)` with `0 <= p <= 1` and `sum p <= budget * matchings`. The connectivity is the least of
    the linear functions `sum p_i v'L_i v` over unit vectors v orthogonal to 1, so cutting planes at the lowest
    eigenvectors and linear programs in between close in on the optimum from both sides; the gap between them bounds the
    error.

    Parameters
    ----------
    laplacians : ndarray, shape (matchings, n, n)
        Of every matching.
    budget : float
        Expected share of active matchings.
    """
    with needs("MATCHA"):
        from scipy.optimize import linprog
    count = len(laplacians)
    p, best, reached, cuts = np.full(count, budget), np.full(count, budget), -np.inf, np.empty((0, count))
    for _ in range(1000):
        values, vectors = np.linalg.eigh(np.tensordot(p, laplacians, axes=1))
        if values[1] > reached:
            best, reached = p, float(values[1])
        lowest = vectors[:, 1 : 1 + count]
        cuts = np.vstack([cuts, np.einsum("nk,inm,mk->ki", lowest, laplacians, lowest, optimize=True)])
        # variables: p and the bound; maximise the bound
        below = np.hstack([-cuts, np.ones((len(cuts), 1))])
        spent = np.r_[np.ones(count), 0.0][None]
        found = linprog(
            np.r_[np.zeros(count), -1.0],
            A_ub=np.vstack([below, spent]),
            b_ub=np.r_[np.zeros(len(cuts)), budget * count],
            bounds=[(0, 1)] * count + [(0, None)],
        )
        bound = -found.fun
        if bound - reached <= GAP * bound:
            return best
        # halfway to the best point found: the plain method jumps between corners
        p = (found.x[:-1] + best) / 2
    raise EdgeflockError(f"activation probabilities did not settle: connectivity {reached:.6g}, bound {bound:.6g}.")
