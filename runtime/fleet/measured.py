"""What robots measured between each other, gathered from their status files, as a network to plan by."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeflock.runtime.errors import DataError

Pair = tuple[str, str]


@dataclass(frozen=True)
class Measured:
    """Delays and bandwidths from robot to robot.

    Attributes
    ----------
    robots : tuple of str
        By name.
    delay_ms : dict
        Of every pair.
    bandwidth_bps : dict
        Of every pair, or of none.
    notes : tuple of str
        What had to be assumed.
    """

    robots: tuple[str, ...]
    delay_ms: dict[Pair, float]
    bandwidth_bps: dict[Pair, float]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, files: Sequence[Path]) -> Measured:
        """Gather what stands in `status.json` of one robot or of several; of several the later written counts.

        Raises
        ------
        DataError
            A file is no such status, or a pair was not measured.
        """
        delay: dict[Pair, float] = {}
        bandwidth: dict[Pair, float] = {}
        for status, path in sorted(((_status(path), path) for path in files), key=lambda one: one[0]["time"]):
            try:
                for found, key in ((delay, "delay_ms"), (bandwidth, "bandwidth_bps")):
                    rows = status["delays"][key].items()
                    found |= {(a, b): float(value) for a, row in rows for b, value in row.items()}
            except (AttributeError, TypeError, ValueError, KeyError) as error:
                raise DataError(f"{path}: its delays are broken ({error}): copy it again.") from error
        robots = tuple(sorted({name for pair in delay for name in pair}))
        pairs = [(a, b) for a in robots for b in robots if a != b]
        missing = [f"{a} to {b}" for a, b in pairs if (a, b) not in delay]
        if missing or not pairs:
            raise DataError(
                f"not measured yet: {', '.join(missing[:6]) or 'any pair'}. Robots ping each other every ping_s (10 s) "
                "while `edgeflock fleet join` runs: wait, or give the status.json of all of them."
            )
        filled, notes = _filled(robots, pairs, bandwidth)
        return cls(robots, delay, filled, notes)

    def rows(self) -> Iterator[tuple[str, str, float, float | None]]:
        """From, to, delay in ms, bit/s or None."""
        for a in self.robots:
            for b in self.robots:
                if a != b:
                    yield a, b, self.delay_ms[a, b], self.bandwidth_bps.get((a, b))

    def to_json(self) -> str:
        """The network, for `edgeflock.runtime.fleet.plan.network`."""

        def matrix(values: dict[Pair, float]) -> list[list[float]]:
            return [[values.get((a, b), 0.0) for b in self.robots] for a in self.robots]

        content: dict[str, Any] = {"silos": self.robots, "delay_ms": matrix(self.delay_ms)}
        if self.bandwidth_bps:
            content["bandwidth_bps"] = matrix(self.bandwidth_bps)
        return json.dumps(content, indent=1) + "\n"


def _status(path: Path) -> dict[str, Any]:
    try:
        status = json.loads(path.read_bytes())
        float(status["time"]), status["delays"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no status of a robot ({type(error).__name__}: {error}): expected status.json from the --out of "
            "`edgeflock fleet join`."
        ) from error
    return status


def _filled(
    robots: Sequence[str], pairs: Sequence[Pair], measured: dict[Pair, float]
) -> tuple[dict[Pair, float], tuple[str, ...]]:
    """Bandwidth of every pair: one that exchanged no model is as fast as the slower of both ends is to others."""
    missing = [pair for pair in pairs if pair not in measured]
    if not missing:
        return measured, ()
    out = {name: max((bps for (a, _), bps in measured.items() if a == name), default=None) for name in robots}
    into = {name: max((bps for (_, b), bps in measured.items() if b == name), default=None) for name in robots}
    filled = dict(measured)
    for a, b in missing:
        ends = out[a], into[b]
        if ends[0] is None or ends[1] is None:
            why = f"{a} to {b}: no bandwidth was measured and none is assumed: they exchanged no models of 4 chunks yet"
            return {}, (why,)
        filled[a, b] = min(ends[0], ends[1])
    pairs_said = ", ".join(f"{a} to {b}" for a, b in missing)
    return filled, (f"{pairs_said}: these exchange no models; assumed is what the slower end reaches with others",)
