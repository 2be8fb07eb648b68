"""What every transport does: move opaque messages between named peers, and never block its caller.

A transport may lose, repeat and reorder messages; a damaged or forged one is recognised above it, by SHA-256 and
signature. It keeps memory bounded: every queue has a limit in bytes, and a message that does not fit is dropped and
counted. Whoever sends many messages therefore asks for a few at a time (the peer's credits) and asks again for what is
missing. The name of the sender is a claim, unless the transport's own documentation says that it authenticates.

All methods belong to the thread of one asyncio event loop. A process that spins rclpy runs that loop in a thread of its
own and reaches it with `asyncio.run_coroutine_threadsafe` and `loop.call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from edgeflock.runtime.errors import InputError, TransportError

PEER_NAME = re.compile(r"(?!.*__)[A-Za-z][A-Za-z0-9_]{0,62}")
"""A name that is also a token of a ROS 2 topic name (REP 144) and of a Zenoh key expression."""
QUEUE_BYTES = 4 << 20
"""Default limit of what waits for one peer, and of what waits from one peer."""
OVERHEAD_BYTES = 64
"""What a message counts in a queue besides its own bytes, so that empty messages are bounded too."""


@dataclass
class LinkCounts:
    """What went to and came from one peer; `dropped` counts messages by reason.

    `sent` counts what was queued for the peer and not dropped on this side. The network may still lose it.
    """

    sent: int = 0
    sent_bytes: int = 0
    received: int = 0
    received_bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Transport(ABC):
    """One peer's end of a transport.

    Parameters
    ----------
    own : str
        Name of this peer.
    peers : iterable of str
        Names of all others.
    max_message : int
        Largest message in bytes.
    queue_bytes : int
        Limit of what waits from one peer until `receive` takes it.

    Raises
    ------
    InputError
        A name does not match `PEER_NAME`, or `own` is among `peers`.
    """

    name: ClassVar[str]

    def __init__(self, own: str, peers: Iterable[str], max_message: int, queue_bytes: int = QUEUE_BYTES) -> None:
        self.own = own
        self.max_message = max_message
        self.counts: dict[str, LinkCounts] = {peer: LinkCounts() for peer in peers}
        for name in (own, *self.counts):
            check_name(name)
        if own in self.counts:
            raise InputError(f"'{own}' is this peer and is named among the others: give every peer a name of its own.")
        self.inbox = Inbox(queue_bytes)
        self._open = False
        self._queue_bytes = queue_bytes
        self._crossing: Counter[str] = Counter()  # bytes by peer, on their way from another thread to the loop's
        self._lock = threading.Lock()

    @property
    def peers(self) -> frozenset[str]:
        """Names of all others."""
        return frozenset(self.counts)

    async def open(self) -> None:
        """Begin to listen and to look for the peers; returns before any of them is reachable.

        Raises
        ------
        TransportError
            What the transport needs is not there, such as a port that is in use.
        """
        await self._begin()
        self._open = True

    async def close(self) -> None:
        """Let sockets, threads and queues go; a waiting `receive` ends with `TransportError`. May be called twice."""
        self._open = False
        self.inbox.close()
        await self._end()

    def send(self, peer: str, message: bytes) -> bool:
        """Queue a message; returns at once.

        Returns
        -------
        bool
            False: dropped on this side and counted in `counts[peer].dropped`.

        Raises
        ------
        InputError
            There is no such peer, or the message is larger than `max_message`.
        TransportError
            The transport is not open.
        """
        if not self._open:
            raise TransportError(f"{self.own}: the {self.name} transport is not open, so nothing can be sent.")
        if peer not in self.counts:
            known = ", ".join(sorted(self.counts)) or "none"
            raise InputError(f"{self.own} has no peer '{peer}': expected one of {known}.")
        if len(message) > self.max_message:
            raise InputError(
                f"a message for {peer} has {len(message):,} bytes, the {self.name} transport takes "
                f"{self.max_message:,} at most: split it into chunks."
            )
        counts = self.counts[peer]
        reason = self._send(peer, message)
        if reason is not None:
            counts.dropped[reason] += 1
            return False
        counts.sent += 1
        counts.sent_bytes += len(message)
        return True

    async def receive(self) -> tuple[str, bytes]:
        """Wait for the next message: who sent it, and its bytes. Peers take turns; cancelling loses nothing.

        Raises
        ------
        TransportError
            The transport was closed.
        """
        peer, message = await self.inbox.take()
        counts = self.counts[peer]
        counts.received += 1
        counts.received_bytes += len(message)
        return peer, message

    @abstractmethod
    def reachable(self) -> frozenset[str]:
        """Peers to which a message sent now is likely to get; a hint, out of date by some seconds at most."""

    @abstractmethod
    async def _begin(self) -> None:
        """Open sockets; on an error nothing stays open."""

    @abstractmethod
    async def _end(self) -> None:
        """Close what `_begin` opened, if it did."""

    @abstractmethod
    def _send(self, peer: str, message: bytes) -> str | None:
        """Queue a message, or say why it is dropped."""

    def _arrived(self, peer: str, message: bytes) -> None:
        """Hand a message to `receive`, or drop it because the peer's share of the inbox is full."""
        if not self.inbox.put(peer, message):
            self.counts[peer].dropped["inbox_full"] += 1

    def _arrived_in_thread(self, loop: asyncio.AbstractEventLoop, peer: str, message: bytes) -> None:
        """Hand over a message from a thread of a middleware, also bounded when the loop is busy."""
        size = len(message) + OVERHEAD_BYTES
        with self._lock:
            fits = self._crossing[peer] + size <= max(self._queue_bytes, size)
            self._crossing[peer] += size if fits else 0

        def cross() -> None:
            with self._lock:
                self._crossing[peer] -= size
            self._arrived(peer, message)

        with contextlib.suppress(RuntimeError):  # the loop was closed: so was this transport, or will be
            if fits:
                loop.call_soon_threadsafe(cross)
            else:
                self.counts[peer].dropped["inbox_full"] += 1


