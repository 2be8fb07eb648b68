"""Who is there: when each robot was heard last, in which round it was, and which plan it follows."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from edgeflock.runtime.fleet.peer.context import Context
from edgeflock.runtime.fleet.peer.wire import Header, Heartbeat, Leave
from edgeflock.runtime.fleet.plan.schedule import Plan


class Presence:
    """What one peer knows of the others' being there.

    Attributes
    ----------
    rounds : dict of str to int
        Round in which each robot was when it was heard last.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._silent_ns = context.config.ns("silent_s")
        self._heard: dict[str, int] = {}
        self._boots: dict[str, int] = {}
        self._left: set[str] = set()
        self._beats: dict[str, Heartbeat] = {}
        self.rounds: dict[str, int] = {}

    def start(self) -> None:
        """Give everybody the benefit of the doubt from now on."""
        self._heard = dict.fromkeys(self.others(), self._context.now)

    def others(self) -> list[str]:
        """Members of the roster in this round but for this robot."""
        return [name for name in self._context.roster.members(self._context.round) if name != self._context.own]

    def note(self, header: Header) -> Literal["new", "rebooted"] | None:
        """Note a sign of life; says when it is the first one of a robot or of its next boot: it is to be greeted."""
        sender = header.sender
        before = self._boots.get(sender)
        first = before != header.boot
        self._heard[sender] = self._context.now
        self._boots[sender] = header.boot
        self.rounds[sender] = header.round if first else max(header.round, self.rounds[sender])
        if isinstance(header, Leave):
            self._left.add(sender)
            del self._boots[sender]  # greeted again when it comes back
            return None
        self._left.discard(sender)
        if isinstance(header, Heartbeat):
            self._beats[sender] = header
        return None if not first else "new" if before is None else "rebooted"

    def said(self) -> dict[str, dict[str, Any]]:
        """What every other robot said last of itself, plain JSON values; no round: nothing was heard of it yet."""
        found: dict[str, dict[str, Any]] = {}
        for name in self.others():
            found[name] = {"round": self.rounds.get(name), "left": name in self._left}
            if name in self.rounds:
                found[name]["silent_s"] = round((self._context.now - self._heard[name]) / 1e9, 3)
            if beat := self._beats.get(name):
                found[name] |= {"plan": beat.plan, "view": beat.view, "absent": list(beat.absent)}
        return found

    def absent(self, plan: Plan) -> frozenset[str]:
        """Robots of a plan that left, are silent for long, or have no key in force."""
        members, now = set(self._context.roster.members(self._context.round)), self._context.now
        return frozenset(
            name
            for name in plan.roster
            if name != self._context.own
            and (name not in members or name in self._left or now - self._heard.setdefault(name, now) > self._silent_ns)
        )

    def known(self) -> dict[str, int]:
        """Rounds of the robots that were heard of late."""
        now = self._context.now
        return {name: self.rounds[name] for name in self._boots if now - self._heard[name] <= self._silent_ns}

    def ahead(self) -> int:
        """Rounds by which most of the others are ahead."""
        known = list(self.known().values())
        return int(np.median(known)) - self._context.round if known else 0

    def against(self, plan: Plan, at_round: int) -> list[str]:
        """Robots of a plan that are there and said last that they do not follow it from that round on."""
        there = self.known()
        return [
            name
            for name in plan.roster
            if name in there and (beat := self._beats.get(name)) is not None
            if beat.plan != plan.hash and (beat.next_plan, beat.next_round) != (plan.hash, at_round)
        ]
