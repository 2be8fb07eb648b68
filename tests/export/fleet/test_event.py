"""Silos by their own clocks, in weather."""

import numpy as np
import pytest

from edgeflock.export.fleet.event import Conditions, pace, simulate, simulate_matcha, wifi_airtime
from edgeflock.export.fleet.matcha import Matcha
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.choose.cycle_time import event
from edgeflock.runtime.fleet.plan.overlays import ring
from edgeflock.runtime.fleet.plan.schedule import Plan, plan_of

NAMES = tuple(f"s{i}" for i in range(20))


def test_the_first_rounds_of_a_ring_by_hand():
    plan = Plan(NAMES[:3], "ring", 1, ring([0, 1, 2]), np.ones(3, int), np.array([10.0, 20.0, 60.0]))
    clocks = simulate(plan, 5.0, 2)
    assert clocks.tolist() == [[0, 0, 0], [60, 10, 20], [80, 70, 30]]


def test_a_weak_edge_holds_nobody_up_and_its_model_is_awaited_later():
    plan = Plan(NAMES[:2], "ring", 2, ring([0, 1]), np.array([1, 2]), np.array([6.0, 20.0]))
    # round 1: only 0 -> 1 binds. Round 2 awaits, at silo 0, what silo 1 sent when it started round 1 at 6: 26.
    assert simulate(plan, 5.0, 3).tolist() == [[0, 0], [20, 6], [25, 26], [30, 31]]


@pytest.mark.parametrize("base", ["ring", "mst", "star", "complete"])
@pytest.mark.parametrize("t", [1, 4])
@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_a_channel_without_width_limits_is_no_channel(base, t, jitter, scattered):
    plan = plan_of(NAMES[:9], scattered(9), t, base)
    free = simulate(plan, 4.6, 60, Conditions(jitter=jitter))
    queued = simulate(plan, 4.6, 60, Conditions(jitter=jitter, wifi_ms=1e-12))
    assert queued == pytest.approx(free, abs=1e-6)


def test_a_full_channel_passes_one_model_after_the_other(scattered):
    plan = plan_of(NAMES[:9], scattered(9), 1)
    assert wifi_airtime(1e6, 5e7) == 40.0  # over the access point, twice 20 ms
    slow = pace(simulate(plan, 4.6, 200, Conditions(wifi_ms=40.0)))
    assert slow == pytest.approx(9 * 40.0, rel=0.05)


def test_on_one_channel_the_multigraph_gains_what_it_does_not_send(gaia, gaia_delays):
    by_t = [plan_of(gaia.silos, gaia_delays, t) for t in (1, 5)]
    one, five = (pace(simulate(p, 4.6, 600, Conditions(wifi_ms=200.0))) for p in by_t)
    assert five / one == pytest.approx((1 / by_t[1].periods).mean(), rel=0.05)


def test_a_straggler_sets_the_pace_of_all(scattered):
    plan = plan_of(NAMES[:9], scattered(9), 5)
    clocks = simulate(plan, 4.6, 300, Conditions(stragglers={3: 20.0}))
    assert pace(clocks) == pytest.approx(92.0, rel=0.01)


def test_jitter_costs_time_and_repeats_with_its_seed(scattered):
    plan = plan_of(NAMES[:9], scattered(9), 1)
    calm = event(plan, 4.6)
    one, again, other = (simulate(plan, 4.6, 400, Conditions(jitter=0.5, seed=s)) for s in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert pace(one) > calm


def test_matcha_waits_only_where_a_matching_is_active(scattered):
    delays = scattered(10)
    pairs = np.argwhere(np.triu(np.ones((10, 10)), 1))
    matcha = Matcha.of(10, pairs)
    by_clock = pace(simulate_matcha(matcha, delays, 400))
    assert delays.compute_ms < by_clock < matcha.cycle_ms(delays, 400)
    queued = simulate_matcha(matcha, delays, 60, Conditions(wifi_ms=1e-12))
    assert queued == pytest.approx(simulate_matcha(matcha, delays, 60), abs=1e-6)


@pytest.mark.parametrize("bad", [{"jitter": -1}, {"wifi_ms": -1}, {"stragglers": {0: 0}}])
def test_impossible_conditions_are_refused(bad):
    with pytest.raises(InputError, match="above 0"):
        Conditions(**bad)
