"""The guard in the simulated building, without ROS: a blind robot stops at the walls, a good driver is let be."""

import pytest

pytest.importorskip("mujoco")

from edgeflock.runtime.safety.guard import Guard
from edgeflock.runtime.safety.limits import GuardLimits
from fadnet_sim.camera import SimCamera
from fadnet_sim.expert import PurePursuit
from fadnet_sim.sim import Simulation
from fadnet_sim.world import make_world

PERIOD_NS = 33_333_333


@pytest.fixture(scope="module")
def building():
    world = make_world("indoor", 4)
    camera = SimCamera(world, 64, 48)
    yield world, camera
    camera.close()


def drive(building, steer, seconds):
    """Returns the simulation and, per frame, why the robot stood (None: it drove)."""
    world, camera = building
    simulation = Simulation(world)
    forward, height, pitch = camera.look.forward, camera.look.height, camera.look.pitch
    guard = Guard(GuardLimits(camera_forward=forward, camera_height=height, camera_pitch=float(pitch)))
    reasons = []
    for n in range(seconds * 30):
        now = 10**9 + n * PERIOD_NS
        x, y, yaw = simulation.pose
        _, depth = camera.render(x, y, yaw, float(simulation.qpos[2]), index=n)
        guard.look(depth, camera.depth_intrinsics, now)
        guard.steer(steer(x, y, yaw), now)
        command = guard.command(now)
        reasons.append(command.reason)
        simulation.step(PERIOD_NS / 1e9, command.steering, command.speed)
    return simulation, reasons


@pytest.mark.parametrize("angle", [0.0, -0.3])
def test_a_blind_driver_stops_short_of_the_wall(building, angle):
    simulation, reasons = drive(building, lambda *_: angle, 4)
    assert simulation.collisions == 0
    assert "obstacle 0.3" in reasons[-1] and abs(simulation.speed) < 0.01  # of the 0.5 m, 0.15 m went into braking
    assert simulation.distance > 0.5


def test_a_good_driver_is_never_stopped(building):
    simulation, reasons = drive(building, PurePursuit(building[0].path), 5)
    assert set(reasons) == {None} and simulation.distance > 4.0
