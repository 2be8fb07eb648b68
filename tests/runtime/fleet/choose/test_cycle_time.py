"""Cycle time: the formulas, each against an independent way to the same number."""

import itertools
import time

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflock.export.fleet.event import pace, simulate
from edgeflock.runtime.fleet.choose.cycle_time import cycle_mean, event, max_cycle_mean, round_max, round_times
from edgeflock.runtime.fleet.plan.delay import Delays
from edgeflock.runtime.fleet.plan.overlays import ring
from edgeflock.runtime.fleet.plan.schedule import Plan, plan_of

NAMES = tuple(f"s{i}" for i in range(200))


def ring_plan(delays, periods):
    n = len(delays)
    return Plan(NAMES[:n], "ring", max(periods), ring(list(range(n))), np.array(periods), np.array(delays, float))


@given(st.integers(2, 6), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_karp_finds_the_heaviest_mean_cycle(n, seed):
    chance = np.random.default_rng(seed)
    weights = np.where(chance.random((n, n)) < 0.6, chance.uniform(-5, 20, (n, n)), -np.inf)
    graph = networkx.DiGraph([(int(i), int(j)) for i, j in np.argwhere(np.isfinite(weights))])
    means = [
        np.mean([weights[i, j] for i, j in itertools.pairwise([*cycle, cycle[0]])])
        for cycle in networkx.simple_cycles(graph)
    ]
    assert max_cycle_mean(weights) == pytest.approx(max(means, default=-np.inf))


def test_a_ring_takes_the_mean_of_its_delays_not_the_slowest():
    plan = ring_plan([10, 20, 60], [1, 1, 1])
    assert cycle_mean(plan, 5) == pytest.approx(30) and round_max(plan, 5) == 60
    assert event(plan, 5) == pytest.approx(30)


def test_a_tree_takes_its_slowest_pair():
    delays = Delays(2.0, np.array([[0, 7, 50], [9, 0, 20], [50, 30, 0.0]]), np.zeros((3, 3)), 0.0)
    plan = plan_of(NAMES[:3], delays, 1, "mst")
    assert cycle_mean(plan, 2.0) == pytest.approx((22 + 32) / 2) and event(plan, 2.0) == pytest.approx(27)


def test_a_star_computes_once_and_travels_twice():
    delays = Delays(5.0, np.array([[0, 20, 30.0], [22, 0, 9], [33, 9, 0]]), np.zeros((3, 3)), 0.0)
    plan = plan_of(NAMES[:3], delays, 1, "star")
    for measure in (cycle_mean, round_max, event):
        assert measure(plan, 5.0) == pytest.approx(5 + 30 + 33)


def test_the_recursion_of_the_multigraph_by_hand():
    # d = 10, 25; periods 1, 2; T_c = 4. Round 0: (10+25)/2. Round 1: 10/2, carried as 5. Round 2: max(4, 25-5)=20.
    plan = ring_plan([10, 25], [1, 2])
    assert round_times(plan, 4, 5).tolist() == [17.5, 5, 15, 5, 15]
    assert cycle_mean(plan, 4, rounds=5) == pytest.approx(57.5 / 5)
    # by the slowest edge: 25, then 10 carried, then max(10, 15)
    assert round_times(plan, 4, 4, "round_max").tolist() == [25, 10, 15, 10]


@pytest.mark.parametrize("measure", [cycle_mean, round_max])
@pytest.mark.parametrize("base", ["ring", "mst", "delta_mbst"])
@pytest.mark.parametrize("rounds", [1, 5, 60, 61, 62, 400])
def test_the_closed_form_is_the_full_simulation(measure, base, rounds, gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 5, base)
    full = round_times(plan, 4.6, rounds, measure.__name__).mean()
    assert measure(plan, 4.6, rounds) == pytest.approx(full, rel=1e-12)


def test_t_of_one_is_the_plain_ring(gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 1)
    assert cycle_mean(plan, 4.6) == pytest.approx(plan.delay_ms.mean()) == pytest.approx(event(plan, 4.6))


def test_more_copies_never_slow_the_published_measure(gaia, gaia_delays):
    means = [cycle_mean(plan_of(gaia.silos, gaia_delays, t), 4.6) for t in range(1, 9)]
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(means))


@pytest.mark.parametrize(("base", "t"), [("ring", 1), ("ring", 3), ("ring", 5), ("mst", 5), ("complete", 3)])
def test_the_pace_by_the_silos_clocks_is_what_the_simulation_shows(base, t, gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, t, base)
    clocks = simulate(plan, 4.6, 60 * plan.states)
    # in the long run the clocks repeat after c periods, c at most the number of silos
    steps = [(clocks[-1] - clocks[-1 - c * plan.states]) / (c * plan.states) for c in range(1, 12)]
    assert any(step == pytest.approx(np.full(11, event(plan, 4.6)), rel=1e-9) for step in steps)
    assert pace(clocks) == pytest.approx(event(plan, 4.6), rel=2e-3)


def test_nothing_is_faster_than_its_local_steps():
    plan = ring_plan([5.0, 5.1, 9.0], [5, 5, 5])
    assert event(plan, 5.0) == pytest.approx(5.0)


def test_the_published_number_of_rounds_takes_no_time(scattered):
    plan = plan_of(NAMES[:87], scattered(87), 5)
    began_s = time.process_time()
    cycle_mean(plan, 4.6, 6400)
    event(plan, 4.6)
    assert time.process_time() - began_s < 20  # round by round it would be minutes
