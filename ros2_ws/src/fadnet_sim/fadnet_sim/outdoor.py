"""An outdoor road: two lanes with lines, that closes on itself; the robot keeps to the right lane."""

from __future__ import annotations

import numpy as np

from fadnet_sim.scene import Kind, Scene, World, assemble

from . import textures
from .layout import Course, closed_centreline, log_uniform
from .painting import GroundPainting
from .path import ReferencePath

LANE = 1.2  # m
WIDE_LANES = (0.5, 2.5)  # m
SHOULDER = 0.25  # m of pavement outside the edge line
_TILE = 512


def build(rng: np.random.Generator, seed: int, scene: Scene) -> World:
    """Build the road of a seed (see `world.make_world`)."""
    centre = ReferencePath(
        closed_centreline(rng, cells=int(rng.integers(3, 6)), cell=11.0, jitter=1.5, radius=(3.2, 5.0), bend=1.3)
    )
    return _road("outdoor", rng, seed, scene, centre, LANE)


def build_wide(rng: np.random.Generator, seed: int, scene: Scene) -> World:
    """Build a road with narrow or wide lanes and bends as tight as these allow."""
    lane = log_uniform(rng, *WIDE_LANES)
    edge = lane + SHOULDER
    course = Course.grow(
        rng, length=85, width=2 * edge, apart=(0.6, 3.0), jitter=0.4, radius=(edge + 0.1, edge + 1.5), inside=0.0,
        square=0.0,
    )  # fmt: skip
    return _road("outdoor-wide", rng, seed, scene, ReferencePath(course.path()), lane)


def _road(kind: Kind, rng: np.random.Generator, seed: int, scene: Scene, centre: ReferencePath, lane: float) -> World:
    reach = float(np.abs(centre.points).max() + 6)
    scene.texture("ground", _paint(rng, scene, centre, reach, lane))
    scene.ground(reach, "ground")
    half_road = lane + SHOULDER
    scene.outline += [centre.points + side * half_road * centre.normal for side in (1, -1)]
    _scenery(rng, scene, centre, half_road, reach)
    sky = textures.colour(rng, 0.45, 0.95, 0.1) * np.array([0.85, 0.95, 1.1])
    horizon = np.clip(sky * rng.uniform(0.9, 1.4), 0, 1)
    colours = f'rgb1="{_rgb(np.clip(sky, 0, 1))}" rgb2="{_rgb(horizon)}"'
    scene.assets.append(f'<texture type="skybox" builtin="gradient" {colours} width="64" height="64"/>')
    a, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.3)
    sun = rng.uniform(0.25, 0.7)
    scene.bodies.append(
        f'<light directional="true" dir="{np.cos(a):.3f} {np.sin(a):.3f} {-np.tan(elevation):.3f}" castshadow="false" '
        f'diffuse="{sun:.2f} {sun:.2f} {sun * 0.95:.2f}" specular="0 0 0"/>'
    )
    path = ReferencePath(centre.points - centre.normal * (lane / 2))
    return assemble(
        kind, seed, rng, scene, path, centre, half_road, lane=lane,
        ambient=rng.uniform(0.3, 0.55), head=0.1, fog=horizon,
    )  # fmt: skip


def _rgb(colour: np.ndarray) -> str:
    return " ".join(f"{c:.3f}" for c in colour)


