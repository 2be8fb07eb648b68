import asyncio

import pytest

from edgeflock.runtime.errors import InputError, TransportError
from edgeflock.runtime.fleet.transports.base import Buffer, Inbox, check_name


@pytest.mark.parametrize("name", ["a", "Robot7", "kitchen_robot", "x" * 63])
def test_a_name_that_ros_and_zenoh_can_carry_is_taken(name):
    check_name(name)


@pytest.mark.parametrize("name", ["", "7up", "a-b", "a/b", "a b", "two__lines", "*", "Düse", "x" * 64, "a\n"])
def test_any_other_name_is_refused(name):
    with pytest.raises(InputError, match="cannot name a peer"):
        check_name(name)


def test_a_buffer_takes_a_message_of_any_size_when_empty_and_no_more_than_its_limit_after():
    buffer = Buffer(1000)
    assert buffer.put(bytes(5000)) and not buffer.put(b"")
    buffer.pop()
    assert buffer.put(bytes(500)) and not buffer.put(bytes(500)) and buffer.put(bytes(300))
    assert [len(buffer.pop()), len(buffer.pop()), len(buffer)] == [500, 300, 0]


def test_empty_messages_are_bounded_too():
    buffer = Buffer(1000)
    assert sum(buffer.put(b"") for _ in range(1000)) < 20


def test_a_buffer_lets_a_stream_wait_for_room():
    async def story():
        buffer = Buffer(1000)
        buffer.put(bytes(800))
        waiting = asyncio.create_task(buffer.room(500))
        await asyncio.sleep(0)
        assert not waiting.done()
        assert buffer.pop() == bytes(800)
        await waiting
        assert buffer.put(bytes(500))

    asyncio.run(story())


def test_a_buffer_lets_its_consumer_wait_for_a_message():
    async def story():
        buffer = Buffer(1000)
        waiting = asyncio.create_task(buffer.filled())
        await asyncio.sleep(0)
        assert not waiting.done()
        buffer.put(b"here")
        await waiting
        assert buffer.pop() == b"here"

    asyncio.run(story())


def test_peers_take_turns_in_the_inbox():
    async def story():
        inbox = Inbox(1000)
        for peer in "aaabc":
            inbox.put(peer, peer.encode())
        assert [(await inbox.take())[0] for _ in range(5)] == ["a", "b", "c", "a", "a"]

    asyncio.run(story())


def test_a_closed_inbox_takes_nothing_and_gives_nothing():
    async def story():
        inbox = Inbox(1000)
        inbox.put("a", b"1")
        inbox.close()
        assert not inbox.put("a", b"2")
        with pytest.raises(TransportError):
            await inbox.take()

    asyncio.run(story())
