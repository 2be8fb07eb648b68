"""What changed between two sets of records, in buckets, so that a page of noise does not hide one doubled latency."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edgeflock.runtime.bench.record import BenchFile, Cell, Key, Measured, Missing
from edgeflock.runtime.errors import InputError

BUCKETS = (1.1, 1.2, 1.5, 2.0, 5.0, 10.0, float("inf"))
"""A change belongs to the first bucket that its factor is under; under 1.1 nothing changed."""

Metric = Literal["p50", "p90", "p99", "mean", "fps"]


@dataclass(frozen=True)
class Change:
    """One cell in both sets."""

    key: Key
    old: float
    new: float
    factor: float
    """How many times worse (positive direction, at least 1) or better."""
    worse: bool

    @property
    def bucket(self) -> float | None:
        """Upper end of its bucket; None: nothing changed."""
        if self.factor < BUCKETS[0]:
            return None
        return next(bound for bound in BUCKETS[1:] if self.factor < bound or bound == BUCKETS[-1])


@dataclass(frozen=True)
class Diff:
    """Two sets compared by one metric."""

    metric: Metric
    changes: list[Change]
    """Cells measured in both, worst first."""
    new: list[Key]
    gone: dict[Key, str | None]
    """Cells of the old set that are not measured in the new one, with the reason that a record gives, or None."""

    def failures(self, above: float) -> list[str]:
        """What a limit on the factor does not let pass: slower cells, and cells that went without a reason."""
        slow = [f"{c.key}: {c.factor:.2f} times worse" for c in self.changes if c.worse and c.factor > above]
        return slow + [f"{key}: gone, and no record says why" for key, reason in self.gone.items() if reason is None]


def cells(files: Iterable[BenchFile]) -> dict[Key, Cell]:
    """Cells by key; of a cell that was measured twice the later file counts."""
    return {cell.key(file.board.name): cell for file in files for cell in file.cells}


def value(cell: Measured, metric: Metric) -> float | None:
    """The metric of a cell: ms, or frames per second; None where too few samples were taken for it."""
    if metric == "fps":
        return cell.fps
    return cell.latency.mean_ms if metric == "mean" else cell.latency.percentiles[metric].ms


def compare(old: Iterable[BenchFile], new: Iterable[BenchFile], metric: Metric = "p50") -> Diff:
    """Compare two sets of records.

    Raises
    ------
    InputError
        They have no measured cell in common: other nets, boards or modes.
    """
    before = {key: cell for key, cell in cells(old).items() if isinstance(cell, Measured)}
    everything = cells(new)
    after = {key: cell for key, cell in everything.items() if isinstance(cell, Measured)}
    changes = []
    for key in before.keys() & after.keys():
        was, now = value(before[key], metric), value(after[key], metric)
        if was and now:
            ratio = was / now if metric == "fps" else now / was
            changes.append(Change(key, was, now, max(ratio, 1 / ratio), worse=ratio > 1))
    if before and after and not before.keys() & after.keys():
        raise InputError(
            f"The records have no cell in common: old has {next(iter(before))}, new has {next(iter(after))}. "
            "Compare records of one board (--board) and net."
        )
    changes.sort(key=lambda c: c.factor if c.worse else -c.factor, reverse=True)
    gone: dict[Key, str | None] = {}
    for key in sorted(before.keys() - after.keys(), key=str):
        cell = everything.get(key)
        gone[key] = cell.reason if isinstance(cell, Missing) else None
    return Diff(metric, changes, sorted(after.keys() - before.keys(), key=str), gone)
