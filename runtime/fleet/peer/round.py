"""One robot's part in federated rounds, as a pure machine: messages and time go in, actions come out.

No socket, clock, thread, torch or ROS: `drive` carries the actions out on a robot, and the laboratory's fault simulator
drives this very code for many robots under a seeded clock. Every input method takes the time, in ns of the robot's own
monotonic clock, and returns what is to be done. Whoever carries it out looks at `wake_ns` and calls `tick` then.

A round: train; offer the model to those that mix it; wait, no longer than was learnt to be worth it, for the models
that bind in this round; mix; go on. Nobody can stop a robot: what does not come in time is left out, and its weight
stays with the own model.

**Both or none.** Where edges go both ways the mean of all models is kept only if both ends of an edge mix or neither
does. So of each pair the one whose name comes first decides. The other says ACCEPTED when it holds the first one's
model, and is bound from then on. The first, holding the other's model and that word, says MIXED; or SKIPPED when its
patience ends. Who is bound and hears neither in time goes on without, and adds the edge's difference later, when the
word comes; it takes no further model over that edge before. Losses and delays therefore never move the mean, a crash
moves it by what the robot that crashed has lost.

**Absent robots.** Who is silent for long is taken out of the plan by a rule that is the same for everybody
(`reclose`). Offers name the plan that they are made for, and two robots that see different absences skip their edge
until they agree.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.mixing.robust import robust_rule
from edgeflock.runtime.fleet.mixing.rules import Mixing, fits
from edgeflock.runtime.fleet.peer import wire
from edgeflock.runtime.fleet.peer.actions import Action, Alarm, Finished, Mixed, Rejected, Save, Send, Train
from edgeflock.runtime.fleet.peer.codecs import digest
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.peer.exchange import Exchange, Pen
from edgeflock.runtime.fleet.peer.gate import Boots, Gate
from edgeflock.runtime.fleet.peer.patience import Patience
from edgeflock.runtime.fleet.peer.reclose import without
from edgeflock.runtime.fleet.peer.roster import Roster
from edgeflock.runtime.fleet.peer.transfer import Retry
from edgeflock.runtime.fleet.peer.wire import Ack, Chunk, Code, Header, Heartbeat, Leave, Offer, Pull, Refused, Want
from edgeflock.runtime.fleet.plan.schedule import Plan

AT_ONCE = 2
"""Models of one neighbour that are fetched or held at a time."""
REMEMBERED = 64
"""Outcomes of an edge that are remembered for the other end, and rounds whose beginning is."""


@dataclass
class Received:
    """A neighbour's model that waits to be mixed in round `offer.mix`.

    `outcome` is of an edge that both ends must mix: None until it is decided.
    """

    offer: Offer
    model: np.ndarray
    weight: float
    bound: bool = False
    outcome: Code | None = None


@dataclass
class Doubt:
    """A round closed before the other end said whether it mixed; `change` is to be added if it did."""

    peer: str
    mix: int
    view: str | None
    change: np.ndarray


class Peer:
    """One robot's machine.

    Parameters
    ----------
    own : str
        Name of this robot.
    config : PeerConfig
    roster : Roster
    key : Ed25519PrivateKey
        This robot's.
    plan : Plan
        Who mixes with whom; its roster is part of the fleet's.
    model : ndarray, float32 (d,)
        To start from; the same on all robots of a new run.
    schema : str
        SHA-256 of what the flat model means: names, shapes, batch-norm policy.
    boot : int
        Rises with every start of this robot.
    nonce : str
        8 hex digits, drawn at every start.
    saved : (dict, dict), optional
        What `state` gave before a restart.

    Raises
    ------
    InputError
        The robot is not in roster or plan, or rule, codec and plan do not fit each other.
    """

    def __init__(
        self,
        own: str,
        config: PeerConfig,
        roster: Roster,
        key: Ed25519PrivateKey,
        plan: Plan,
        model: np.ndarray,
        schema: str,
        boot: int,
        nonce: str,
        saved: tuple[dict[str, np.ndarray], dict[str, Any]] | None = None,
    ) -> None:
        self.own, self.config, self.roster, self.plan = own, config, roster, plan
        self._form = self._fitting(plan)
        self.gate = Gate(own, roster, config.behind, config.norm_factor, config.distance_factor)
        self._pen = Pen(roster.run, own, boot, nonce, key)
        self.exchange = Exchange(config, self._pen, self._put, schema)
        self.patience = Patience(config.ns("floor_s"), config.ns("ceiling_s"), config.mads)
        self.counts: dict[str, Counter[str]] = {}
        self.tally: Counter[str] = Counter()
        self.round, self.phase = 0, "new"
        self._actions: list[Action] = []
        self._now = 0
        self._next: tuple[Plan, int] | None = None
        self._beats: dict[str, Heartbeat] = {}
        self._rounds: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self._left: set[str] = set()
        self._alarms: set[tuple[str, str]] = set()
        self._boot_of: dict[str, int] = {}
        self._past_views: deque[str | None] = deque(maxlen=REMEMBERED)
        self._received: dict[tuple[str, int], Received] = {}
        self._ready: set[tuple[str, int]] = set()
        self._over: set[tuple[str, int]] = set()  # edges of open rounds that will not be mixed
        self._mixed_with: dict[str, deque[tuple[int, str | None]]] = {}
        self._sent: dict[tuple[str, int], np.ndarray] = {}  # what neighbours make of the own models
        self._doubts: list[Doubt] = []
        self._late: list[np.ndarray] = []
        self._ready_ns: dict[int, int] = {}
        self._pull = Retry(config.ns("retry_s"), config.ns("longest_retry_s"))
        self._pulled_from: str | None = None
        self._joined_ns = self._next_beat_ns = 0
        self._closed_since_start = 0
        self.absent: frozenset[str] = frozenset()
        self._set_mixing()
        model = np.ascontiguousarray(model, np.float32)
        self._size = len(model)
        self._state = self._form.begin(model)
        self._own_past: dict[int, np.ndarray] = {}
        if saved is not None:
            self._restore(*saved)

    # ---- what goes in

    def start(self, now_ns: int) -> list[Action]:
        """Begin: ask the others where they stand, and fetch the latest model if they are far ahead."""
        self._now = now_ns
        self._heard = {name: now_ns for name in self._others()}
        self._join()
        return self._flush()

    def receive(self, came_from: str, message: bytes, now_ns: int) -> list[Action]:
        """Take a message; `came_from` is the sender's name as the transport has it."""
        self._now = now_ns
        try:
            found = wire.decode(message)
            if isinstance(found, Chunk):
                self._on_chunk(came_from, found)
            else:
                self.gate.message(found, came_from, self.round)
                self._on_header(found.header)
        except Refused as refused:
            self._refuse(came_from, refused)
        self._advance()
        return self._flush()

    def trained(self, round_: int, model: np.ndarray, loss: float, now_ns: int) -> list[Action]:
        """Take the model that `Train` asked for; the answer to an older order is ignored."""
        self._now = now_ns
        if self.phase == "training" and round_ == self.round:
            self._trained(model, loss)
        self._advance()
        return self._flush()

    def tick(self, now_ns: int) -> list[Action]:
        """Let time pass; to be called at `wake_ns`, earlier and more often does no harm."""
        self._now = now_ns
        if self.phase not in ("new", "left"):
            for one in self.exchange.tick(self.round, now_ns):
                why = f"{one.offer.sender} did not send all of a model within {one.offer.ttl_ms / 1000:g} s."
                self._refuse(one.offer.sender, Refused(Code.EXPIRED, why))
            if now_ns >= self._next_beat_ns:
                self._beat(None)
                self._next_beat_ns = now_ns + self.config.ns("beat_s")
            self._look()
            if self.phase == "joining":
                if now_ns >= self._joined_ns:
                    self.tally["joined_alone"] += 1
                    self._closed_since_start = self.config.behind  # asked once: a fleet that is far ahead is followed
                    self._begin()
                elif self._pulled_from is not None and now_ns >= self._pull.at_ns:
                    self._ask_latest(self._pulled_from)
            self._advance()
        return self._flush()

    def leave(self, now_ns: int) -> list[Action]:
        """Tell the others that this robot goes."""
        self._now = now_ns
        for name in self._others():
            self._write(Leave, name)
        self.phase = "left"
        return self._flush()

    def adopt(self, plan: Plan, at_round: int) -> None:
        """Follow another plan from a round on, if the others will too; otherwise the old one stays, with an alarm.

        Raises
        ------
        InputError
            The plan does not fit roster or rule, or the round is over.
        """
        self._fitting(plan)
        if at_round <= self.round:
            raise InputError(f"round {at_round} is over or open, this robot is in {self.round}: name a later one.")
        self._next = plan, at_round

    def set_roster(self, roster: Roster) -> None:
        """Take a newer roster: revoked keys end, new ones begin; `InputError` if it is older or of another run."""
        if roster.run != self.roster.run or roster.serial < self.roster.serial:
            raise InputError(
                f"the roster of run '{roster.run}', serial {roster.serial}, does not follow that of "
                f"'{self.roster.run}', serial {self.roster.serial}."
            )
        self.roster = self.gate.roster = roster

    # ---- what can be asked

    @property
    def model(self) -> np.ndarray:
        """The model after the last round, float32 (d,)."""
        return self._form.model(self._state)

    @property
    def wake_ns(self) -> int:
        """When `tick` is needed next."""
        times = [self._next_beat_ns, *self.exchange.wake_ns()]
        if self.phase == "joining":
            times.append(self._joined_ns)
            if self._pulled_from is not None:
                times.append(self._pull.at_ns)
        if self.phase == "waiting":
            times += [self._deadline(name) for name in self._waits_for()]
        return min(times)

    def status(self) -> dict[str, Any]:
        """Figures for a person, plain JSON values."""
        return {
            "robot": self.own,
            "run": self.roster.run,
            "round": self.round,
            "rounds": self.config.last,
            "phase": self.phase,
            "waits_for": sorted(self._waits_for()) if self.phase == "waiting" else [],
            "plan": self.plan.hash,
            "view": self._view,
            "absent": sorted(self.absent),
            "peers": {
                name: {"round": self._rounds.get(name), "rejected": dict(self.counts.get(name, {}))}
                for name in self._others()
            },
            "in_doubt": len(self._doubts),
            "alarms": sorted(f"{what}: {peer}" for what, peer in self._alarms),
            "tally": dict(self.tally + self.exchange.tally),
        }

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What a restart needs: arrays by name, and plain JSON values."""
        tensors = {"state": self._state} | {f"own.{r}": value for r, value in self._own_past.items()}
        for peer, (_, model) in self.exchange.theirs.items():
            if self.config.codec == "topk":
                tensors[f"theirs.{peer}"] = model
        for peer, models in self.exchange.ours.items():
            tensors |= {f"ours.{peer}.{i}": model for i, model in enumerate(models.values())}
        kept = {
            "run": self.roster.run,
            "round": self.round,
            "plan": self.plan.hash,
            "boots": {name: boots.state() for name, boots in self.gate.boots.items()},
            "mixed_with": {name: [at for at in was if at[0] <= self.round] for name, was in self._mixed_with.items()},
        }
        return tensors, kept

    # ---- messages

    def _on_header(self, header: Header) -> None:
        sender = header.sender
        first = self._boot_of.get(sender) != header.boot
        self._heard[sender] = self._now
        self._boot_of[sender] = header.boot
        self._rounds[sender] = header.round if first else max(header.round, self._rounds[sender])
        if not isinstance(header, Leave):
            self._left.discard(sender)
        self._look()
        if first and self.phase != "left":
            self._beat(sender)
        if isinstance(header, Heartbeat):
            self._on_heartbeat(header)
        elif isinstance(header, Offer):
            self._on_offer(header)
        elif isinstance(header, Want):
            self.exchange.wanted(header, self._now)
        elif isinstance(header, Ack):
            self._on_ack(header)
        elif isinstance(header, Pull):
            self._on_pull(header)
        elif isinstance(header, Leave):
            self._left.add(sender)
            self._boot_of.pop(sender, None)  # greeted again when it comes back
            self._doubts = [doubt for doubt in self._doubts if doubt.peer != sender]
            self._look()
        if self.phase == "joining" and self._pulled_from is None:
            self._on_news()

    def _on_heartbeat(self, beat: Heartbeat) -> None:
        self._beats[beat.sender] = beat
        agreed = beat.plan == self.plan.hash or (self._next is not None and beat.plan == self._next[0].hash)
        self._alarm(
            "plan",
            beat.sender,
            not agreed,
            f"{beat.sender} follows the plan {beat.plan[:12]}, this robot {self.plan.hash[:12]}, and keeps it.",
        )

    def _on_pull(self, pull: Pull) -> None:
        if self.phase in ("training", "waiting", "done"):
            self.exchange.drop(lambda to, offer: to == pull.sender and offer.mix == 0)
            of = self.round if self.phase == "done" else self.round - 1
            self.exchange.offer(pull.sender, 0, of, self.model, None, self.round, self._now)

    def _on_offer(self, offer: Offer) -> None:
        try:
            if answer := self._answer(offer):
                self._ack(offer, answer)
        except Refused as refused:
            self._give_up(offer, refused)

    def _answer(self, offer: Offer) -> Code | None:
        """What to tell the sender at once; None: the body is fetched, is here, or is not wanted yet."""
        j, k = offer.sender, offer.mix
        if k == 0:
            if self.phase == "joining" and j == self._pulled_from:
                self.exchange.check(offer, self._size)
                self.exchange.fetch(offer, self.round, self._now)
            return None
        here = self._received.get((j, k))
        if (k, offer.view) in self._mixed_with.get(j, ()):
            return Code.MIXED
        if here is not None and here.offer.boot != offer.boot:
            del self._received[j, k]  # it crashed and trained this round anew; what it bound before is forgotten
            here = None
        if k < self.round or (k == self.round and self.phase in ("done", "joining")):
            if k in self._ready_ns and here is None:
                self.patience.saw(j, self._now - self._ready_ns[k])
            return Code.SKIPPED if self._decides(j) else Code.STALE
        if offer.view != self._view:
            return Code.SKIPPED if offer.view in self._past_views and self._decides(j) else Code.PLAN
        if self.mixing is None or self._senders(k).get(j) != offer.of or self._misses_own(offer.of):
            return Code.STALE
        if here is not None:
            return here.outcome or (Code.ACCEPTED if here.bound or not self._both_or_none else None)
        if (j, k) in self._over:
            return Code.SKIPPED if self._decides(j) else Code.STALE
        held = [at for at in self._received if at[0] == j] + [at for at in self.exchange.coming if at[0] == j]
        if k > self.round + self.config.behind + self.plan.staleness or (
            len(held) >= AT_ONCE and (j, offer.boot, offer.number) not in self.exchange.coming
        ):
            return None
        self.exchange.check(offer, len(self._state))
        self.exchange.fetch(offer, self.round, self._now)
        return None

    def _on_chunk(self, came_from: str, chunk: Chunk) -> None:
        incoming = self.exchange.chunk(came_from, chunk, self.round, self._now)
        if incoming is None:
            return
        offer = incoming.offer
        try:
            model = self.exchange.unpack(incoming, len(self._state) if offer.mix else self._size)
            if offer.mix == 0:
                self._adopt_latest(offer, model)
                return
            if offer.mix < self.round or offer.view != self._view or self.mixing is None:
                self._on_offer(offer)  # the round closed, or the plan changed, while it came
                return
            self.gate.model(self._form.model(model), self.model)
        except Refused as refused:
            self._give_up(offer, refused)
            return
        i, j = self._at[offer.sender], self._at[self.own]
        self._received[offer.sender, offer.mix] = Received(offer, model, self.mixing.share(offer.mix, i, j))
        self.exchange.keep_base(offer, model)
        if not self._both_or_none:
            self._saw(offer.sender, offer.mix)
            self._ack(offer, Code.ACCEPTED)
        elif self._decides(offer.sender):
            self._decide(offer.sender, offer.mix)
        else:
            self._bind(offer.sender)

    def _on_ack(self, ack: Ack) -> None:
        outgoing = self.exchange.acknowledged(ack)
        if outgoing is None:
            return
        j, offer = ack.sender, outgoing.offer
        k = offer.mix
        if ack.code == Code.PLAN or k == 0:
            return
        if ack.code == Code.UNKNOWN_BASE:
            if offer.of in self._own_past and k >= self.round:
                self._offer(j, k, offer.of, self._own_past[offer.of])
            return
        if ack.code not in (Code.ACCEPTED, Code.MIXED, Code.SKIPPED, Code.STALE):
            self._count(j, f"told_{ack.code.value}")
        if not self._both_or_none and not any(d.peer == j for d in self._doubts):
            return
        if self._decides(j):
            if ack.code == Code.ACCEPTED and offer.view == self._view and k >= self.round:
                self._ready.add((j, k))
                self._decide(j, k)
            elif ack.code != Code.ACCEPTED:
                self._skip(j, k)
        elif ack.code == Code.MIXED:
            self._resolve(j, k, offer.view, True)
        elif ack.code != Code.ACCEPTED:
            self._resolve(j, k, offer.view, False)

    # ---- both or none

    def _decides(self, other: str) -> bool:
        """Whether this end of an edge says if both mix."""
        return self._both_or_none and self.own < other

    def _decide(self, j: str, k: int) -> None:
        here = self._received.get((j, k))
        if here is not None and here.outcome is None and (j, k) in self._ready:
            here.outcome = Code.MIXED
            self._mixed_with.setdefault(j, deque(maxlen=REMEMBERED)).append((k, here.offer.view))
            self._saw(j, k)
            self._ack(here.offer, Code.MIXED)

    def _skip(self, j: str, k: int) -> None:
        """End an edge of an open round without mixing, as the end that decides or that refused."""
        here = self._received.pop((j, k), None)
        if here is not None and here.outcome == Code.MIXED:
            self._received[j, k] = here  # too late, it was decided
            return
        self._over.add((j, k))
        self.exchange.drop(lambda to, offer: to == j and offer.mix == k)
        if here is not None and self._decides(j):
            self._ack(here.offer, Code.SKIPPED)

    def _bind(self, j: str) -> None:
        """Say ACCEPTED to a neighbour that decides, unless an earlier edge with it is in doubt."""
        if any(doubt.peer == j for doubt in self._doubts):
            return
        for (peer, _), here in self._received.items():
            if peer == j and not here.bound and here.outcome is None:
                here.bound = True
                self._ack(here.offer, Code.ACCEPTED)

    def _resolve(self, j: str, k: int, view: str | None, mixed: bool) -> None:
        """Take the word of the end that decides."""
        for doubt in [d for d in self._doubts if (d.peer, d.mix, d.view) == (j, k, view)]:
            self._doubts.remove(doubt)
            self.tally["doubts_mixed" if mixed else "doubts_skipped"] += 1
            if mixed:
                self._late.append(doubt.change)
        here = self._received.get((j, k))
        if here is not None and here.offer.view == view:
            here.outcome = Code.MIXED if mixed and here.bound else Code.SKIPPED
            self._saw(j, k)
        elif k >= self.round:
            self._over.add((j, k))
        self._bind(j)
        if self.phase == "done":
            self._add_late()

    def _change(self, here: Received) -> np.ndarray | None:
        """What mixing one model adds, with its weight at the time when it was taken; None if the own one is gone."""
        own = self._sent.get((here.offer.sender, here.offer.mix), self._own_past.get(here.offer.of))
        return None if own is None else np.float32(here.weight) * (here.model - own)

    def _put_off(self, here: Received) -> None:
        """Leave an edge that was begun: what is decided is added later, what is bound is in doubt."""
        change = self._change(here)
        offer = here.offer
        if not self._both_or_none or change is None:
            return
        if here.outcome == Code.MIXED:
            self._late.append(change)
        elif here.bound and here.outcome is None:
            self.tally["doubts"] += 1
            self._doubts.append(Doubt(offer.sender, offer.mix, offer.view, change))

    # ---- rounds

    def _begin(self) -> None:
        """Begin the next round, or end."""
        self._follow_next_plan()
        ahead = self._ahead()
        if ahead > self.config.behind:
            if self._closed_since_start < self.config.behind:
                self._join()
                return
            self._skip_to(self.round + ahead - 1)
        if self.round >= self.config.last:
            self.phase = "done"
            self._add_late()
            self._actions.append(Finished(self.round))
            return
        self.round += 1
        self.phase = "training"
        if self.round <= self.config.rounds:
            self._actions.append(Train(self.round, self.model))
        else:
            self._trained(self.model, 0.0)

    def _skip_to(self, round_: int) -> None:
        """Go on in a later round with the own model: the number only says who waits for whom."""
        self.tally["skipped_ahead"] += 1
        for at in list(self._received):
            if at[1] <= round_:
                self._put_off(self._received.pop(at))
        self.round = round_
        self._forget_offers()
        self._prune()

    def _trained(self, model: np.ndarray, loss: float) -> None:
        self._ready_ns[self.round] = self._now
        self._ready_ns = dict(list(self._ready_ns.items())[-REMEMBERED:])
        self.phase = "waiting"
        sound = bool(np.isfinite(loss)) and model.shape == (self._size,) and bool(np.isfinite(model).all())
        self._alarm("training", self.own, not sound, f"round {self.round} broke: its loss is {loss}, or its model NaN.")
        if not sound:  # goes on from the last good model, and offers nothing
            self.tally["broken_rounds"] += 1
            for j in self._senders(self.round):
                self._skip(j, self.round)
            return
        model = np.ascontiguousarray(model, np.float32)
        self._state = self._form.trained(self._state, self.model, model)
        self._own_past[self.round] = self._state
        if not self._offers_after_mixing:
            self._offer_all(self.round)

    def _offer_all(self, of: int) -> None:
        if self.mixing is not None:
            for i, k in self.mixing.receivers(of, self._at[self.own]).items():
                j = self.mixing.plan.roster[i]
                if k >= self.round and (j, k) not in self._over:
                    self._offer(j, k, of, self._own_past[of])

    def _offer(self, to: str, mix: int, of: int, state: np.ndarray) -> None:
        model = self.exchange.offer(to, mix, of, state, self._view, self.round, self._now)
        self._sent.pop((to, mix), None)
        if model is not None:
            self._sent[to, mix] = model

    def _advance(self) -> None:
        """Close rounds while that is possible."""
        while self.phase == "waiting" and not self._waits_for():
            self._close()
            self._begin()

    def _waits_for(self) -> list[str]:
        """Neighbours whose model or word is missing and still worth the wait."""
        if self.round not in self._own_past:
            return []
        found = []
        for j, of in self._senders(self.round).items():
            here = self._received.get((j, self.round))
            settled = here is not None and (here.outcome is not None or not self._both_or_none)
            over = (j, self.round) in self._over or self._misses_own(of)
            if not settled and not over and self._now < self._deadline(j):
                found.append(j)
        return found

    def _deadline(self, j: str) -> int:
        return self._ready_ns[self.round] + self.patience.of(j)

    def _close(self) -> None:
        k, heard, missing = self.round, {}, []
        for j, of in self._senders(k).items():
            here = self._received.get((j, k))
            binding = here is not None and (here.outcome == Code.MIXED or not self._both_or_none)
            if here is not None and binding and not self._misses_own(of):
                heard[j] = here
            else:
                missing.append(j)
                if self._decides(j):
                    self._skip(j, k)
                elif here is not None:
                    self._put_off(here)
        if self.mixing is not None and k in self._own_past:
            self._mix(k, heard)
        self._forget_offers()
        if self._offers_after_mixing and k in self._own_past:
            self._own_past[k] = self._state
            self._offer_all(k)
        self._prune(beyond=True)
        self._add_late()
        self.tally["rounds"] += 1
        self.tally["mixed"] += len(heard)
        self.tally["missing"] += len(missing)
        self._closed_since_start += 1
        self._actions += [Mixed(k, self.model, tuple(heard), tuple(missing)), Save(k)]

    def _mix(self, k: int, heard: dict[str, Received]) -> None:
        assert self.mixing is not None
        own = self._own_past
        sent = {self._at[j]: self._sent[j, k] for j in heard if (j, k) in self._sent}
        try:
            got = {self._at[j]: here.model for j, here in heard.items()}
            self._state = self.mixing.mix(k, self._at[self.own], own, got, sent)
        except InputError as error:
            self._alarm("mixing", self.own, True, f"round {k} could not be mixed: {error}")

    def _add_late(self) -> None:
        """Add what the other ends have mixed in the meantime."""
        for change in self._late:
            self.tally["late"] += 1
            self._state = self._state + change
        self._late = []

    def _prune(self, beyond: bool = False) -> None:
        """Forget what no later round needs."""
        k = self.round
        needed = self.mixing.still_needed(k) if self.mixing else set()
        self._own_past = {r: s for r, s in self._own_past.items() if r in needed or (r == k and not beyond)}
        self._received = {at: here for at, here in self._received.items() if at[1] > k}
        self._ready = {at for at in self._ready if at[1] > k}
        self._over = {at for at in self._over if at[1] > k}
        self._sent = {at: model for at, model in self._sent.items() if at[1] > k}

    def _forget_offers(self) -> None:
        """Drop offers that nobody can use any more, but for those whose answer is waited for."""
        doubtful = {(doubt.peer, doubt.mix) for doubt in self._doubts}

        def useless(to: str, offer: Offer) -> bool:
            if offer.mix == 0 or (to, offer.mix) in doubtful:
                return False
            if self._both_or_none:
                return offer.mix <= self.round
            behind = offer.mix + self.config.behind + self.plan.staleness < self.round
            return behind or offer.mix < self._rounds.get(to, 0)

        self.exchange.drop(useless)

    # ---- who is there

    def _others(self) -> list[str]:
        return [name for name in self.roster.members(self.round) if name != self.own]

    def _senders(self, k: int) -> dict[str, int]:
        """Neighbours whose models are mixed in round k, and of which round each is."""
        if self.mixing is None:
            return {}
        names = self.mixing.plan.roster
        return {names[i]: of for i, of in self.mixing.senders(k, self._at[self.own]).items()}

    def _misses_own(self, of: int) -> bool:
        """Whether a difference to the own model of this round cannot be taken, for it was skipped."""
        if self.mixing is None or not self.mixing.differences or of in self._own_past:
            return False
        return of < self.round or (of == self.round and self.phase != "training")

    def _fitting(self, plan: Plan) -> Mixing:
        """How this robot mixes by a plan; `InputError` when the plan does not fit roster or settings."""
        if strangers := set(plan.roster) - self.roster.names:
            raise InputError(
                f"the plan names {', '.join(sorted(strangers))}, the roster of run '{self.roster.run}' does not: add "
                "them with `edgeflock fleet keys add`, or plan for those who are in it."
            )
        mixing = Mixing(plan, self.config.rule, robust_rule(self.config.robust) if self.config.robust else None)
        if mixing.rule == "push_sum" and self.config.codec != "fp32":
            raise InputError(f"push_sum counts mass and needs the codec fp32, not {self.config.codec}.")
        return mixing

    def _look(self) -> None:
        """Close the plan's gaps when robots went silent, left, or came back."""
        members, silent = set(self.roster.members(self.round)), self.config.ns("silent_s")
        absent = frozenset(
            name
            for name in self.plan.roster
            if name != self.own
            and (
                name not in members
                or name in self._left
                or self._now - self._heard.setdefault(name, self._now) > silent
            )
        )
        if absent != self.absent:
            self._follow(self.plan, absent)

    def _follow(self, plan: Plan, absent: frozenset[str]) -> None:
        """Change the plan in force, by absences or by another plan."""
        for at in list(self._received):
            self._put_off(self._received.pop(at))
        self._past_views.append(self._view)
        self.plan, self.absent = plan, absent
        self._doubts = [doubt for doubt in self._doubts if doubt.peer in self.roster.members(self.round)]
        self._ready, self._over, self._sent = set(), set(), {}
        doubtful = {(doubt.peer, doubt.mix) for doubt in self._doubts}
        self.exchange.drop(lambda to, offer: offer.mix > 0 and (to, offer.mix) not in doubtful)
        self.exchange.coming = {at: one for at, one in self.exchange.coming.items() if one.offer.mix == 0}
        self._set_mixing()
        self._offer_past()

    def _offer_past(self) -> None:
        if not self._offers_after_mixing:
            for of in list(self._own_past):
                self._offer_all(of)

    def _set_mixing(self) -> None:
        """Mixing of those that are there; None: this robot is alone."""
        plan = without(self.plan, self.absent) if self.own in self.plan.roster else None
        self.mixing: Mixing | None = None
        if plan is not None:
            rule = self._form.rule if fits(plan, self._form.rule) else None
            try:
                self.mixing = Mixing(plan, rule, self._form.robust)
            except InputError as error:  # too few are left for a robust rule
                self._alarm("too_few", self.own, True, f"this robot mixes with nobody for now: {error}")
            else:
                self._alarm("too_few", self.own, False, "")
        self._view = self.mixing.plan.hash if self.mixing else None
        self._at = {name: i for i, name in enumerate(self.mixing.plan.roster)} if self.mixing else {}
        self._both_or_none = self.mixing is not None and self.mixing.differences and self.mixing.robust is None
        self._offers_after_mixing = bool(
            self.mixing and self.mixing.by_server and self._at[self.own] == self.mixing.hub
        )

    def _follow_next_plan(self) -> None:
        if self._next is None or self.round + 1 < self._next[1]:
            return
        plan, at_round = self._next
        silent = self.config.ns("silent_s")
        unlike = [
            name
            for name in plan.roster
            if name in self._beats and name not in self._left and self._now - self._heard.get(name, 0) <= silent
            if self._beats[name].plan != plan.hash
            and (self._beats[name].next_plan, self._beats[name].next_round) != (plan.hash, at_round)
        ]
        for name in plan.roster:
            why = f"{name} does not follow the plan {plan.hash[:12]} from round {at_round} on: the old one stays."
            self._alarm("next_plan", name, name in unlike, why)
        if not unlike:
            self._next = None
            self._form = self._fitting(plan)
            self.tally["plans"] += 1
            self._follow(plan, frozenset(self.absent & set(plan.roster)))
            self._look()

    # ---- joining

    def _join(self) -> None:
        self.phase, self._pulled_from = "joining", None
        self._joined_ns = self._now + self.config.ns("join_s")
        self._beat(None)
        self._next_beat_ns = self._now + self.config.ns("beat_s")
        if not self._others():
            self._begin()
        elif self._boot_of:
            self._on_news()

    def _on_news(self) -> None:
        """Begin when the others are near, else ask for the latest model."""
        known = self._known()
        if known and self._ahead() > self.config.behind:
            self._pull.wait_ns = 0
            self._ask_latest(max(known, key=lambda name: (known[name], name)))
        elif known:
            self._begin()

    def _known(self) -> dict[str, int]:
        """Rounds of the robots that were heard of late."""
        silent = self.config.ns("silent_s")
        return {name: self._rounds[name] for name in self._boot_of if self._now - self._heard[name] <= silent}

    def _ahead(self) -> int:
        """Rounds by which most of the others are ahead."""
        known = list(self._known().values())
        return int(np.median(known)) - self.round if known else 0

    def _ask_latest(self, name: str) -> None:
        self._pulled_from = name
        self._pull.tried(self._now)
        self._write(Pull, name)

    def _adopt_latest(self, offer: Offer, model: np.ndarray) -> None:
        if self.phase != "joining":
            return
        if not np.isfinite(model).all():
            raise Refused(Code.NONFINITE, f"the latest model of {offer.sender} holds NaN or infinity.")
        self._ack(offer, Code.ACCEPTED)
        self.tally["pulled"] += 1
        self._state, self.round = self._form.begin(model), offer.of
        self._own_past, self._received, self._sent = {}, {}, {}
        self._ready, self._over, self._doubts, self._late = set(), set(), [], []
        self.exchange.drop(lambda to, offer: offer.mix > 0)
        self._begin()

    # ---- words

    def _beat(self, to: str | None) -> None:
        plan, round_ = (self._next[0].hash, self._next[1]) if self._next else (None, 0)
        fields = {"plan": self.plan.hash, "view": self._view, "absent": sorted(self.absent)}
        message = self._pen.write(Heartbeat, to, self.round, **fields, next_plan=plan, next_round=round_)
        for name in [to] if to else self._others():
            self._put(name, message)

    def _write(self, kind: type[Header], to: str, **fields: Any) -> None:
        self._put(to, self._pen.write(kind, to, self.round, **fields))

    def _ack(self, offer: Offer, code: Code) -> None:
        self._write(Ack, offer.sender, offer_boot=offer.boot, offer=offer.number, mix=offer.mix, code=code)

    def _put(self, to: str, message: bytes) -> None:
        self._actions.append(Send(to, message))

    def _flush(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    def _saw(self, j: str, k: int) -> None:
        self.patience.saw(j, self._now - self._ready_ns.get(k, self._now))

    def _count(self, peer: str, code: str) -> None:
        self.counts.setdefault(peer if peer in self.roster.names else "?", Counter())[code] += 1

    def _refuse(self, peer: str, refused: Refused) -> None:
        self._count(peer, refused.code.value)
        self._actions.append(Rejected(peer, refused.code, str(refused)))
        if refused.code == Code.TWO_ROBOTS:
            self._alarm("two_robots", peer, True, str(refused))

    def _give_up(self, offer: Offer, refused: Refused) -> None:
        """Refuse a model: say so, and end its edge in this round."""
        self._refuse(offer.sender, refused)
        if offer.mix == 0:
            self._pulled_from = None
            return
        if refused.code != Code.HASH:  # forged or damaged on the way: it is offered, and fetched, again
            self._ack(offer, refused.code)
            if refused.code != Code.UNKNOWN_BASE and offer.mix >= self.round:
                self._skip(offer.sender, offer.mix)

    def _alarm(self, what: str, peer: str, on: bool, why: str) -> None:
        if on and (what, peer) not in self._alarms:
            self._alarms.add((what, peer))
            self._actions.append(Alarm(what, peer, why))
        elif not on:
            self._alarms.discard((what, peer))

    def _restore(self, tensors: dict[str, np.ndarray], kept: dict[str, Any]) -> None:
        if kept["run"] != self.roster.run or len(tensors["state"]) != len(self._state):
            raise InputError(
                f"the checkpoint is of the run '{kept['run']}' and {len(tensors['state']):,} weights, this is run "
                f"'{self.roster.run}' with {len(self._state):,}: use another folder for another run."
            )
        self._state, self.round = tensors["state"], kept["round"]
        self._own_past = {int(name[4:]): value for name, value in tensors.items() if name.startswith("own.")}
        for name, value in tensors.items():
            if name.startswith("theirs."):
                self.exchange.theirs[name[7:]] = digest(value), value
            elif name.startswith("ours."):
                self.exchange.ours.setdefault(name.split(".")[1], OrderedDict())[digest(value)] = value
        self.gate.boots = {name: Boots.restored(boots) for name, boots in kept["boots"].items()}
        for name, outcomes in kept["mixed_with"].items():
            self._mixed_with[name] = deque(((k, view) for k, view in outcomes), maxlen=REMEMBERED)
