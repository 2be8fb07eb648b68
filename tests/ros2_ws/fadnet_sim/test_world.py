"""Worlds: the same seed gives the same world, the path is closed and free, the way on is never ambiguous."""

from functools import cache

import numpy as np
import pytest

from edgeflock.runtime.errors import InputError
from fadnet_sim.car import WIDTH
from fadnet_sim.rollout import rollout
from fadnet_sim.sim import Simulation
from fadnet_sim.world import make_world

WIDE = [("indoor-wide", 1), ("indoor-wide", 2), ("outdoor-wide", 7)]  # corridors of 1.2 and 2 m, a lane of 0.7 m
LONG = [("indoor", 2), ("indoor", 7), ("outdoor", 2), ("outdoor", 5), *WIDE]
TAPE = [("tape", 2), ("tape", 9)]  # two lines with square corners, and one line
kept = cache(make_world)


@pytest.mark.parametrize(("kind", "seed"), [*LONG[:4], *TAPE[:1]])
def test_a_seed_gives_the_same_world_twice_and_another_seed_another(kind, seed):
    first, again, other = kept(kind, seed), make_world(kind, seed), make_world(kind, seed + 2)
    assert first.mjcf == again.mjcf
    assert all((first.textures[name] == image).all() for name, image in again.textures.items())
    assert first.mjcf != other.mjcf


@pytest.mark.parametrize(("kind", "seed"), LONG + TAPE)
def test_the_path_is_closed_smooth_and_long_enough_for_a_minute(kind, seed):
    path = kept(kind, seed).path
    gaps = np.hypot(*(np.roll(path.points, -1, axis=0) - path.points).T)
    assert path.length > (20 if kind == "tape" else 60)  # a room is driven through again and again
    assert gaps.max() < 1.5 * path.spacing
    assert np.abs(path.curvature).max() < np.tan(0.6) / 0.36, "a turn tighter than the robot can steer"


@pytest.mark.parametrize(("kind", "seed"), LONG)
def test_the_robot_passes_everything_along_the_path(kind, seed):
    world = kept(kind, seed)
    edges = np.concatenate(world.outline)
    clearance = [np.hypot(*(edges - point).T).min() for point in world.path.points[::10]]
    assert min(clearance) > WIDTH / 2 + 0.15


@pytest.mark.parametrize(("kind", "seed"), WIDE)
def test_in_worlds_of_a_wider_range_the_expert_steers_harder_and_touches_nothing(kind, seed):
    usual, wide = (kept(k, s).expert for k, s in ((kind.removesuffix("-wide"), 2), (kind, seed)))
    hardest = [max(abs(e(*p, h)) for p, h in zip(e.path.points, e.path.heading, strict=True)) for e in (usual, wide)]
    assert hardest[1] > 1.4 * hardest[0]
    drive = rollout(kept(kind, seed), None, 20.0)
    assert drive.collisions == 0 and drive.lateral_max_m < 0.2


def test_corridors_keep_apart_so_that_there_is_one_way_on():
    for seed in range(0, 8, 2):
        centre = make_world("indoor", seed).centreline
        step = round(4.0 / centre.spacing)
        for shift in range(step, len(centre.points) - step, 10):
            distance = np.hypot(*(centre.points - np.roll(centre.points, shift, axis=0)).T)
            assert distance.min() > 2.0, f"seed {seed}: two stretches of the corridor meet"


@pytest.mark.parametrize(("kind", "seed"), TAPE)
def test_on_tape_the_expert_keeps_to_the_lane_and_beyond_it_counts_as_a_collision(kind, seed):
    world = kept(kind, seed)
    drive = rollout(world, None, 20.0)
    assert drive.distance_m > 15 and drive.collisions == 0 and drive.lateral_max_m < world.half_road
    sim = Simulation(world)
    for lateral, collisions in ((0.9 * world.half_road, 0), (1.1 * world.half_road, 1)):
        sim.reset(lateral=lateral)
        sim.step(0.02, 0.0, 0.0)
        assert sim.collisions == collisions


@pytest.mark.parametrize(("kind", "seed", "lines"), [("tape", 2, 2), ("tape", 9, 1)])
def test_tape_stands_out_from_the_floor_in_grey(kind, seed, lines):
    world = kept(kind, seed)
    grey = world.textures["floor"] @ np.array([0.299, 0.587, 0.114])
    reach = len(grey) / 2
    scale = reach / float(np.abs(world.outline[lines]).max() + 0.5)  # the walls come after the lines
    assert len(world.outline[lines]) == 4
    for line in world.outline[:lines]:
        column, row = np.rint(reach + line * (1, -1) * scale).astype(int).T
        assert abs(np.median(grey[row, column]) - np.median(grey)) > 40


def test_tape_is_laid_in_one_or_two_lines_near_or_far_on_floors_that_shine_or_do_not():
    worlds = [kept("tape", seed) for seed in (2, 6, 9)]
    assert {len(world.outline[1]) == 4 for world in worlds} == {True, False}
    assert {"reflectance" in world.scenery for world in worlds} == {True, False}
    assert min(world.lane for world in worlds) < 0.6 and max(world.lane for world in worlds) > 1.0


def test_unknown_worlds_are_refused():
    with pytest.raises(InputError, match="indoor"):
        make_world("moon", 1)
    with pytest.raises(InputError, match="seed"):
        make_world("indoor", -1)
