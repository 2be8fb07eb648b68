"""Mixing: what one silo computes is what the simulator computes, and what the formulas say."""

import numpy as np
import pytest

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.choose.consensus import half_life, period_map
from edgeflock.runtime.fleet.choose.paced_mesh import paced_mesh
from edgeflock.runtime.fleet.mixing.robust import Clipping, Median, MultiKrum, TrimmedMean
from edgeflock.runtime.fleet.mixing.rules import RULES, Mixing, default_rule
from edgeflock.runtime.fleet.plan.overlays import both_ways, ring
from edgeflock.runtime.fleet.plan.schedule import Plan, make_plan, plan_of


def models_of(n, d=7, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def run_all(mixing, models, rounds, train=None):
    """All silos' models after some rounds, as a simulator does it; `train` adds to them before each mixing."""
    past = {}
    for k in range(1, rounds + 1):
        models = models if train is None else models + train(k)
        past = {r: past[r] for r in mixing.still_needed(k - 1)} | {k: models}
        models = mixing.mix_all(k, past)
    return models


def run_each(mixing, models, rounds, train=None):
    """The same, every silo on its own with the messages that its neighbours sent."""
    n = mixing.plan.n
    own, inbox, models = [{} for _ in range(n)], [{} for _ in range(n)], list(models)
    for k in range(1, rounds + 1):
        for i in range(n):
            own[i][k] = models[i] if train is None else models[i] + train(k)[i]
        for i in range(n):
            for j in mixing.receivers(k, i):
                inbox[j][i, k] = own[i][k]
        for i in range(n):
            got = {j: inbox[i].pop((j, r)) for j, r in mixing.senders(k, i).items()}
            models[i] = mixing.mix(k, i, own[i], got)
            own[i] = {r: own[i][r] for r in mixing.still_needed(k)}
    return np.array(models)


@pytest.fixture
def ring_plan(gaia, gaia_delays):
    return plan_of(gaia.silos, gaia_delays, 5)


@pytest.fixture
def tree_plan(gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 5, "mst")
    assert plan.mutual and plan.states > 1
    return plan


def test_a_directed_ring_takes_half_and_half(gaia, gaia_delays):
    models, plan = models_of(11), plan_of(gaia.silos, gaia_delays, 1)
    mixed = Mixing(plan).mix_all(1, {1: models})
    for i, j in plan.edges:
        assert mixed[j] == pytest.approx((models[i] + models[j]) / 2)
    mixed = Mixing(plan, "authors").mix_all(1, {1: models})
    for i, j in plan.edges:
        assert mixed[j] == pytest.approx(0.3 * models[i] + 0.7 * models[j], abs=1e-6)


@pytest.mark.parametrize("rule", ["half", "authors", "push_sum"])
def test_each_silo_computes_what_the_simulator_computes_on_directed_states(rule, ring_plan):
    mixing, models = Mixing(ring_plan, rule), models_of(11)
    models = mixing.begin(models)
    train = lambda k: models_of(11, models.shape[1], k) * 0.1  # noqa: E731
    assert run_each(mixing, models, 130, train) == pytest.approx(run_all(mixing, models, 130, train), abs=1e-4)


@pytest.mark.parametrize("rule", ["half", "metropolis", "fdla", "push_sum"])
def test_each_silo_computes_what_the_simulator_computes_on_mutual_states(rule, tree_plan):
    mixing, models = Mixing(tree_plan, rule), models_of(11)
    train = lambda k: models_of(11, 7, k) * 0.1  # noqa: E731
    assert run_each(mixing, models, 60, train) == pytest.approx(run_all(mixing, models, 60, train), abs=1e-4)


def test_a_period_of_mixing_is_the_map_whose_half_life_is_printed(ring_plan, tree_plan):
    for plan, rule in ((ring_plan, "half"), (tree_plan, "metropolis"), (ring_plan, "push_sum")):
        mixed = run_all(Mixing(plan, rule), np.eye(11, dtype=np.float32), plan.states)
        assert mixed == pytest.approx(period_map(plan, rule=rule), abs=1e-5)


@pytest.mark.parametrize("rule", ["metropolis", "fdla"])
def test_old_models_keep_the_mean_also_while_all_train(rule, tree_plan):
    models = models_of(11)
    learnt = [models_of(11, seed=k) * 0.1 for k in range(1, 61)]
    mixed = run_all(Mixing(tree_plan, rule), models, 60, lambda k: learnt[k - 1])
    assert mixed.mean(axis=0) == pytest.approx((models + sum(learnt)).mean(axis=0), abs=1e-5)


def test_old_models_mix_as_the_weighted_difference_of_one_round():
    plan = Plan(("a", "b"), "mst", 2, both_ways(np.array([[0, 1]])), np.array([2, 2]), np.array([9.0, 9.0]))
    then, now = models_of(2, seed=1), models_of(2, seed=2)
    mixed = Mixing(plan).mix_all(2, {1: then, 2: now})
    assert mixed[0] == pytest.approx(now[0] + (then[1] - then[0]) / 2)
    assert mixed[1] == pytest.approx(now[1] - (then[1] - then[0]) / 2)


def test_push_sum_reaches_the_mean_where_halves_do_not(ring_plan):
    models = models_of(11)
    mixing = Mixing(ring_plan, "push_sum")
    sums = run_all(mixing, mixing.begin(models), 40 * ring_plan.states)
    assert sums[:, -1].sum() == pytest.approx(11, rel=1e-4)
    assert mixing.model(sums) == pytest.approx(np.tile(models.mean(axis=0), (11, 1)), abs=1e-3)
    halves = run_all(Mixing(ring_plan, "half"), models, 40 * ring_plan.states)
    assert np.abs(halves - models.mean(axis=0)).max() > 0.05


def test_in_between_the_periods_push_sums_mass_is_under_way(ring_plan):
    mixing = Mixing(ring_plan, "push_sum")
    sums = run_all(mixing, mixing.begin(models_of(11)), 3)
    assert sums[:, -1].min() > 0
    assert sums[:, -1].sum() < 11


@pytest.mark.parametrize("rule", ["half", "push_sum"])
def test_a_training_step_moves_the_model_by_itself_whatever_the_state_is(rule, ring_plan):
    mixing = Mixing(ring_plan, rule)
    states = run_all(mixing, mixing.begin(models_of(11)), 3)
    before = mixing.model(states)
    step = models_of(11, seed=9)
    kept = states.copy()
    after = mixing.trained(states, before, before + step)
    assert np.array_equal(states, kept)
    moved = mixing.model(after) - before
    mass = states[:, -1:] if rule == "push_sum" else 1
    assert moved == pytest.approx(step / mass, abs=1e-5)


def test_what_silos_agree_on_weighs_push_sums_models_by_their_mass(ring_plan):
    models = models_of(11)
    mixing = Mixing(ring_plan, "push_sum")
    states = mixing.begin(models)
    assert mixing.average(states) == pytest.approx(models.mean(axis=0), abs=1e-6)
    mixed = run_all(mixing, states, ring_plan.states)  # nothing is under way at the end of a period
    assert mixing.average(mixed) == pytest.approx(models.mean(axis=0), abs=1e-5)
    assert np.array_equal(Mixing(ring_plan, "half").average(models), models.mean(axis=0))


def test_a_star_gives_everyone_the_mean(gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 1, "star")
    mixing, models = Mixing(plan), models_of(11)
    assert mixing.rule == "server"
    hub = mixing.mix(1, 0, {1: models[0]}, {j: models[j] for j in range(1, 11)})
    assert hub == pytest.approx(models.mean(axis=0), abs=1e-6)
    assert mixing.mix(1, 4, {1: models[4]}, {0: hub}) == pytest.approx(hub, abs=1e-6)
    assert mixing.mix_all(1, {1: models}) == pytest.approx(np.tile(hub, (11, 1)), abs=1e-6)


def test_fdla_agrees_sooner_than_metropolis_and_minds_the_parts_of_a_state(gaia, gaia_delays, tree_plan):
    plain = plan_of(gaia.silos, gaia_delays, 1, "mst")
    assert half_life(plain, rule="fdla") < 0.8 * half_life(plain, rule="metropolis")
    parts = next(k for k in range(1, tree_plan.states) if 0 < len(tree_plan.isolated(k)) < 11)
    weights = Mixing(tree_plan, "fdla").weights(parts)
    assert np.array_equal(weights != 0, tree_plan.strong(parts))
    alone = tree_plan.isolated(parts)
    models = models_of(11)
    then = {r: models_of(11, seed=r) for r in range(max(1, parts - 5), parts)}
    mixed = Mixing(tree_plan, "fdla").mix_all(parts, {**then, parts: models})
    assert np.array_equal(mixed[alone], models[alone])


def test_the_default_rule_keeps_the_mean_where_the_overlay_lets_it(gaia, gaia_delays, scattered):
    assert default_rule(plan_of(gaia.silos, gaia_delays, 1, "star")) == "server"
    assert default_rule(plan_of(gaia.silos, gaia_delays, 5, "mst")) == "metropolis"
    assert default_rule(paced_mesh([f"s{i}" for i in range(9)], scattered(9))) == "metropolis"
    assert default_rule(plan_of(gaia.silos, gaia_delays, 5)) == "half"


def test_a_missing_model_leaves_its_weight_with_the_own_and_skipping_both_ends_keeps_the_mean(gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 1, "mst")
    mixing, models = Mixing(plan), models_of(11)
    lost = tuple(plan.edges[0].tolist())
    mixed = []
    for i in range(11):
        got = {j: models[j] for j in mixing.senders(1, i) if (j, i) not in (lost, lost[::-1])}
        mixed.append(mixing.mix(1, i, {1: models[i]}, got))
    assert np.mean(mixed, axis=0) == pytest.approx(models.mean(axis=0), abs=1e-6)
    assert np.array_equal(mixing.mix(1, 3, {1: models[3]}, {}), models[3])


@pytest.mark.parametrize("rule", ["metropolis", "fdla"])
def test_symmetric_rules_refuse_a_directed_plan(rule, ring_plan):
    with pytest.raises(InputError, match="both ways"):
        Mixing(ring_plan, rule)


def test_unknown_rules_and_server_off_a_star_are_refused(ring_plan):
    with pytest.raises(InputError, match="half, authors"):
        Mixing(ring_plan, "mean")
    with pytest.raises(InputError, match="star"):
        Mixing(ring_plan, "server")
    assert set(RULES) == {"half", "authors", "push_sum", "metropolis", "fdla", "server"}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda m: m[:-1], "shape"),
        (lambda m: m.astype(np.float64), "float64"),
        (lambda m: np.where(np.arange(7) == 3, np.nan, m).astype(np.float32), "NaN"),
        (lambda m: np.where(np.arange(7) == 3, np.inf, m).astype(np.float32), "infinity"),
    ],
)
def test_a_spoilt_model_is_refused_by_the_name_of_its_sender(spoil, says, gaia, gaia_delays):
    plan = plan_of(gaia.silos, gaia_delays, 1, "complete")
    models, mixing = models_of(11), Mixing(plan)
    with pytest.raises(InputError, match=f"{plan.roster[1]}.*{says}"):
        mixing.mix(1, 0, {1: models[0]}, {1: spoil(models[1])})
    with pytest.raises(InputError, match=f"own model.*{says}" if says != "shape" else "shape"):
        mixing.mix(1, 0, {1: spoil(models[0])}, {1: models[1]})


