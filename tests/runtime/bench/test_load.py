"""The load generator: absolute schedules, dropped slots, late starts, queues that grow."""

import gc
import time
import tracemalloc

import numpy as np
import pytest

from edgeflock.runtime.bench.load import Timing, at_rate, back_to_back, grown_ns, max_throughput, warm_up


def busy(ms):
    """A call that takes this long."""

    def call():
        end = time.perf_counter_ns() + int(ms * 1e6)
        while time.perf_counter_ns() < end:
            pass

    return call


def test_back_to_back_begins_the_next_frame_when_the_last_is_done():
    timing = back_to_back(busy(1), 0.1, run_ns=1_000_000)
    assert 5 < len(timing.begun) <= 101
    assert np.all(timing.begun[1:] >= timing.ended[:-1])
    assert timing.service.min() >= 1_000_000
    assert timing.dropped == timing.late == 0


def test_back_to_back_ends_after_its_time_even_when_runs_take_longer_than_expected():
    assert len(back_to_back(busy(30), 0.02, run_ns=1_000).begun) == 1
    assert len(back_to_back(lambda: None, 0.01, run_ns=10**9).begun) == 64  # and when the arrays are full


def test_the_paced_schedule_is_absolute():
    timing = at_rate(busy(2), 0.4, 50, queue=False)
    slots = (timing.due - timing.due[0]) / 20e6
    assert np.allclose(slots, np.round(slots), atol=1e-4)
    assert len(timing.due) + timing.dropped == 20
    assert np.all(timing.begun >= timing.due)
    assert np.array_equal(timing.response, timing.service + timing.begun - timing.due)


def test_slots_that_pass_meanwhile_are_dropped_and_the_newest_frame_is_answered():
    timing = at_rate(busy(25), 0.5, 100, queue=False)  # every answer takes two and a half slots
    assert len(timing.due) + timing.dropped == 50
    assert timing.dropped >= 25
    assert np.all(
        timing.begun - timing.due < 20e6 + 25e6
    )  # a machine under load wakes up late, the backlog stays short


def test_a_queue_answers_every_frame_and_its_waiting_time_grows():
    timing = at_rate(busy(10), 0.2, 200, queue=True)
    assert (len(timing.due), timing.dropped) == (40, 0)
    assert grown_ns(timing) > 50e6
    assert timing.late > 30


def test_the_idle_gap_is_slept_not_spun():
    timing = at_rate(lambda: None, 0.5, 20, queue=False)
    assert timing.cpu_ns < 0.2 * timing.seconds * 1e9


def test_late_starts_are_counted_from_their_slot():
    due = np.array([0, 10_000_000])
    timing = Timing(due, due + np.array([900_000, 1_100_000]), due + 2_000_000, cpu_ns=0)
    assert timing.late == 1


def test_the_throughput_is_a_rate_whose_queue_does_not_grow():
    found = max_throughput(busy(4), 0.3, run_ns=4_000_000, trial_s=0.15)
    assert 25 <= found.rate_hz <= 250
    assert grown_ns(found.timing) <= 1e9 / found.rate_hz
    assert not found.trials[0].sustained or found.rate_hz == pytest.approx(250)
    assert found.trials[-1].sustained


def test_the_warm_up_ends_when_the_time_per_run_has_settled():
    calls = iter(range(10**6))

    def call():  # the first runs take ten times longer, like clocks that ramp up
        time.sleep(0.01 if next(calls) < 20 else 0.001)

    warm = warm_up(call, seconds=20, least=0.05)
    assert warm.runs > 5 * 16 - 1
    assert warm.run_ns < 8_000_000


def test_a_warm_up_that_does_not_settle_says_so():
    rng = np.random.default_rng(0)
    warm = warm_up(lambda: time.sleep(rng.choice([0.0002, 0.01])), seconds=0.3)
    assert warm.seconds >= 0.3 or warm.steady
    assert not warm_up(busy(20), seconds=0.05).steady


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
