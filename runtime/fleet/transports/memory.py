"""Messages within one process, with faults from a seed: what tests and the fault simulator run peers on.

`MemoryNetwork` knows no clock, loop or thread: time goes in as nanoseconds. A simulator that drives pure state machines
calls it directly. `MemoryTransport` is a peer's end of it for asyncio code; under a `VirtualTimeLoop` hours of delays
and deadlines pass in milliseconds, the same way every time.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import selectors
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgeflock.runtime.errors import InputError, TransportError
from edgeflock.runtime.fleet.transports.base import QUEUE_BYTES, Transport

NS_PER_S = 1_000_000_000


class Faults(BaseModel):
    """What a directed link does to a message: probabilities of each fault, and how long it takes.

    Messages of one link arrive in the order in which they were sent, but for those that `reorder` holds back by up to
    `reorder_ms`, and for the second copy of a duplicate, which comes up to `reorder_ms` later.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    drop: float = Field(default=0.0, ge=0, le=1)
    duplicate: float = Field(default=0.0, ge=0, le=1)
    reorder: float = Field(default=0.0, ge=0, le=1)
    corrupt: float = Field(default=0.0, ge=0, le=1, description="one bit is flipped")
    truncate: float = Field(default=0.0, ge=0, le=1, description="the end is cut off")
    delay_ms: tuple[float, float] = Field(default=(0.0, 0.0), description="least and most")
    reorder_ms: float = Field(default=100.0, gt=0)

    @model_validator(mode="after")
    def _delays_are_a_range(self) -> Faults:
        low, high = self.delay_ms
        if not 0 <= low <= high:
            raise ValueError(f"delay_ms is {self.delay_ms}: expected the least and the most, from 0 up")
        return self


FaultsOf = Callable[[str, str, bytes], Faults]
"""Takes source, target and message: faults of some links, or of one type of message, only."""


class Delivery(NamedTuple):
    """A message that arrives."""

    at_ns: int
    source: str
    target: str
    message: bytes


