"""Robots on two wheels obey speeds, cannot go through each other, and are seen."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from fadnet_sim.floor import RADIUS, Floor


def test_robots_obey_speeds_each_its_own():
    floor = Floor(np.array([[0, 0, 0], [2, 0, np.pi / 2], [4, 0, 0.3]]))
    for _ in range(60):
        floor.step(1 / 30, np.array([[0.5, 0], [0, 0.8], [0, 0]]))
    assert floor.twists == pytest.approx(np.array([[0.5, 0], [0, 0.8], [0, 0]]), abs=0.1)
    (x, y, heading), turned, stood = floor.poses
    assert 0.9 < x < 1.0 and abs(y) < 0.02 and abs(heading) < 0.02
    assert turned[:2] == pytest.approx([2, 0], abs=0.02) and 1.2 < turned[2] - np.pi / 2 < 1.6
    assert stood == pytest.approx([4, 0, 0.3], abs=1e-3) and floor.touches == 0


def test_two_robots_that_meet_touch_once_while_they_push():
    floor = Floor(np.array([[0, 0, 0], [3 * RADIUS, 0, np.pi]]))
    for _ in range(60):
        floor.step(1 / 30, np.array([[0.5, 0], [0.5, 0]]))
    apart = np.linalg.norm(floor.poses[0, :2] - floor.poses[1, :2])
    assert floor.touches >= 1 and apart == pytest.approx(2 * RADIUS, abs=0.02)
