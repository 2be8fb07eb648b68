"""Plans: multiplicities, states, isolated silos, and the same plan on every robot."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.fleet.plan.overlays import ring
from edgeflock.runtime.fleet.plan.schedule import BASES, Plan, make_plan, multiplicities, plan_of


def names(n):
    return tuple(f"robot-{i:02d}" for i in range(n))


def test_copies_are_the_rounded_ratio_to_the_shortest_delay_at_most_t():
    edges = ring([0, 1, 2, 3, 4])
    assert multiplicities(edges, np.array([10.0, 14.9, 15.1, 34.0, 99.0]), 5).tolist() == [1, 1, 2, 3, 5]
    assert multiplicities(edges, np.array([10.0, 14.9, 15.1, 34.0, 99.0]), 3).tolist() == [1, 1, 2, 3, 3]
    assert multiplicities(edges, np.array([10.0, 25.0, 35.0, 10.0, 10.0]), 5).tolist() == [1, 2, 4, 1, 1]  # to even


@given(st.lists(st.floats(1, 100), min_size=3, max_size=12), st.integers(1, 7))
def test_every_edge_is_strong_in_its_share_of_the_states(delays, t):
    n = len(delays)
    edges = ring(list(range(n)))
    plan = Plan(names(n), "ring", t, edges, multiplicities(edges, np.array(delays), t), np.array(delays))
    strong = np.array([plan.strong(k) for k in range(plan.states)])
    assert plan.states == math.lcm(*plan.periods.tolist())
    assert strong[0].all() and not len(plan.isolated(0))
    assert (strong.sum(axis=0) == plan.states // plan.periods).all()
    assert plan.staleness <= t - 1 and plan.periods.min() == 1


def test_a_silo_is_isolated_when_all_its_edges_are_weak():
    plan = Plan(names(4), "ring", 3, ring([0, 1, 2, 3]), np.array([1, 2, 2, 3]), np.ones(4))
    assert plan.states == 6
    assert [plan.isolated(k).tolist() for k in range(6)] == [[], [2, 3], [], [2], [], [2, 3]]


def test_gaia_at_three_copies_leaves_three_of_eleven_connections(gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, t=3)
    assert sorted(plan.periods.tolist()) == [1] * 3 + [2] * 2 + [3] * 6
    assert plan.states == 6 and sum(len(plan.isolated(k)) > 0 for k in range(6)) == 4
    assert plan.strong(1).sum() == 3


@pytest.mark.parametrize("base", BASES)
def test_any_overlay_can_be_the_base(base, gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 5, base)
    assert set(plan.edges.ravel()) == set(range(11)) and 1 <= plan.periods.min() <= plan.periods.max() <= 5
    assert plan.mutual == (base != "ring")


def test_both_directions_of_a_pair_stay_in_step_also_where_delays_differ(scattered):
    delays = scattered(8)
    delays.latency_ms[:] += np.triu(np.full((8, 8), 9.0), 1)
    assert plan_of(names(8), delays, 5, "mst").mutual


@pytest.mark.parametrize("base", ["ring", "mst", "delta_mbst", "complete"])
def test_every_robot_makes_the_same_plan_in_whatever_order_it_knows_the_others(base, scattered):
    delays = scattered(9)
    matrix, shuffle = delays.pairs, np.random.default_rng(1).permutation(9)
    one = make_plan(names(9), matrix, 4, base)
    other = make_plan([names(9)[i] for i in shuffle], matrix[np.ix_(shuffle, shuffle)] + 1e-11, 4, base)
    assert one.hash == other.hash and one.to_json() == other.to_json()


def test_the_hash_tells_another_delay_roster_or_t(scattered):
    matrix = scattered(6).pairs
    plans = [
        make_plan(names(6), matrix, 4),
        make_plan(names(6), matrix + 0.001 * (1 - np.eye(6)), 4),
        make_plan([*names(5), "robot-99"], matrix, 4),
        make_plan(names(6), matrix, 3),
    ]
    assert len({p.hash for p in plans}) == 4


def test_a_plan_survives_json(scattered):
    plan = make_plan(names(7), scattered(7).pairs, 5)
    again = Plan.from_json(plan.to_json())
    assert again.hash == plan.hash and again.states == plan.states
    assert np.array_equal(again.edges, plan.edges) and np.array_equal(again.periods, plan.periods)


def test_a_plan_that_was_changed_or_is_none_is_refused(scattered):
    content = json.loads(make_plan(names(7), scattered(7).pairs, 5).to_json())
    content["edges"][2]["period"] += 1
    with pytest.raises(DataError, match="was changed"):
        Plan.from_json(json.dumps(content), "plan.json")
    content["edges"][2]["period"] = 0
    with pytest.raises(DataError, match="from 1 up"):
        Plan.from_json(json.dumps(content))
    for text in ("[]", "{", '{"version": 2}', '{"version": 1, "roster": ["a"]}'):
        with pytest.raises(DataError, match="plan"):
            Plan.from_json(text, "plan.json")


@pytest.mark.parametrize(
    ("roster", "delays", "t", "base", "said"),
    [
        (["a", "a"], np.ones((2, 2)), 2, "ring", "each once"),
        (["a", "b"], np.ones((3, 3)), 2, "ring", "2 x 2"),
        (["a", "b", "c"], np.zeros((3, 3)), 2, "ring", "above 0"),
        (["a", "b", "c"], np.full((3, 3), np.nan), 2, "ring", "above 0"),
        (["a", "b", "c"], np.ones((3, 3)), 0, "ring", "from 1 up"),
        (["a", "b", "c"], np.ones((3, 3)), 2, "cube", "expected one of ring"),
        (["a", "b", "c"], np.ones((3, 3)), 2, [0, 1, 1], "once"),
    ],
)
def test_bad_input_is_refused(roster, delays, t, base, said):
    with pytest.raises(InputError, match=said):
        make_plan(roster, delays, t, base)


def test_too_many_states_are_refused_before_anyone_counts_them():
    far = np.array([0.0, 1, 7, 8, 9, 11, 13])  # from the hub
    matrix = np.add.outer(far, far) * (1 - np.eye(7))
    with pytest.raises(InputError, match="choose t = 10 or less"):
        make_plan(names(7), matrix, 40, "star")


def test_a_robot_makes_its_plan_and_its_table_with_numpy_alone():
    script = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("networkx", "scipy", "matplotlib"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Wall())
import numpy as np
from edgeflock.export.fleet.compare import compare
from edgeflock.runtime.fleet.plan.delay import Workload
from edgeflock.runtime.fleet.plan.network import open_network
from edgeflock.runtime.fleet.plan.schedule import make_plan
compare(open_network("gaia"), Workload(1e6, 5.0), with_paced_mesh=True)
print(make_plan(list("cab"), np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]])).states)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "6", done.stderr