def test_models_of_strangers_and_lost_rounds_are_refused(tree_plan):
    models, mixing = models_of(11), Mixing(tree_plan)
    i, senders = next((i, s) for i in range(11) if (s := mixing.senders(tree_plan.states, i)))
    stranger = next(j for j in range(11) if j not in senders and j != i)
    with pytest.raises(InputError, match=tree_plan.roster[stranger].replace("+", ".")):
        mixing.mix(tree_plan.states, i, {tree_plan.states: models[i]}, {stranger: models[stranger]})
    with pytest.raises(InputError, match="still_needed"):
        mixing.mix_all(tree_plan.states, {tree_plan.states: models})


@pytest.mark.parametrize("robust", [Clipping(radius=1.0), Median(), TrimmedMean(), MultiKrum()])
def test_robust_rules_mix_the_same_in_simulator_and_silo(robust, scattered):
    plan = plan_of([f"s{i}" for i in range(9)], scattered(9), 3, "complete")
    mixing, models = Mixing(plan, robust=robust), models_of(9)
    train = lambda k: models_of(9, 7, k) * 0.1  # noqa: E731
    mixed = run_all(mixing, models, 12, train)
    assert np.array_equal(mixed, run_each(mixing, models, 12, train))
    assert np.ptp(mixed, axis=0).max() < np.ptp(models, axis=0).max()


