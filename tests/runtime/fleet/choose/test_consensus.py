"""Consensus: half-lives against closed forms, and what keeps the mean."""

import math

import numpy as np
import pytest

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.choose.by_name import find_tour
from edgeflock.runtime.fleet.choose.consensus import (
    bytes_per_round,
    half_life,
    influence,
    influence_table,
    period_map,
    time_to_consensus,
)
from edgeflock.runtime.fleet.mixing.rules import Mixing
from edgeflock.runtime.fleet.plan.delay import Delays
from edgeflock.runtime.fleet.plan.network import read_network
from edgeflock.runtime.fleet.plan.overlays import both_ways, ring
from edgeflock.runtime.fleet.plan.schedule import Plan, plan_of

NAMES = tuple(f"s{i}" for i in range(90))


def flat(edges, n, periods=1):
    return Plan(NAMES[:n], "ring", 5, edges, np.broadcast_to(periods, len(edges)), np.full(len(edges), 10.0))


@pytest.mark.parametrize("n", [3, 11, 40])
def test_a_directed_ring_halves_its_disagreement_in_ln2_over_ln_cos(n):
    assert half_life(flat(ring(list(range(n))), n)) == pytest.approx(math.log(2) / -math.log(math.cos(math.pi / n)))


def test_metropolis_weights_on_an_undirected_ring_are_a_third_each():
    n = 11
    plan = flat(both_ways(ring(list(range(n)))), n)
    assert Mixing(plan).weights(0) == pytest.approx(np.full(2 * n, 1 / 3))
    second = 1 / 3 + 2 / 3 * math.cos(2 * math.pi / n)
    assert half_life(plan) == pytest.approx(math.log(2) / -math.log(second))  # 6.2 rounds


def test_star_and_complete_average_exactly_in_a_round(gaia, gaia_delays):
    for base in ("star", "complete"):
        assert half_life(plan_of(gaia.silos, gaia_delays, 1, base)) == 0
    assert time_to_consensus(170.0, 0.0) == 170.0 and time_to_consensus(10.0, 4.0) == 40.0


def test_the_map_of_a_period_is_the_product_of_the_states(gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 3)
    product = np.eye(11)
    for k in range(1, plan.states + 1):
        state = np.eye(11)
        for (i, j), strong in zip(plan.edges, plan.strong(k), strict=True):
            if strong:
                state[j, j], state[j, i] = 0.5, 0.5
        product = state @ product
    assert period_map(plan, stale=False) == pytest.approx(product)


def test_what_is_delivered_is_as_old_as_its_period():
    # Silo 0 hears silo 1 every second round, with the model of the round before; silo 1 hears silo 0 in every round.
    plan = Plan(NAMES[:2], "ring", 2, ring([0, 1]), np.array([1, 2]), np.array([5.0, 9.0]))
    a, b = 1.0, 0.0
    old_b = b
    a, b = a, (a + b) / 2  # round 1
    a, b = (a + old_b) / 2, (a + b) / 2  # round 2: silo 1's model of round 1
    assert period_map(plan)[:, 0] == pytest.approx([a, b])


def test_age_slows_agreement_and_by_how_much_the_ring_of_gaia_shows(gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 5)
    assert half_life(plan, stale=False) == pytest.approx(21.3, abs=0.1)  # docs/fleet-topology.md
    assert half_life(plan) > 2 * half_life(plan, stale=False)


@pytest.mark.parametrize("base", ["mst", "delta_mbst", "complete"])
def test_mutual_plans_keep_the_mean_exactly_also_with_old_models(base, gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 5, base)
    assert plan.states > 1
    for stale in (True, False):
        mixed = period_map(plan, stale)
        assert mixed.sum(axis=0) == pytest.approx(np.ones(11)) and mixed.sum(axis=1) == pytest.approx(np.ones(11))


def test_a_directed_multigraph_does_not_keep_the_mean(gaia, gaia_delays):
    columns = period_map(plan_of(gaia.silos, gaia_delays, 5)).sum(axis=0)
    assert columns.max() > 1.2 and columns.min() < 0.8


