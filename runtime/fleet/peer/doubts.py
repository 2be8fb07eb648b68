"""Edges of closed rounds whose other end has not said yet whether it mixed, and what is to be added once it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeflock.runtime.fleet.peer.context import Context


@dataclass(frozen=True, eq=False)
class Doubt:
    """A round closed before the other end said whether it mixed; `change` is to be added if it did."""

    peer: str
    mix: int
    view: str | None
    change: np.ndarray


class Doubts:
    """Doubts of one peer.

    Attributes
    ----------
    late : list of ndarray
        What the other ends have mixed in the meantime; to be added.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._open: list[Doubt] = []
        self.late: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._open)

    def edges(self) -> set[tuple[str, int]]:
        """Neighbour and round of each."""
        return {(doubt.peer, doubt.mix) for doubt in self._open}

    def about(self, peer: str) -> bool:
        """Whether an edge with this neighbour is in doubt."""
        return any(doubt.peer == peer for doubt in self._open)

    def add(self, doubt: Doubt) -> None:
        """Wait for the other end's word."""
        self._context.tally["doubts"] += 1
        self._open.append(doubt)

    def resolve(self, peer: str, mix: int, view: str | None, mixed: bool) -> None:
        """Take the other end's word."""
        for doubt in [one for one in self._open if (one.peer, one.mix, one.view) == (peer, mix, view)]:
            self._open.remove(doubt)
            self._context.tally["doubts_mixed" if mixed else "doubts_skipped"] += 1
            if mixed:
                self.late.append(doubt.change)

    def forget(self, of: Callable[[str], bool]) -> None:
        """Give up waiting for the word of some robots."""
        self._open = [doubt for doubt in self._open if not of(doubt.peer)]

    def reset(self) -> None:
        """Forget all: the model is another one from now on."""
        self._open, self.late = [], []
