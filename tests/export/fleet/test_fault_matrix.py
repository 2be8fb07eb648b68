"""Every fault by itself: nobody is blocked, nothing is lost, and each refusal is counted by its reason.

What a transport meets is in tests/runtime/fleet/transports, what a disk meets in tests/runtime/fleet/peer
(`test_store`: kill -9 at every write; `test_drive`: a full disk).
"""

import hashlib

import numpy as np
import pytest
from safetensors.numpy import save
from small_fleets import CALM, SIZE, finished, fleet_of

from edgeflock.export.fleet.fault_runs import LIES
from edgeflock.export.fleet.faults import towards_points
from edgeflock.runtime.fleet.peer import codecs
from edgeflock.runtime.fleet.peer.exchange import Body
from edgeflock.runtime.fleet.peer.wire import MAGIC
from edgeflock.runtime.fleet.transports.memory import Faults

OFTEN = {"heartbeat": b"H", "offer": b"O", "want": b"W", "ack": b"A", "chunk": b"C"}
KINDS = OFTEN | {"pull": b"P", "leave": b"L"}
DAMAGED = {"malformed", "signature", "checksum", "key", "run", "unknown_peer", "addressee"}
FAULTS = {
    "drop": ({"drop": 0.4}, "dropped", set()),
    "duplicate": ({"duplicate": 0.9}, "duplicated", {"replay"}),
    "reorder": ({"reorder": 0.5, "reorder_ms": 400}, "reordered", set()),
    "corrupt": ({"corrupt": 0.4}, "corrupted", DAMAGED),
    "truncate": ({"truncate": 0.4}, "truncated", DAMAGED),
    "delay": ({"delay_ms": (300, 900)}, None, set()),
}
"""What a link does, what the network counts it as, and the reasons for which robots may refuse what comes."""
LARGE = 5 * codecs.BLOCK * 256
"""Weights of a model of 23 chunks."""


def hit(kind, fault):
    """Faults that meet one kind of message only."""
    met = Faults(**({"delay_ms": (1, 3)} | FAULTS[fault][0]))
    return lambda _source, _target, message: met if message.startswith(MAGIC + KINDS[kind]) else CALM


def met(fleet, fault):
    return FAULTS[fault][1] is None or fleet.network.injected[FAULTS[fault][1]] > 0


def rounds_of(fleet, name):
    return [mixed.round for who, mixed in fleet.mixed if who == name]


# ---- the network, one kind of message at a time


@pytest.mark.parametrize("kind", OFTEN)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_any_message_blocks_a_robot_or_moves_the_mean(fault, kind):
    fleet = finished(fleet_of(faults=hit(kind, fault), rounds=5, push=0 if kind == "want" else 16))
    assert met(fleet, fault)
    assert all(rounds_of(fleet, name) == list(range(1, 8)) for name in fleet.robots)
    assert fleet.drift() < 1e-5
    assert fleet.tally()["mixed"] > 0
    assert set(fleet.counts()) <= FAULTS[fault][2] | {"expired"}
    assert fleet.counts() or fault not in ("corrupt", "truncate")


