"""A base is brought to its way and kept there, within its limits."""

import math

import numpy as np
import pytest

from choreography.tracking import Limits, Track, command

FREE = Limits(10, 20)


def driven(ahead, limits, seconds=6.0, dt=0.02):
    """Distances from the way of a circle in 8 s that a base drives, from 0.3 m beside it and the wrong way round."""
    pose, off = np.array([1.3, 0.0, -1.0]), []
    for t in np.arange(0, seconds, dt):
        angle = t * math.tau / 8
        goal = np.array([math.cos(angle), math.sin(angle), angle + math.pi / 2])
        rate = np.array([-math.sin(angle), math.cos(angle), 1.0]) * math.tau / 8
        along, left, yaw_rate = command(pose, goal, rate, ahead, 3.0, limits)
        assert math.hypot(along, left) <= limits.speed + 1e-9 and abs(yaw_rate) <= limits.yaw_rate + 1e-9
        assert not (ahead and left)
        c, s = math.cos(pose[2]), math.sin(pose[2])
        pose = pose + dt * np.array([c * along - s * left, s * along + c * left, yaw_rate])
        off.append(math.dist(goal[:2], pose[:2] + ahead * np.array([math.cos(pose[2]), math.sin(pose[2])])))
    return off, pose


@pytest.mark.parametrize("ahead", [0.0, 0.1])
def test_it_comes_to_the_way_and_keeps_to_it(ahead):
    off, _ = driven(ahead, Limits(1.5, 4))
    assert off[0] > 0.2 and max(off[150:]) < 0.03


def test_a_base_that_goes_anywhere_also_takes_the_heading():
    _, pose = driven(0.0, Limits(1.5, 4))
    assert math.remainder(pose[2] - 6 * math.tau / 8 - math.pi / 2, math.tau) == pytest.approx(0, abs=0.05)


def test_what_is_too_fast_keeps_its_direction():
    pose, goal = np.zeros(3), np.array([5.0, 5.0, 0])
    free, limited = (command(pose, goal, np.zeros(3), 0.1, 3.0, limits) for limits in (FREE, Limits(0.5, 1)))
    assert limited[2] <= 1 and limited[2] / limited[0] == pytest.approx(free[2] / free[0])


def test_a_track_tells_where_to_be_and_the_shorter_turn():
    poses = np.array([[0, 0, 3.0], [1, 2, -3.0]])
    track = Track(np.array([10**9, 2 * 10**9]), poses, np.array([[0, 0, 0], [2.0, 4, 1]]))
    goal, rate = track.at(1_500_000_000)
    assert goal[:2].tolist() == [0.5, 1] and abs(goal[2]) == pytest.approx(math.pi)
    assert rate.tolist() == [1, 2, 0.5]
    assert track.at(999_999_999) is None and track.at(2_000_000_001) is None
