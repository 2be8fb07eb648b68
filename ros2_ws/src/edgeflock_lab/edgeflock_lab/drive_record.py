"""The record of one drive: what the monitor heard, the figures that follow from it, and the JSON of `--json`.

Frames are counted by stamp, never by rate: a frame is a `camera_info` stamp, and it is dropped when no steering
carries the same stamp. Latency runs from the stamp of the frame to the arrival of its command at the monitor (the
middleware's receive time). In lock-step the stamps are simulated time, so there it runs from the arrival of the
frame's `camera_info` to the arrival of its command: the chain transport, steering, guard, in wall time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgeflock.runtime.files import write_atomically

LEAP_M = 0.5  # between two odometry messages: far more than a robot drives, far less than it is to the next corridor


class Path2D(Protocol):
    """A closed reference path: `project(x, y)` gives arc length and signed lateral error, both in metres."""

    points: np.ndarray
    length: float

    def project(self, x: float, y: float) -> tuple[float, float]:
        """Arc length and lateral error (left positive), m."""
        ...


class LateralError(BaseModel):
    """Distance from the reference path in metres; null where there is no path."""

    rms: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, metres: np.ndarray) -> LateralError:
        """RMS and largest absolute value of signed errors (n,)."""
        if not len(metres):
            return cls()
        return cls(rms=round(float(np.sqrt(np.mean(metres**2))), 4), max=round(float(np.abs(metres).max()), 4))


class LatencyPercentiles(BaseModel):
    """Percentiles in milliseconds; null where no frame was answered."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, milliseconds: np.ndarray) -> LatencyPercentiles:
        """Percentiles (the nearest sample above, so that p99 is a latency that occurred) of an array (n,)."""
        if not len(milliseconds):
            return cls()
        values = np.percentile(milliseconds, [50, 90, 99, 100], method="higher")
        return cls(**dict(zip(("p50", "p90", "p99", "max"), (round(float(v), 3) for v in values), strict=True)))


class DriveRecord(BaseModel):
    """The JSON of one drive. What does not apply (a recording has no world and no ground truth) is null."""

    model_config = ConfigDict(extra="forbid")

    world: str | None
    seed: int | None
    duration_s: float
    distance_m: float | None
    collisions: int | None
    clear_m: float | None
    clear_s: float | None
    lateral_error_m: LateralError
    frames: int
    frames_dropped: int
    latency_ms: LatencyPercentiles
    engine: str | None
    precision: str | None
    bundle_sha256: str | None

    @property
    def exit_code(self) -> int:
        """0 without a collision, 3 with one."""
        return 3 if self.collisions else 0

    def write(self, path: str | Path) -> None:
        """Write the record as JSON, making the folder it lies in."""
        write_atomically(Path(path), self.model_dump_json(indent=2) + "\n")


@dataclass
class DriveTrace:
    """All that the monitor heard in one drive; stamps are ns of the run's clock, arrivals ns of the wall clock."""

    lockstep: bool = False
    frames: dict[int, int] = field(default_factory=dict)  # camera_info stamp -> arrival
    steering: dict[int, float] = field(default_factory=dict)  # frame stamp -> rad
    commands: dict[int, int] = field(default_factory=dict)  # frame stamp -> arrival of its first command
    odometry: list[tuple[int, float, float, float]] = field(default_factory=list)  # stamp, x m, y m, speed m/s
    collisions: list[tuple[int, float, float]] = field(default_factory=list)  # stamp, x m, y m of each new one
    engine: str | None = None
    precision: str | None = None
    bundle_sha256: str | None = None


@dataclass(frozen=True)
class Drive:
    """The part of a trace between start and end, and what it was driven in."""

    trace: DriveTrace
    start_ns: int
    end_ns: int
    world: str | None = None
    seed: int | None = None
    path: Path2D | None = None
    outline: list[np.ndarray] = field(default_factory=list)

    def _inside(self, stamp: int) -> bool:
        return self.start_ns <= stamp < self.end_ns

    @cached_property
    def track(self) -> np.ndarray:
        """Positions (n, 2) in metres."""
        return np.array([(x, y) for stamp, x, y, _ in self.trace.odometry if self._inside(stamp)]).reshape(-1, 2)

    @cached_property
    def lateral_error(self) -> np.ndarray:
        """Signed lateral error (n,) in metres at each position; empty without a path."""
        return np.array([self.path.project(x, y)[1] for x, y in self.track]) if self.path else np.empty(0)

    @cached_property
    def latency_ms(self) -> np.ndarray:
        """Latency (n,) in milliseconds of each frame that was answered by a command."""
        sent = self.trace.frames if self.trace.lockstep else {stamp: stamp for stamp in self.trace.frames}
        received = self.trace.commands
        return np.array([received[s] - sent[s] for s in sent if self._inside(s) and s in received]) / 1e6

    @property
    def frame_period_ms(self) -> float | None:
        """Median time between frames; None with fewer than two."""
        stamps = sorted(stamp for stamp in self.trace.frames if self._inside(stamp))
        return float(np.median(np.diff(stamps))) / 1e6 if len(stamps) > 1 else None

    @property
    def clear_ns(self) -> int:
        """Stamp of the first collision, or of the end where there was none."""
        return min((stamp for stamp, *_ in self.trace.collisions if self._inside(stamp)), default=self.end_ns)

    @property
    def clear_m(self) -> float:
        """Way along the path, in its direction, until the first collision; a leap to another stretch is no way."""
        assert self.path is not None
        track = [(x, y) for t, x, y, _ in self.trace.odometry if self._inside(t) and t < self.clear_ns]
        steps = np.diff([self.path.project(x, y)[0] for x, y in track])
        half = self.path.length / 2
        steps = (steps + half) % self.path.length - half
        return float(steps[np.abs(steps) < LEAP_M].sum())

    @property
    def collisions(self) -> list[tuple[float, float]]:
        """Where the robot was at each collision, m."""
        return [(x, y) for stamp, x, y in self.trace.collisions if self._inside(stamp)]

    def record(self) -> DriveRecord:
        """The figures of this drive."""
        frames = [stamp for stamp in self.trace.frames if self._inside(stamp)]
        simulated = self.path is not None
        return DriveRecord(
            world=self.world,
            seed=self.seed,
            duration_s=round((self.end_ns - self.start_ns) / 1e9, 3),
            distance_m=round(float(np.hypot(*np.diff(self.track, axis=0).T).sum()), 3) if simulated else None,
            collisions=len(self.collisions) if simulated else None,
            clear_m=round(self.clear_m, 3) if simulated else None,
            clear_s=round((self.clear_ns - self.start_ns) / 1e9, 3) if simulated else None,
            lateral_error_m=LateralError.of(self.lateral_error),
            frames=len(frames),
            frames_dropped=sum(stamp not in self.trace.steering for stamp in frames),
            latency_ms=LatencyPercentiles.of(self.latency_ms),
            engine=self.trace.engine,
            precision=self.trace.precision,
            bundle_sha256=self.trace.bundle_sha256,
        )
