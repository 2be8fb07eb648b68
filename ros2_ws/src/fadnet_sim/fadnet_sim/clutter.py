"""Clutter beside the way: boxes, chairs and cones where the camera sees them and the car does not get."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from . import textures
from .car import WIDTH
from .interior import rectangle
from .scene import Scene, World

APART = 1.0  # m of the way for each try to put something down
RADIUS = (0.1, 0.28)  # m
BEYOND = 0.5  # m, on average, from where the car may get to where a thing stands


def strew(world: World) -> World:
    """The same world with clutter, which its seed draws: same way, same surfaces, same light."""
    rng = np.random.default_rng([world.seed, 11])
    scene, path = Scene(), world.path
    for _ in range(round(path.length / APART)):
        i, side, radius = int(rng.integers(len(path.points))), rng.choice([1, -1]), rng.uniform(*RADIUS)
        keep = world.sideways + WIDTH / 2 + radius
        at = path.points[i] + side * path.normal[i] * (keep + rng.exponential(BEYOND))
        put, yaw = _THINGS[rng.integers(len(_THINGS))], rng.uniform(0, np.pi)
        if np.hypot(*(path.points - at).T).min() >= keep and _is_beside(world, path.points[i], at, radius):
            put(rng, scene, at, yaw, radius)
            scene.outline.append(rectangle(at, yaw, math.sqrt(2) * radius, math.sqrt(2) * radius))
    return replace(world, scenery=world.scenery + "".join(scene.bodies), outline=world.outline + scene.outline)


def _is_beside(world: World, start: np.ndarray, at: np.ndarray, radius: float) -> bool:
    """Whether a place is off the road, or of a corridor on this side of walls and furniture."""
    if world.half_road is not None:
        return abs(world.centreline.project(*at)[1]) > world.half_road + radius
    way = start + np.linspace(0, 1, 1 + math.ceil(float(np.hypot(*(at - start))) / 0.05))[:, None] * (at - start)
    return min(_distance(way, line) for line in world.outline) > radius


def _distance(points: np.ndarray, line: np.ndarray) -> float:
    """From the nearest of some points (n, 2) to a closed line (m, 2), m."""
    along = np.roll(line, -1, axis=0) - line
    delta = points[:, None] - line
    share = np.clip((delta * along).sum(axis=2) / np.maximum((along**2).sum(axis=1), 1e-12), 0, 1)
    return float(np.linalg.norm(delta - share[..., None] * along, axis=2).min())


def _box(rng: np.random.Generator, scene: Scene, at: np.ndarray, yaw: float, radius: float) -> None:
    half, tall = radius / math.sqrt(2), rng.uniform(0.08, 0.25)
    scene.geom("box", (*at, tall), (half, half, tall), yaw, hit=True, rgba=(*textures.colour(rng, 0.2, 0.9, 0.4), 1))


def _chair(rng: np.random.Generator, scene: Scene, at: np.ndarray, yaw: float, radius: float) -> None:
    half, seat, tall = radius / math.sqrt(2), rng.uniform(0.35, 0.5), rng.uniform(0.75, 1.0)
    tone, dark = ((*textures.colour(rng, low, high, 0.3), 1) for low, high in ((0.2, 0.9), (0.05, 0.4)))
    back = at - half * np.array([math.cos(yaw), math.sin(yaw)])
    scene.geom("box", (*at, seat), (half, half, 0.02), yaw, rgba=tone)
    scene.geom("box", (*back, (seat + tall) / 2), (0.015, half, (tall - seat) / 2), yaw, rgba=tone)
    for leg in rectangle(at, yaw, 1.8 * half, 1.8 * half):
        scene.geom("cylinder", (*leg, seat / 2), (0.015, seat / 2), rgba=dark)
    scene.collider("box", (*at, tall / 2), (half, half, tall / 2), yaw)


def _cone(rng: np.random.Generator, scene: Scene, at: np.ndarray, yaw: float, radius: float) -> None:
    tall = rng.uniform(2, 3) * radius
    orange, white = (0.95, rng.uniform(0.25, 0.45), 0.08, 1), (0.92, 0.92, 0.9, 1)
    for part, tone in enumerate((orange, orange, white, orange)):  # a step each, narrower and narrower
        half = tall / 8
        scene.geom("cylinder", (*at, (2 * part + 1) * half), (radius * (1 - part / 4), half), rgba=tone)
    scene.collider("cylinder", (*at, tall / 2), (radius, tall / 2))


_THINGS = (_box, _chair, _cone)
