"""The accept gate: whose messages and which models are taken.

A message passes by its run, the roster's keys, its signature and an anti-replay window over (boot, sequence); a model
by being finite and by lying where models of this fleet lie. Everything else is counted by its reason.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeflock.runtime.fleet.peer.roster import Roster
from edgeflock.runtime.fleet.peer.wire import Code, Refused, Signed

WINDOW = 1024
"""Messages by which one may be overtaken on the way, as in RFC 4303 (3.4.3)."""


@dataclass
class Window:
    """Sequence numbers that were seen; those too old to tell count as seen."""

    highest: int = 0
    seen: int = (1 << WINDOW) - 1

    def fresh(self, seq: int) -> bool:
        """Whether a number is new; it is not, the next time."""
        if seq > self.highest:
            shift = min(seq - self.highest, WINDOW)
            self.seen = ((self.seen << shift) | 1) & ((1 << WINDOW) - 1)
            self.highest = seq
            return True
        bit = 1 << (self.highest - seq)
        if self.highest - seq >= WINDOW or self.seen & bit:
            return False
        self.seen |= bit
        return True


@dataclass
class Boots:
    """What one peer's name has sent: the latest start of its machine, and the one before."""

    boot: int = -1
    nonce: str = ""
    window: Window = field(default_factory=Window)
    before: Window = field(default_factory=Window)

    def check(self, boot: int, nonce: str, seq: int) -> None:
        """Refuse what was seen before: REPLAY; or what comes from another machine of the same name: TWO_ROBOTS."""
        if boot > self.boot:
            self.before = self.window
            self.boot, self.nonce, self.window = boot, nonce, Window(seen=0)
        if (boot, nonce) == (self.boot, self.nonce):
            if not self.window.fresh(seq):
                raise Refused(Code.REPLAY, f"message {seq} of boot {boot} came before.")
        elif boot == self.boot or seq > self.before.highest:
            self.before.highest = max(seq, self.before.highest)
            raise Refused(Code.TWO_ROBOTS, f"two machines speak under one name: boots {boot} and {self.boot}.")
        else:
            raise Refused(Code.REPLAY, f"message {seq} is of boot {boot}, the latest is {self.boot}.")

    def state(self) -> list[Any]:
        """What to keep over a restart, as JSON values."""
        return [self.boot, self.nonce, self.window.highest]

    @classmethod
    def restored(cls, state: list[Any]) -> Boots:
        """From what was kept: all up to the highest number counts as seen."""
        boot, nonce, highest = state
        return cls(boot, nonce, Window(highest))


class Gate:
    """What this peer takes from others.

    Parameters
    ----------
    own : str
        Name of this peer.
    roster : Roster
    grace : int
        Rounds by which a sender may be behind when its key changes.
    norm_factor : float
        A model is refused when its norm is so many times above or below what is usual here.
    distance_factor : float
        Or when it is so many times as far from the own model as is usual, and farther than the own model is long.
    """

    def __init__(self, own: str, roster: Roster, grace: int, norm_factor: float, distance_factor: float) -> None:
        self.own, self.roster, self.grace = own, roster, grace
        self.boots: dict[str, Boots] = {}
        self._norm_factor, self._distance_factor = norm_factor, distance_factor
        self._norms: deque[float] = deque(maxlen=63)
        self._distances: deque[float] = deque(maxlen=63)

    def message(self, message: Signed, came_from: str, round_: int) -> None:
        """Let a message in, or refuse it: UNKNOWN_PEER, RUN, ADDRESSEE, KEY, SIGNATURE, REPLAY or TWO_ROBOTS.

        Parameters
        ----------
        message : Signed
        came_from : str
            Name that the transport gives to the sender.
        round_ : int
            This peer's.
        """
        header = message.header
        if header.sender != came_from or header.sender not in self.roster.names or header.sender == self.own:
            raise Refused(Code.UNKNOWN_PEER, f"{came_from} sends in the name of {header.sender}: not in the roster.")
        if header.run != self.roster.run:
            raise Refused(Code.RUN, f"{came_from} is in the run '{header.run}', this is '{self.roster.run}'.")
        if header.to not in (None, self.own):
            raise Refused(Code.ADDRESSEE, f"{came_from} sends what is for {header.to}.")
        robot = self.roster.keys(header.sender).get(header.key)
        if robot is None:
            raise Refused(Code.KEY, f"{header.sender} signs with the key {header.key}, not in the roster.")
        message.verify(bytes.fromhex(robot.key))  # before its round is believed
        if not (robot.holds(header.round) and (robot.holds(round_) or abs(round_ - header.round) <= self.grace)):
            raise Refused(Code.KEY, f"the key {header.key} of {header.sender} is not in force in round {round_}.")
        self.boots.setdefault(header.sender, Boots()).check(header.boot, header.nonce, header.seq)

    def model(self, model: np.ndarray, own: np.ndarray) -> None:
        """Let a model in, or refuse it: NONFINITE, NORM or DISTANCE.

        A fleet begins with one model and mixes, so its models lie near each other; one of zeros, a sign-flipped or a
        huge one does not. The own norm counts beside the usual one, so that nets may grow in training.
        """
        norm, here = self.latest(model, own), _norm(own)
        apart = _norm(model.astype(np.float64) - own)
        common = float(np.median(self._distances)) if self._distances else 0.0
        if apart > max(here, 1e-6) and apart > self._distance_factor * common:
            raise Refused(Code.DISTANCE, f"a model is {apart:.3g} from the own one, usual is {common:.3g}.")
        self._norms.append(norm)
        self._distances.append(apart)

    def latest(self, model: np.ndarray, own: np.ndarray) -> float:
        """Norm of a model to go on from, which may lie far from the own one; or refuse it: NONFINITE or NORM."""
        if not np.isfinite(model).all():
            raise Refused(Code.NONFINITE, "a model holds NaN or infinity.")
        norm, here = _norm(model), _norm(own)
        usual = float(np.median(self._norms)) if self._norms else here
        factor = self._norm_factor
        if not min(usual, here) / factor <= norm <= max(usual, here) * factor + 1e-6:
            raise Refused(Code.NORM, f"a model has the norm {norm:.3g}, usual is {usual:.3g}, the own has {here:.3g}.")
        return norm


def _norm(vector: np.ndarray) -> float:
    return float(np.sqrt(np.einsum("i,i->", vector, vector, dtype=np.float64)))
