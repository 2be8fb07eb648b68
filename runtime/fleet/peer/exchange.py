"""Offers that are out, bodies that come in, and the models that neighbours have of each other."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.peer import codecs
from edgeflock.runtime.fleet.peer.codecs import Codec
from edgeflock.runtime.fleet.peer.context import Context
from edgeflock.runtime.fleet.peer.transfer import Incoming, Outgoing, Retry
from edgeflock.runtime.fleet.peer.wire import Ack, Chunk, Code, Offer, Refused, Want

BASES = 2
"""Models of a neighbour that are kept as bases: an acknowledgement may have got lost."""


@dataclass(frozen=True)
class Body:
    """A state as it travels, and what is reconstructed from it."""

    codec: Codec
    content: bytes
    raw_bytes: int
    sha256: str
    model: np.ndarray
    model_sha256: str

    @classmethod
    def of(cls, codec: Codec, state: np.ndarray, base: np.ndarray | None = None, keep: float = 1.0) -> Body:
        """Encode a state; `InputError` when it is beyond the codec's range."""
        raw = codecs.encode(codec, state, base, keep)
        model = state if codec == "fp32" else codecs.decode(codec, raw, len(state), base)
        content = codecs.compress(raw)
        return cls(codec, content, len(raw), hashlib.sha256(content).hexdigest(), model, codecs.digest(model))


