"""Groups of connected peers, one way per transport, on loopback."""

import asyncio

import pytest

from edgeflock.runtime.fleet.transports.memory import MemoryNetwork, MemoryTransport, VirtualTimeLoop

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


WAYS = {"memory": Memory}


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
