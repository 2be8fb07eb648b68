"""Worlds that others drew: corridors of MiniWorld's rooms and textures, in its light, by its renderer.

MiniWorld (Chevalier-Boisvert et al. 2023, arXiv:2306.13831) brings rooms but no way around them, so the course is ours:
a closed corridor of one width whose corners are all square.
"""

from __future__ import annotations

import io
import math
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any

import numpy as np

from edgeflock.runtime.errors import MissingExtra
from fadnet_sim.scene import Scene, World, assemble

from .camera import Exposure
from .interior import bounds
from .layout import Course
from .path import ReferencePath

LENGTH = 60.0  # m
TEXTURES = {
    "wall": ("brick_wall", "cardboard", "cinder_blocks", "concrete", "drywall", "marble", "stucco", "wood_planks"),
    "floor": ("asphalt", "concrete", "floor_tiles_bw", "grass", "marble", "rock", "wood", "wood_planks"),
    "ceil": ("ceiling_tiles", "concrete_tiles", "drywall"),
}
_GRID = 64  # of a metre: an opening must end where its wall ends, so nothing of a corner may be rounded off

Room = tuple[float, float, float, float]
"""West, east, south and north, m."""


def build(seed: int, width: float) -> tuple[World, list[Room]]:
    """Make a corridor of a width (m, a multiple of 1/32) a world to drive in.

    Returns
    -------
    world : World
        What the robot touches, and its camera, which is as in our own buildings.
    rooms : list of Room
        What `MiniWorldCamera` draws: one at every corner and one between, along the way.
    """
    rng = np.random.default_rng([seed, 8])
    course = Course.grow(
        rng, length=LENGTH, width=width, apart=(0.8, 2.0), jitter=0.0, radius=(width, width), inside=width / 2 + 0.15,
        square=1.0,
    )  # fmt: skip
    corners = np.round(course.corners * _GRID) / _GRID
    before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
    corners = corners[(np.sign(before) != np.sign(after)).any(axis=1)]
    course = replace(course, corners=corners, radius=np.zeros(len(corners)))
    scene = Scene(assets=['<material name="floor"/>'])
    scene.ground(float(np.abs(corners).max() + width), "floor")
    for side in (1, -1):
        edge = course.edge(side * width / 2)
        scene.outline.append(edge)
        bounds(scene, edge, side)
    points = course.path()
    between = np.hypot(*(points - (corners[-1] + corners[0]) / 2).T)
    path = ReferencePath(np.roll(points, -int(between.argmin()), axis=0))  # a drive begins between two corners
    world = assemble("indoor", seed, rng, scene, path, path, None, ambient=0.5, head=0.1, fog=np.full(3, 0.5))
    return world, _rooms(corners, width / 2)


def _rooms(corners: np.ndarray, half: float) -> list[Room]:
    rooms = []
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ahead = np.sign(b - a)
        between, beside = np.array([a + half * ahead, b - half * ahead]), half * np.abs(ahead[::-1])
        for low, high in ((a - half, a + half), (between.min(axis=0) - beside, between.max(axis=0) + beside)):
            rooms.append((float(low[0]), float(high[0]), float(low[1]), float(high[1])))
    return rooms


class MiniWorldCamera:
    """Draws rooms as MiniWorld does, seen by the camera of a world's robot; rolled it cannot be.

    Parameters
    ----------
    world : World
        Its robot's mount, lens and sensor; its seed draws textures and light.
    rooms : list of Room
        Each opens wholly into the next, the last into the first.
    width, height : int
        Of the image, px.

    Raises
    ------
    MissingExtra
        `pyglet` finds no EGL.
    """

    def __init__(self, world: World, rooms: list[Room], width: int = 640, height: int = 480) -> None:
        try:
            import pyglet

            pyglet.options["headless"] = True  # MiniWorld sets it too late
            from miniworld.miniworld import MiniWorldEnv
        except Exception as e:  # whatever the loader of the first missing library raises
            raise MissingExtra.apt("MiniWorld's renderer", "libegl1 libgl1 libglu1-mesa libgl1-mesa-dri", e) from e
        rng = np.random.default_rng([world.seed, 9])
        look = {f"{part}_tex": str(rng.choice(names)) for part, names in TEXTURES.items()}

        class Corridor(MiniWorldEnv):
            def _gen_world(self) -> None:
                made = [self.add_rect_room(west, east, -north, -south, **look) for west, east, south, north in rooms]
                for a, b in zip(made, made[1:] + made[:1], strict=True):
                    if a.min_x == b.min_x:
                        self.connect_rooms(a, b, min_x=a.min_x, max_x=a.max_x)
                    else:
                        self.connect_rooms(a, b, min_z=a.min_z, max_z=a.max_z)
                self.place_agent(pos=np.zeros(3), dir=0.0)

        with redirect_stdout(io.StringIO()):  # it tells what its frame buffers fall back to
            self._env: Any = Corridor(obs_width=width, obs_height=height, domain_rand=True)
        self._env.reset(seed=world.seed)
        self._look, self._expose = world.look, Exposure(world, width, height)
        eye = self._env.agent
        eye.cam_height, eye.cam_fwd_disp = world.look.height, 0.0
        eye.cam_pitch, eye.cam_fov_y = -math.degrees(world.look.pitch), math.degrees(world.look.fovy)

    def color(self, x: float, y: float, yaw: float, *, index: int) -> np.ndarray:
        """What it sees from a pose of the base, see `rollout.View`."""
        eye, ahead = self._env.agent, self._look.forward
        eye.pos = np.array([x + ahead * math.cos(yaw), 0.0, -y - ahead * math.sin(yaw)])
        eye.dir = yaw + self._look.yaw
        frame = self._env.render_obs()
        self._expose(frame, index)
        return frame

    def close(self) -> None:
        """Free the OpenGL context."""
        self._env.shadow_window.close()