class Exchange:
    """Transfers of one peer with all its neighbours.

    Parameters
    ----------
    context : Context
    schema : str
        Digest of what the flat model means; a model of another is refused.
    """

    def __init__(self, context: Context, schema: str) -> None:
        self._context, self._config, self._schema = context, context.config, schema
        self.out: dict[tuple[str, int], Outgoing] = {}
        self.coming: dict[tuple[str, int, int], Incoming] = {}
        self.theirs: dict[str, tuple[str, np.ndarray]] = {}  # by receiver: the latest that it acknowledged
        self.ours: dict[str, OrderedDict[str, np.ndarray]] = {}  # by sender: what it may take as a base
        self._gaps: dict[str, int] = {}  # by sender: usual time between two chunks, ns
        self._since_full: Counter[str] = Counter()
        self._bodies: dict[tuple[Codec, str], Body] = {}
        self._number = 0

    # ---- to others

    def offer(self, to: str, mix: int, of: int, state: np.ndarray, view: str | None) -> np.ndarray | None:
        """Offer a state to a neighbour, by the codec that fits what it has.

        Returns
        -------
        ndarray, float32 (d,), or None
            What the neighbour makes of it; None: the same, bit for bit.
        """
        base = self.theirs.get(to)
        codec = self._config.codec if mix else "fp32"
        if codec == "topk" and (base is None or self._since_full[to] + 1 >= self._config.snapshot_every):
            codec, base = "fp32", None
        body = self._body(codec, state, base)
        if mix:
            self._since_full[to] = self._since_full[to] + 1 if body.codec == "topk" else 0
        self._number += 1
        offer = self._context.pen.header(
            Offer,
            to,
            self._context.round,
            number=self._number,
            mix=mix,
            of=of,
            view=view,
            model_schema=self._schema,
            codec=body.codec,
            base=base[0] if body.codec == "topk" and base else None,
            raw_bytes=body.raw_bytes,
            body_bytes=len(body.content),
            body_sha256=body.sha256,
            model_sha256=body.model_sha256,
            ttl_ms=self._config.ttl_s * 1000,
            pushed=0,
        )
        outgoing = Outgoing(offer, body.content, body.model, self._retry())
        self.out[to, offer.number] = outgoing
        self._context.tally["offers"] += 1
        self._context.tally[f"body_bytes_{body.codec}"] += len(body.content)
        self._say(outgoing, self._config.push)
        return None if body.codec == "fp32" else body.model

    def _body(self, codec: Codec, state: np.ndarray, base: tuple[str, np.ndarray] | None) -> Body:
        """Body of a state; fp32 where fp16's range is too small."""
        if codec == "topk" and base is not None:
            return Body.of(codec, state, base[1], self._config.keep)
        key = codec, codecs.digest(state)
        if key not in self._bodies:  # neighbours of one round get the same bytes
            try:
                body = Body.of(codec, state)
            except InputError:
                self._context.tally["beyond_fp16"] += 1
                body = Body.of("fp32", state)
            self._bodies = {**dict(list(self._bodies.items())[-1:]), key: body}
        return self._bodies[key]

    def _say(self, outgoing: Outgoing, push: int = 0) -> None:
        """Send an offer, and its first chunks with it: who mixes it will most likely ask for them."""
        to, chunks = outgoing.offer.to, outgoing.first(push)
        assert to is not None
        offer = outgoing.offer.model_copy(update={"pushed": len(chunks)})
        self._context.put(to, self._context.pen.sign(offer, self._context.round))
        for chunk in chunks:
            self._context.put(to, chunk.encode())
        outgoing.retry.tried(self._context.now)

    def say_again(self, to: str) -> None:
        """Repeat at once what is out to a robot that has just come: it was not there when that was said."""
        for (receiver, _), outgoing in self.out.items():
            if receiver == to:
                self._say(outgoing, self._config.push)

    def wanted(self, want: Want) -> None:
        """Send the chunks that a neighbour asks for."""
        outgoing = self.out.get((want.sender, want.offer))
        if outgoing is not None:
            for chunk in outgoing.chunks(want.missing, want.credit):
                self._context.put(want.sender, chunk.encode())
            outgoing.retry.answered(self._context.now)

    def acknowledged(self, ack: Ack) -> Outgoing | None:
        """The offer that is acknowledged, None if it is none of this boot or no longer out.

        PLAN leaves it out, to be offered again until the two agree; all other codes end it.
        """
        if ack.offer_boot != self._context.pen.boot or (outgoing := self.out.get((ack.sender, ack.offer))) is None:
            return None
        if ack.code in (Code.ACCEPTED, Code.MIXED) and outgoing.offer.mix:
            self.theirs[ack.sender] = outgoing.offer.model_sha256, outgoing.model
        if ack.code == Code.UNKNOWN_BASE:
            self.theirs.pop(ack.sender, None)
        if ack.code != Code.PLAN:
            del self.out[ack.sender, ack.offer]
        return outgoing

    def drop(self, of: Callable[[str, Offer], bool]) -> None:
        """Forget offers to others, by receiver and offer."""
        self.out = {at: one for at, one in self.out.items() if not of(at[0], one.offer)}

    # ---- from others

    def check(self, offer: Offer, size: int) -> None:
        """Refuse an offer by its manifest: SCHEMA, OVERSIZE, CODEC or UNKNOWN_BASE."""
        if offer.model_schema != self._schema:
            raise Refused(Code.SCHEMA, f"{offer.sender} offers another kind of net: names, shapes or policy differ.")
        if offer.raw_bytes > codecs.largest_raw(size) or not 0 < offer.body_bytes <= codecs.largest_body(size):
            raise Refused(Code.OVERSIZE, f"{offer.sender} offers {offer.body_bytes:,} bytes for {size:,} weights.")
        if (offer.base is not None) != (offer.codec == "topk"):
            raise Refused(Code.CODEC, f"{offer.sender} offers {offer.codec} with base {offer.base}.")
        if offer.base is not None and offer.base not in self.ours.get(offer.sender, ()):
            raise Refused(Code.UNKNOWN_BASE, f"{offer.sender} sends a difference to a model that is not here.")

    def fetch(self, offer: Offer) -> None:
        """Begin to fetch a body, if that has not begun."""
        at = offer.sender, offer.boot, offer.number
        if at not in self.coming:
            expires = self._context.now + offer.ttl_ms * 1_000_000
            retry = self._retry(self._gaps.get(offer.sender, 0))
            retry.tried(self._context.now)
            self.coming[at] = incoming = Incoming(offer, self._config.credit, expires, retry)
            self.ask(incoming)

    def ask(self, incoming: Incoming, again: bool = False) -> None:
        """Ask for more chunks, if there is room for them."""
        if (asked := incoming.ask(again)) is None:
            return
        missing, credit = asked
        offer = incoming.offer
        self._context.write(Want, offer.sender, offer=offer.number, missing=missing, credit=credit)

    def give_up(self, round_: int) -> None:
        """Fetch no more what was to be mixed up to a round: its room is for the next models."""
        for at, one in list(self.coming.items()):
            if 0 < one.offer.mix <= round_:
                why = f"{one.offer.sender} did not send all of a model before round {one.offer.mix} closed."
                self._context.refuse(one.offer.sender, Refused(Code.EXPIRED, why))
                del self.coming[at]

    def chunk(self, sender: str, chunk: Chunk) -> Incoming | None:
        """Take a chunk; the transfer, once it is complete."""
        at = sender, chunk.boot, chunk.offer
        incoming = self.coming.get(at)
        if incoming is None:
            return None
        new = incoming.take(chunk)
        incoming.retry.came(self._context.now, twice=not new)
        if not new:
            return None
        if not incoming.began_ns:
            incoming.began_ns = self._context.now
        if incoming.missing:
            self.ask(incoming)
            return None
        self._gaps[sender] = incoming.retry.gap_ns
        del self.coming[at]
        return incoming

    def unpack(self, incoming: Incoming, size: int) -> np.ndarray:
        """Model of a complete body, float32 (size,); Refused with HASH or CODEC."""
        offer = incoming.offer
        body = incoming.whole()
        base = self.ours.get(offer.sender, OrderedDict()).get(offer.base) if offer.base else None
        try:
            model = codecs.decode(offer.codec, codecs.decompress(body, offer.raw_bytes), size, base)
        except InputError as error:
            raise Refused(Code.CODEC, f"{offer.sender}: {error}") from error
        if codecs.digest(model) != offer.model_sha256:
            raise Refused(Code.HASH, f"the model from {offer.sender} is not the one that it signed.")
        return model

    def keep_base(self, offer: Offer, model: np.ndarray) -> None:
        """Remember an accepted model: the sender may send the next one as a difference to it."""
        if self._config.codec == "topk":
            kept = self.ours.setdefault(offer.sender, OrderedDict())
            kept[offer.model_sha256] = model
            while len(kept) > BASES:
                kept.popitem(last=False)

    # ---- time

    def tick(self) -> list[Incoming]:
        """Try again what got no answer; gives up, and returns, what expired."""
        for outgoing in self.out.values():
            if outgoing.retry.at_ns <= self._context.now:
                self._say(outgoing)
        expired = [one for one in self.coming.values() if one.expires_ns <= self._context.now]
        self.coming = {at: one for at, one in self.coming.items() if one.expires_ns > self._context.now}
        for incoming in self.coming.values():
            if incoming.retry.at_ns <= self._context.now:
                incoming.retry.tried(self._context.now)
                self.ask(incoming, again=True)
        return expired

    def wake_ns(self) -> list[int]:
        """When `tick` has something to do."""
        times = [one.retry.at_ns for one in self.out.values()]
        return times + [min(one.retry.at_ns, one.expires_ns) for one in self.coming.values()]

    def _retry(self, gap_ns: int = 0) -> Retry:
        return Retry(self._config.ns("retry_s"), self._config.ns("longest_retry_s"), gap_ns)
