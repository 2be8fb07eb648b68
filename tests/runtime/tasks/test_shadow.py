"""A candidate in the shadow of what drives."""

import numpy as np
import pytest

from edgeflock.runtime.tasks.shadow import ShadowLimits, shadow
from edgeflock.runtime.tasks.steering import Steering

FRAMES = [np.full((4, 4), i, np.uint8) for i in range(20)]
ANGLES = np.linspace(-0.2, 0.2, 20)


def policy(off=0.0, ms=1.0, broken=()):
    def answer(frame):
        i = int(frame[0, 0])
        return Steering(np.nan if i in broken else ANGLES[i] + off * (-1) ** i, round(ms * 1e6))

    return answer


def problems(candidate, **limits):
    return shadow(policy(0.01), candidate, FRAMES, ANGLES).problems(ShadowLimits(**limits))


def test_one_that_steers_as_well_and_as_fast_may_drive():
    assert problems(policy(-0.01, ms=1.2)) == []


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        (policy(0.011), "RMSE is 0.011 rad, 0.01"),
        (policy(0.01, ms=1.6), "takes 1.6 ms a frame, 1 what drives now"),
        (policy(0.0, broken=[3, 7]), "2 of 20 answers are not finite"),
    ],
)
def test_one_that_is_worse_slower_or_broken_must_not(candidate, said):
    assert any(said in problem for problem in problems(candidate))


def test_limits_can_be_widened():
    assert problems(policy(0.011, ms=1.6), worse=0.2, slower=2) == []


def test_the_figures_are_of_both():
    found = shadow(policy(0.01, ms=1), policy(0.03, ms=2), FRAMES, ANGLES)
    assert (found.frames, found.driving_ms, found.candidate_ms) == (20, 1, 2)
    np.testing.assert_allclose([found.driving_rmse, found.candidate_rmse, found.apart], [0.01, 0.03, 0.02], rtol=1e-6)
