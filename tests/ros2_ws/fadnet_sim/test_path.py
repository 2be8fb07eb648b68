"""The reference path: lateral error is signed, measured at the nearest point, left positive."""

import numpy as np
import pytest

from fadnet_sim.path import ReferencePath

ANGLE = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
CIRCLE = ReferencePath(5 * np.stack([np.cos(ANGLE), np.sin(ANGLE)], axis=1))


def test_a_circle_has_its_length_and_curvature():
    assert CIRCLE.length == pytest.approx(2 * np.pi * 5, rel=1e-3)
    assert CIRCLE.curvature == pytest.approx(np.full(len(CIRCLE.curvature), 0.2), rel=0.02)


@pytest.mark.parametrize("lateral", [-1.0, -0.2, 0.0, 0.3, 2.0])
def test_projection_is_the_inverse_of_stepping_aside(lateral):
    for s in (0.0, 3.3, 20.0, 31.0):
        (x, y), heading, _ = CIRCLE.at(s)
        x, y = x - lateral * np.sin(heading), y + lateral * np.cos(heading)
        back, error = CIRCLE.project(x, y)
        assert error == pytest.approx(lateral, abs=1e-3)
        assert (back - s + CIRCLE.length / 2) % CIRCLE.length - CIRCLE.length / 2 == pytest.approx(0, abs=0.05)
