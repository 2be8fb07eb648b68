"""FDLA: closed forms of known graphs, and a certificate of optimality where there is none."""

import math

import numpy as np
import pytest

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.mixing.fdla import fdla
from edgeflock.runtime.fleet.plan.overlays import laplacian


def norm(n, pairs, weights):
    return np.abs(np.linalg.eigvalsh(np.eye(n) - 1 / n - laplacian(n, pairs, weights))).max()


@pytest.mark.parametrize("n", [2, 5, 12])
def test_the_complete_graph_averages_at_once(n):
    pairs = np.argwhere(np.triu(np.ones((n, n)), 1))
    assert fdla(n, pairs) == pytest.approx(np.full(len(pairs), 1 / n))


@pytest.mark.parametrize("n", [4, 7, 12])
def test_a_star_and_a_ring_have_one_weight(n):
    star = np.array([(0, i) for i in range(1, n)])
    assert fdla(n, star) == pytest.approx(np.full(n - 1, 2 / (n + 1)))
    assert norm(n, star, fdla(n, star)) == pytest.approx((n - 1) / (n + 1))
    ring = np.array([(i, (i + 1) % n) for i in range(n)])
    low, high = 2 - 2 * math.cos(2 * math.pi / n), 2 - 2 * math.cos(2 * math.pi * (n // 2) / n)
    assert fdla(n, ring) == pytest.approx(np.full(n, 2 / (low + high)))
    assert norm(n, ring, fdla(n, ring)) == pytest.approx((high - low) / (high + low))


@pytest.mark.parametrize("n", [3, 7, 20])
def test_a_path_has_halves(n):
    path = np.array([(i, i + 1) for i in range(n - 1)])
    assert norm(n, path, fdla(n, path)) == pytest.approx(math.cos(math.pi / n), abs=1e-5)
    assert fdla(n, path)[[0, -1]] == pytest.approx([0.5, 0.5], abs=1e-2)


def test_no_weights_of_an_irregular_graph_are_better_by_more_than_a_thousandth():
    """Any symmetric Y of nuclear norm 1 with y_ii + y_jj = 2 y_ij on the edges bounds the norm by tr(Y (I - 11'/n))."""
    n, rng = 20, np.random.default_rng(0)
    links = np.triu(rng.random((n, n)) < 3 / n, 1)
    links[np.arange(n - 1), np.arange(1, n)] = True
    pairs = np.argwhere(links)
    weights = fdla(n, pairs)
    values, vectors = np.linalg.eigh(np.eye(n) - 1 / n - laplacian(n, pairs, weights))
    ends = np.sign(values) * (np.abs(values) > np.abs(values).max() - 1e-4)
    hollow = np.array([np.outer(v, v).ravel() for v in np.eye(n)[pairs[:, 0]] - np.eye(n)[pairs[:, 1]]])
    extreme = vectors[:, ends != 0]
    signs = ends[ends != 0]
    # Y = sum over pairs of extreme eigenvectors of one sign, with the coefficients that meet the condition
    basis = []
    for a in range(extreme.shape[1]):
        for b in range(a, extreme.shape[1]):
            if signs[a] == signs[b]:
                both = np.outer(extreme[:, a], extreme[:, b])
                basis.append(((both + both.T) / 2 * signs[a]).ravel())
    basis = np.array(basis).T
    target = np.r_[np.zeros(len(pairs)), 1.0]
    trace = (np.eye(n) - 1 / n).ravel() @ basis
    found = np.linalg.lstsq(np.vstack([hollow @ basis, trace]), target, rcond=None)[0]
    dual = basis @ found
    dual -= np.linalg.pinv(hollow) @ (hollow @ dual)
    dual = dual.reshape(n, n)
    bound = np.trace(dual @ (np.eye(n) - 1 / n)) / np.abs(np.linalg.eigvalsh(dual)).sum()
    reached = norm(n, pairs, weights)
    assert bound - 1e-9 <= reached <= bound + 1e-3
    degree = np.bincount(pairs.ravel())
    assert reached < norm(n, pairs, 1 / (1 + degree[pairs].max(axis=1))) - 0.1


def test_a_graph_in_parts_is_refused():
    with pytest.raises(InputError, match="connected"):
        fdla(4, np.array([(0, 1), (2, 3)]))
