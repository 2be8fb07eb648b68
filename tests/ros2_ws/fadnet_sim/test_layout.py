"""A course of constant width: edges keep their distance, corners are square or round, a car gets around them."""

import numpy as np
import pytest

from fadnet_sim.layout import Course
from fadnet_sim.path import ReferencePath, resample

WIDTHS = (0.5, 1.2, 5.0)


def grown(seed, width):
    tightest = max(0.6, width / 2 + 0.15)
    return Course.grow(
        np.random.default_rng(seed), length=60, width=width, apart=(0.6, 2.0), jitter=0.25,
        radius=(tightest, tightest + 0.8), inside=max(0.6, width / 2), square=0.5,
    )  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("seed", range(4))
def test_both_edges_are_half_the_width_from_the_middle_everywhere(seed, width):
    course = grown(seed, width)
    middle = resample(course.edge(0.0))
    for side in (1, -1):
        edge = resample(course.edge(side * width / 2))
        nearest = np.array([np.hypot(*(middle - point).T).min() for point in edge])
        assert nearest.min() > width / 2 - 0.03
        assert nearest.max() < width / 2 * np.sqrt(2) + 0.4, "a mitre reaches further out than a corner does"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("seed", range(4))
def test_a_car_that_turns_on_half_a_metre_gets_around(seed, width):
    course = grown(seed, width)
    path = ReferencePath(course.path())
    assert np.abs(path.curvature).max() < np.tan(0.6) / 0.36
    assert 35 < path.length < 90


def test_square_corners_are_as_many_as_asked_for():
    course = Course.grow(
        np.random.default_rng(1), length=60, width=1.0, apart=(1.0, 1.0), jitter=0.0, radius=(0.7, 0.9), inside=0.6,
        square=1.0,
    )  # fmt: skip
    edge = course.edge(0.3)
    sides = np.roll(edge, -1, axis=0) - edge
    assert (np.abs(sides).min(axis=1) < 1e-9).all()