class MemoryNetwork:
    """A network of named peers in one process; the same seed and the same sends give the same deliveries.

    Every directed link draws from a generator of its own, so that what happens on one link does not depend on the
    others.

    Parameters
    ----------
    seed : int
    faults : Faults or callable
        Of all links, or ``(source, target, message) -> Faults``.

    Attributes
    ----------
    injected : Counter
        Messages by what happened to them: dropped, duplicated, reordered, corrupted, truncated, parted (the link was
        cut by `part`), absent (the target was not there at the time of arrival).
    """

    def __init__(self, seed: int = 0, faults: Faults | FaultsOf | None = None) -> None:
        self._seed = seed
        self.faults: FaultsOf
        self.set_faults(faults or Faults())
        self.injected: Counter[str] = Counter()
        self.ends: dict[str, MemoryTransport] = {}
        self._random: dict[tuple[str, str], random.Random] = {}
        self._last: dict[tuple[str, str], int] = {}
        self._flying: list[tuple[int, int, Delivery]] = []
        self._sent = 0
        self._sides: list[frozenset[str]] = []
        self._timer: asyncio.TimerHandle | None = None

    def set_faults(self, faults: Faults | FaultsOf) -> None:
        """Change what links do to messages that are sent from now on."""
        self.faults = (lambda *_: faults) if isinstance(faults, Faults) else faults

    def part(self, *sides: Iterable[str]) -> None:
        """Cut all links between these groups of peers, also for messages under way; who is in no group keeps all."""
        self._sides = [frozenset(side) for side in sides]

    def heal(self) -> None:
        """End the partition."""
        self._sides = []

    def parted(self, source: str, target: str) -> bool:
        """Tell whether a partition lies between two peers."""
        return any(source in a and target in b for a in self._sides for b in self._sides if a is not b)

    def send(self, source: str, target: str, message: bytes, now_ns: int) -> None:
        """Let a message fly, or lose it."""
        link = source, target
        draw = self._random.setdefault(link, random.Random(f"{self._seed}/{source}/{target}"))
        faults = self.faults(source, target, message)
        # Always as many draws: which faults are on does not change what the later messages of the link meet.
        dropped, doubled, late, bent, cut = (draw.random() for _ in range(5))
        spread, held, again, place, part = (draw.random() for _ in range(5))
        low, high = faults.delay_ms
        at = now_ns + _ns(low + (high - low) * spread)
        if self.parted(source, target):
            self.injected["parted"] += 1
            return
        if dropped < faults.drop:
            self.injected["dropped"] += 1
            return
        if message and bent < faults.corrupt:
            self.injected["corrupted"] += 1
            bit = int(place * len(message) * 8)
            changed = bytearray(message)
            changed[bit // 8] ^= 1 << bit % 8
            message = bytes(changed)
        if message and cut < faults.truncate:
            self.injected["truncated"] += 1
            message = message[: int(part * len(message))]
        if late < faults.reorder:
            self.injected["reordered"] += 1
            at += _ns(faults.reorder_ms * held)
        else:
            at = self._last[link] = max(at, self._last.get(link, 0))
        self._fly(Delivery(at, source, target, message))
        if doubled < faults.duplicate:
            self.injected["duplicated"] += 1
            self._fly(Delivery(at + _ns(faults.reorder_ms * again), source, target, message))

    def _fly(self, delivery: Delivery) -> None:
        self._sent += 1
        heapq.heappush(self._flying, (delivery.at_ns, self._sent, delivery))

    def next_ns(self) -> int | None:
        """Time of the next delivery; None when nothing is under way."""
        return self._flying[0][0] if self._flying else None

    def due(self, now_ns: int) -> list[Delivery]:
        """Take what arrives until now, in the order of arrival."""
        arrived = []
        while self._flying and self._flying[0][0] <= now_ns:
            delivery = heapq.heappop(self._flying)[2]
            if self.parted(delivery.source, delivery.target):
                self.injected["parted"] += 1
            else:
                arrived.append(delivery)
        return arrived

    def wake(self) -> None:
        """Hand out what is due and come back for the next; called on the loop of the ends."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        for delivery in self.due(_ns(loop.time() * 1e3)):
            end = self.ends.get(delivery.target)
            if end is None:
                self.injected["absent"] += 1
            else:
                end.deliver(delivery.source, delivery.message)
        following = self.next_ns()
        self._timer = None if following is None else loop.call_at(following / NS_PER_S, self.wake)


class MemoryTransport(Transport):
    """A peer's end of a `MemoryNetwork`; the sender's name is always right.

    Parameters
    ----------
    network : MemoryNetwork
        The same for all peers; they run on one event loop.
    own, peers, max_message, queue_bytes
        As for every `Transport`.
    """

    name = "memory"

    def __init__(
        self,
        network: MemoryNetwork,
        own: str,
        peers: Iterable[str],
        max_message: int = 64 << 10,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        super().__init__(own, peers, max_message, queue_bytes)
        self._network = network

    def reachable(self) -> frozenset[str]:
        """Peers that are open and on this side of a partition."""
        return frozenset(p for p in self.peers if p in self._network.ends and not self._network.parted(self.own, p))

    async def _begin(self) -> None:
        if self.own in self._network.ends:
            raise TransportError(f"'{self.own}' is open on this network already: close it, or use another name.")
        self._network.ends[self.own] = self

    async def _end(self) -> None:
        if self._network.ends.get(self.own) is self:
            del self._network.ends[self.own]

    def _send(self, peer: str, message: bytes) -> str | None:
        loop = asyncio.get_running_loop()
        self._network.send(self.own, peer, message, _ns(loop.time() * 1e3))
        loop.call_soon(self._network.wake)
        return None

    def deliver(self, source: str, message: bytes) -> None:
        """Take a message from the network."""
        if source in self.counts:
            self._arrived(source, message)


class _Skipping(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the clock to it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:  # no timer: only another thread could wake the loop, and virtual time knows none
            raise InputError("every task waits for another one and no timer runs, so virtual time has come to its end.")
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0 and jumps to the next timer when nothing is ready.

    For coroutines over `MemoryTransport`; sockets and threads live in real time and do not belong on it. A deadlock
    ends with `InputError` instead of waiting for ever.
    """

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._skipping.now


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1e6)
