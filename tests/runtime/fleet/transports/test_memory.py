import asyncio
import random

import pytest
from pydantic import ValidationError

from edgeflock.runtime.errors import InputError, TransportError
from edgeflock.runtime.fleet.transports.memory import Faults, MemoryNetwork, MemoryTransport, VirtualTimeLoop

MS = 1_000_000
ALL = Faults(drop=0.1, duplicate=0.1, reorder=0.2, corrupt=0.1, truncate=0.1, delay_ms=(1, 20))


def deliveries(network, messages=200, links=(("a", "b"),)):
    """What arrives of messages sent a millisecond apart."""
    for k in range(messages):
        for source, target in links:
            network.send(source, target, k.to_bytes(4, "big") * 10, k * MS)
    return network.due(10**15)


def numbers(arrived):
    return [int.from_bytes(d.message[:4], "big") for d in arrived]


def test_a_network_without_faults_delivers_at_once_and_in_order():
    arrived = deliveries(MemoryNetwork())
    assert numbers(arrived) == list(range(200))
    assert [d.at_ns for d in arrived] == [k * MS for k in range(200)]


def test_the_same_seed_gives_the_same_faults_and_another_seed_others():
    first, second, third = (deliveries(MemoryNetwork(seed, ALL)) for seed in (1, 1, 2))
    assert first == second != third


def test_what_a_link_does_depends_on_no_other_link():
    alone = deliveries(MemoryNetwork(1, ALL))
    among = deliveries(MemoryNetwork(1, ALL), links=(("b", "a"), ("a", "b"), ("a", "c")))
    assert alone == [d for d in among if (d.source, d.target) == ("a", "b")]


@pytest.mark.parametrize("fault, injected", [
    ("drop", "dropped"), ("duplicate", "duplicated"), ("reorder", "reordered"),
    ("corrupt", "corrupted"), ("truncate", "truncated"),
])  # fmt: skip
def test_each_fault_meets_about_its_share_of_the_messages_and_alone(fault, injected):
    network = MemoryNetwork(3, Faults(**{fault: 0.25}))
    deliveries(network, 1000)
    assert set(network.injected) == {injected} and 200 < network.injected[injected] < 300


def test_a_dropped_message_never_arrives():
    network = MemoryNetwork(0, Faults(drop=0.5))
    got = numbers(deliveries(network))
    assert len(got) == 200 - network.injected["dropped"] and got == sorted(set(got))


def test_a_duplicated_message_arrives_twice():
    got = numbers(deliveries(MemoryNetwork(0, Faults(duplicate=1))))
    assert sorted(got) == sorted([*range(200), *range(200)])


def test_a_reordered_message_is_overtaken():
    got = numbers(deliveries(MemoryNetwork(0, Faults(reorder=0.3))))
    assert got != sorted(got) and sorted(got) == list(range(200))


def test_a_corrupted_message_differs_in_one_bit():
    for k, delivery in enumerate(deliveries(MemoryNetwork(0, Faults(corrupt=1)))):
        sent = int.from_bytes(k.to_bytes(4, "big") * 10, "big")
        assert (sent ^ int.from_bytes(delivery.message, "big")).bit_count() == 1 and len(delivery.message) == 40


def test_a_truncated_message_is_a_beginning():
    for k, delivery in enumerate(deliveries(MemoryNetwork(0, Faults(truncate=1)))):
        assert (k.to_bytes(4, "big") * 10).startswith(delivery.message) and len(delivery.message) < 40


def test_delays_stay_in_their_range_and_do_not_reorder():
    arrived = deliveries(MemoryNetwork(0, Faults(delay_ms=(5, 40))))
    assert numbers(arrived) == list(range(200))
    network = MemoryNetwork(0, Faults(delay_ms=(5, 40)))
    times = []
    for k in range(200):
        network.send("a", "b", b"", k * 1000 * MS)
        times.append(network.due(10**15)[0].at_ns - k * 1000 * MS)
    assert 5 * MS <= min(times) < 10 * MS and 35 * MS < max(times) <= 40 * MS


