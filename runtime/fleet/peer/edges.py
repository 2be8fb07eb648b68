"""What passes over a peer's edges in each round, and whether both ends mix it.

**Both or none.** Where edges go both ways the mean of all models is kept only if both ends of an edge mix or neither
does. Each end mixes what came in time, waits for no word, and says MIXED or SKIPPED of the other's model when it closes
the round; that word is final. It takes back what it mixed once it hears that the other end skipped. Until it has the
other's word the edge is in doubt, and no neighbour has more than a few of those. Losses and delays therefore never move
the mean, a crash moves it by what the robot that crashed has lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from edgeflock.runtime.fleet.peer.context import Context
from edgeflock.runtime.fleet.peer.doubts import Doubt, Doubts
from edgeflock.runtime.fleet.peer.exchange import Exchange
from edgeflock.runtime.fleet.peer.patience import Patience
from edgeflock.runtime.fleet.peer.view import View
from edgeflock.runtime.fleet.peer.wire import Ack, Code, Offer, Refused

AT_ONCE = 2
"""Models of one neighbour that are fetched or held at a time."""
UNDECIDED = 2
"""Edges with one neighbour that may be in doubt: by the time that a third one binds, the first one's word is here."""
REMEMBERED = 64
"""Own words that are remembered for the other end of an edge, and rounds whose beginning is."""
Edge = tuple[str, int]
"""A neighbour and the round in which its model is mixed."""


@dataclass(frozen=True, eq=False)
class Received:
    """A neighbour's model that waits to be mixed in round `offer.mix`."""

    offer: Offer
    model: np.ndarray
    weight: float


