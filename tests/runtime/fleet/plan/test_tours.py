"""Tours: valid, short, and the same everywhere."""

import itertools

import numpy as np
import pytest

from edgeflock.runtime.fleet.plan.tours import christofides_tour, improved_tour, tour_length


def shortest(weights):
    rest = range(1, len(weights))
    return min(tour_length(weights, [0, *order]) for order in itertools.permutations(rest))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
def test_small_tours_are_optimal(n, scattered):
    weights = scattered(n, seed=n).pairs
    tour = improved_tour(weights)
    assert tour[0] == 0 and sorted(tour) == list(range(n))
    assert tour_length(weights, tour) == pytest.approx(shortest(weights))


@pytest.mark.parametrize("n", [9, 30, 80])
def test_the_improved_tour_is_not_longer_than_christofides(n, scattered):
    weights = scattered(n, seed=n).pairs
    improved, christofides = improved_tour(weights), christofides_tour(weights)
    assert sorted(improved) == sorted(christofides) == list(range(n))
    assert tour_length(weights, improved) <= tour_length(weights, christofides) * (1 + 1e-9)


def test_no_exchange_of_two_edges_shortens_the_tour(scattered):
    weights = scattered(40).pairs
    tour = improved_tour(weights)
    length = tour_length(weights, tour)
    for i, j in itertools.combinations(range(1, 41), 2):
        assert tour_length(weights, tour[:i] + tour[i:j][::-1] + tour[j:]) > length - 1e-5


def test_the_tour_runs_in_the_direction_that_is_shorter():
    n = 6
    weights = np.full((n, n), 50.0)
    for i in range(n):
        weights[i, (i + 1) % n], weights[(i + 1) % n, i] = 9.0, 3.0
    assert improved_tour(weights) == [0, 5, 4, 3, 2, 1]


def test_noise_below_a_nanosecond_changes_nothing(scattered):
    weights = np.round(scattered(50).pairs, 6)
    noise = np.random.default_rng(0).uniform(-1, 1, weights.shape) * 1e-9
    assert improved_tour(weights) == improved_tour(weights + noise)
