"""Edges that were mixed here while the other end has not said yet whether it did, and what to take back if not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeflock.runtime.fleet.peer.context import Context


@dataclass(frozen=True, eq=False)
class Doubt:
    """An edge that was mixed here; `change` is to be added if the other end did not, which undoes it."""

    peer: str
    mix: int
    view: str | None
    change: np.ndarray


class Doubts:
    """Doubts of one peer.

    Attributes
    ----------
    undone : list of ndarray
        What undoes the edges that the other ends skipped; to be added.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._open: list[Doubt] = []
        self.undone: list[np.ndarray] = []

    def edges(self) -> set[tuple[str, int]]:
        """Neighbour and round of each."""
        return {(doubt.peer, doubt.mix) for doubt in self._open}

    def about(self, peer: str) -> int:
        """Edges with this neighbour that are in doubt."""
        return sum(doubt.peer == peer for doubt in self._open)

    def add(self, doubt: Doubt) -> None:
        """Wait for the other end's word."""
        self._open.append(doubt)

    def resolve(self, peer: str, mix: int, view: str | None, mixed: bool) -> None:
        """Take the other end's word."""
        for doubt in [one for one in self._open if (one.peer, one.mix, one.view) == (peer, mix, view)]:
            self._open.remove(doubt)
            if not mixed:
                self._context.tally["taken_back"] += 1
                self.undone.append(doubt.change)

    def forget(self, of: Callable[[str], bool]) -> None:
        """Give up waiting for the word of some robots."""
        self._open = [doubt for doubt in self._open if not of(doubt.peer)]

    def reset(self) -> None:
        """Forget all: the model is another one from now on."""
        self._open, self.undone = [], []
