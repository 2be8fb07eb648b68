"""Clutter: things beside the way of a world, of which they change nothing else."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from fadnet_sim.car import WIDTH
from fadnet_sim.clutter import strew
from fadnet_sim.rollout import rollout
from fadnet_sim.sim import Simulation
from fadnet_sim.world import make_world


@pytest.fixture(scope="module", params=[("indoor", 3), ("outdoor-wide", 7), ("tape", 9)], ids=lambda p: p[0])
def worlds(request):
    plain = make_world(*request.param)
    return plain, strew(plain)


def test_things_stand_beside_the_way_and_nothing_else_is_changed(worlds):
    plain, strewn = worlds
    assert strewn.scenery.startswith(plain.scenery) and strewn.textures is plain.textures and strewn.path is plain.path
    things = strewn.outline[len(plain.outline) :]
    assert len(things) > 4
    keep = plain.sideways + WIDTH / 2
    assert min(np.hypot(*(plain.path.points - corner).T).min() for thing in things for corner in thing) > keep
    if plain.half_road is not None:
        assert min(abs(plain.centreline.project(*t.mean(axis=0))[1]) for t in things) > plain.half_road


def test_the_expert_passes_them_and_who_drives_into_one_touches_it(worlds):
    plain, strewn = worlds
    assert rollout(strewn, None, 8.0).collisions == 0
    sim = Simulation(strewn)
    x, y = strewn.outline[len(plain.outline)].mean(axis=0)
    sim.data.qpos[:2] = x - 0.2, y
    sim.step(0.05, 0.0, 0.0)
    assert sim.collisions > 0


def test_indoors_things_stand_on_this_side_of_the_walls():
    plain = make_world("indoor", 3)
    strewn = strew(plain)
    reach = max(np.hypot(*(plain.centreline.points - edge).T).min() for edge in np.concatenate(plain.outline[:2]))
    for thing in strewn.outline[len(plain.outline) :]:
        assert np.hypot(*(plain.centreline.points - thing.mean(axis=0)).T).min() < reach