def test_faults_can_depend_on_link_and_message():
    network = MemoryNetwork(0, lambda s, t, m: Faults(drop=float(s == "a" and m.startswith(b"offer"))))
    for source in "ab":
        for message in (b"offer", b"chunk"):
            network.send(source, "c", message, 0)
    assert [(d.source, d.message) for d in network.due(0)] == [("a", b"chunk"), ("b", b"offer"), ("b", b"chunk")]


def test_a_partition_cuts_what_is_sent_and_what_is_under_way_until_it_heals():
    network = MemoryNetwork(0, Faults(delay_ms=(10, 10)))
    network.send("a", "c", b"under way", 0)
    network.part("ab", "c")
    network.send("a", "c", b"cut", 0)
    network.send("a", "b", b"same side", 0)
    network.send("d", "c", b"in no group", 0)
    assert [d.message for d in network.due(10 * MS)] == [b"same side", b"in no group"]
    assert network.injected["parted"] == 2
    network.heal()
    network.send("c", "a", b"again", 20 * MS)
    assert [d.message for d in network.due(30 * MS)] == [b"again"]


def test_next_ns_is_the_time_of_the_next_delivery():
    network = MemoryNetwork(0, Faults(delay_ms=(10, 10)))
    assert network.next_ns() is None
    network.send("a", "b", b"", 5 * MS)
    assert network.next_ns() == 15 * MS and network.due(15 * MS - 1) == []
    assert len(network.due(15 * MS)) == 1 and network.next_ns() is None


@pytest.mark.parametrize("wrong", [{"drop": 1.5}, {"delay_ms": (3, 2)}, {"delay_ms": (-1, 2)}, {"lose": 0.1}])
def test_faults_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        Faults(**wrong)


def in_virtual_time(story):
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(story)
    finally:
        loop.close()


def test_hours_of_virtual_time_pass_at_once_and_to_the_nanosecond():
    async def story():
        network = MemoryNetwork(0, Faults(delay_ms=(3.6e6, 3.6e6)))
        a, b = (MemoryTransport(network, own, [other]) for own, other in ("ab", "ba"))
        await a.open()
        await b.open()
        a.send("b", b"slow")
        assert await b.receive() == ("a", b"slow")
        return asyncio.get_running_loop().time()

    assert in_virtual_time(story()) == 3600.0


def test_a_run_over_faulty_links_is_the_same_from_its_seed():
    def ping_pong(seed):
        heard = []

        async def serve(end):
            while True:
                peer, message = await end.receive()
                heard.append((asyncio.get_running_loop().time(), end.own, message))
                end.send(peer, message)

        async def story():
            network = MemoryNetwork(seed, ALL)
            ends = [MemoryTransport(network, own, "abc".replace(own, "")) for own in "abc"]
            for end in ends:
                await end.open()
            tasks = [asyncio.create_task(serve(end)) for end in ends]
            draw = random.Random(seed)
            for _ in range(50):
                a, b = draw.sample(ends, 2)
                a.send(b.own, draw.randbytes(20))
                await asyncio.sleep(draw.uniform(0, 0.05))
            await asyncio.sleep(1)
            for task in tasks:
                task.cancel()

        in_virtual_time(story())
        return heard

    assert ping_pong(5) == ping_pong(5) != ping_pong(6)


def test_a_deadlock_in_virtual_time_is_an_error_and_does_not_hang():
    async def story():
        end = MemoryTransport(MemoryNetwork(), "a", "b")
        await end.open()
        await end.receive()

    with pytest.raises(InputError, match="no timer runs"):
        in_virtual_time(story())


def test_two_ends_of_one_name_are_refused():
    async def story():
        network = MemoryNetwork()
        await MemoryTransport(network, "a", "b").open()
        with pytest.raises(TransportError, match="'a' is open"):
            await MemoryTransport(network, "a", "b").open()

    in_virtual_time(story())


def test_a_message_to_a_peer_that_is_not_there_is_lost_and_counted():
    async def story():
        network = MemoryNetwork()
        end = MemoryTransport(network, "a", "b")
        await end.open()
        assert end.reachable() == frozenset()
        end.send("b", b"hello")
        await asyncio.sleep(0.01)
        assert network.injected["absent"] == 1

    in_virtual_time(story())
