"""Overlays: what they connect, and that the trees are what they claim."""

import networkx
import numpy as np
import pytest

from edgeflock.runtime.fleet.choose.cycle_time import event
from edgeflock.runtime.fleet.plan.delay import Delays
from edgeflock.runtime.fleet.plan.overlays import (
    _cube_path,
    best_hub,
    complete,
    delta_mbst,
    grow_tree,
    mst,
    ring,
    star,
)
from edgeflock.runtime.fleet.plan.schedule import plan_of


def test_star_and_complete_and_ring_list_every_edge_once():
    assert sorted(map(tuple, star(4, hub=2).tolist())) == [(0, 2), (1, 2), (2, 0), (2, 1), (2, 3), (3, 2)]
    assert len(complete(5)) == 20
    assert ring([0, 2, 1]).tolist() == [[0, 2], [2, 1], [1, 0]]


def test_the_delay_is_compute_latency_and_the_slowest_of_upload_download_and_core():
    latency, core = np.full((4, 4), 10.0), np.full((4, 4), 3.0)
    delays = Delays(5.0, latency, core, access_ms=2.0)
    assert delays.along(ring([0, 1, 2, 3])).tolist() == [18.0] * 4  # the core binds
    assert delays.along(star(4)).tolist() == [21.0] * 6  # the hub's line, shared by three
    assert delays.along(star(4)[:3]).tolist() == [21.0] * 3  # also where only its way down is shared


def test_a_relayed_message_takes_the_path_of_least_delay_and_its_slowest_part(scattered):
    n = 12
    latency = scattered(n).latency_ms
    delays = Delays(5.0, latency, np.where(latency > np.median(latency), 40.0, 10.0) * (1 - np.eye(n)), access_ms=2.0)
    pairs, relayed = delays.pairs * (1 - np.eye(n)), delays.relayed()
    paths = dict(networkx.all_pairs_dijkstra_path(networkx.from_numpy_array(pairs)))
    detours = 0
    for i, j in np.argwhere(~np.eye(n, dtype=bool)):
        hops = np.array(list(networkx.utils.pairwise(paths[i][j]))).T
        detours += hops.shape[1] > 1
        assert relayed.latency_ms[i, j] == pytest.approx(latency[tuple(hops)].sum())
        assert relayed.core_ms[i, j] == delays.core_ms[tuple(hops)].max()
    assert detours


def test_nothing_is_relayed_where_no_way_is_shorter(scattered):
    delays = scattered(12)
    assert np.array_equal(delays.relayed().latency_ms, delays.latency_ms)


def test_the_tree_is_minimal(scattered):
    weights = scattered(30).pairs
    graph = networkx.from_numpy_array(weights * (1 - np.eye(30)))
    least = sum(d["weight"] for *_, d in networkx.minimum_spanning_edges(graph))
    pairs = grow_tree(weights, 30)
    assert weights[pairs[:, 0], pairs[:, 1]].sum() == pytest.approx(least)


@pytest.mark.parametrize("delta", [2, 3, 4])
def test_a_bounded_tree_spans_within_its_degree(delta, scattered):
    pairs = grow_tree(scattered(30).pairs, delta)
    graph = networkx.Graph(pairs.tolist())
    assert networkx.is_tree(graph) and len(graph) == 30
    assert max(dict(graph.degree).values()) <= delta


def test_the_path_in_the_cube_of_a_tree_steps_over_three_edges_at_most(scattered):
    weights = scattered(40, seed=3).pairs
    pairs = grow_tree(weights, 40)
    path = _cube_path(pairs, weights)
    far = dict(networkx.all_pairs_shortest_path_length(networkx.Graph(pairs.tolist())))
    assert len(path) == 39 and networkx.is_path(networkx.Graph(path.tolist()), [path[0, 0], *path[:, 1]])
    assert max(far[i][j] for i, j in path.tolist()) <= 3


def test_delta_mbst_beats_the_tree_where_silos_have_slow_lines():
    n = 12
    places = np.r_[np.zeros((1, 2)), np.random.default_rng(0).uniform(-1, 1, (n - 1, 2))]  # one in the middle of all
    latency = np.linalg.norm(places[:, None] - places, axis=2) + np.where(np.arange(n) == 0, 0, 5) * (1 - np.eye(n))
    latency = np.maximum(latency, 0) + 1 - np.eye(n)
    latency = np.minimum(latency, latency.T)
    slow_lines = Delays(1.0, latency, np.zeros((n, n)), access_ms=4.0)
    by_tree = slow_lines.along(mst(slow_lines)).max()
    assert slow_lines.along(delta_mbst(slow_lines)).max() < by_tree


def test_the_best_hub_has_the_fastest_star(scattered):
    delays = scattered(15)
    cycles = []
    for hub in range(15):
        d = delays.along(star(15, hub))
        cycles.append((d[:14] + d[14:]).max() - delays.compute_ms)
    assert int(np.argmin(cycles)) == best_hub(delays)
    assert event(plan_of(tuple(map(str, range(15))), delays, 1, "star"), delays.compute_ms) == pytest.approx(cycles[0])
