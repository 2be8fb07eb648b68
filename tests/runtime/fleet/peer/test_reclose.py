"""The plan without the robots that are absent."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflock.runtime.fleet.mixing.rules import Mixing
from edgeflock.runtime.fleet.peer.reclose import without
from edgeflock.runtime.fleet.plan.schedule import make_plan


def plan_of(n, base, t=3, seed=0):
    delays = np.random.default_rng(seed).uniform(5, 40, (n, n))
    return make_plan([f"r{i}" for i in range(n)], delays + delays.T, t, base)


def edges(plan):
    return {(plan.roster[i], plan.roster[j]) for i, j in plan.edges.tolist()}


def test_nobody_absent_leaves_the_plan_as_it_is():
    plan = plan_of(4, "ring")
    assert without(plan, []) is plan
    assert without(plan, ["a stranger"]) is plan


@given(st.integers(3, 8), st.sampled_from(["ring", "mst", "delta_mbst", "star", "complete"]), st.data())
@settings(max_examples=60, deadline=None)
def test_all_that_are_left_still_hear_of_each_other(n, base, data):
    plan = plan_of(n, base, seed=n)
    gone = data.draw(st.sets(st.sampled_from(plan.roster), max_size=n - 2))
    left = without(plan, gone)
    assert set(left.roster) == set(plan.roster) - gone
    assert left.mutual == plan.mutual or len(left.roster) == 2
    reached = {left.roster[0]}
    for _ in left.roster:
        reached |= {b for a, b in edges(left) if a in reached}
    assert reached == set(left.roster)
    assert all(a != b for a, b in edges(left))
    Mixing(left)  # and there is a rule for it


def test_a_ring_stays_a_ring():
    left = without(plan_of(6, "ring"), ["r2", "r4"])
    assert sorted(a for a, _ in edges(left)) == sorted(b for _, b in edges(left)) == ["r0", "r1", "r3", "r5"]


def test_the_order_in_which_absences_are_named_does_not_matter():
    plan = plan_of(6, "mst")
    found = {without(plan, order).hash for order in itertools.permutations(["r1", "r3", "r4"])}
    assert len(found) == 1


def test_a_star_without_its_hub_becomes_a_path():
    plan = plan_of(5, "star", t=1)
    hub = plan.roster[int(np.bincount(plan.edges[:, 0]).argmax())]
    left = without(plan, [hub])
    assert (left.base, left.mutual, len(left.edges)) == ("path", True, 6)


@pytest.mark.parametrize("n", [2, 3])
def test_one_robot_alone_has_no_plan(n):
    plan = plan_of(n, "ring")
    assert without(plan, plan.roster[1:]) is None
