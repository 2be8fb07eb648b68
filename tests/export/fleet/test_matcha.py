"""MATCHA: proper matchings, optimal probabilities, expected rounds."""

import networkx
import numpy as np
import pytest
from scipy.optimize import minimize

from edgeflock.export.fleet.matcha import Matcha, activation_probabilities, edge_colouring
from edgeflock.runtime.fleet.plan.overlays import laplacian


def graph(n, p, seed):
    return np.array(networkx.gnp_random_graph(n, p, seed=seed).edges)


@pytest.mark.parametrize(("n", "p", "seed"), [(5, 1.0, 0), (8, 1.0, 0), (20, 0.3, 1), (40, 0.15, 2), (30, 0.8, 3)])
def test_every_matching_touches_a_silo_once_and_there_are_few(n, p, seed):
    pairs = graph(n, p, seed)
    colours = edge_colouring(n, pairs)
    for c in range(colours.max() + 1):
        assert np.bincount(pairs[colours == c].ravel()).max(initial=0) <= 1
    assert colours.max() + 1 <= np.bincount(pairs.ravel()).max() + 1  # Vizing
    assert len(colours) == len(pairs)


def test_on_a_complete_graph_every_matching_is_as_likely():
    pairs = np.argwhere(np.triu(np.ones((9, 9)), 1))
    assert Matcha.of(9, pairs).probability == pytest.approx(np.full(9, 0.5), abs=0.01)


def test_the_probabilities_maximise_the_algebraic_connectivity():
    pairs = graph(12, 0.35, 5)
    colours = edge_colouring(12, pairs)
    parts = np.stack([laplacian(12, pairs[colours == c]) for c in range(colours.max() + 1)])

    def connectivity(p):
        return np.linalg.eigvalsh(np.tensordot(p, parts, axes=1))[1]

    ours = activation_probabilities(parts)
    count = len(parts)
    assert ours.min() >= -1e-12 and ours.max() <= 1 + 1e-12 and ours.sum() <= 0.5 * count + 1e-9
    limits = {"type": "ineq", "fun": lambda p: 0.5 * count - p.sum()}
    chance = np.random.default_rng(0)
    starts = [np.full(count, 0.5), *chance.uniform(0.2, 0.5, (4, count))]
    others = [
        minimize(lambda p: -connectivity(p), s, bounds=[(0, 1)] * count, constraints=limits, method="SLSQP").x
        for s in starts
    ]
    best = max(connectivity(np.clip(p, 0, 1)) for p in others if p.sum() <= 0.5 * count + 1e-6)
    assert connectivity(ours) >= best * (1 - 1e-3) and connectivity(ours) > connectivity(starts[0])


def test_a_bridge_is_always_active_when_the_budget_allows():
    two_cliques = [(i, j) for k in (0, 4) for i in range(k, k + 4) for j in range(i + 1, k + 4)]
    pairs = np.array([*two_cliques, (0, 4)])
    matcha = Matcha.of(8, pairs)
    bridge = matcha.matching[np.flatnonzero((matcha.pairs == (0, 4)).all(axis=1))[0]]
    assert matcha.probability[bridge] == pytest.approx(1.0, abs=1e-3)


def test_the_mean_round_is_the_expected_slowest_edge(scattered):
    delays = scattered(10)
    delays = type(delays)(delays.compute_ms, delays.latency_ms, delays.core_ms, 0.0)  # degrees do not count
    matcha = Matcha.of(10, np.argwhere(np.triu(np.ones((10, 10)), 1)))
    slowest = np.array([delays.pairs[tuple(matcha.pairs[matcha.matching == c].T)].max() for c in range(10)])
    order = np.argsort(-slowest)
    p = matcha.probability[order]
    first = p * np.cumprod(np.r_[1.0, 1 - p[:-1]])
    assert matcha.cycle_ms(delays, rounds=40000) == pytest.approx((first @ slowest[order]) / first.sum(), rel=0.005)


def test_no_round_is_empty_and_messages_are_counted():
    matcha = Matcha.of(4, np.array([(0, 1), (1, 2), (2, 3)]))
    active = matcha.draw(5000)
    assert active.any(axis=1).all()
    assert matcha.messages() == pytest.approx(2 * matcha.probability[matcha.matching].sum())


def test_the_half_life_is_what_random_models_show():
    matcha = Matcha.of(9, np.argwhere(np.triu(np.ones((9, 9)), 1)))
    # alpha by search over the simulated decay: none may beat the optimum by more than the noise
    active, decays = matcha.draw(4000, seed=1), []
    parts = [laplacian(9, matcha.pairs[matcha.matching == c]) for c in range(len(matcha.probability))]
    for alpha in np.linspace(0.05, 0.3, 11):
        models = np.random.default_rng(0).normal(size=9)
        total = 0.0
        for row in active[:400]:
            models = models - models.mean()
            models = models / np.linalg.norm(models)
            models = models - alpha * sum(parts[c] @ models for c in np.flatnonzero(row))
            total += np.log((models**2).sum())
        decays.append(-total / 2 / 400)
    assert np.log(2) / max(decays) == pytest.approx(matcha.half_life(), rel=0.35)
