"""The fault simulator: N robots' own machines in one clock; what holds on a perfect network, and under all faults."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fleets import CALM, SIZE, finished, fleet_of, plan_of

from edgeflock.export.fleet.fault_runs import Scenario, run
from edgeflock.export.fleet.faults import Fleet, towards_points
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.mixing.rules import Mixing
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.peer.wire import MAGIC
from edgeflock.runtime.fleet.transports.memory import Faults

# ---- a perfect network


@given(
    n=st.integers(2, 5),
    base=st.sampled_from(["ring", "mst", "star", "complete"]),
    rule=st.sampled_from([None, "half", "push_sum"]),
    t=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@settings(max_examples=12, deadline=None)
def test_n_peers_equal_mix_all_bit_for_bit(n, base, rule, t, seed):
    fleet = finished(fleet_of(n, base, t, seed, rule=rule))
    mixing = Mixing(fleet.plan, rule)
    states, past = mixing.begin(np.ones((n, SIZE), np.float32)), {}
    for k in range(1, 9):
        if k <= 6:
            models = mixing.model(states)
            after = np.array([fleet.train(name, k, m) for name, m in zip(fleet.plan.roster, models, strict=True)])
            states = mixing.trained(states, models, after)
        past[k] = states
        states = mixing.mix_all(k, past)
    assert fleet.models().tobytes() == mixing.model(states).tobytes()
    assert fleet.tally()["missing"] == 0 and not fleet.counts()


def test_a_run_comes_again_from_its_seed_and_another_seed_brings_another():
    rough = Faults(drop=0.1, duplicate=0.1, reorder=0.1, delay_ms=(1, 40))
    digests = [finished(fleet_of(seed=seed, faults=rough, skew_s=86400)).digest() for seed in (4, 4, 5)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("codec", ["fp16", "int8", "topk"])
def test_a_lossy_codec_does_not_move_the_mean(codec):
    fleet = finished(fleet_of(codec=codec, keep=0.3, rounds=10))
    assert fleet.drift() < 1e-5
    assert fleet.tally()[f"body_bytes_{codec}"] > 0
    assert not fleet.counts()


@pytest.mark.parametrize("base", ["ring", "mst"])
@pytest.mark.parametrize(("push", "crossings"), [(16, 1), (0, 3)])
def test_a_model_that_is_pushed_takes_one_way_and_one_that_is_pulled_three(push, crossings, base):
    fleet = finished(fleet_of(3, base, 1, faults=Faults(delay_ms=(100, 100)), rounds=30, settle=0, push=push))
    rounds = [mixed for name, mixed in fleet.mixed if name == "r0"]
    assert all(mixed.heard for mixed in rounds)
    assert fleet.now_ns / 1e9 == pytest.approx(30 * (crossings * 0.1 + 0.12), rel=0.1)  # training takes 0.08 to 0.12 s
    assert fleet.now_ns / 1e9 > 30 * (crossings * 0.1 + 0.08)


def test_what_the_other_end_skipped_is_taken_back():
    """Models get lost one way only: r1 mixes what r0 sends, hears later that r0 did not, and the mean stays."""
    fleet = fleet_of(2, "mst", 1, rounds=12, floor_s=0.2, ceiling_s=0.5)
    lossy = Faults(drop=1.0)
    fleet.network.set_faults(
        lambda source, _, message: lossy if source == "r1" and message.startswith(MAGIC + b"C") else CALM
    )
    fleet.at(1.5, lambda: fleet.network.set_faults(CALM))
    finished(fleet)
    heard = {name: [mixed.heard for who, mixed in fleet.mixed if who == name] for name in ("r0", "r1")}
    assert fleet.tally()["taken_back"] == sum(map(len, heard["r1"])) - sum(map(len, heard["r0"])) > 0
    assert fleet.drift() < 1e-5


def test_topk_sends_a_full_model_every_so_many_rounds():
    fleet = finished(fleet_of(2, "mst", 1, codec="topk", rounds=10, settle=0, snapshot_every=5))
    assert fleet.tally()["offers"] == 20
    sizes = fleet.tally()
    assert 0 < sizes["body_bytes_fp32"] <= 6 * 600 and sizes["body_bytes_topk"] > 0


# ---- plans


@pytest.mark.parametrize("slowest_ms", [3, 200])
def test_all_adopt_a_new_plan_at_the_named_round(slowest_ms):
    """A beat that was under way while its sender went over names the old plan and the next: no alarm."""
    fleet = fleet_of(4, "mst", rounds=6, beat_s=0.05, faults=Faults(delay_ms=(1, slowest_ms)))
    newer = plan_of(4, "complete")
    fleet.at(0.2, lambda: [fleet.peer(name).adopt(newer, 5) for name in fleet.robots])
    finished(fleet)
    assert {fleet.peer(name).plan.hash for name in fleet.robots} == {newer.hash}
    assert fleet.drift() < 1e-5 and not fleet.alarms


def test_a_plan_that_one_does_not_know_is_not_adopted_and_raises_an_alarm():
    fleet = fleet_of(3, "mst", rounds=20)
    newer = plan_of(3, "complete")
    fleet.at(0.5, lambda: [fleet.peer(name).adopt(newer, 10) for name in ("r0", "r1")])
    finished(fleet)
    assert {fleet.peer(name).plan.hash for name in fleet.robots} == {fleet.plan.hash}
    assert ("r0", "next_plan", "r2") in {(who, alarm.what, alarm.peer) for who, alarm in fleet.alarms}


def test_a_plan_for_strangers_or_a_rule_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="keys add"):
        plan = plan_of(3, "mst")
        fleet = Fleet(plan, PeerConfig(), towards_points(plan.roster, 3), np.ones(3, np.float32))
        fleet.roster = fleet.roster.model_copy(update={"robots": fleet.roster.robots[:2]})
        fleet.start("r0")
    with pytest.raises(InputError, match="push_sum counts mass"):
        fleet_of(rule="push_sum", codec="int8").start()


# ---- many at once


@pytest.mark.parametrize("seed", [*range(2), 260, 401, 404, 486, 626, 809])
def test_every_promise_holds_under_random_faults(seed):
    """`edgeflock fleet faults` runs more; the last six found faults of the machine."""
    assert run(Scenario.of(seed)).broken == ()
