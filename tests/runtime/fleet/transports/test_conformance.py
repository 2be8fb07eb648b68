"""What holds for every transport: the protocol of `base.Transport` between real ends."""

import asyncio
import hashlib
import os

import pytest

from edgeflock.runtime.errors import InputError, TransportError


async def next_of(end, patience=30.0):
    return await asyncio.wait_for(end.receive(), patience)


async def take(end, number):
    return [await next_of(end) for _ in range(number)]


def test_a_message_arrives_whole_with_its_senders_name_in_both_directions(run):
    async def story(group):
        a, b = await group.open("a", "b")
        everything = bytes(range(256)) * 3
        assert a.send("b", everything) is True
        assert await next_of(b) == ("a", everything)
        assert b.send("a", everything[::-1])
        assert await next_of(a) == ("b", everything[::-1])

    run(story)


def test_an_empty_and_a_largest_message_arrive(run):
    async def story(group):
        a, b = await group.open("a", "b")
        largest = os.urandom(b.max_message)
        assert a.send("b", b"")
        assert a.send("b", largest)
        assert sorted([m for _, m in await take(b, 2)], key=len) == [b"", largest]

    run(story)


def test_a_message_above_the_limit_is_refused_with_both_sizes_and_the_way_out(run):
    async def story(group):
        a, _ = await group.open("a", "b")
        with pytest.raises(InputError, match=f"{a.max_message + 1:,} bytes.*takes {a.max_message:,}.*chunks"):
            a.send("b", bytes(a.max_message + 1))
        assert a.counts["b"].sent == 0

    run(story)


def test_an_unknown_peer_is_refused_with_the_known_ones(run):
    async def story(group):
        a, _ = await group.open("a", "b")
        with pytest.raises(InputError, match=r"a has no peer 'stranger'.*b, c"):
            a.send("stranger", b"hello")

    run(story)


def test_a_window_of_chunks_arrives_each_once_on_a_clean_link(run):
    async def story(group):
        a, b = await group.open("a", "b")
        size = min(a.max_message, 48_000)
        chunks = [os.urandom(size) for _ in range(16)]
        for chunk in chunks:
            assert a.send("b", chunk)
        got = {hashlib.sha256(m).digest() for _, m in await take(b, 16)}
        assert got == {hashlib.sha256(c).digest() for c in chunks}

    run(story)


def test_messages_go_to_the_named_peer_only(run):
    async def story(group):
        a, b, c = await group.open("a", "b", "c")
        a.send("b", b"for b")
        a.send("c", b"for c")
        assert await next_of(b) == ("a", b"for b")
        assert await next_of(c) == ("a", b"for c")
        b.send("a", b"last")
        await next_of(a)
        assert len(b.inbox.of("a")) == len(c.inbox.of("a")) == 0

    run(story)


def test_a_flood_that_nobody_reads_is_bounded_counted_and_never_blocks_the_sender(run):
    async def story(group):
        a, b = await group.open("a", "b", queue_bytes=200_000)
        size, number = min(a.max_message, 40_000), 600
        for _ in range(number):
            a.send("b", bytes(size))
        lost = a.counts["b"].dropped
        assert a.counts["b"].sent + sum(lost.values()) == number
        while not (sum(lost.values()) or sum(b.counts["a"].dropped.values())):
            a.send("b", bytes(size))  # until the buffers of the operating system are full as well
            await asyncio.sleep(0.001)
        assert b.inbox.of("a").waiting_bytes <= 200_000

    run(story)


def test_a_peer_that_floods_does_not_keep_out_another(run):
    async def story(group):
        a, b, c = await group.open("a", "b", "c", queue_bytes=200_000)
        for _ in range(200):
            a.send("c", bytes(min(a.max_message, 40_000)))
        b.send("c", b"quiet")
        for _ in range(50):
            if await next_of(c) == ("b", b"quiet"):
                return
            await asyncio.sleep(0.005)
        raise AssertionError("the quiet peer's message did not get its turn")

    run(story)


def test_a_peer_that_left_is_no_longer_reachable_and_sends_to_it_return_at_once(run, until):
    async def story(group):
        a, b, _ = await group.open("a", "b", "c")
        await group.close("c")
        await until(lambda: "c" not in a.reachable())
        for _ in range(100):
            a.send("c", bytes(1000))
        a.send("b", b"still here")
        assert await next_of(b) == ("a", b"still here")

    run(story)


def test_a_peer_that_comes_back_is_reached_again_by_the_ends_that_stayed(run):
    async def story(group):
        a, _ = await group.open("a", "b")
        await group.close("b")
        (b,) = await group.open("b")
        a.send("b", b"welcome back")
        assert await next_of(b) == ("a", b"welcome back")
        b.send("a", b"thank you")
        assert await next_of(a) == ("b", b"thank you")

    run(story)


def test_a_cancelled_receive_loses_nothing(run):
    async def story(group):
        a, b = await group.open("a", "b")
        with pytest.raises(asyncio.TimeoutError):
            await next_of(b, patience=0.05)
        waiting = asyncio.create_task(b.receive())
        await asyncio.sleep(0)
        a.send("b", b"kept")
        waiting.cancel()
        assert await next_of(b) == ("a", b"kept")

    run(story)


def test_closing_ends_a_waiting_receive_and_refuses_more_sends(run):
    async def story(group):
        _, b = await group.open("a", "b")
        waiting = asyncio.create_task(b.receive())
        await asyncio.sleep(0.01)
        await b.close()
        with pytest.raises(TransportError, match="closed"):
            await waiting
        with pytest.raises(TransportError, match="not open"):
            b.send("a", b"too late")
        await b.close()

    run(story)


def test_it_counts_what_was_sent_and_received_per_peer(run):
    async def story(group):
        a, b = await group.open("a", "b")
        for size in (0, 10, 100):
            a.send("b", bytes(size))
        await take(b, 3)
        assert (a.counts["b"].sent, a.counts["b"].sent_bytes) == (3, 110)
        assert (b.counts["a"].received, b.counts["a"].received_bytes) == (3, 110)
        assert a.counts["c"].sent == 0 and not a.counts["b"].dropped

    run(story)
