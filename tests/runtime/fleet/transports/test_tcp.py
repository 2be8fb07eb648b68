"""What TCP with TLS adds to the conformance suite: who may call, what a caller can cost, and broken links."""

import asyncio
import contextlib
import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeflock.runtime.errors import InputError, TransportError
from edgeflock.runtime.fleet.transports.tcp import LENGTH_BYTES, Limits, TcpPeer, TcpTransport
from edgeflock.runtime.fleet.transports.tls import client_context

QUICK = Limits(handshake=1.0, message=0.5, sign_of_life=0.1, silence=0.5, first_wait=0.05, longest_wait=0.2)


class Fleet:
    """Two robots that know each other, and their keys for whoever wants to misuse them."""

    def __init__(self):
        self.keys = {name: Ed25519PrivateKey.generate() for name in "ab"}
        self.peers = {n: TcpPeer("127.0.0.1", 0, k.public_key().public_bytes_raw()) for n, k in self.keys.items()}
        self.stack = contextlib.AsyncExitStack()

    async def open(self, name, key=None, limits=QUICK, port=0, **options):
        others = {n: p for n, p in self.peers.items() if n != name}
        end = TcpTransport(name, key or self.keys[name], ("127.0.0.1", port), others, limits=limits, **options)
        await end.open()
        self.stack.push_async_callback(end.close)
        self.peers[name] = dataclasses.replace(self.peers[name], port=end.port)
        return end

    async def call(self, key, whom="b"):
        """A caller of one's own, to send anything at all; returns the streams after the greeting."""
        peer = self.peers[whom]
        context = client_context(key, peer.key)
        reader, writer = await asyncio.open_connection(peer.host, peer.port, ssl=context)
        self.stack.callback(writer.transport.abort)
        return reader, writer


@pytest.fixture
def run():
    def run(story):
        async def whole():
            fleet = Fleet()
            async with fleet.stack:
                await asyncio.wait_for(story(fleet), 30)

        asyncio.run(whole())

    return run


async def ends(reader):
    """Wait until the other side has hung up."""
    with contextlib.suppress(OSError):
        while await reader.read(1000):
            pass


def test_a_stranger_is_refused_counted_and_gets_no_word_in(run, until):
    async def story(fleet):
        b = await fleet.open("b")
        with contextlib.suppress(OSError):
            reader, writer = await fleet.call(Ed25519PrivateKey.generate())
            writer.write((3).to_bytes(LENGTH_BYTES, "big") + b"hi")
            assert await reader.read(1) == b""
        await until(lambda: b.refused["handshake"] == 1)
        assert not b.counts["a"].received and not len(b.inbox.of("a"))

    run(story)


def test_a_robot_does_not_talk_to_an_impostor_at_its_peers_address(run, until):
    async def story(fleet):
        impostor = await fleet.open("b", key=Ed25519PrivateKey.generate())
        a = await fleet.open("a")
        await until(lambda: impostor.refused["handshake"] > 1)
        assert a.reachable() == frozenset() and not a.send("b", b"secret")
        assert a.counts["b"].dropped["unreachable"] == 1

    run(story)


def test_a_message_that_claims_to_be_huge_ends_the_call_before_anything_is_allocated(run, until):
    async def story(fleet):
        b = await fleet.open("b")
        reader, writer = await fleet.call(fleet.keys["a"])
        await reader.readexactly(1)
        writer.write(b"\xff" * LENGTH_BYTES + bytes(1000))
        await ends(reader)
        assert b.refused == {"oversize": 1} and len(b.inbox.of("a")) == 0

    run(story)


def test_a_message_that_drips_in_ends_the_call(run):
    async def story(fleet):
        b = await fleet.open("b")
        reader, writer = await fleet.call(fleet.keys["a"])
        await reader.readexactly(1)
        writer.write((1001).to_bytes(LENGTH_BYTES, "big"))
        with contextlib.suppress(OSError):
            while not b.refused:
                writer.write(b".")
                await writer.drain()
                await asyncio.sleep(0.02)
        assert b.refused == {"too_slow": 1}

    run(story)


