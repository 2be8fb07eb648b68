"""Stamps are taken as long as they run as the recorder's clock does; else the recorder's, or nothing at all."""

import numpy as np
import pytest

from edgeflock.export.datasets.clocks import HEADER, RECORDER, choose_clock
from edgeflock.runtime.errors import DataError

N, PERIOD = 90, 1 / 30


def topic(delay_s=0.005, jitter_s=0.004):
    """(N, 2) stamps and recorder's times at 30 Hz, each message a little late."""
    seen = 1.7e9 + PERIOD * np.arange(N)
    return np.column_stack([seen, seen + delay_s + jitter_s * np.random.default_rng(0).random(N)])


@pytest.mark.parametrize("step_s", [-1.5, -0.4, -0.1, 0.5, 3600.0])
def test_stamps_that_jump_are_left_for_the_recorders_clock(step_s):
    times = topic()
    times[45:, HEADER] += step_s
    clock, note = choose_clock({"/image": times, "/steering": topic()}, "run")
    assert clock == RECORDER and note.startswith(f"/image: its stamps jump by {step_s:+.2f} s")


def test_stamps_that_drift_are_left_for_the_recorders_clock():
    times = topic()
    times[:, HEADER] += np.linspace(0, 0.5, N)
    clock, note = choose_clock({"/image": times}, "run")
    assert clock == RECORDER and "drift by" in note


def test_late_and_lost_messages_do_not_shake_the_stamps():
    times = topic()
    times[30:50, RECORDER] = times[50, RECORDER]  # held up for 0.7 s, then all at once
    times[60, RECORDER] += 0.03
    times = np.delete(times, [70, 71, 72, 73, 74, 75, 76, 77, 78], axis=0)
    assert choose_clock({"/image": times}, "run") == (HEADER, None)
    swapped = topic()
    swapped[[20, 21], HEADER] = swapped[[21, 20], HEADER]  # one out of turn
    assert choose_clock({"/image": swapped}, "run") == (HEADER, None)


def test_a_constant_distance_of_the_clocks_is_none_of_its_business():
    assert choose_clock({"/image": topic(delay_s=3600.0), "/steering": topic()}, "run") == (HEADER, None)


def test_a_missing_stamp_means_the_recorders_clock():
    times = topic()
    times[:, HEADER] = 0.0
    assert choose_clock({"/image": topic(), "/steering": times}, "run") == (RECORDER, None)


def test_a_recorder_whose_own_clock_was_set_back_is_refused():
    times = topic()
    times[45:, RECORDER] -= 1.0  # the stamps are another machine's and go on
    times = times[np.argsort(times[:, RECORDER])]
    with pytest.raises(DataError, match=r"run, topic /image: .*the recorder's clock was set back"):
        choose_clock({"/image": times}, "run")
