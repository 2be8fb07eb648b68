"""Whose messages and which models are taken, and the reason of each refusal."""

import numpy as np
import pytest

from edgeflock.runtime.fleet.peer import wire
from edgeflock.runtime.fleet.peer.gate import WINDOW, Boots, Gate, Window
from edgeflock.runtime.fleet.peer.wire import Code, Pull, Refused


@pytest.fixture
def gate(roster):
    return Gate("b", roster, grace=2, norm_factor=4, distance_factor=10)


@pytest.fixture
def let_in(gate, make, keys):
    """Why a message is refused; None: it is not."""

    def let_in(came_from="a", signer="a", round_here=3, **changed):
        message = wire.decode(wire.encode(make(Pull, **changed), keys[signer]))
        try:
            gate.message(message, came_from, round_here)
        except Refused as refused:
            return refused.code
        return None

    return let_in


def test_a_signed_message_of_a_member_passes_once(let_in):
    assert let_in() is None
    assert let_in() == Code.REPLAY
    assert let_in(seq=2) is None


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"came_from": "c"}, Code.UNKNOWN_PEER),
        ({"sender": "stranger", "came_from": "stranger"}, Code.UNKNOWN_PEER),
        ({"sender": "b", "came_from": "b"}, Code.UNKNOWN_PEER),
        ({"run": "other"}, Code.RUN),
        ({"to": "c"}, Code.ADDRESSEE),
        ({"key": "0" * 16}, Code.KEY),
        ({"signer": "stranger"}, Code.SIGNATURE),
    ],
)
def test_every_other_message_is_refused_by_its_reason(let_in, changed, code):
    assert let_in(**changed) == code


def test_a_forged_message_does_not_use_up_a_sequence_number(let_in):
    assert let_in(signer="stranger", seq=5) == Code.SIGNATURE
    assert let_in(seq=5) is None


def test_a_revoked_key_passes_up_to_its_last_round_and_not_after(gate, let_in, roster):
    gate.roster = roster.revoke("a", 10)
    assert let_in(round=9, round_here=10, seq=1) is None
    assert let_in(round=10, round_here=10, seq=2) == Code.KEY
    assert let_in(round=9, round_here=12, seq=3) == Code.KEY  # it cannot claim an old round for ever


def test_a_message_may_be_overtaken_but_not_by_more_than_the_window():
    window = Window(seen=0)
    assert all(window.fresh(seq) for seq in (5, 3, WINDOW + 3, WINDOW + 2))
    assert not window.fresh(WINDOW + 2)  # came before
    assert not window.fresh(2)  # too old to tell


def test_a_new_boot_begins_anew_and_ends_the_old_one():
    boots = Boots()
    boots.check(1, "aaaaaaaa", 10)
    boots.check(2, "bbbbbbbb", 1)
    with pytest.raises(Refused) as late:
        boots.check(1, "aaaaaaaa", 9)
    assert late.value.code == Code.REPLAY


@pytest.mark.parametrize(("boot", "seq"), [(2, 1), (1, 11)])
def test_two_machines_under_one_name_are_told_from_replays(boot, seq):
    boots = Boots()
    boots.check(1, "aaaaaaaa", 10)
    boots.check(2, "bbbbbbbb", 1)
    with pytest.raises(Refused) as other:
        boots.check(boot, "cccccccc", seq)
    assert other.value.code == Code.TWO_ROBOTS


def test_what_was_seen_stays_seen_over_a_restart():
    boots = Boots()
    boots.check(4, "aaaaaaaa", 10)
    again = Boots.restored(boots.state())
    with pytest.raises(Refused):
        again.check(4, "aaaaaaaa", 10)
    again.check(4, "aaaaaaaa", 11)


OWN = np.random.default_rng(0).normal(size=200).astype(np.float32)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (np.full(200, np.nan, np.float32), Code.NONFINITE),
        (np.where(np.arange(200) == 7, np.inf, OWN).astype(np.float32), Code.NONFINITE),
        (OWN * 1000, Code.NORM),
        (np.zeros_like(OWN), Code.NORM),
        (-OWN, Code.DISTANCE),
        (OWN[::-1].copy(), Code.DISTANCE),
    ],
)
def test_a_model_unlike_the_fleets_is_refused(gate, model, code):
    rng = np.random.default_rng(1)
    for _ in range(5):
        gate.model(OWN + rng.normal(0, 0.01, 200).astype(np.float32), OWN)
    with pytest.raises(Refused) as refused:
        gate.model(model, OWN)
    assert refused.value.code == code


def test_models_may_grow_in_training(gate):
    model = OWN
    for _ in range(40):
        model = model * np.float32(1.3)
        gate.model(model * np.float32(1.01), model)
