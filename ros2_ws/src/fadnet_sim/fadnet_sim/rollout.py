"""Closed loop without ROS, in one process: how well a driver keeps to a world's path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fadnet_sim.scene import World

from .sim import Simulation

View = Callable[..., np.ndarray]
"""Maps x m, y m and yaw rad of the base, and `index=`, the frame's number, to a frame (h, w, 3) uint8 RGB."""


@dataclass(frozen=True)
class Rollout:
    """Figures of one drive; lateral error in m, measured at the rear axle once per frame."""

    distance_m: float
    collisions: int
    lateral_rms_m: float
    lateral_max_m: float


def rollout(
    world: World,
    see: Callable[[np.ndarray], float] | None,
    duration_s: float,
    *,
    speed: float = 1.0,
    fps: float = 30.0,
    size: tuple[int, int] = (640, 480),
    ends: bool = False,
    view: View | None = None,
) -> Rollout:
    """Drive from the start of the path.

    Parameters
    ----------
    world : World
        Where to drive.
    see : callable or None
        Maps a frame (h, w, 3) uint8 RGB to the steering angle in rad. None: the expert drives.
    duration_s : float
        Simulated seconds.
    speed : float
        m/s.
    fps : float
        Frames, and so commands, per second.
    size : (int, int)
        Width and height of the frames, px.
    ends : bool
        The first collision ends the drive.
    view : callable, optional
        What renders the frames, see `View`; by default MuJoCo does, of this size.
    """
    sim, expert = Simulation(world), world.expert
    camera = None
    if see is not None and view is None:
        from .camera import SimCamera

        camera = SimCamera(world, *size)
        view = camera.color
    errors = []
    for index in range(round(duration_s * fps)):
        x, y, yaw = sim.pose
        angle = expert(x, y, yaw) if see is None or view is None else see(view(x, y, yaw, index=index))
        sim.step(1 / fps, angle, speed)
        errors.append(sim.lateral_error)
        if ends and sim.collisions:
            break
    if camera is not None:
        camera.close()
    error = np.abs(errors)
    return Rollout(sim.distance, sim.collisions, float(np.sqrt((error**2).mean())), float(error.max()))
