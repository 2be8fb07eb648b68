"""One body on its way: what is missing is asked for, a few chunks at a time, and asked for again.

The receiver pulls. It grants so many chunks as may be under way (credits), so that a history or queue of that depth
never overflows, and what does not come is missing in its next bitmap.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from edgeflock.runtime.fleet.peer.wire import CHUNK_BYTES, Chunk, Code, Offer, Refused, bitmap, chunks_of

GROWTH = 2
"""Every try that brings no answer waits so many times as long as the one before, up to a limit."""
GAPS = 4
"""A chunk is late after so many times the usual gap: on a slow link it is still coming, and would come twice."""
LEARN = 8
"""Weight of the newest gap in the usual one: one in so many."""


@dataclass
class Retry:
    """When to try again; for chunks, learnt from how far apart they come."""

    first_ns: int
    longest_ns: int
    gap_ns: int = 0
    at_ns: int = 0
    wait_ns: int = 0
    _came_ns: int = 0
    _tried: bool = False

    def tried(self, now_ns: int) -> None:
        """Plan the next try, later each time."""
        self.wait_ns = min(self.wait_ns * GROWTH or self._short, max(self.longest_ns, self._short))
        self.at_ns = now_ns + self.wait_ns
        self._came_ns = self._came_ns or now_ns
        self._tried = True

    def answered(self, now_ns: int) -> None:
        """Begin anew with short waits."""
        self.wait_ns = self._short
        self.at_ns = now_ns + self.wait_ns

    def came(self, now_ns: int, twice: bool) -> None:
        """A chunk has come: wait anew, for as long as fits the link.

        After a try a gap tells of the link only when chunks come twice: then nothing was lost (Karn's algorithm).
        """
        gap, before = min(now_ns - self._came_ns, self.longest_ns), self.wait_ns
        if twice or not self._tried:
            self.gap_ns += (gap - self.gap_ns) // LEARN if self.gap_ns else gap
            before = 0
        self.answered(now_ns)
        self.wait_ns = max(self.wait_ns, min(before, GAPS * self.first_ns))
        self.at_ns = now_ns + self.wait_ns
        self._came_ns, self._tried = now_ns, False

    @property
    def _short(self) -> int:
        return max(self.first_ns, GAPS * self.gap_ns)


@dataclass
class Outgoing:
    """An offer to one neighbour that it has not yet acknowledged.

    `model` is what the receiver reconstructs.
    """

    offer: Offer
    body: bytes
    model: np.ndarray
    retry: Retry

    def chunks(self, missing: str, credit: int) -> list[Chunk]:
        """What a `Want` asks for, at most its credit."""
        wanted = [index for index in chunks_of(missing, credit) if index < self.offer.chunks]
        return [self._chunk(index) for index in wanted]

    def first(self, count: int) -> list[Chunk]:
        """The first chunks, at most so many."""
        return [self._chunk(index) for index in range(min(count, self.offer.chunks))]

    def _chunk(self, index: int) -> Chunk:
        data = self.body[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        return Chunk(self.offer.boot, self.offer.number, index, data)


@dataclass
class Incoming:
    """A body that is being fetched."""

    offer: Offer
    credit: int
    expires_ns: int
    retry: Retry
    missing: set[int] = field(init=False)
    flying: set[int] = field(init=False)
    body: bytearray = field(init=False)
    began_ns: int = field(init=False, default=0)  # when its first chunk came

    def __post_init__(self) -> None:
        self.missing = set(range(self.offer.chunks))
        self.flying = set(range(min(self.offer.pushed, self.offer.chunks)))
        self.body = bytearray(self.offer.body_bytes)

    def ask(self, again: bool = False) -> tuple[str, int] | None:
        """Bitmap and credit of the next `Want`, None while enough is under way; `again` gives up what is."""
        if again:
            self.flying.clear()
        room = self.credit - len(self.flying)
        left = self.missing - self.flying
        if not left or room < self.credit // 2:
            return None
        self.flying |= set(sorted(left)[:room])
        return bitmap(left), room

    def take(self, chunk: Chunk) -> bool:
        """Put a chunk in its place; False when it was there already.

        Raises
        ------
        Refused
            MALFORMED: there is no such chunk, or it has another length.
        """
        start = chunk.index * CHUNK_BYTES
        length = min(CHUNK_BYTES, len(self.body) - start)
        if chunk.index >= self.offer.chunks or len(chunk.data) != length:
            raise Refused(Code.MALFORMED, f"chunk {chunk.index} of {self.offer.chunks} has {len(chunk.data)} bytes.")
        if chunk.index not in self.missing:
            return False
        self.body[start : start + length] = chunk.data
        self.missing.discard(chunk.index)
        self.flying.discard(chunk.index)
        return True

    def whole(self) -> bytes:
        """The body; HASH when it is not what the offer says."""
        body = bytes(self.body)
        if hashlib.sha256(body).hexdigest() != self.offer.body_sha256:
            raise Refused(Code.HASH, f"the body from {self.offer.sender} is not the one that it signed.")
        return body
