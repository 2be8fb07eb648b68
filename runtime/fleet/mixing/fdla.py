"""FDLA: the symmetric weights that agree fastest on a given graph.

Xiao and Boyd, "Fast linear iterations for distributed averaging" (2004): minimise the spectral norm of `W - 11'/n` over
symmetric W on the graph's edges whose rows sum to 1. Columns then sum to 1 too, so the mean stays; weights may be
negative.
"""

from __future__ import annotations

import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.fleet.plan.overlays import laplacian

SHARPNESS = (1e1, 1e2, 1e3, 1e4, 1e5)  # of the smooth maximum, sharper and sharper; its error is log(2 n) / sharpness


def fdla(n: int, pairs: np.ndarray) -> np.ndarray:
    """Weights of the edges that minimise the spectral norm of `W - 11'/n`.

    The norm is the largest of the eigenvalues and their negatives; a log-sum-exp over them is convex and smooth also
    where eigenvalues meet, so L-BFGS goes down it, sharper and sharper, from the best constant weight,
    `2 / (lambda_2 + lambda_n)` of the Laplacian, which is the optimum where all edges are alike (ring, star, complete).

    Parameters
    ----------
    n : int
        Silos.
    pairs : ndarray of int, shape (m, 2)
        Undirected edges of a connected graph, each once.

    Returns
    -------
    ndarray, shape (m,)
        `W = I - sum_e w_e (e_i - e_j)(e_i - e_j)'`.

    Raises
    ------
    InputError
        The graph is not connected: the norm is 1 whatever the weights.
    MissingExtra
        No scipy.
    """
    with needs("FDLA"):
        from scipy.optimize import minimize
    i, j = pairs.T
    base = np.eye(n) - 1 / n

    def spectrum(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.linalg.eigh(base - laplacian(n, pairs, weights))

    def smooth(weights: np.ndarray, sharpness: float) -> tuple[float, np.ndarray]:
        values, vectors = spectrum(weights)
        both = np.concatenate([values, -values])
        largest = both.max()
        parts = np.exp(sharpness * (both - largest))
        share = parts / parts.sum()
        by_value = share[:n] - share[n:]
        return (
            float(largest + np.log(parts.sum()) / sharpness),
            -((vectors[i] - vectors[j]) ** 2 @ by_value),
        )

    def norm(weights: np.ndarray) -> float:
        return float(np.abs(spectrum(weights)[0]).max())

    graph = np.linalg.eigvalsh(laplacian(n, pairs))[1:]
    if graph[0] < 1e-9 * n:
        raise InputError(f"FDLA needs a connected graph; these {len(pairs)} edges leave its {n} silos in parts.")
    best = now = np.full(len(pairs), 2 / (graph[0] + graph[-1]))
    reached = norm(best)
    for sharpness in SHARPNESS:
        now = minimize(smooth, now, (sharpness,), "L-BFGS-B", jac=True, options={"maxiter": 300}).x
        if (found := norm(now)) < reached:
            best, reached = now, found
    return best