def test_a_caller_that_falls_silent_is_hung_up_and_one_that_only_shows_signs_of_life_is_not(run):
    async def story(fleet):
        b = await fleet.open("b")
        reader, _ = await fleet.call(fleet.keys["a"])
        await ends(reader)
        assert b.refused == {"silent": 1}
        a = await fleet.open("a")
        while not a.reachable():
            await asyncio.sleep(0.01)
        await asyncio.sleep(4 * QUICK.silence)
        assert a.reachable() == {"b"} and b.refused == {"silent": 1}

    run(story)


def test_callers_that_never_finish_the_handshake_do_not_keep_a_robot_out(run, until):
    async def story(fleet):
        limits = dataclasses.replace(QUICK, handshake=60.0, strangers=4)
        b = await fleet.open("b", limits=limits)
        idle = [await asyncio.open_connection("127.0.0.1", b.port) for _ in range(12)]
        a = await fleet.open("a")
        await until(lambda: "b" in a.reachable())
        assert b.refused["crowded"] >= 8
        for _, writer in idle:
            writer.transport.abort()

    run(story)


def test_a_handshake_that_does_not_end_is_ended(run, until):
    async def story(fleet):
        b = await fleet.open("b")
        reader, _ = await asyncio.open_connection("127.0.0.1", b.port)
        await ends(reader)
        assert b.refused["handshake"] == 1

    run(story)


def test_bytes_that_are_not_tls_are_turned_away(run):
    async def story(fleet):
        b = await fleet.open("b")
        reader, writer = await asyncio.open_connection("127.0.0.1", b.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await ends(reader)
        assert b.refused["handshake"] == 1

    run(story)


def test_a_second_robot_with_the_same_key_takes_over_and_shows_in_the_counts(run, until):
    async def story(fleet):
        b = await fleet.open("b")
        reader, _ = await fleet.call(fleet.keys["a"])
        await reader.readexactly(1)
        second, writer = await fleet.call(fleet.keys["a"])
        await second.readexactly(1)
        await ends(reader)
        assert b.refused == {"replaced": 1}
        writer.write((4).to_bytes(LENGTH_BYTES, "big") + b"new")
        assert await b.receive() == ("a", b"new")

    run(story)


def test_a_connection_cut_in_mid_message_is_made_again(run, until):
    async def story(fleet):
        b = await fleet.open("b")
        a = await fleet.open("a")
        await until(lambda: "b" in a.reachable())
        for round_ in range(3):
            next(iter(b._callers.values())).cancel()  # the called side breaks the link
            await until(lambda: "b" not in a.reachable())
            await until(lambda: "b" in a.reachable())
            assert a.send("b", b"%d" % round_)
            assert await b.receive() == ("a", b"%d" % round_)

    run(story)


def test_a_receiver_that_does_not_read_slows_the_sender_down_and_loses_nothing_that_was_queued(run, until):
    async def story(fleet):
        b = await fleet.open("b", queue_bytes=100_000, max_message=20_000)
        a = await fleet.open("a", queue_bytes=100_000, max_message=20_000)
        await until(lambda: "b" in a.reachable())
        while not a.counts["b"].dropped["outbox_full"]:
            a.send("b", bytes(20_000))
            await asyncio.sleep(0)
        assert b.inbox.of("a").waiting_bytes <= 100_000
        for _ in range(a.counts["b"].sent):
            await b.receive()
        assert not b.counts["a"].dropped

    run(story)


def test_a_port_in_use_is_refused_with_the_way_out(run):
    async def story(fleet):
        b = await fleet.open("b")
        with pytest.raises(TransportError, match=f"cannot listen on 127.0.0.1:{b.port}.*free port"):
            await fleet.open("a", port=b.port)

    run(story)


def test_two_peers_with_one_key_are_refused():
    key = Ed25519PrivateKey.generate()
    peer = TcpPeer("127.0.0.1", 1, key.public_key().public_bytes_raw())
    with pytest.raises(InputError, match="same key"):
        TcpTransport("a", Ed25519PrivateKey.generate(), ("127.0.0.1", 0), {"b": peer, "c": peer})
