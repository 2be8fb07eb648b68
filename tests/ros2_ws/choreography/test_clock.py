"""The music clock: nothing but its own time moves it, and late messages do not."""

import numpy as np
import pytest

from choreography.clock import Follower, Keeper


def test_the_keeper_goes_on_stands_still_and_is_wound():
    song = Keeper(100.0, -3.0, playing=True)
    assert song.position(104.0) == 1.0
    song.play(104.0, False)
    assert song.position(200.0) == 1.0
    song.play(200.0, True)
    assert song.position(201.5) == 2.5
    song.wind(201.5, -3.0)
    assert song.position(202.5) == -2.0


def test_a_follower_with_another_clock_keeps_to_the_quickest_messages():
    delays = np.random.default_rng(0).exponential(0.03, 200)
    song = Follower()
    assert song.position(0.0) is None
    errors = []
    for n, delay in enumerate(delays):
        sent = n * 0.05
        song.hear(9000 + sent + delay, sent - 3.0, True)
        errors.append(sent + delay - 3.0 - song.position(9000 + sent + delay))
    assert min(errors) >= 0 and max(errors[40:]) < 0.006  # of delays of 0.03 s on average, 0.15 s at most
    assert song.position(9000 + 15.0) == pytest.approx(12.0, abs=0.006)  # the keeper fell silent: the dance goes on


def test_a_follower_comes_along_when_the_song_is_wound_or_stopped():
    song = Follower()
    song.hear(10.0, 5.0, True)
    song.hear(10.1, -3.0, True)
    assert song.position(10.1) == pytest.approx(-3.0)
    song.hear(11.0, -2.5, False)
    assert song.position(20.0) == -2.5
    song.hear(21.0, -2.5, True)
    assert song.position(22.0) == pytest.approx(-1.5)