@pytest.mark.parametrize("kind", ["pull", "leave"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_robot_comes_and_goes_whatever_happens_to_its_word(fault, kind):
    for seed in range(30):  # it is said once or twice: until the fault meets it
        fleet = fleet_of(faults=hit(kind, fault), seed=seed, rounds=9, behind=3, floor_s=0.2, ceiling_s=1, join_s=2)
        fleet.start("r0", "r1")
        if kind == "pull":  # r2 comes when the others are far ahead
            fleet.at(8, lambda fleet=fleet: fleet.start("r2"))
        else:
            fleet.at(0, lambda fleet=fleet: fleet.start("r2"))
            fleet.at(0.3, lambda fleet=fleet: fleet.leave("r2"))
        assert fleet.run(), {name: robot.peer.status() for name, robot in fleet.robots.items() if robot.peer}
        if met(fleet, fault):
            break
    else:
        raise AssertionError("the fault never met the message")
    here = fleet.robots if kind == "pull" else ("r0", "r1")
    assert all(fleet.peer(name).round == fleet.config.last for name in here)
    assert set(fleet.counts()) <= FAULTS[fault][2] | {"expired"}


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
    assert fleet.tally()["mixed"] == fleet.tally()["taken_back"] > 0 and fleet.drift() < 1e-5


def test_a_sender_whose_model_drips_in_holds_up_nobody_for_longer_than_the_ceiling():
    def faults(source, _target, message):
        return Faults(delay_ms=(4000, 4000)) if source == "r0" and message.startswith(MAGIC + b"C") else CALM

    fleet = finished(fleet_of(3, faults=faults, size=LARGE, rounds=5, settle=0, credit=2, floor_s=0.5, ceiling_s=2))
    assert fleet.now_ns / 1e9 < 5 * (2 + 0.2) + fleet.config.join_s
    assert {mixed.missing for name, mixed in fleet.mixed if name == "r1"} >= {("r0",)}


def test_robots_come_into_step_again_with_one_that_was_stopped():
    """Found by `fleet soak`: bodies that would never come took the room of all later ones, until they expired."""
    fleet = fleet_of(5, "mst", seed=4, rounds=100, settle=0, floor_s=0.3, ceiling_s=3, silent_s=3)
    fleet.at(4, lambda: fleet.stall("r3", 2.5))
    finished(fleet)
    assert any(mixed.missing for _, mixed in fleet.mixed)
    assert not any(mixed.missing for _, mixed in fleet.mixed if mixed.round > 80)


# ---- crashes


@pytest.mark.parametrize("after", ["heartbeat", "offer", "want", "chunk", "ack"])
@pytest.mark.parametrize("victim", ["r0", "r1"])
def test_a_crash_right_after_any_message_blocks_nobody(after, victim):
    fleet = fleet_of(2, rounds=8, push=0 if after == "want" else 16)
    crashed = []

    def faults(source, _target, message):
        if source == victim and message.startswith(MAGIC + KINDS[after]) and not crashed:
            crashed.append(fleet.now_ns)
            fleet.at(fleet.now_ns / 1e9, lambda: fleet.crash(victim))
            fleet.at(fleet.now_ns / 1e9 + 1, lambda: fleet.restart(victim))
        return CALM

    fleet.network.set_faults(faults)
    finished(fleet)
    assert crashed
    assert rounds_of(fleet, victim)[-1] == 10


@pytest.mark.parametrize("victim", ["r0", "r1"])
@pytest.mark.parametrize("said", ["offer", "chunk"])
def test_a_crash_before_the_first_offer_or_in_the_middle_of_a_model_costs_one_round(said, victim):
    fleet = fleet_of(2, size=LARGE, rounds=6)
    seen = []

    def faults(source, _target, message):
        if source == victim and message.startswith(MAGIC + KINDS[said]):
            seen.append(message)
            if len(seen) == (1 if said == "offer" else 9):
                fleet.at(fleet.now_ns / 1e9, lambda: fleet.crash(victim))
                fleet.at(fleet.now_ns / 1e9 + 1, lambda: fleet.restart(victim))
                return Faults(drop=1)
        return CALM

    fleet.network.set_faults(faults)
    finished(fleet)
    assert fleet.robots[victim].boot == 2
    assert all(rounds_of(fleet, name) == list(range(1, 9)) for name in fleet.robots)


def test_a_robot_that_crashed_goes_on_from_its_last_round():
    fleet = fleet_of(rounds=30)
    fleet.at(2, lambda: fleet.crash("r1"))
    fleet.at(4, lambda: fleet.restart("r1"))
    finished(fleet)
    assert rounds_of(fleet, "r1") == list(range(1, 33))  # nothing was lost but the running round, done again


@pytest.mark.parametrize("codec", ["fp32", "topk"])
def test_a_robot_with_an_older_checkpoint_does_its_rounds_again_and_mixes_on(codec):
    fleet = fleet_of(rounds=30, codec=codec, keep=0.3)
    fleet.at(2, lambda: fleet.crash("r1"))
    fleet.at(4, lambda: fleet.restart("r1", older=3))
    finished(fleet)
    rounds = rounds_of(fleet, "r1")
    [back] = [i for i in range(1, len(rounds)) if rounds[i] <= rounds[i - 1]]
    assert rounds[back - 1] + 1 - rounds[back] == 3 and rounds[-1] == 32
    assert fleet.mixed[-1][1].heard and not fleet.counts().keys() & {"nonfinite", "norm", "distance"}
    assert fleet.disagreement() < 0.1


def test_clocks_that_are_a_day_apart_change_nothing():
    def models(skew_s):
        return finished(fleet_of(skew_s=skew_s)).models()

    fleet = fleet_of(skew_s=86400)
    assert max(abs(robot.skew_ns) for robot in fleet.robots.values()) > 3600 * 10**9
    assert np.array_equal(models(86400), models(0))


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
    assert rounds_of(fleet, "r2")[0] > fleet.config.behind


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


# ---- robots that send what nobody should take


@pytest.mark.parametrize(("lie", "code"), [("nan", "nonfinite"), ("huge", "norm"), ("zero", "norm")])
def test_a_liars_latest_model_is_not_taken_and_another_robot_is_asked(lie, code):
    fleet = fleet_of(4, "complete", rounds=60)
    fleet.start("r0", "r1", "r3")
    fleet.at(10, lambda: fleet.lie("r3", LIES[lie]))  # the robot that is asked first: its name is the last
    fleet.at(11, lambda: fleet.start("r2"))
    assert fleet.run()
    assert fleet.refused["r2", code] > 0
    assert fleet.peer("r2").status()["tally"]["pulled"] == 1
    assert np.abs(fleet.models() - 1).max() < 2


@pytest.mark.parametrize(
    ("lie", "code"), [("nan", "nonfinite"), ("huge", "norm"), ("zero", "norm"), ("flipped", "distance")]
)
def test_a_lying_robots_models_are_refused_by_their_reason(lie, code):
    fleet = fleet_of(3, "complete", rounds=12)
    fleet.at(0.5, lambda: fleet.lie("r1", LIES[lie]))
    finished(fleet)
    assert fleet.counts()[code] > 0
    assert np.abs(fleet.models() - 1).max() < 2


def body_of(tensors):
    """Way of a liar to send these tensors, well signed, instead of its model."""

    def body(_codec, state, _base):
        raw = save({name: make(state) for name, make in tensors.items()})
        content = codecs.compress(raw)
        return Body("fp32", content, len(raw), hashlib.sha256(content).hexdigest(), state, codecs.digest(state))

    return body


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ({"w": lambda state: np.concatenate([state, state])}, "codec"),
        ({"w": lambda state: state.reshape(2, -1)}, "codec"),
        ({"w": lambda state: state.astype(np.float64)}, "codec"),
        ({"w": lambda state: state.astype(np.int32)}, "codec"),
        ({"v": lambda state: state}, "codec"),
        ({"w": lambda state: np.zeros(codecs.largest_raw(SIZE), np.float32)}, "oversize"),
        ({"w": lambda state: -state}, "hash"),  # another model than the one that was signed
    ],
)
def test_a_model_of_another_shape_dtype_or_name_is_refused(tensors, code):
    fleet = fleet_of(3, "complete", rounds=8)
    fleet.at(0.5, lambda: setattr(fleet.peer("r1")._exchange, "_body", body_of(tensors)))
    finished(fleet)
    assert {reason for (_, reason) in fleet.refused} >= {code}
    assert np.abs(fleet.models() - 1).max() < 2
    assert fleet.peer("r0").round == fleet.config.last