@pytest.mark.parametrize("stale", [True, False])
@pytest.mark.parametrize("rule", ["half", "authors", "push_sum"])
def test_influence_is_what_an_impulse_becomes(rule, stale, gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 3)
    mixing, found = Mixing(plan, rule, stale=stale), influence(plan, stale, rule)
    for learnt in (1, 4, plan.states):
        past = [np.zeros((11, 11))] * (120 * plan.states + 1)
        now = np.zeros((11, 11))
        for k in range(1, 120 * plan.states + 1):
            now = now + (np.eye(11) if k == learnt else 0)
            past[k] = now
            now = now + sum(m @ past[k - age] for age, m in mixing.matrices(k).items())
        # the mean of what all have in the end; push-sum's quotients share their limit, its sums add up to it
        assert now.mean(axis=0) * 11 == pytest.approx(found[learnt - 1], abs=1e-4)
    assert found[0].sum() == pytest.approx(11)


def test_old_models_of_a_directed_plan_displace_what_was_learnt_since(gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 5)
    assert influence(plan, stale=False, rule="half").mean() == pytest.approx(1)
    assert influence(plan, rule="half").mean() < influence(plan, rule="authors").mean() < 0.95
    assert influence(plan_of(gaia.silos, gaia_delays, 5, "mst")) == pytest.approx(1)


def test_only_push_sum_keeps_the_mean_on_a_directed_multigraph(gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 5)
    assert influence(plan, rule="push_sum") == pytest.approx(np.ones((60, 11)))
    for rule in ("half", "authors"):
        assert np.ptp(influence(plan, rule=rule).mean(axis=0)) > 0.8
    assert influence(plan_of(gaia.silos, gaia_delays, 1), rule="authors") == pytest.approx(np.ones((1, 11)))


# least and most before state 0, on the reference tour turned round (docs/fleet-mixing.md)
AUTHORS = {
    "gaia": (0.60, 1.77),
    "amazon_us": (0.73, 1.81),
    "geantdistance": (0.48, 1.94),
    "exodus": (0.47, 3.04),
    "ebone": (0.60, 2.92),
}


@pytest.mark.parametrize("name", AUTHORS)
def test_the_authors_weights_let_silos_weigh_as_the_literature_says(name, networks, femnist):
    network = read_network(networks / f"{name}.gml")
    delays = Delays.of(network, femnist)
    tour = find_tour(str(networks / "reference_tours.json"), network, delays)[::-1]
    table = influence_table(plan_of(network.silos, delays, 5, tour), ["authors"], stale=False)["authors"]
    assert (table["least_state_0"], table["most_state_0"]) == pytest.approx(AUTHORS[name], abs=0.006)
    assert table["lasting"] == pytest.approx(1)


def test_the_table_has_every_rule_that_fits(gaia, gaia_delays):
    assert set(influence_table(plan_of(gaia.silos, gaia_delays, 5))) == {"half", "authors", "push_sum"}
    tree = influence_table(plan_of(gaia.silos, gaia_delays, 2, "mst"))
    assert set(tree) == {"half", "authors", "push_sum", "metropolis", "fdla"}
    assert tree["metropolis"]["influence"] == pytest.approx(dict.fromkeys(gaia.silos, 1.0))
    assert influence_table(plan_of(gaia.silos, gaia_delays, 1, "star"))["server"]["half_life_rounds"] == 0
    with pytest.raises(InputError, match="both ways"):
        influence_table(plan_of(gaia.silos, gaia_delays, 5), ["metropolis"])


def test_push_sum_agrees_as_fast_as_halves_on_a_directed_ring(gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 5)
    assert half_life(plan, rule="push_sum") == pytest.approx(half_life(plan, rule="half"))


def test_the_half_life_is_what_random_models_show(gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 3)
    mixed, models = period_map(plan), np.random.default_rng(0).normal(size=(11, 50))
    spread = []
    for _ in range(60):
        models = mixed @ models
        spread.append(np.linalg.norm(models - models.mean(axis=0)))
    shown = plan.states * 40 * math.log(2) / math.log(spread[19] / spread[59])
    assert half_life(plan) == pytest.approx(shown, rel=0.1)


def test_bytes_are_one_model_per_edge_and_period():
    plan = flat(ring([0, 1, 2]), 3, np.array([1, 2, 4]))
    assert bytes_per_round(plan, 800) == pytest.approx(100 * 1.75)
