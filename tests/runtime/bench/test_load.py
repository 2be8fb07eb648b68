"""The load generator: absolute schedules, dropped slots, late starts, queues that grow."""

import gc
import tracemalloc

import numpy as np
import pytest

from edgeflock.runtime.bench import load
from edgeflock.runtime.bench.load import Timing, at_rate, back_to_back, grown_ns, max_throughput, warm_up
from edgeflock.runtime.errors import EdgeflockError


class Clock:
    """Time that passes only in calls and sleeps: what is measured does not depend on the machine's load."""

    def __init__(self):
        self.ns = 0

    def perf_counter_ns(self):
        return self.ns

    process_time_ns = perf_counter_ns

    def sleep(self, seconds):
        self.ns += round(seconds * 1e9)

    def busy(self, ms):
        """A call that takes this long."""
        return lambda: self.sleep(ms / 1e3)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(load, "time", clock)
    gc.freeze()  # the load collects before it measures, and the suite has much to look through
    yield clock
    gc.unfreeze()


def test_back_to_back_begins_the_next_frame_when_the_last_is_done(clock):
    timing = back_to_back(clock.busy(1), 0.1, run_ns=1_000_000)
    assert len(timing.begun) == 100
    assert np.array_equal(timing.begun[1:], timing.ended[:-1])
    assert np.all(timing.service == 1_000_000)
    assert timing.dropped == timing.late == 0


def test_back_to_back_ends_after_its_time_even_when_runs_take_longer_than_expected(clock):
    assert len(back_to_back(clock.busy(30), 0.02, run_ns=1_000).begun) == 1
    assert len(back_to_back(lambda: None, 0.01, run_ns=10**9).begun) == 64  # and when the arrays are full


def test_the_paced_schedule_is_absolute(clock):
    timing = at_rate(clock.busy(2), 0.4, 50, queue=False)
    assert np.array_equal(timing.due - timing.due[0], np.arange(20) * 20_000_000)
    assert timing.dropped == 0
    assert np.array_equal(timing.begun, timing.due)
    assert np.array_equal(timing.response, timing.service + timing.begun - timing.due)


def test_a_late_frame_does_not_move_those_after_it(clock):
    late = iter([13, *[2] * 19])
    timing = at_rate(lambda: clock.sleep(next(late) / 1e3), 0.2, 100, queue=True)
    assert np.array_equal(timing.begun - timing.due, [0, 3_000_000, *[0] * 18])
    assert timing.late == 1


def test_slots_that_pass_meanwhile_are_dropped_and_the_newest_frame_is_answered(clock):
    timing = at_rate(clock.busy(25), 0.5, 100, queue=False)  # every answer takes two and a half slots
    assert len(timing.due) + timing.dropped == 50
    assert timing.dropped == 30
    assert set(timing.begun - timing.due) == {0, 5_000_000}


def test_a_queue_answers_every_frame_and_its_waiting_time_grows(clock):
    timing = at_rate(clock.busy(10), 0.2, 200, queue=True)
    assert (len(timing.due), timing.dropped) == (40, 0)
    assert np.array_equal(timing.begun - timing.due, np.arange(40) * 5_000_000)
    assert grown_ns(timing) == 30 * 5e6
    assert timing.late == 39


def test_the_idle_gap_is_slept_not_spun():
    timing = at_rate(lambda: None, 0.5, 20, queue=False)
    assert timing.cpu_ns < 0.2 * timing.seconds * 1e9


def test_late_starts_are_counted_from_their_slot():
    due = np.array([0, 10_000_000])
    timing = Timing(due, due + np.array([900_000, 1_100_000]), due + 2_000_000, cpu_ns=0)
    assert timing.late == 1


def test_the_throughput_is_the_back_to_back_rate_where_that_can_be_sustained(clock):
    found = max_throughput(clock.busy(4), 0.3, run_ns=4_000_000, trial_s=0.15)
    assert found.rate_hz == 250
    assert [trial.sustained for trial in found.trials] == [True, True]


def test_the_throughput_is_a_rate_whose_queue_does_not_grow(clock):
    found = max_throughput(clock.busy(5), 0.3, run_ns=4_000_000, trial_s=0.5)  # back to back it was faster
    assert found.rate_hz == pytest.approx(200, rel=0.03)
    assert not found.trials[0].sustained and found.trials[-1].sustained
    assert grown_ns(found.timing) <= 1e9 / found.rate_hz


def test_a_queue_that_a_short_trial_did_not_show_lowers_the_rate(clock):
    calls = iter(range(10**6))
    slowing = lambda: clock.sleep(0.004 if next(calls) < 40 else 0.005)  # noqa: E731
    found = max_throughput(slowing, 3, run_ns=4_000_000, trial_s=0.15)
    assert found.trials[0].sustained and not found.trials[1].sustained
    assert 190 < found.rate_hz <= 206 and found.trials[-1].sustained


def test_a_machine_that_sustains_nothing_is_said(clock):
    with pytest.raises(EdgeflockError, match="something else keeps this machine busy"):
        max_throughput(clock.busy(100), 0.1, run_ns=4_000_000)


def test_the_warm_up_ends_when_the_time_per_run_has_settled(clock):
    calls = iter(range(10**6))
    # the first runs take ten times longer, like clocks that ramp up
    warm = warm_up(lambda: clock.sleep(0.01 if next(calls) < 20 else 0.001), seconds=20, least=0.05)
    assert (warm.runs, warm.run_ns, warm.steady) == (5 * 16, 1_000_000, True)


def test_a_warm_up_that_does_not_settle_says_so(clock):
    calls = iter(range(10**6))
    warm = warm_up(lambda: clock.sleep(0.001 * 1.01 ** next(calls)), seconds=0.3)
    assert warm.seconds >= 0.3 and not warm.steady
    assert not warm_up(clock.busy(20), seconds=0.05).steady


def test_nothing_is_allocated_or_collected_in_the_loop():
    seen = []

    def call():
        seen.append(gc.isenabled()) if len(seen) < 1 else None

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        back_to_back(call, 0.05, run_ns=1_000)
        at_rate(call, 0.05, 1000, queue=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == [False] and gc.isenabled()
    assert peak - before < 5e6  # the arrays of times, made before the loop; a million runs would hold 100 MB of floats


def test_the_collector_is_on_again_after_an_error():
    with pytest.raises(ZeroDivisionError):
        back_to_back(lambda: 1 / 0, 0.1, run_ns=1_000)
    assert gc.isenabled()