def test_a_robot_that_learns_another_net_is_refused_by_its_schema():
    fleet = fleet_of(3, "complete", rounds=8)
    fleet.at(0.5, lambda: setattr(fleet.peer("r1")._exchange, "_schema", "00" * 32))
    finished(fleet)
    assert fleet.refused["r0", "schema"] > 0 and fleet.refused["r1", "schema"] > 0


def test_a_second_machine_under_one_name_raises_an_alarm_and_blocks_nobody():
    fleet = fleet_of(3, rounds=20, skew_s=0)
    twin = fleet_of(3, rounds=20, seed=7)  # the same roster, keys and plan: r1's disk in another machine

    def deliver():
        twin.start("r1")
        for at in range(40):
            twin.run(lambda at=at: twin.now_ns >= at * 50_000_000)
        for delivery in twin.network.due(twin.now_ns + 10**9):
            if (delivery.source, delivery.target) == ("r1", "r0"):
                fleet.inject("r1", "r0", delivery.message)

    fleet.at(1, deliver)
    finished(fleet)
    assert ("r0", "two_robots", "r1") in {(who, alarm.what, alarm.peer) for who, alarm in fleet.alarms}
    assert fleet.refused["r0", "two_robots"] > 0
    assert all(rounds_of(fleet, name)[-1] == fleet.config.last for name in fleet.robots)


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
