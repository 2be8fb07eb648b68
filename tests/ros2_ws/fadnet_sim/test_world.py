"""Worlds: the same seed gives the same world, the path is closed and free, the way on is never ambiguous."""

import numpy as np
import pytest

from edgeflock.runtime.errors import InputError
from fadnet_sim.car import WIDTH
from fadnet_sim.world import make_world

WORLDS = [("indoor", 2), ("indoor", 7), ("outdoor", 2), ("outdoor", 5)]


@pytest.mark.parametrize(("kind", "seed"), WORLDS)
def test_a_seed_gives_the_same_world_twice_and_another_seed_another(kind, seed):
    first, again, other = make_world(kind, seed), make_world(kind, seed), make_world(kind, seed + 2)
    assert first.mjcf == again.mjcf
    assert all((first.textures[name] == image).all() for name, image in again.textures.items())
    assert first.mjcf != other.mjcf


@pytest.mark.parametrize(("kind", "seed"), WORLDS)
def test_the_path_is_closed_smooth_and_long_enough_for_a_minute(kind, seed):
    path = make_world(kind, seed).path
    gaps = np.hypot(*(np.roll(path.points, -1, axis=0) - path.points).T)
    assert path.length > 60
    assert gaps.max() < 1.5 * path.spacing
    assert np.abs(path.curvature).max() < np.tan(0.6) / 0.36, "a turn tighter than the robot can steer"


@pytest.mark.parametrize(("kind", "seed"), WORLDS)
def test_the_robot_passes_everything_along_the_path(kind, seed):
    world = make_world(kind, seed)
    edges = np.concatenate(world.outline)
    clearance = [np.hypot(*(edges - point).T).min() for point in world.path.points[::10]]
    assert min(clearance) > WIDTH / 2 + 0.15


def test_corridors_keep_apart_so_that_there_is_one_way_on():
    for seed in range(0, 8, 2):
        centre = make_world("indoor", seed).centreline
        step = round(4.0 / centre.spacing)
        for shift in range(step, len(centre.points) - step, 10):
            distance = np.hypot(*(centre.points - np.roll(centre.points, shift, axis=0)).T)
            assert distance.min() > 2.0, f"seed {seed}: two stretches of the corridor meet"


def test_unknown_worlds_are_refused():
    with pytest.raises(InputError, match="indoor"):
        make_world("moon", 1)
    with pytest.raises(InputError, match="seed"):
        make_world("indoor", -1)