def check_name(name: str) -> None:
    """Refuse a peer name that one of the transports could not carry."""
    if not PEER_NAME.fullmatch(name):
        raise InputError(
            f"'{name}' cannot name a peer: expected a letter, then letters, digits or single underscores, 63 at most."
        )


class Buffer:
    """Messages in order, limited in bytes, for one consumer."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[bytes] = deque()
        self.waiting_bytes = 0
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: bytes) -> bool:
        """Append a message; False when it does not fit."""
        size = len(message) + OVERHEAD_BYTES
        if self._messages and self.waiting_bytes + size > self._limit:
            return False
        self._messages.append(message)
        self.waiting_bytes += size
        self._changed.set()
        return True

    def pop(self) -> bytes:
        """Take the oldest message; IndexError when there is none."""
        message = self._messages.popleft()
        self.waiting_bytes -= len(message) + OVERHEAD_BYTES
        self._changed.set()
        return message

    async def filled(self) -> None:
        """Wait until there is a message."""
        while not self._messages:
            self._changed.clear()
            await self._changed.wait()

    async def room(self, size: int) -> None:
        """Wait until a message of `size` bytes fits: back-pressure for a transport that reads a stream."""
        while self._messages and self.waiting_bytes + size + OVERHEAD_BYTES > self._limit:
            self._changed.clear()
            await self._changed.wait()


class Inbox:
    """What came from all peers; each has a share of its own, so that none keeps out another."""

    def __init__(self, share: int) -> None:
        self._share = share
        self._buffers: dict[str, Buffer] = {}
        self._turns: deque[str] = deque()  # peers with messages, the next one first
        self._arrived = asyncio.Event()
        self._closed = False

    def of(self, peer: str) -> Buffer:
        """The share of one peer."""
        return self._buffers.setdefault(peer, Buffer(self._share))

    def put(self, peer: str, message: bytes) -> bool:
        """Append a message; False when the peer's share is full or the inbox is closed."""
        if self._closed or not self.of(peer).put(message):
            return False
        if peer not in self._turns:
            self._turns.append(peer)
        self._arrived.set()
        return True

    async def take(self) -> tuple[str, bytes]:
        """Wait for the next message; `TransportError` once the inbox is closed."""
        while not self._turns and not self._closed:
            self._arrived.clear()
            await self._arrived.wait()
        if self._closed:
            raise TransportError("the transport was closed, so nothing more is received.")
        peer = self._turns.popleft()
        buffer = self._buffers[peer]
        message = buffer.pop()
        if buffer:
            self._turns.append(peer)
        return peer, message

    def close(self) -> None:
        """End `take` and forget what waits."""
        self._closed = True
        self._buffers.clear()
        self._turns.clear()
        self._arrived.set()
