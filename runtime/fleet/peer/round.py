"""One robot's part in federated rounds, as a pure machine: messages and time go in, actions come out.

No socket, clock, thread, torch or ROS: `drive` carries the actions out on a robot, and the laboratory's fault simulator
drives this very code for many robots under a seeded clock. Every input method takes the time, in ns of the robot's own
monotonic clock, and returns what is to be done. Whoever carries it out looks at `wake_ns` and calls `tick` then.

A round: train; offer the model to those that mix it; wait, no longer than was learnt to be worth it, for the models
that bind in this round; mix; go on. Nobody can stop a robot: what does not come in time is left out, and its weight
stays with the own model. `edges` has what passes over an edge, and why the mean of all models stays.

**Absent robots.** Who is silent for long is taken out of the plan by a rule that is the same for everybody
(`reclose`). Offers name the plan that they are made for, and two robots that see different absences skip their edge
until they agree.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.mixing.rules import Mixing
from edgeflock.runtime.fleet.peer import wire
from edgeflock.runtime.fleet.peer.actions import Action, Finished, Mixed, Save, State, Train
from edgeflock.runtime.fleet.peer.adoption import Adoption
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.peer.context import Context, Pen
from edgeflock.runtime.fleet.peer.edges import Edges, Received
from edgeflock.runtime.fleet.peer.exchange import Exchange
from edgeflock.runtime.fleet.peer.gate import Gate
from edgeflock.runtime.fleet.peer.joining import Joining
from edgeflock.runtime.fleet.peer.links import Links
from edgeflock.runtime.fleet.peer.presence import Presence
from edgeflock.runtime.fleet.peer.resume import kept, restore
from edgeflock.runtime.fleet.peer.roster import Roster
from edgeflock.runtime.fleet.peer.view import View
from edgeflock.runtime.fleet.peer.wire import (
    Ack,
    Chunk,
    Code,
    Header,
    Heartbeat,
    Leave,
    Offer,
    Ping,
    Pong,
    Pull,
    Refused,
    Want,
)
from edgeflock.runtime.fleet.plan.schedule import Plan


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
    saved : State, optional
        What the last `Save` held before a restart.

    Raises
    ------
    InputError
        The robot is not in the roster, or rule, codec and plan do not fit each other.
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
        saved: State | None = None,
    ) -> None:
        if own not in roster.names:
            raise InputError(
                f"'{own}' is not in the roster of run '{roster.run}' ({', '.join(sorted(roster.names)) or 'empty'}): "
                "add it with `edgeflock fleet keys add`."
            )
        self.config = config
        self._context = Context(own, config, roster, Pen(roster.run, own, boot, nonce, key))
        self._presence = Presence(self._context)
        self._links = Links(self._context)
        self._adoption = Adoption(self._context, self._presence, plan)
        self._gate = Gate(own, roster, config.behind, config.norm_factor, config.distance_factor)
        self._exchange = Exchange(self._context, schema)
        model = np.ascontiguousarray(model, np.float32)
        self._size = len(model)
        self._state = self._form.begin(model)
        view = View(own, self._form)
        self._edges = Edges(self._context, self._exchange, view, len(self._state), self._presence.rounds)
        self._joining = Joining(self._context, self._exchange, self._presence, self._size)
        self._next_beat_ns = 0
        self._closed_since_start = 0
        if saved is not None:
            parts = self._context, self._gate, self._exchange, self._edges
            self._state = restore(saved, *parts, len(self._state))

    # ---- what goes in

    def start(self, now_ns: int) -> list[Action]:
        """Begin: ask the others where they stand, and fetch the latest model if they are far ahead."""
        self._context.now = now_ns
        self._presence.start()
        self._edges.offer_again()
        self._join()
        return self._context.flush()

    def receive(self, came_from: str, message: bytes, now_ns: int) -> list[Action]:
        """Take a message; `came_from` is the sender's name as the transport has it."""
        self._context.now = now_ns
        try:
            found = wire.decode(message)
            if isinstance(found, Chunk):
                self._on_chunk(came_from, found)
            else:
                self._gate.message(found, came_from, self._context.round)
                self._on_header(found.header)
        except Refused as refused:
            self._context.refuse(came_from, refused)
        self._advance()
        return self._context.flush()

    def trained(self, round_: int, model: np.ndarray, loss: float, now_ns: int) -> list[Action]:
        """Take the model that `Train` asked for; the answer to an older order is ignored."""
        self._context.now = now_ns
        if self._context.phase == "training" and round_ == self._context.round:
            self._trained(model, loss)
        self._advance()
        return self._context.flush()

    def tick(self, now_ns: int) -> list[Action]:
        """Let time pass; to be called at `wake_ns`, earlier and more often does no harm."""
        context = self._context
        context.now = now_ns
        if context.phase in ("new", "left"):
            return context.flush()
        for one in self._exchange.tick():
            why = f"{one.offer.sender} did not send all of a model within {one.offer.ttl_ms / 1000:g} s."
            context.refuse(one.offer.sender, Refused(Code.EXPIRED, why))
        if now_ns >= self._next_beat_ns:
            self._beat(None)
        self._links.tick(self._presence.others())
        self._look()
        if context.phase == "joining" and self._joining.tick():
            context.tally["joined_alone"] += 1
            self._closed_since_start = self.config.behind  # asked once: a fleet that is far ahead is followed
            self._begin()
        self._advance()
        return context.flush()

    def leave(self, now_ns: int) -> list[Action]:
        """Tell the others that this robot goes."""
        self._context.now = now_ns
        for name in self._presence.others():
            self._context.write(Leave, name)
        self._context.phase = "left"
        return self._context.flush()

    def adopt(self, plan: Plan, at_round: int) -> None:
        """Follow another plan from a round on, if the others will too; otherwise the old one stays, with an alarm.

        Raises
        ------
        InputError
            The plan does not fit roster or rule, or the round is over.
        """
        self._adoption.announce(plan, at_round)

    def set_roster(self, roster: Roster) -> None:
        """Take a newer roster: revoked keys end, new ones begin; `InputError` if it is older or of another run."""
        now = self._context.roster
        if roster.run != now.run or roster.serial < now.serial:
            raise InputError(
                f"the roster of run '{roster.run}', serial {roster.serial}, does not follow that of '{now.run}', "
                f"serial {now.serial}: fetch the fleet's newest roster.json."
            )
        self._context.roster = self._gate.roster = roster

    # ---- what can be asked

    @property
    def _form(self) -> Mixing:
        return self._adoption.form

    @property
    def own(self) -> str:
        """Name of this robot."""
        return self._context.own

    @property
    def plan(self) -> Plan:
        """Plan that is in force."""
        return self._adoption.plan

    @property
    def round(self) -> int:
        """Round that is open, or the last one that closed."""
        return self._context.round

    @property
    def model(self) -> np.ndarray:
        """The model after the last round, float32 (d,)."""
        return self._form.model(self._state)

    @property
    def wake_ns(self) -> int:
        """When `tick` is needed next."""
        times = [self._next_beat_ns, *self._exchange.wake_ns(), *self._joining.wake_ns(), *self._links.wake_ns()]
        if self._context.phase == "waiting":
            times += [self._edges.deadline(name) for name in self._edges.waits_for()]
        return min(times)

    @property
    def settled(self) -> bool:
        """Whether this robot is done and knows of none that still needs it."""
        known = self._presence.known()
        behind = any(round_ < self.config.last for round_ in known.values())
        offered = any(to in known for to, _ in self._exchange.out)
        return self._context.phase == "done" and not (behind or offered or self._exchange.coming or self.in_doubt)

    def keys(self) -> dict[str, bytes]:
        """Raw public keys (32 bytes) of the other robots that are members in this round; a transport proves them."""
        roster, round_ = self._context.roster, self.round
        return {
            robot.name: bytes.fromhex(robot.key)
            for robot in roster.robots
            if robot.holds(round_) and robot.name != self.own
        }

    @property
    def in_doubt(self) -> int:
        """Edges of which this robot does not know yet whether the other end, which is there, mixed them."""
        return sum(self._edges.doubts.about(name) for name in self._presence.known())

    @property
    def refusals(self) -> dict[str, Counter[str]]:
        """Refusals by robot ("?" for strangers) and reason."""
        return self._context.counts

    def status(self) -> dict[str, Any]:
        """Figures for a person, plain JSON values."""
        context, view = self._context, self._edges.view
        return {
            "robot": self.own,
            "run": context.roster.run,
            "round": self.round,
            "rounds": self.config.last,
            "phase": context.phase,
            "waits_for": sorted(self._edges.waits_for()) if context.phase == "waiting" else [],
            "plan": self.plan.hash,
            "view": view.hash,
            "absent": sorted(view.absent),
            "peers": {
                name: said | {"rejected": dict(context.counts.get(name, {}))}
                for name, said in self._presence.said().items()
            },
            "strangers": dict(context.counts.get("?", {})),
            "delays": self._links.matrix(),
            "in_doubt": self.in_doubt,
            "alarms": sorted(f"{what}: {peer}" for what, peer in context.alarms),
            "tally": dict(context.tally),
        }

    # ---- messages

    def _on_header(self, header: Header) -> None:
        first = self._presence.note(header)
        self._look()
        if first == "rebooted":
            self._edges.rebooted(header.sender)
        elif first == "new":
            self._exchange.say_again(header.sender)
        if first and self._context.phase != "left":
            self._beat(header.sender)
        if isinstance(header, Heartbeat):
            self._adoption.compare(header)
        elif isinstance(header, Offer) and header.mix == 0:
            self._joining.offered(header)
        elif isinstance(header, Offer):
            self._edges.on_offer(header)
        elif isinstance(header, Want):
            self._exchange.wanted(header)
        elif isinstance(header, Ack):
            self._edges.on_ack(header)
        elif isinstance(header, Pull):
            self._joining.serve(header, self.model)
        elif isinstance(header, Ping | Pong):
            self._links.heard(header)
        elif isinstance(header, Leave):
            self._edges.doubts.forget(lambda peer: peer == header.sender)
        if self._joining.near():
            self._begin()

    def _on_chunk(self, came_from: str, chunk: Chunk) -> None:
        incoming = self._exchange.chunk(came_from, chunk)
        if incoming is None:
            return
        self._links.came(incoming)
        offer = incoming.offer
        try:
            model = self._exchange.unpack(incoming, len(self._state) if offer.mix else self._size)
            if offer.mix:
                self._gate.model(self._form.model(model), self.model)
            else:
                self._gate.latest(model, self.model)
        except Refused as refused:
            if offer.mix:
                self._edges.give_up(offer, refused)
            else:
                self._joining.refuse(offer, refused)
        else:
            if offer.mix:
                self._edges.take(offer, model)
            else:
                self._go_on_from(offer, model)

    # ---- rounds

    def _begin(self) -> None:
        """Begin the next round, or end."""
        if self._adoption.adopt():
            self._follow(self._presence.absent(self.plan))
        ahead = self._presence.ahead()
        if ahead > self.config.behind:
            if self._closed_since_start < self.config.behind:
                self._join()
                return
            self._skip_to(self.round + ahead - 1)
        if self.round >= self.config.last:
            self._context.phase = "done"
            self._take_back()
            self._context.actions.append(Finished(self.round))
            return
        self._context.round += 1
        self._context.phase = "training"
        self._edges.take_early()
        if self.round <= self.config.rounds:
            self._context.actions.append(Train(self.round, self.model))
        else:
            self._trained(self.model, 0.0)

    def _skip_to(self, round_: int) -> None:
        """Go on in a later round with the own model: the number only says who waits for whom."""
        self._context.tally["skipped_ahead"] += 1
        self._edges.skip_to(round_)
        self._context.round = round_
        self._edges.forget_offers()
        self._edges.prune()

    def _trained(self, model: np.ndarray, loss: float) -> None:
        context = self._context
        context.phase = "waiting"
        sound = bool(np.isfinite(loss)) and model.shape == (self._size,) and bool(np.isfinite(model).all())
        context.alarm(
            "training", self.own, not sound, f"round {self.round} broke: its loss is {loss}, or its model NaN."
        )
        if not sound:  # the last good model stands in, here and for the neighbours
            context.tally["broken_rounds"] += 1
            model = self.model
        model = np.ascontiguousarray(model, np.float32)
        self._state = self._form.trained(self._state, self.model, model)
        self._edges.trained(self.round, self._state)

    def _advance(self) -> None:
        """Close rounds while that is possible."""
        while self._context.phase == "waiting" and not self._edges.waits_for():
            self._close()
            self._begin()
        if self._context.phase == "done":
            self._take_back()

    def _close(self) -> None:
        k, edges = self.round, self._edges
        heard, missing = edges.close(k)
        if edges.view.mixing is not None and k in edges.own and self._mix(k, heard):
            edges.say_mixed(heard)
        edges.forget_offers()
        edges.mixed(k, self._state)
        edges.prune(beyond=True)
        self._take_back()
        self._context.tally["rounds"] += 1
        self._closed_since_start += 1
        state = kept(self._context, self._gate, self._exchange, edges, self._state, self.plan.hash)
        self._context.actions += [Mixed(k, self.model, tuple(heard), tuple(missing)), Save(k, state)]

    def _mix(self, k: int, heard: dict[str, Received]) -> bool:
        """Mix; False, with an alarm, where that cannot be."""
        edges, view = self._edges, self._edges.view
        assert view.mixing is not None
        sent = {view.index(j): model for j, model in edges.sent(k, heard).items()}
        got = {view.index(j): here.model for j, here in heard.items()}
        try:
            self._state = view.mixing.mix(k, view.index(self.own), edges.own, got, sent)
        except InputError as error:
            self._context.alarm("mixing", self.own, True, f"round {k} could not be mixed: {error}")
            return False
        return True

    def _take_back(self) -> None:
        """Take back what the other ends have not mixed."""
        for change in self._edges.doubts.undone:
            self._state = self._state + change
        self._edges.doubts.undone = []

    # ---- the plan in force

    def _look(self) -> None:
        """Close the plan's gaps when robots went silent, left, or came back."""
        absent = self._presence.absent(self.plan)
        if absent != self._edges.view.absent:
            self._follow(absent)

    def _follow(self, absent: frozenset[str]) -> None:
        view = View(self.own, self._form, absent)
        why = f"this robot mixes with nobody for now: {view.problem}"
        self._context.alarm("too_few", self.own, view.problem is not None, why)
        members = self._context.roster.members(self.round)
        self._edges.follow(view)
        self._edges.doubts.forget(lambda peer: peer not in members)

    # ---- joining

    def _join(self) -> None:
        self._joining.start()
        self._beat(None)
        if not self._presence.others() or self._joining.near():
            self._begin()

    def _go_on_from(self, offer: Offer, model: np.ndarray) -> None:
        if self._joining.take(offer):
            self._state, self._context.round = self._form.begin(model), offer.of
            self._edges.reset()
            self._begin()

    def _beat(self, to: str | None) -> None:
        """Say that this robot is there, to one or to all."""
        plan, round_ = self._adoption.announced
        view = self._edges.view
        fields = {"plan": self.plan.hash, "view": view.hash, "absent": sorted(view.absent)}
        message = self._context.signed(Heartbeat, to, **fields, next_plan=plan, next_round=round_)
        for name in [to] if to else self._presence.others():
            self._context.put(name, message)
        if to is None:
            self._next_beat_ns = self._context.now + self.config.ns("beat_s")
