"""A transport over a middleware whose publish may block: a thread per peer publishes, the event loop never waits."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from edgeflock.runtime.fleet.transports.base import QUEUE_BYTES, Buffer, Transport

BATCH = 16
"""Messages that are handed to a peer's thread at once."""

Publish = Callable[[bytes], None]


class ThreadedTransport(Transport):
    """One peer's end; parameters as for every `Transport`. The queue to each peer has `queue_bytes` too."""

    def __init__(self, own: str, peers: Iterable[str], max_message: int, queue_bytes: int = QUEUE_BYTES) -> None:
        super().__init__(own, peers, max_message, queue_bytes)
        self._outboxes = {peer: Buffer(queue_bytes) for peer in self.peers}
        self._pumps: list[asyncio.Task] = []
        self._threads: ThreadPoolExecutor | None = None

    @abstractmethod
    def _join(self, loop: asyncio.AbstractEventLoop) -> dict[str, Publish]:
        """Open the middleware, in a thread; gives what publishes to each peer, and may block."""

    @abstractmethod
    def _leave(self) -> None:
        """Close what `_join` opened, in a thread; frees publishers that are blocked. Also after half a `_join`."""

    @abstractmethod
    def _reaches(self, peer: str) -> bool:
        """Whether a peer is there."""

    def reachable(self) -> frozenset[str]:
        """Peers that the middleware sees; one that dies in silence stays for as long as the middleware's lease."""
        return frozenset(filter(self._reaches, self.peers))

    async def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(max(1, len(self.peers)), f"{self.name}_{self.own}")
        try:
            publishers = await loop.run_in_executor(self._threads, self._join, loop)
        except BaseException:
            await self._end()
            raise
        self._pumps = [loop.create_task(self._pump(self._outboxes[p], publish)) for p, publish in publishers.items()]

    async def _end(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self._pumps = []
        if self._threads is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._leave)
            self._threads.shutdown(wait=False)
            self._threads = None

    def _send(self, peer: str, message: bytes) -> str | None:
        if not self._reaches(peer):
            return "unreachable"
        return None if self._outboxes[peer].put(message) else "outbox_full"

    async def _pump(self, outbox: Buffer, publish: Publish) -> None:
        loop = asyncio.get_running_loop()

        def publish_all(batch: list[bytes]) -> None:
            for message in batch:
                publish(message)

        while True:
            await outbox.filled()
            batch = [outbox.pop() for _ in range(min(BATCH, len(outbox)))]
            await loop.run_in_executor(self._threads, publish_all, batch)
