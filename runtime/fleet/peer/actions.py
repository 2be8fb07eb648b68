"""What a peer wants done: the only way in which the machine of `round` touches the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflock.runtime.fleet.peer.wire import Code


@dataclass(frozen=True)
class Send:
    """Send bytes to a peer; they may get lost."""

    to: str
    message: bytes


@dataclass(frozen=True)
class Train:
    """Train from this model and call `Peer.trained` with the same round."""

    round: int
    model: np.ndarray


@dataclass(frozen=True)
class Mixed:
    """A round is over: the model after it, whose models are in it, and which neighbours were missing."""

    round: int
    model: np.ndarray
    heard: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Save:
    """A good moment to keep `Peer.state()` on disk."""

    round: int


@dataclass(frozen=True)
class Rejected:
    """Something from a peer was not taken; also counted."""

    peer: str
    code: Code
    why: str


@dataclass(frozen=True)
class Alarm:
    """Something that a person should see; said once, until it changes."""

    what: str
    peer: str
    why: str


@dataclass(frozen=True)
class Finished:
    """All rounds are done. The peer goes on answering, for those that are not."""

    round: int


Action = Send | Train | Mixed | Save | Rejected | Alarm | Finished
