"""Groups of connected peers, one way per transport, on loopback."""

import asyncio
import contextlib
import socket

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeflock.runtime.fleet.transports.memory import MemoryNetwork, MemoryTransport, VirtualTimeLoop
from edgeflock.runtime.fleet.transports.tcp import TcpPeer, TcpTransport
from edgeflock.runtime.fleet.transports.zenoh import ZenohTransport

PATIENCE_S = 30.0
"""For what has to come; the machine may be busy."""


async def wait_until(condition, patience=PATIENCE_S):
    async def come():
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(come(), patience)


@pytest.fixture
def until():
    """``await until(condition)``: wait for it, generously."""
    return wait_until


def on_loop(factory, story):
    loop = factory()
    try:
        return loop.run_until_complete(story)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class Memory:
    """Makes ends on one `MemoryNetwork`, in virtual time."""

    loop_factory = VirtualTimeLoop

    def __init__(self, names, folder):
        self.names, self.network = names, MemoryNetwork()

    def end(self, name, **options):
        return MemoryTransport(self.network, name, [n for n in self.names if n != name], **options)


class Tcp:
    """Makes ends that know each other's key and a port on loopback each."""

    loop_factory = staticmethod(asyncio.new_event_loop)

    def __init__(self, names, folder):
        self.keys = {name: Ed25519PrivateKey.generate() for name in names}
        self.peers = {
            name: TcpPeer("127.0.0.1", port, self.keys[name].public_key().public_bytes_raw())
            for name, port in zip(names, _free_ports(len(names)), strict=True)
        }

    def end(self, name, **options):
        others = {n: peer for n, peer in self.peers.items() if n != name}
        return TcpTransport(name, self.keys[name], ("127.0.0.1", self.peers[name].port), others, **options)


class Zenoh:
    """Makes ends that listen on a port on loopback each and call the others there; no multicast."""

    loop_factory = staticmethod(asyncio.new_event_loop)

    def __init__(self, names, folder):
        pytest.importorskip("zenoh")
        self.endpoints = {n: f"tcp/127.0.0.1:{port}" for n, port in zip(names, _free_ports(len(names)), strict=True)}

    def end(self, name, **options):
        others = {n: place for n, place in self.endpoints.items() if n != name}
        return ZenohTransport(name, others, [self.endpoints[name]], list(others.values()), **options)


def _free_ports(number):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [s.getsockname()[1] for s in sockets]


WAYS = {"memory": Memory, "tcp": Tcp, "zenoh": Zenoh}


class Group:
    """Peers of one transport by name; what a test opens is closed at its end."""

    def __init__(self, way):
        self.way, self.ends = way, {}

    async def open(self, *names, **options):
        """Open ends; those that are open then reach each other when this returns."""
        for name in names:
            self.ends[name] = self.way.end(name, **options)
            await self.ends[name].open()
        await self.connected()
        return [self.ends[name] for name in names]

    async def connected(self):
        await wait_until(lambda: all(set(self.ends) - {n} <= e.reachable() for n, e in self.ends.items()))

    async def close(self, name):
        await self.ends.pop(name).close()

    async def close_all(self):
        for end in list(self.ends.values()):
            await end.close()


@pytest.fixture
def free_ports():
    """``free_ports(number)``: ports on loopback that nobody listens on."""
    return _free_ports


@pytest.fixture(params=WAYS)
def run(request, tmp_path):
    """``run(story)``: run ``async story(group)`` with peers a, b and c of each transport in turn."""
    way = WAYS[request.param](("a", "b", "c"), tmp_path)

    def run(story):
        async def whole():
            group = Group(way)
            try:
                await story(group)
            finally:
                await group.close_all()

        on_loop(way.loop_factory, whole())

    return run
