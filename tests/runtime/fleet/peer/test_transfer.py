"""A body on its way: asked for piece by piece, in any order, repeated as often as needed."""

import hashlib
import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflock.runtime.fleet.peer.patience import Patience
from edgeflock.runtime.fleet.peer.transfer import Incoming, Outgoing, Retry
from edgeflock.runtime.fleet.peer.wire import CHUNK_BYTES, Chunk, Code, Offer, Refused

BODY = random.Random(0).randbytes(5 * CHUNK_BYTES + 17)


@pytest.fixture
def offer(make):
    return make(Offer, body_bytes=len(BODY), body_sha256=hashlib.sha256(BODY).hexdigest())


def retry():
    return Retry(10, 80)


def test_a_body_crosses_a_link_that_loses_repeats_and_reorders(offer):
    chance = random.Random(1)
    out, into = Outgoing(offer, BODY, None, retry()), Incoming(offer, 4, 10**9, retry())
    while into.missing:
        asked = into.ask(again=True)
        assert asked is not None
        sent = out.chunks(*asked)
        assert len(sent) <= 4
        chance.shuffle(sent)
        for chunk in sent:
            for _ in range(chance.choice([0, 1, 2])):
                into.take(chunk)
    assert into.whole() == BODY


def test_no_more_is_under_way_than_was_granted(offer):
    into = Incoming(offer, 4, 10**9, retry())
    assert into.ask()[1] == 4
    assert into.ask() is None
    out = Outgoing(offer, BODY, None, retry())
    first = out.chunks("3f", 4)
    into.take(first[0])
    assert into.ask() is None  # half the credit has to be free: no message for every chunk
    into.take(first[1])
    assert into.ask()[1] == 2


def test_chunks_that_were_pushed_are_asked_for_only_when_they_do_not_come(make, offer):
    pushed = offer.model_copy(update={"pushed": 2})
    into = Incoming(pushed, 4, 10**9, retry())
    first = Outgoing(pushed, BODY, None, retry()).first(2)
    assert [chunk.index for chunk in first] == [0, 1]
    assert into.ask() == ("3c", 2)  # the room that the pushed ones leave
    into.take(first[0])
    assert into.ask(again=True) == ("3e", 4)


@pytest.mark.parametrize(("index", "data"), [(6, b"x"), (5, b"x"), (0, b"x"), (0, bytes(CHUNK_BYTES + 1))])
def test_a_chunk_that_does_not_tile_the_body_is_malformed(offer, index, data):
    with pytest.raises(Refused) as refused:
        Incoming(offer, 4, 10**9, retry()).take(Chunk(1, 1, index, data))
    assert refused.value.code == Code.MALFORMED


def test_a_body_that_is_not_the_signed_one_is_refused(offer):
    into = Incoming(offer, 16, 10**9, retry())
    for chunk in Outgoing(offer, bytes(len(BODY)), None, retry()).chunks("3f", 16):
        into.take(chunk)
    with pytest.raises(Refused) as refused:
        into.whole()
    assert refused.value.code == Code.HASH


def test_a_wish_for_chunks_that_are_not_there_gives_none(offer):
    assert Outgoing(offer, BODY, None, retry()).chunks("f" * 100 + "00", 16) == []


def test_tries_come_later_each_time_and_begin_anew_after_an_answer():
    again, waits = retry(), []
    for _ in range(5):
        again.tried(0)
        waits.append(again.at_ns)
    assert waits == [10, 20, 40, 80, 80]
    again.answered(0)
    assert again.at_ns == 10


def test_a_chunk_is_late_only_after_several_times_the_usual_gap():
    again, now = retry(), 1
    again.tried(now)
    for _ in range(40):
        now += 30  # three times the first wait
        again.came(now, twice=False)
    assert again.at_ns - now > 100
    for _ in range(40):
        now += 1
        again.came(now, twice=False)
    assert again.at_ns - now == 10


def test_waits_do_not_grow_with_chunks_that_come_only_because_they_were_asked_for_again():
    again, now = retry(), 1
    again.tried(now)
    for _ in range(40):
        now = again.at_ns
        again.tried(now)
        again.came(now, twice=False)
    assert again.at_ns - now <= 40


@pytest.mark.parametrize("chunk_ms", [1, 200, 500, 1000])
def test_a_slow_link_carries_hardly_a_chunk_twice(make, chunk_ms):
    """One chunk after the other, each for so long. With waits of 250 ms, whatever the link, they crossed 60 times."""
    number, body = 100, bytes(100 * CHUNK_BYTES)
    offer = make(Offer, body_bytes=len(body), pushed=16)
    out, into = Outgoing(offer, body, None, retry()), Incoming(offer, 16, 10**9, Retry(250, 4000))
    link, now, crossed = deque(out.first(16)), 1, 0
    arrives = now + chunk_ms
    into.retry.tried(now)
    while into.missing:
        late = not link or into.retry.at_ns < arrives
        now = into.retry.at_ns if late else arrives
        if late:
            into.retry.tried(now)
        else:
            arrives, crossed = now + chunk_ms, crossed + 1
            into.retry.came(now, twice=not into.take(link.popleft()))
        if asked := into.ask(again=late):
            link.extend(out.chunks(*asked))
    assert crossed < 1.5 * number


def test_without_experience_a_wait_takes_the_ceiling():
    assert Patience(5, 100, 6).of("a") == 100


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60))
@settings(max_examples=50, deadline=None)
def test_a_wait_lies_within_its_bounds(waits):
    patience = Patience(5, 100, 6)
    for wait in waits:
        patience.saw("a", wait)
    assert 5 <= patience.of("a") <= 100


def test_patience_grows_for_a_robot_that_became_slow_and_for_no_other():
    patience = Patience(5, 100, 6)
    for _ in range(40):
        patience.saw("a", 1)
        patience.saw("b", 1)
    before = patience.of("a")
    for _ in range(20):
        patience.saw("a", 50)
    assert patience.of("a") > before == patience.of("b")
