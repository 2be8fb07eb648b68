"""The load: when a frame is offered, and the clock around it.

Three ways to offer frames, because they answer different questions (docs/benchmark.md):

- back to back, the next frame when the last is done: what the silicon can do with warm caches;
- paced, on a camera's schedule with an idle gap: what a robot sees. A slot that was missed is dropped, as a
  subscription that keeps the newest frame does it;
- at a rate with every frame queued: what a stream of that rate sees. The highest rate whose queue does not grow is the
  throughput, and its latency is stated with it.

Inside the timed loops the garbage collector is off and no array or container is allocated.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from edgeflock.runtime.errors import EdgeflockError

Call = Callable[[], object]

LATE_NS = 1_000_000  # a frame begun 1 ms after its slot counts as late
BLOCK = 16  # runs whose medians the warm-up compares
STEADY = 0.03  # relative change between block medians under which the warm-up ends
STEADY_BLOCKS = 4


@dataclass(frozen=True)
class WarmUp:
    """How the warm-up went."""

    runs: int
    seconds: float
    steady: bool
    """Whether the time per run had settled before the time was up."""
    run_ns: int
    """Median of the last block."""


@dataclass(frozen=True)
class Timing:
    """What one load measured; all times in ns of the monotonic clock."""

    due: np.ndarray
    """(n,) when each frame was offered; back to back: when it was begun."""
    begun: np.ndarray
    ended: np.ndarray
    cpu_ns: int
    """CPU time of the whole process, all threads, harness included."""
    dropped: int = 0
    """Slots that passed while an earlier frame was still being answered."""

    @property
    def service(self) -> np.ndarray:
        """(n,) how long each run took."""
        return self.ended - self.begun

    @property
    def response(self) -> np.ndarray:
        """(n,) from the slot of a frame to its answer: waiting and waking included."""
        return self.ended - self.due

    @property
    def late(self) -> int:
        """Frames begun more than 1 ms after their slot."""
        return int(np.count_nonzero(self.begun - self.due > LATE_NS))

    @property
    def seconds(self) -> float:
        """From the first slot to the last answer."""
        return (self.ended[-1] - self.due[0]) / 1e9


def warm_up(call: Call, seconds: float = 30.0, least: float = 0.3) -> WarmUp:
    """Run until the time per run has settled: medians of four blocks in a row within 3 % of each other.

    Parameters
    ----------
    call : callable
        One run.
    seconds, least : float
        The longest and the shortest time to take; clocks that ramp up settle late.
    """
    clock = time.perf_counter_ns
    begin, medians, runs = clock(), array("q"), 0
    while True:
        times = array("q", bytes(8 * BLOCK))
        for i in range(BLOCK):
            start = clock()
            call()
            times[i] = clock() - start
            if (clock() - begin) / 1e9 > seconds:
                times = times[: i + 1]
                break
        runs += len(times)
        medians.append(int(np.median(times)))
        spent, recent = (clock() - begin) / 1e9, medians[-STEADY_BLOCKS:]
        steady = len(recent) == STEADY_BLOCKS and max(recent) - min(recent) <= STEADY * min(recent)
        if (steady and spent >= least) or spent >= seconds:
            return WarmUp(runs, spent, steady, medians[-1])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No garbage collection: a collection in the loop would be charged to a frame."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def back_to_back(call: Call, seconds: float, run_ns: int) -> Timing:
    """Offer the next frame when the last is done.

    Parameters
    ----------
    call : callable
        One run.
    seconds : float
        How long; at least one run is made.
    run_ns : int
        About what one run takes, for the size of the arrays: they hold twice the runs that fit.
    """
    room = max(64, math.ceil(2e9 * seconds / max(run_ns, 1)))
    begun, ended = array("q", bytes(8 * room)), array("q", bytes(8 * room))
    clock, n = time.perf_counter_ns, 0
    with _quiet():
        cpu = time.process_time_ns()
        end = clock() + round(seconds * 1e9)
        for n in range(room):
            begun[n] = clock()
            call()
            ended[n] = clock()
            if ended[n] >= end:
                break
        cpu = time.process_time_ns() - cpu
    starts = np.array(begun[: n + 1])
    return Timing(starts, starts, np.array(ended[: n + 1]), cpu)


def at_rate(call: Call, seconds: float, rate_hz: float, queue: bool) -> Timing:
    """Offer frames on a fixed schedule, asleep between them.

    Parameters
    ----------
    call : callable
        One run.
    seconds : float
        How long; at least two frames are offered.
    rate_hz : float
        Frames per second. The schedule is absolute: a late frame does not move those after it.
    queue : bool
        True: every frame is answered, in order, however late. False: of the frames that became due meanwhile only the
        newest is answered, the others are dropped.
    """
    frames = max(2, round(seconds * rate_hz))
    period = 1e9 / rate_hz
    due, begun, ended = (array("q", bytes(8 * frames)) for _ in range(3))
    clock, sleep, n, slot = time.perf_counter_ns, time.sleep, 0, 0
    with _quiet():
        cpu = time.process_time_ns()
        start = clock() + int(period)
        while slot < frames:
            offered = start + int(slot * period)
            wait = offered - clock()
            if wait > 0:
                sleep(wait / 1e9)
            due[n] = offered
            begun[n] = clock()
            call()
            ended[n] = clock()
            slot += 1
            if not queue:
                slot = max(slot, int((ended[n] - start) / period))  # the newest frame that is there by now
            n += 1
        cpu = time.process_time_ns() - cpu
    return Timing(np.array(due[:n]), np.array(begun[:n]), np.array(ended[:n]), cpu, dropped=min(slot, frames) - n)


@dataclass(frozen=True)
class Trial:
    """One rate that the search for the throughput tried."""

    rate_hz: float
    sustained: bool
    grown_ms: float
    """By how much the queueing time grew from the first quarter of the trial to the last."""


@dataclass
class Throughput:
    """The highest rate found whose queue does not grow, and its latencies."""

    rate_hz: float
    timing: Timing
    trials: list[Trial] = field(default_factory=list)


def grown_ns(timing: Timing) -> float:
    """Growth of the time that frames wait in the queue: median of the last quarter less that of the first."""
    waited = timing.begun - timing.due
    quarter = max(1, len(waited) // 4)
    return float(np.median(waited[-quarter:]) - np.median(waited[:quarter]))


def max_throughput(call: Call, seconds: float, run_ns: int, trial_s: float = 1.0) -> Throughput:
    """Search the highest rate that can be sustained, then measure there for `seconds`.

    A rate is sustained when the queue does not grow by more than one period. The search bisects between half of and
    the whole of the back-to-back rate; where the long measurement shows a queue that a short trial did not, the rate is
    lowered by 3 % and measured again.

    Raises
    ------
    EdgeflockError
        Not even a tenth of the back-to-back rate can be sustained: something else holds the machine.
    """
    full = 1e9 / run_ns
    trials: list[Trial] = []

    def attempt(rate: float, duration: float) -> tuple[bool, Timing]:
        if rate < full / 10:
            raise EdgeflockError(
                f"Not even {rate:.3g} frames per second can be sustained, of {full:.3g} back to back: something else "
                f"keeps this machine busy. Look at its load (top) and measure again."
            )
        timing = at_rate(call, max(duration, 16 / rate), rate, queue=True)
        growth = grown_ns(timing)
        trials.append(Trial(round(rate, 3), growth <= 1e9 / rate, round(growth / 1e6, 4)))
        return trials[-1].sustained, timing

    low, high, rate = 0.0, full, full
    while low == 0.0 or high - low > 0.02 * full:
        sustained, _ = attempt(rate, trial_s)
        low, high = (rate, high) if sustained else (low, rate)
        rate = (low + high) / 2
    rate = low
    while True:
        sustained, timing = attempt(rate, seconds)
        if sustained:
            return Throughput(round(rate, 3), timing, trials)
        rate *= 0.97