@pytest.mark.parametrize("robust", [Clipping(f=1), Median(), MultiKrum()])
def test_a_rule_that_could_never_work_at_a_silo_is_refused_at_once(robust, ring_plan):
    with pytest.raises(InputError, match="hears 1"):
        Mixing(ring_plan, robust=robust)
    Mixing(ring_plan, robust=Clipping(radius=0.5))


def test_in_a_round_of_too_few_models_a_silo_keeps_its_own():
    edges = both_ways(ring([0, 1, 2, 3]))
    periods = np.where(np.isin(edges, (0, 1)).all(axis=1), 1, 2)  # in odd rounds only the pair 0, 1 speaks
    plan = Plan(("a", "b", "c", "d"), "ring", 2, edges, periods, np.full(8, 9.0))
    models = models_of(4)
    assert np.array_equal(Mixing(plan, robust=Median()).mix_all(1, {1: models}), models)
    assert not np.array_equal(Mixing(plan).mix_all(1, {1: models}), models)
    assert not np.array_equal(Mixing(plan, robust=Median()).mix_all(2, {1: models, 2: models}), models)


@pytest.mark.parametrize("robust", [Clipping(radius=0.5), Median(), TrimmedMean()])
def test_one_hostile_silo_cannot_drag_the_others_away(robust, gaia, gaia_delays):
    plan = Plan(gaia.silos, "ring", 1, both_ways(ring(list(range(11)))), np.ones(22, int), np.full(22, 9.0))
    models = models_of(11)

    def spread(mixing):
        now = models
        for k in range(1, 31):
            now = now.copy()
            now[0] = 1e6 * (-1) ** k
            now = mixing.mix_all(k, {k: now})
        return np.abs(now[1:]).max()

    assert spread(Mixing(plan)) > 1e4
    assert spread(Mixing(plan, robust=robust)) < 20


