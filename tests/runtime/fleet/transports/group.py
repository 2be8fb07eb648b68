"""Connected peers of any transport, for the conformance suite; also for transports that are tested elsewhere."""

import asyncio

PATIENCE_S = 30.0
"""For what has to come; the machine may be busy."""


async def wait_until(condition, patience=PATIENCE_S):
    async def come():
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(come(), patience)


def on_loop(factory, story):
    loop = factory()
    try:
        return loop.run_until_complete(story)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


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


def run_story(way, story):
    """Run ``async story(group)`` with the peers that a way makes."""

    async def whole():
        group = Group(way)
        try:
            await story(group)
        finally:
            await group.close_all()

    on_loop(way.loop_factory, whole())
