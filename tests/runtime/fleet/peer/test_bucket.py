import pytest

from edgeflock.runtime.fleet.peer.bucket import BURST_S, Bucket

S = 10**9


def test_over_time_no_more_than_the_rate_passes():
    bucket = Bucket(1000.0, 0)
    asked_ns = range(0, 100 * S, S // 1000)  # for a hundred times as much
    passed = sum(100 for now_ns in asked_ns if bucket.take(100, now_ns))
    assert passed == pytest.approx(1000 * (100 + BURST_S), rel=0.01)


def test_what_was_not_used_is_saved_for_a_burst():
    bucket = Bucket(1000.0, 0)
    assert all(bucket.take(1000, 50 * S) for _ in range(int(BURST_S)))
    assert not bucket.take(1000, 50 * S)
    assert bucket.take(1000, 51 * S)


def test_a_message_that_is_larger_than_the_burst_still_passes_and_is_paid_off():
    bucket = Bucket(1000.0, 0)
    assert bucket.take(56_000, 0)
    assert not bucket.take(56_000, 50 * S)
    assert bucket.take(56_000, 57 * S)


def test_without_a_rate_everything_passes():
    bucket = Bucket(0.0, 0)
    assert all(bucket.take(10**9, 0) for _ in range(100))
