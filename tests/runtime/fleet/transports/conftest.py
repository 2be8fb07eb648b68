"""Groups of connected peers, one way per transport, on loopback."""

import asyncio
import contextlib
import functools
import socket
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeflock.runtime.fleet.transports.base import QUEUE_BYTES
from edgeflock.runtime.fleet.transports.memory import MemoryNetwork, MemoryTransport, VirtualTimeLoop
from edgeflock.runtime.fleet.transports.split import SplitTransport
from edgeflock.runtime.fleet.transports.tcp import TcpPeer, TcpTransport
from edgeflock.runtime.fleet.transports.zenoh import ZenohTransport

sys.path.insert(0, str(Path(__file__).parent))
from group import run_story, wait_until


@pytest.fixture
def until():
    """``await until(condition)``: wait for it, generously."""
    return wait_until


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


class Split:
    """Makes ends that speak over TCP, and send by Zenoh what has more than 1000 bytes."""

    loop_factory = staticmethod(asyncio.new_event_loop)

    def __init__(self, names, folder):
        self.control, self.bulk = Tcp(names, folder), Zenoh(names, folder)

    def end(self, name, **options):
        parts = self.control.end(name, **options), self.bulk.end(name, **options)
        return SplitTransport(*parts, lambda message: len(message) > 1000, options.get("queue_bytes", QUEUE_BYTES))


def _free_ports(number):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [s.getsockname()[1] for s in sockets]


WAYS = {"memory": Memory, "tcp": Tcp, "zenoh": Zenoh, "split": Split}


@pytest.fixture
def free_ports():
    """``free_ports(number)``: ports on loopback that nobody listens on."""
    return _free_ports


@pytest.fixture(params=WAYS)
def run(request, tmp_path):
    """``run(story)``: run ``async story(group)`` with peers a, b and c of each transport in turn."""
    way = WAYS[request.param](("a", "b", "c"), tmp_path)

    return functools.partial(run_story, way)