def _paint(rng: np.random.Generator, scene: Scene, centre: ReferencePath, reach: float, lane: float) -> np.ndarray:
    """Paint the ground plane: surroundings, asphalt, edge lines and the dashed line in the middle."""
    paint = GroundPainting(scene.cover((textures.ground(rng, _TILE) * 255).astype(np.uint8)), reach)
    asphalt = textures.shade(
        textures.colour(rng, 0.16, 0.45, 0.06), textures.noise(rng, _TILE, 8, 6), rng.uniform(0.05, 0.15)
    )
    paint.lay(asphalt, paint.band(centre.points, 2 * (lane + SHOULDER)))
    white = textures.colour(rng, 0.75, 1.0, 0.05)
    middle = white if rng.random() < 0.6 else np.array([0.95, 0.75, 0.15]) * rng.uniform(0.8, 1.0)
    worn = rng.uniform(0.02, 0.12)
    width = rng.uniform(0.07, 0.12)
    for side in (1, -1):
        edge = centre.points + side * lane * centre.normal
        paint.lay(textures.shade(white, textures.noise(rng, _TILE, 32), worn), paint.band(edge, width))
    dash, gap = rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.8)
    starts = np.arange(0, centre.length - dash, dash + gap)
    index = [
        np.arange(centre.index(s), min(centre.index(s) + round(dash / centre.spacing), len(centre.points)))
        for s in starts
    ]
    paint.lay(textures.shade(middle, textures.noise(rng, _TILE, 32), worn), paint.band(centre.points, width, index))
    return paint.image


def _scenery(rng: np.random.Generator, scene: Scene, centre: ReferencePath, half_road: float, reach: float) -> None:
    """Trees, houses, cones, posts and people beside the road, never on it."""
    for _ in range(110):
        kind = rng.choice(["tree", "house", "cone", "person", "post", "rock"], p=[0.35, 0.1, 0.15, 0.12, 0.15, 0.13])
        radius = {"tree": 0.2, "house": 2.2, "cone": 0.15, "person": 0.2, "post": 0.06, "rock": 0.4}[str(kind)]
        if kind in ("cone", "person", "post"):  # stand along the road
            i = int(rng.integers(len(centre.points)))
            at = centre.points[i] + centre.normal[i] * rng.choice([1, -1]) * (
                half_road + radius + rng.uniform(0.3, 1.0)
            )
        else:
            at = rng.uniform(-reach, reach, 2)
        if np.hypot(*(centre.points - at).T).min() < half_road + radius + 0.25:
            continue
        x, y = at
        rgba = (*textures.colour(rng, 0.2, 0.9, 0.5), 1)
        if kind == "tree":
            tall, crown = rng.uniform(0.8, 2.0), rng.uniform(0.5, 1.3)
            scene.geom("cylinder", (x, y, tall / 2), (rng.uniform(0.06, 0.18), tall / 2), rgba=(0.3, 0.2, 0.12, 1))
            green = (rng.uniform(0.05, 0.4), rng.uniform(0.25, 0.55), 0.1, 1)
            scene.geom("ellipsoid", (x, y, tall + 0.6 * crown), (crown * 0.8, crown * 0.8, crown), rgba=green)
            scene.collider("cylinder", (x, y, 0.5), (0.2, 0.5))
        elif kind == "house":
            size = rng.uniform(0.8, 1.5, 3)
            scene.geom("box", (x, y, size[2]), size, rng.uniform(0, np.pi), hit=True, rgba=rgba)
        elif kind == "person":
            scene.geom("capsule", (x, y, 0.45), (0.13, 0.35), rgba=(*textures.colour(rng, 0.05, 0.4, 0.3), 1))
            scene.geom("ellipsoid", (x, y, 1.15), (0.22, 0.16, 0.36), rng.uniform(0, np.pi), rgba=rgba)
            scene.geom("sphere", (x, y, 1.62), (0.11,), rgba=(0.75, 0.55, 0.42, 1))
            scene.collider("cylinder", (x, y, 0.9), (0.2, 0.9))
        elif kind == "rock":
            scene.geom(
                "ellipsoid", (x, y, 0.05), (*rng.uniform(0.15, 0.4, 2), 0.25), hit=True, rgba=(0.45, 0.43, 0.4, 1)
            )
        else:
            tall = 0.4 if kind == "cone" else 0.9
            tone = (0.95, 0.4, 0.08, 1) if kind == "cone" else (0.9, 0.9, 0.9, 1)
            scene.geom("cylinder", (x, y, tall / 2), (radius, tall / 2), rgba=tone, hit=True)
        scene.outline.append(at + radius * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]))
