"""MiniWorld's corridors: rooms in a ring that open wholly into one another, around a way that a car can drive."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from fadnet_sim.miniworld import build
from fadnet_sim.rollout import rollout


@pytest.mark.parametrize(("seed", "width"), [(0, 2.25), (1, 3.25)])
def test_rooms_meet_along_the_whole_width_and_hold_the_way(seed, width):
    world, rooms = build(seed, width)
    west, east, south, north = np.array(rooms).T
    for a, b in zip(range(len(rooms)), np.roll(range(len(rooms)), -1), strict=True):
        shared = min(east[a], east[b]) - max(west[a], west[b]), min(north[a], north[b]) - max(south[a], south[b])
        assert sorted(shared) == [0, width]
    for x, y in world.path.points:
        assert ((west < x) & (x < east) & (south < y) & (y < north)).any()


def test_the_expert_gets_around_and_a_wall_ends_a_drive():
    world, _ = build(0, 2.25)
    assert rollout(world, None, 20.0, ends=True).collisions == 0
    straight_on = rollout(world, lambda _: 0.0, 20.0, ends=True, view=lambda *_, **__: np.empty(0))
    assert straight_on.collisions == 1 and straight_on.distance_m < 15