class Edges:
    """Models that come and go over the edges of the view in force.

    Parameters
    ----------
    context : Context
    exchange : Exchange
    view : View
    size : int
        Length of a state.
    rounds : dict of str to int
        Where each robot is, as `Presence` has it.

    Attributes
    ----------
    own : dict of int to ndarray
        The own states before mixing, by round, as long as they are needed.
    doubts : Doubts
    mixed_with : dict of str to dict
        By neighbour, round and view of the edges that were mixed where both ends must: the boot of the other end then.
    """

    def __init__(self, context: Context, exchange: Exchange, view: View, size: int, rounds: dict[str, int]) -> None:
        self._context, self._exchange, self.view = context, exchange, view
        self._size, self._rounds = size, rounds
        config = context.config
        self.patience = Patience(config.ns("floor_s"), config.ns("ceiling_s"), config.mads)
        self.own: dict[int, np.ndarray] = {}
        self.doubts = Doubts(context)
        self.mixed_with: dict[str, dict[tuple[int, str | None], int]] = {}
        self._past_views: deque[str | None] = deque(maxlen=REMEMBERED)
        self._received: dict[Edge, Received] = {}
        self._early: dict[Edge, Offer] = {}  # offers that find no room yet
        self._sure: set[Edge] = set()  # edges of open rounds that the other end has mixed
        self._over: set[Edge] = set()  # and those that will not be mixed
        self._sent: dict[Edge, np.ndarray] = {}  # what neighbours make of the own models
        self._trained_ns: dict[int, int] = {}

    # ---- the own model goes out

    def trained(self, k: int, state: np.ndarray) -> None:
        """The own training of a round is over: offer its state to those that mix it."""
        self._trained_ns[k] = self._context.now
        self._trained_ns = dict(list(self._trained_ns.items())[-REMEMBERED:])
        self.own[k] = state
        if not self.view.after_mixing:
            self.offer_all(k)

    def mixed(self, k: int, state: np.ndarray) -> None:
        """The round is mixed: the hub of a star now offers what came of it."""
        if self.view.after_mixing and k in self.own:
            self.own[k] = state
            self.offer_all(k)

    def offer_all(self, of: int, only: AbstractSet[str] | None = None) -> None:
        """Offer the own state of a round to those that mix it in a round to come, `only` some of them."""
        for j, k in self.view.receivers(of).items():
            if only is not None and j not in only:
                continue
            if not self._closed(k) and k <= self._context.config.last and (j, k) not in self._over:
                self._offer(j, k, of)

    def rebooted(self, j: str) -> None:
        """A neighbour restarted: what it knew of open edges is gone, so they begin anew, but for those it has mixed."""
        self._received = {at: one for at, one in self._received.items() if at[0] != j or at in self._sure}
        self._sure = {at for at in self._sure if at[0] != j or at in self._received}
        doubtful = self.doubts.edges()
        self._exchange.drop(lambda to, offer: to == j and offer.mix > 0 and (to, offer.mix) not in doubtful)
        if not self.view.after_mixing:
            for of in list(self.own):
                self.offer_all(of, {j})

    def _offer(self, to: str, mix: int, of: int) -> None:
        model = self._exchange.offer(to, mix, of, self.own[of], self.view.hash)
        self._sent.pop((to, mix), None)
        if model is not None:
            self._sent[to, mix] = model

    def on_ack(self, ack: Ack) -> None:
        """Take what a neighbour says of an offer."""
        outgoing = self._exchange.acknowledged(ack)
        if outgoing is None:
            return
        j, offer = ack.sender, outgoing.offer
        k = offer.mix
        if ack.code == Code.PLAN or k == 0:
            return
        if ack.code == Code.UNKNOWN_BASE and offer.of in self.own and not self._closed(k):
            self._offer(j, k, offer.of)
            return
        if ack.code not in (Code.ACCEPTED, Code.MIXED, Code.SKIPPED, Code.STALE, Code.UNKNOWN_BASE):
            self._context.count(j, f"told_{ack.code.value}")
        mixed = ack.code == Code.MIXED
        self.doubts.resolve(j, k, offer.view, mixed)
        if not self.view.both_or_none or self._closed(k) or offer.view != self.view.hash:
            return
        if mixed:
            self._sure.add((j, k))
        else:
            self.skip(j, k)

    # ---- neighbours' models come in

    def on_offer(self, offer: Offer) -> None:
        """Fetch what is offered, or say at once what becomes of it."""
        try:
            if answer := self._answer(offer):
                self._context.ack(offer, answer)
        except Refused as refused:
            self.give_up(offer, refused)

    def _answer(self, offer: Offer) -> Code | None:
        """What to tell the sender at once; None: the body is fetched, is here, or finds no room yet."""
        context, j, k = self._context, offer.sender, offer.mix
        here = self._received.get((j, k))
        if boot := self.mixed_with.get(j, {}).get((k, offer.view)):
            # A later start knows nothing of it, and the own model of that round is offered only while in doubt.
            return Code.MIXED if boot == offer.boot or (j, k) in self.doubts.edges() else Code.STALE
        if self._closed(k):
            if k in self._trained_ns and here is None:
                self._saw(j, k)
            return Code.SKIPPED if self.view.both_or_none else Code.STALE
        if offer.view != self.view.hash:
            return Code.SKIPPED if offer.view in self._past_views else Code.PLAN
        if self.view.senders(k).get(j) != offer.of or self._misses_own(offer.of) or k > context.config.last:
            return Code.STALE
        if here is not None:
            return None if self.view.both_or_none else Code.ACCEPTED
        if (j, k) in self._over:
            return Code.SKIPPED if self.view.both_or_none else Code.STALE
        if k > context.round + context.config.behind + (self.view.mixing.plan.staleness if self.view.mixing else 0):
            return None
        held = [at for at in self._received if at[0] == j] + [at for at in self._exchange.coming if at[0] == j]
        if len(held) >= AT_ONCE and (j, offer.boot, offer.number) not in self._exchange.coming:
            self._early[j, k] = offer.model_copy(update={"pushed": 0})  # its chunks find no room either
            return None
        self._exchange.check(offer, self._size)
        self._exchange.fetch(offer)
        return None

    def take_early(self) -> None:
        """Fetch what came before there was room for it; to be called when a round is over."""
        for at in sorted(self._early, key=lambda at: at[1]):
            self.on_offer(self._early.pop(at))

    def take(self, offer: Offer, model: np.ndarray) -> None:
        """Keep a model that passed the gate, to be mixed in its round."""
        j, k = offer.sender, offer.mix
        if self._closed(k) or offer.view != self.view.hash or (j, k) in self._over:
            self.on_offer(offer)  # the round or the edge closed, or the plan changed, while it came
            return
        self._received[j, k] = Received(offer, model, self.view.share(k, j))
        self._exchange.keep_base(offer, model)
        self._saw(j, k)
        if not self.view.both_or_none:
            self._context.ack(offer, Code.ACCEPTED)

    def give_up(self, offer: Offer, refused: Refused) -> None:
        """Refuse a model: say so, and end its edge in this round."""
        self._context.refuse(offer.sender, refused)
        if refused.code == Code.HASH:  # forged or damaged on the way: it is offered, and fetched, again
            return
        self._context.ack(offer, refused.code)
        if refused.code != Code.UNKNOWN_BASE and not self._closed(offer.mix):
            self.skip(offer.sender, offer.mix)

    # ---- both or none

    def skip(self, j: str, k: int) -> None:
        """End an edge of an open round without mixing; where both ends must mix, the own model stays here too."""
        here = self._received.pop((j, k), None)
        self._over.add((j, k))
        if self.view.both_or_none:
            self._exchange.drop(lambda to, offer: to == j and offer.mix == k)
            if here is not None:
                self._context.ack(here.offer, Code.SKIPPED)

    def _may_mix(self, j: str, k: int) -> bool:
        """Whether an edge with this neighbour may be mixed now: it has, or not too many are in doubt."""
        return not self.view.both_or_none or (j, k) in self._sure or self.doubts.about(j) < UNDECIDED

    def say_mixed(self, heard: dict[str, Received]) -> None:
        """Tell the other ends that these were mixed, and remember what to take back where they were not there."""
        if not self.view.both_or_none:
            return
        for j, here in heard.items():
            offer = here.offer
            mixed = self.mixed_with.setdefault(j, {})
            mixed[offer.mix, offer.view] = offer.boot
            while len(mixed) > REMEMBERED:
                del mixed[next(iter(mixed))]
            self._context.ack(offer, Code.MIXED)
            if (j, offer.mix) not in self._sure:
                then = self._sent.get((j, offer.mix), self.own[offer.of])
                self.doubts.add(Doubt(j, offer.mix, offer.view, np.float32(here.weight) * (then - here.model)))

    # ---- rounds

    def waits_for(self) -> list[str]:
        """Neighbours whose model or word is missing and still worth the wait."""
        k = self._context.round
        if k not in self.own:
            return []
        found = []
        for j, of in self.view.senders(k).items():
            settled = (j, k) in self._received and self._may_mix(j, k)
            over = (j, k) in self._over or self._misses_own(of)
            if not settled and not over and self._context.now < self.deadline(j):
                found.append(j)
        return found

    def deadline(self, j: str) -> int:
        """Until when this round waits for a neighbour."""
        return self._trained_ns[self._context.round] + self.patience.of(j)

    def close(self, k: int) -> tuple[dict[str, Received], list[str]]:
        """End a round: models to mix by sender, then to be told by `say_mixed`; and the neighbours that are missing."""
        heard, missing = {}, []
        for j, of in self.view.senders(k).items():
            here = self._received.get((j, k))
            if here is not None and self._may_mix(j, k) and not self._misses_own(of):
                heard[j] = here
                continue
            missing.append(j)
            if self.view.both_or_none:
                self.skip(j, k)
        self._context.tally["mixed"] += len(heard)
        self._context.tally["missing"] += len(missing)
        return heard, missing

    def sent(self, k: int, names: dict[str, Received]) -> dict[str, np.ndarray]:
        """What neighbours made of the own models that they mix in round k, where a codec changed them."""
        return {j: self._sent[j, k] for j in names if (j, k) in self._sent}

    def prune(self, beyond: bool = False) -> None:
        """Forget what no later round needs, `beyond` also the own state of this one."""
        k = self._context.round
        needed = self.view.needed(k)
        self.own = {r: s for r, s in self.own.items() if r in needed or (r == k and not beyond)}
        self._exchange.give_up(k)
        self._received = {at: here for at, here in self._received.items() if at[1] > k}
        self._early = {at: offer for at, offer in self._early.items() if at[1] > k}
        self._sure = {at for at in self._sure if at[1] > k}
        self._over = {at for at in self._over if at[1] > k}
        self._sent = {at: model for at, model in self._sent.items() if at[1] > k}

    def forget_offers(self) -> None:
        """Drop offers that nobody can use any more, but for those whose answer is waited for."""
        doubtful = self.doubts.edges()
        k, plan = self._context.round, self.view.mixing.plan if self.view.mixing else None
        latest = self._context.config.behind + (plan.staleness if plan else 0)

        def useless(to: str, offer: Offer) -> bool:
            if offer.mix == 0 or (to, offer.mix) in doubtful:
                return False
            if self.view.both_or_none:
                return offer.mix <= k
            return offer.mix + latest < k or offer.mix < self._rounds.get(to, 0)

        self._exchange.drop(useless)

    def skip_to(self, k: int) -> None:
        """Leave all rounds up to k, whose number this robot takes over, with the own model."""
        for at in [at for at in self._received if at[1] <= k]:
            self.skip(*at)

    def follow(self, view: View) -> None:
        """Change the view in force."""
        for at in list(self._received):
            self.skip(*at)
        if self.view.both_or_none:
            self._past_views.append(self.view.hash)
        self._sure, self._over, self._sent, self._early = set(), set(), {}, {}
        doubtful = self.doubts.edges()
        self._exchange.drop(lambda to, offer: offer.mix > 0 and (to, offer.mix) not in doubtful)
        self._exchange.coming = {at: one for at, one in self._exchange.coming.items() if one.offer.mix == 0}
        self.view = view
        self.offer_again()

    def offer_again(self) -> None:
        """Offer own states of rounds before that are still to be mixed: the view is new, or this robot restarted."""
        if not self.view.after_mixing:
            for of in list(self.own):
                self.offer_all(of)

    def reset(self) -> None:
        """Forget everything but what was agreed: the model is another one from now on."""
        self.own, self._received, self._early, self._sent = {}, {}, {}, {}
        self._sure, self._over = set(), set()
        self.doubts.reset()
        self._exchange.drop(lambda to, offer: offer.mix > 0)

    def _closed(self, k: int) -> bool:
        """Whether a round is over here."""
        return k < self._context.round or (k == self._context.round and self._context.phase in ("done", "joining"))

    def _misses_own(self, of: int) -> bool:
        """Whether a difference to the own model of this round cannot be taken, for it was skipped."""
        if self.view.mixing is None or not self.view.mixing.differences or of in self.own:
            return False
        k = self._context.round
        return of < k or (of == k and self._context.phase != "training")

    def _saw(self, j: str, k: int) -> None:
        self.patience.saw(j, self._context.now - self._trained_ns.get(k, self._context.now))
