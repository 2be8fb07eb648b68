"""Two transports as one: what a robot has to say goes by one, the bodies of models by the other."""

from __future__ import annotations

from collections.abc import Callable

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.transports.base import QUEUE_BYTES, Transport


class SplitTransport(Transport):
    """One peer's end.

    Parameters
    ----------
    control, bulk : Transport
        Ends of the same peer, not open yet.
    is_bulk : callable
        Tells of a message's bytes whether `bulk` carries it.
    queue_bytes : int
        As for every `Transport`; messages of both wait in one queue.

    Raises
    ------
    InputError
        The two are not ends of the same peer among the same others.
    """

    name = "split"

    def __init__(
        self, control: Transport, bulk: Transport, is_bulk: Callable[[bytes], bool], queue_bytes: int = QUEUE_BYTES
    ) -> None:
        if (control.own, control.peers) != (bulk.own, bulk.peers):
            raise InputError(
                f"expected two transports of one peer to the same others, got {control.own} to "
                f"{sorted(control.peers)} and {bulk.own} to {sorted(bulk.peers)}."
            )
        super().__init__(control.own, control.peers, min(control.max_message, bulk.max_message), queue_bytes)
        self._control, self._bulk, self._is_bulk = control, bulk, is_bulk
        for part in (control, bulk):
            part.inbox, part.counts = self.inbox, self.counts

    def reachable(self) -> frozenset[str]:
        """Peers that both reach."""
        return self._control.reachable() & self._bulk.reachable()

    async def _begin(self) -> None:
        await self._control.open()
        try:
            await self._bulk.open()
        except BaseException:
            await self._control.close()
            raise

    async def _end(self) -> None:
        await self._control.close()
        await self._bulk.close()

    def _send(self, peer: str, message: bytes) -> str | None:
        return (self._bulk if self._is_bulk(message) else self._control)._send(peer, message)
