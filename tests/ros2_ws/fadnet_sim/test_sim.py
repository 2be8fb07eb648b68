"""Physics: the car goes where Ackermann geometry says, contacts are counted, the expert comes back from pushes."""

import math

import numpy as np
import pytest

from fadnet_sim.car import ackermann
from fadnet_sim.expert import WHEELBASE, PurePursuit
from fadnet_sim.rollout import rollout
from fadnet_sim.sim import Simulation
from fadnet_sim.world import make_world


@pytest.fixture(scope="module")
def building():
    return make_world("indoor", 4)


@pytest.fixture(scope="module")
def road():
    return make_world("outdoor", 4)


def test_the_axes_of_both_front_wheels_meet_on_the_rear_axle():
    left, right = ackermann(0.4)
    radius = WHEELBASE / math.tan(0.4)
    assert WHEELBASE / math.tan(left) + 0.15 == pytest.approx(radius)
    assert WHEELBASE / math.tan(right) - 0.15 == pytest.approx(radius)


@pytest.mark.parametrize("angle", [-0.3, 0.0, 0.3])
def test_the_car_turns_as_a_bicycle_does(road, angle):
    sim = Simulation(road)
    sim.step(1.0, angle, 1.0)
    speed, yaw_rate = sim.twist
    assert speed == pytest.approx(1.0, rel=0.06)
    assert yaw_rate == pytest.approx(speed * math.tan(angle) / WHEELBASE, abs=0.12)


def test_time_is_exact_whatever_the_step(road):
    sim = Simulation(road)
    for _ in range(300):
        sim.step(1 / 30, 0.0, 0.5)
    assert sim.time_ns == pytest.approx(10e9, abs=2e6)


def test_the_same_commands_give_the_same_drive(building):
    ends = []
    for _ in range(2):
        sim = Simulation(building)
        for k in range(60):
            sim.step(1 / 30, 0.2 * math.sin(k / 10), 1.0)
        ends.append(sim.qpos.copy())
    assert (ends[0] == ends[1]).all()


def test_a_wall_is_one_collision_not_one_per_step(building):
    sim = Simulation(building)
    sim.reset(heading=math.pi / 2)
    sim.step(4.0, 0.0, 1.0)
    assert sim.collisions == 1


def test_leaving_the_road_is_a_collision(road):
    sim = Simulation(road)
    sim.reset(heading=-math.pi / 2)
    sim.step(2.0, 0.0, 1.0)
    assert sim.collisions >= 1


def test_the_expert_comes_back_after_a_push(building):
    sim, expert = Simulation(building), PurePursuit(building.path)
    sim.reset(lateral=0.45, heading=-0.2)
    errors = []
    for k in range(180):
        if k == 60:
            sim.push(-1.0)
        sim.step(1 / 30, expert(*sim.pose), 1.0)
        errors.append(abs(sim.lateral_error))
    assert max(errors[60:90]) > 0.05, "the push did not move the robot"
    assert max(errors[150:]) < 0.1
    assert sim.collisions == 0


def test_the_expert_drives_a_lap_without_collision(building, road):
    for world in (building, road):
        figures = rollout(world, None, 60)
        assert figures.collisions == 0
        assert figures.lateral_rms_m < 0.1
        assert figures.distance_m == pytest.approx(60, rel=0.08)


def test_no_state_is_ever_nan_under_random_commands(road):
    sim, rng = Simulation(road), np.random.default_rng(0)
    for _ in range(200):
        sim.step(1 / 30, rng.uniform(-2, 2), rng.uniform(-3, 3))
    assert np.isfinite(sim.qpos).all()
