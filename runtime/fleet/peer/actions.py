"""What a peer wants done: the only way in which the machine of `round` touches the world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeflock.runtime.fleet.peer.wire import Code

State = tuple[dict[str, np.ndarray], dict[str, Any]]
"""Arrays by name, and plain JSON values."""


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
    """Keep this on disk: what a restart needs to go on after this round."""

    round: int
    state: State


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
