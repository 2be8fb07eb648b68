"""Fleets of the robots' own code in virtual time: what holds on a perfect network, and under every fault."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflock.export.fleet.fault_runs import LIES, Scenario, run
from edgeflock.export.fleet.faults import Fleet, laboratory_key, towards_points
from edgeflock.runtime.bundle.signing import key_id
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.mixing.rules import Mixing
from edgeflock.runtime.fleet.peer import wire
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.peer.wire import MAGIC
from edgeflock.runtime.fleet.plan.schedule import make_plan
from edgeflock.runtime.fleet.transports.memory import Faults

SIZE = 30
CALM = Faults(delay_ms=(1, 3))
KINDS = {"heartbeat": b"H", "offer": b"O", "want": b"W", "ack": b"A", "chunk": b"C"}
FAULTS = {
    "drop": {"drop": 0.4},
    "duplicate": {"duplicate": 0.9},
    "reorder": {"reorder": 0.5, "reorder_ms": 400},
    "corrupt": {"corrupt": 0.4},
    "truncate": {"truncate": 0.4},
    "delay": {"delay_ms": (300, 900)},
}


def plan_of(n, base, t=2, seed=0):
    delays = np.random.default_rng(seed).uniform(5, 40, (n, n))
    return make_plan([f"r{i}" for i in range(n)], delays + delays.T, t, base)


def fleet_of(n=3, base="mst", t=2, seed=0, faults=CALM, train=None, rounds=6, settle=2, **more):
    config = {key: more.pop(key) for key in list(more) if key in PeerConfig.model_fields}
    plan = plan_of(n, base, t, seed)
    train = train or towards_points([*plan.roster, *more.get("extra", ())], SIZE, seed)
    config = PeerConfig(rounds=rounds, settle=settle, **config)
    fleet = Fleet(plan, config, train, np.ones(SIZE, np.float32), seed, faults, **more)
    fleet.keep_mixed = True
    return fleet


def finished(fleet):
    fleet.start()
    assert fleet.run(), {name: robot.peer.status() for name, robot in fleet.robots.items() if robot.peer}
    return fleet


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


def test_topk_sends_a_full_model_every_so_many_rounds():
    fleet = finished(fleet_of(2, "mst", 1, codec="topk", rounds=10, settle=0, snapshot_every=5))
    assert fleet.tally()["offers"] == 20
    sizes = fleet.tally()
    assert 0 < sizes["body_bytes_fp32"] <= 6 * 600 and sizes["body_bytes_topk"] > 0


# ---- faults of the network, one kind of message at a time


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_any_message_blocks_a_robot_or_moves_the_mean(fault, kind):
    def faults(_source, _target, message):
        hit = message.startswith(MAGIC + KINDS[kind])
        return Faults(**({"delay_ms": (1, 3)} | FAULTS[fault])) if hit else CALM

    fleet = finished(fleet_of(faults=faults, rounds=5))
    assert fleet.drift() < 1e-5
    assert fleet.tally()["mixed"] > 0


def test_a_partition_heals_and_the_mean_stays():
    fleet = fleet_of(4, "mst", rounds=60, settle=8, floor_s=0.5, silent_s=2)
    fleet.at(1, lambda: fleet.network.part({"r0", "r1"}, {"r2", "r3"}))
    fleet.at(4, fleet.network.heal)
    finished(fleet)
    assert fleet.network.injected["parted"] > 0
    assert fleet.drift() < 1e-5
    assert fleet.disagreement() < 0.05


def test_a_sender_that_stops_in_the_middle_of_a_model_expires():
    def faults(source, _target, message):
        return Faults(drop=1) if source == "r0" and message.startswith(MAGIC + b"C") else CALM

    fleet = finished(fleet_of(2, faults=faults, ttl_s=3, rounds=5, floor_s=0.5))
    assert fleet.refused["r1", "expired"] > 0
    assert fleet.tally()["mixed"] == 0


# ---- faults of robots


def test_a_robot_that_crashed_goes_on_from_its_last_round():
    fleet = fleet_of(rounds=30)
    fleet.at(2, lambda: fleet.crash("r1"))
    fleet.at(4, lambda: fleet.restart("r1"))
    finished(fleet)
    rounds = [mixed.round for name, mixed in fleet.mixed if name == "r1"]
    assert rounds == list(range(1, 33))  # nothing was lost but the running round, and that was done again


@pytest.mark.parametrize("after", ["offer", "want", "chunk", "ack"])
@pytest.mark.parametrize("victim", ["r0", "r1"])
def test_a_crash_right_after_any_message_blocks_nobody(after, victim):
    fleet = fleet_of(2, rounds=8)
    hit = []

    def faults(source, _target, message):
        if source == victim and message.startswith(MAGIC + KINDS[after]) and not hit:
            hit.append(fleet.now_ns)
            fleet.at(fleet.now_ns / 1e9, lambda: fleet.crash(victim))
            fleet.at(fleet.now_ns / 1e9 + 1, lambda: fleet.restart(victim))
        return CALM

    fleet.network.set_faults(faults)
    finished(fleet)
    assert hit
    assert [m.round for name, m in fleet.mixed if name == victim][-1] == 10


def test_the_ring_closes_around_a_dead_robot_and_opens_when_it_is_back():
    fleet = fleet_of(4, "ring", rounds=60, settle=0, floor_s=0.5, ceiling_s=2)
    fleet.at(1, lambda: fleet.crash("r2"))
    fleet.at(25, lambda: fleet.restart("r2"))
    views = {}
    fleet.at(20, lambda: views.update({n: fleet.peer(n).status() for n in ("r0", "r1", "r3")}))
    finished(fleet)
    assert {view["view"] for view in views.values()} == {views["r0"]["view"]}
    assert all(view["absent"] == ["r2"] for view in views.values())
    assert all(not fleet.peer(name).status()["absent"] for name in fleet.robots)


def test_a_robot_that_comes_late_pulls_the_latest_model():
    fleet = fleet_of(3, "mst", rounds=60)
    for name in ("r0", "r1"):
        fleet.start(name)
    fleet.at(11, lambda: fleet.start("r2"))
    assert fleet.run()
    assert fleet.peer("r2").status()["tally"]["pulled"] == 1
    first = next(mixed.round for name, mixed in fleet.mixed if name == "r2")
    assert first > fleet.config.behind


def test_one_that_leaves_is_not_waited_for():
    fleet = fleet_of(3, "mst", rounds=30)
    fleet.at(1, lambda: fleet.leave("r2"))
    fleet.start()
    assert fleet.run()
    assert fleet.now_ns / 1e9 < 12  # 30 rounds of about 0.1 s, and no wait for the one that left
    assert fleet.peer("r0").status()["absent"] == ["r2"]


def test_a_robot_alone_trains_on():
    fleet = fleet_of(2, rounds=5, join_s=1)
    fleet.start("r0")
    assert fleet.run()
    assert [mixed.heard for name, mixed in fleet.mixed] == [()] * 7


def test_where_training_breaks_the_last_good_model_stands_in():
    honest = towards_points(["r0", "r1", "r2"], SIZE)

    def train(name, round_, model):
        return np.full_like(model, np.nan) if (name, round_) == ("r1", 3) else honest(name, round_, model)

    fleet = finished(fleet_of(train=train))
    assert ("training", "r1") in {(alarm.what, alarm.peer) for _, alarm in fleet.alarms}
    assert not fleet.counts() and fleet.tally()["missing"] == 0
    assert fleet.drift() < 1e-5


@pytest.mark.parametrize(
    ("lie", "code"), [("nan", "nonfinite"), ("huge", "norm"), ("zero", "norm"), ("flipped", "distance")]
)
def test_a_lying_robots_models_are_refused_by_their_reason(lie, code):
    fleet = fleet_of(3, "complete", rounds=12)
    fleet.at(0.5, lambda: fleet.lie("r1", LIES[lie]))
    finished(fleet)
    assert fleet.counts()[code] > 0
    assert np.abs(fleet.models() - 1).max() < 2


def test_two_robots_under_one_name_raise_an_alarm():
    fleet = fleet_of(3, rounds=20)
    twin = wire.Leave(
        run="lab", sender="r1", to=None, boot=1, nonce="deadbeef", seq=1, round=1,
        key=_key_id("r1"),
    )  # fmt: skip
    fleet.at(1, lambda: fleet.inject("r1", "r0", wire.encode(twin, laboratory_key("r1"))))
    finished(fleet)
    assert ("r0", "two_robots", "r1") in {(who, alarm.what, alarm.peer) for who, alarm in fleet.alarms}
    assert fleet.refused["r0", "two_robots"] == 1


def test_a_recorded_message_is_a_replay():
    fleet, recorded = fleet_of(3, rounds=10), []

    def faults(source, target, message):
        if (source, target) == ("r1", "r0") and message.startswith(MAGIC + b"O"):
            recorded.append(message)
        return CALM

    fleet.network.set_faults(faults)
    fleet.at(0.8, lambda: fleet.inject("r1", "r0", recorded[0]))
    finished(fleet)
    assert fleet.refused["r0", "replay"] == 1
    assert fleet.drift() < 1e-5


def test_a_revoked_robot_is_refused_from_its_round_on_and_the_others_go_on():
    fleet = fleet_of(3, "complete", rounds=40)

    def revoke():
        newer = fleet.roster.revoke("r1", 10)
        for name in ("r0", "r2"):
            fleet.peer(name).set_roster(newer)

    fleet.at(0.3, revoke)
    fleet.start()
    fleet.run(lambda: all(fleet.robots[name].finished for name in ("r0", "r2")))
    assert fleet.refused["r0", "key"] > 0
    late = [mixed for name, mixed in fleet.mixed if name == "r0" and mixed.round > 20]
    assert late and all("r1" not in mixed.heard for mixed in late)


def test_a_roster_of_another_run_or_an_older_one_is_not_taken():
    fleet = fleet_of()
    fleet.start()
    newer = fleet.roster.revoke("r1", 90)
    fleet.peer("r0").set_roster(newer)
    with pytest.raises(InputError, match="serial 1, does not follow"):
        fleet.peer("r0").set_roster(fleet.roster)
    with pytest.raises(InputError, match="run 'other'"):
        fleet.peer("r0").set_roster(newer.model_copy(update={"run": "other"}))


# ---- plans


def test_all_adopt_a_new_plan_at_the_named_round():
    fleet = fleet_of(4, "mst", rounds=20)
    newer = plan_of(4, "complete")
    fleet.at(0.5, lambda: [fleet.peer(name).adopt(newer, 10) for name in fleet.robots])
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


def _key_id(name):
    return key_id(laboratory_key(name).public_key().public_bytes_raw())
