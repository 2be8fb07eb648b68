"""How a peer finds its place when it starts or fell far behind, and helps others to find theirs."""

from __future__ import annotations

import numpy as np

from edgeflock.runtime.fleet.peer.context import Context
from edgeflock.runtime.fleet.peer.exchange import Exchange
from edgeflock.runtime.fleet.peer.presence import Presence
from edgeflock.runtime.fleet.peer.transfer import Retry
from edgeflock.runtime.fleet.peer.wire import Code, Offer, Pull, Refused


class Joining:
    """Begins beside the others where they are near, from the latest model of one of them where they are far ahead.

    Parameters
    ----------
    context : Context
    exchange : Exchange
    presence : Presence
    size : int
        Length of a model.
    """

    def __init__(self, context: Context, exchange: Exchange, presence: Presence, size: int) -> None:
        self._context, self._exchange, self._presence, self._size = context, exchange, presence, size
        config = context.config
        self._pull = Retry(config.ns("retry_s"), config.ns("longest_retry_s"))
        self._pulled_from: str | None = None
        self._refused: set[str] = set()  # robots whose latest model was not taken
        self._until_ns = 0

    def start(self) -> None:
        """Wait for news of the others, no longer than `join_s`."""
        self._context.phase, self._pulled_from, self._refused = "joining", None, set()
        self._until_ns = self._context.now + self._context.config.ns("join_s")

    def wake_ns(self) -> list[int]:
        """When `tick` has something to do."""
        if self._context.phase != "joining":
            return []
        return [self._until_ns] if self._pulled_from is None else [self._until_ns, self._pull.at_ns]

    def tick(self) -> bool:
        """Ask again for a model that does not come; True when the wait is over."""
        if self._context.now >= self._until_ns:
            return True
        if self._pulled_from is not None and self._context.now >= self._pull.at_ns:
            self._ask(self._pulled_from)
        return False

    def near(self) -> bool:
        """Whether the others are near; asks for the latest model where they are not."""
        known = self._presence.known()
        if self._context.phase != "joining" or self._pulled_from is not None or not known:
            return False
        if self._presence.ahead() <= self._context.config.behind:
            return True
        if left := known.keys() - self._refused:
            self._pull.wait_ns = 0
            self._ask(max(left, key=lambda name: (known[name], name)))
        return False

    def _ask(self, name: str) -> None:
        self._pulled_from = name
        self._pull.tried(self._context.now)
        self._context.write(Pull, name)

    def offered(self, offer: Offer) -> None:
        """Fetch the latest model that was asked for."""
        if self._context.phase == "joining" and offer.sender == self._pulled_from:
            try:
                self._exchange.check(offer, self._size)
            except Refused as refused:
                self.refuse(offer, refused)
            else:
                self._exchange.fetch(offer)

    def take(self, offer: Offer) -> bool:
        """Whether to go on from the model of an offer, which was fetched and passed the gate."""
        if self._context.phase != "joining":
            return False
        self._context.ack(offer, Code.ACCEPTED)
        self._context.tally["pulled"] += 1
        return True

    def refuse(self, offer: Offer, refused: Refused) -> None:
        """Do not take a model, and ask another robot."""
        self._context.refuse(offer.sender, refused)
        self._refused.add(offer.sender)
        self._pulled_from = None

    def serve(self, pull: Pull, model: np.ndarray) -> None:
        """Offer the own latest model to another robot."""
        context = self._context
        if context.phase in ("training", "waiting", "done"):
            self._exchange.drop(lambda to, offer: to == pull.sender and offer.mix == 0)
            of = context.round if context.phase == "done" else context.round - 1
            self._exchange.offer(pull.sender, 0, of, model, None)
