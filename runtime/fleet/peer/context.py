"""What the parts of one peer share: who and where it is, its pen, and what comes of an input."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeflock.runtime.bundle.signing import key_id
from edgeflock.runtime.fleet.peer import wire
from edgeflock.runtime.fleet.peer.actions import Action, Alarm, Rejected, Send
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.peer.roster import Roster
from edgeflock.runtime.fleet.peer.wire import Ack, Code, Header, Offer, Refused

AnyHeader = TypeVar("AnyHeader", bound=Header)
Phase = Literal["new", "joining", "training", "waiting", "done", "left"]


class Pen:
    """Signs this peer's messages, each with the next sequence number.

    Parameters
    ----------
    run, own : str
        Run of the roster, and name of this robot.
    boot : int
        Rises with every start of this robot.
    nonce : str
        8 hex digits, drawn at every start.
    key : Ed25519PrivateKey
    """

    def __init__(self, run: str, own: str, boot: int, nonce: str, key: Ed25519PrivateKey) -> None:
        self.boot, self._seq = boot, 0
        self._key = key
        self._same: dict[str, Any] = {"run": run, "sender": own, "boot": boot, "nonce": nonce}
        self._same["key"] = key_id(key.public_key().public_bytes_raw())

    def header(self, kind: type[AnyHeader], to: str | None, round_: int, **fields: Any) -> AnyHeader:
        """Header of a message that is still to be signed."""
        return kind(**self._same, to=to, seq=0, round=round_, **fields)

    def sign(self, header: Header, round_: int) -> bytes:
        """Bytes of a message under the next sequence number; one that is repeated states where the sender is now."""
        self._seq += 1
        return wire.encode(header.model_copy(update={"seq": self._seq, "round": round_}), self._key)


class Context:
    """Name, settings, time and round of a peer; the actions and counts that it collects.

    Attributes
    ----------
    round, phase
        Where the peer is.
    now : int
        Time of the input that is being worked on, ns.
    actions : list of Action
        What is to be done about it.
    counts : dict of str to Counter
        Refusals by peer ("?" for strangers) and reason.
    tally : Counter
        Other events.
    """

    def __init__(self, own: str, config: PeerConfig, roster: Roster, pen: Pen) -> None:
        self.own, self.config, self.roster, self.pen = own, config, roster, pen
        self.round, self.now = 0, 0
        self.phase: Phase = "new"
        self.actions: list[Action] = []
        self.counts: dict[str, Counter[str]] = {}
        self.tally: Counter[str] = Counter()
        self.alarms: set[tuple[str, str]] = set()

    def put(self, to: str, message: bytes) -> None:
        """Send bytes."""
        self.actions.append(Send(to, message))

    def write(self, kind: type[Header], to: str, **fields: Any) -> None:
        """Send a signed message."""
        self.put(to, self.signed(kind, to, **fields))

    def signed(self, kind: type[Header], to: str | None, **fields: Any) -> bytes:
        """Bytes of a signed message."""
        return self.pen.sign(self.pen.header(kind, to, self.round, **fields), self.round)

    def ack(self, offer: Offer, code: Code) -> None:
        """Tell its sender what became of an offer."""
        self.write(Ack, offer.sender, offer_boot=offer.boot, offer=offer.number, mix=offer.mix, code=code)

    def count(self, peer: str, code: str) -> None:
        """Count a refusal."""
        self.counts.setdefault(peer if peer in self.roster.names else "?", Counter())[code] += 1

    def refuse(self, peer: str, refused: Refused) -> None:
        """Count and tell what was not taken."""
        self.count(peer, refused.code.value)
        self.actions.append(Rejected(peer, refused.code, str(refused)))
        if refused.code == Code.TWO_ROBOTS:
            self.alarm("two_robots", peer, True, str(refused))

    def alarm(self, what: str, peer: str, on: bool, why: str) -> None:
        """Raise an alarm once, or end it."""
        if on and (what, peer) not in self.alarms:
            self.alarms.add((what, peer))
            self.actions.append(Alarm(what, peer, why))
        elif not on:
            self.alarms.discard((what, peer))

    def flush(self) -> list[Action]:
        """What is to be done, once."""
        actions, self.actions = self.actions, []
        return actions