def test_robust_rules_go_with_plain_shares_only(gaia, gaia_delays, ring_plan):
    with pytest.raises(InputError, match="push_sum"):
        Mixing(ring_plan, "push_sum", robust=Clipping(radius=1.0))
    mst = plan_of(gaia.silos, gaia_delays, 1, "mst")
    with pytest.raises(InputError, match="negative"):
        Mixing(mst, "fdla", robust=Clipping(radius=1.0))


def test_receivers_and_senders_name_the_same_edges():
    delays = np.random.default_rng(1).uniform(5, 40, (5, 5))
    for base in ("ring", "mst", "complete"):
        mixing = Mixing(make_plan("abcde", delays + delays.T, 4, base))
        for k in range(1, 13):
            sent = {(i, j, at) for i in range(5) for j, at in mixing.receivers(k, i).items()}
            heard = {
                (i, j, at)
                for at in range(k, k + 4)
                for j in range(5)
                for i, of in mixing.senders(at, j).items()
                if of == k
            }
            assert sent == heard


def test_what_a_codec_made_of_both_models_keeps_the_mean():
    delays = np.random.default_rng(1).uniform(5, 40, (3, 3))
    mixing = Mixing(make_plan("abc", delays + delays.T, 1, "mst"))
    models = np.random.default_rng(2).normal(size=(3, 50)).astype(np.float32)
    coarse = models.round(1)
    mixed = []
    for i in range(3):
        beside = mixing.senders(1, i)
        theirs, own = {j: coarse[j] for j in beside}, {j: coarse[i] for j in beside}
        mixed.append(mixing.mix(1, i, {1: models[i]}, theirs, own))
    np.testing.assert_allclose(np.mean(mixed, axis=0), models.mean(axis=0), atol=1e-6)
