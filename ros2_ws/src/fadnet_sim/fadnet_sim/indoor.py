"""An indoor building: one winding corridor that closes on itself, with doors, niches, furniture and people."""

from __future__ import annotations

import cv2
import numpy as np

from fadnet_sim.scene import Kind, Scene, World, assemble

from . import textures
from .interior import HEIGHT, bounds, ceiling, lamp, obstacle, skirting_colour
from .layout import Course, closed_centreline, log_uniform
from .path import ReferencePath, smooth

WIDE_CORRIDORS = (1.2, 5.0)  # m
PASSABLE = 1.8  # m: a narrower corridor is blocked by what stands along its wall


def build(rng: np.random.Generator, seed: int, scene: Scene) -> World:
    """Build the building of a seed (see `world.make_world`)."""
    centre = ReferencePath(
        closed_centreline(rng, cells=int(rng.integers(7, 11)), cell=6.6, jitter=0.5, radius=(2.0, 3.0), bend=0.4)
    )
    half = {
        side: rng.uniform(1.1, 1.35) + 0.08 * smooth(rng.standard_normal(len(centre.points)) * 4, 1.0)
        for side in (1, -1)
    }
    half = {side: np.clip(h, 1.05, 1.45) for side, h in half.items()}
    shift = _furnish(rng, scene, centre, half)
    middle = 0.5 * (half[1] - half[-1])  # of the way; the niches are not part of it
    _niches(rng, centre, half)
    _doors(rng, scene, centre, half)
    edges = {side: centre.points + centre.normal * (side * half[side])[:, None] for side in (1, -1)}
    _walls(rng, scene, centre, edges)
    path = ReferencePath(centre.points + centre.normal * smooth(middle + shift, 0.25)[:, None])
    return _assemble("indoor", rng, seed, scene, path, centre)


def build_wide(rng: np.random.Generator, seed: int, scene: Scene) -> World:
    """Build a building with a narrow or wide corridor, square corners and tight bends."""
    width = log_uniform(rng, *WIDE_CORRIDORS)
    course = Course.grow(
        rng, length=85, width=width, apart=(0.8, 2.0), jitter=0.25, radius=(width / 2 + 0.15, width / 2 + 0.8),
        inside=width / 2 + rng.uniform(0.05, 0.25), square=0.6,
    )  # fmt: skip
    centre = ReferencePath(course.path())
    half = {side: np.full(len(centre.points), width / 2) for side in (1, -1)}
    shift = _furnish(rng, scene, centre, half, (3.0, 6.0), 1.0) if width > PASSABLE else np.zeros(len(centre.points))
    _doors(rng, scene, centre, half)
    _walls(rng, scene, centre, {side: course.edge(side * width / 2) for side in (1, -1)})
    path = ReferencePath(centre.points + centre.normal * smooth(shift, 0.25)[:, None])
    return _assemble("indoor-wide", rng, seed, scene, path, centre, lane=0.6 * width)


def _assemble(
    kind: Kind,
    rng: np.random.Generator,
    seed: int,
    scene: Scene,
    path: ReferencePath,
    centre: ReferencePath,
    **lane: float,
) -> World:
    return assemble(
        kind, seed, rng, scene, path, centre, None, **lane,
        ambient=rng.uniform(0.25, 0.5), head=rng.uniform(0.15, 0.45), fog=textures.colour(rng, 0.2, 0.6, 0.1),
    )  # fmt: skip


def _bump(centre: ReferencePath, s: float, plateau: float, ramp: float) -> np.ndarray:
    """1 within `plateau` m of the arc length `s`, 0 beyond `plateau + ramp`, a raised cosine between."""
    along = np.arange(len(centre.points)) * centre.spacing - s
    along = np.abs((along + centre.length / 2) % centre.length - centre.length / 2)
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((along - plateau) / ramp, 0, 1))


def _furnish(
    rng: np.random.Generator, scene: Scene, centre: ReferencePath, half: dict[int, np.ndarray],
    gap: tuple[float, float] = (5.0, 9.0), straight: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """Place obstacles along the walls; return the path's shift to the left (n,) m that keeps it mid-way past them.

    From one to the next it is `gap` m, and within `straight` m of an obstacle there is no bend.
    """
    around = np.arange(-round(straight / centre.spacing), round(straight / centre.spacing) + 1)
    shift = np.zeros(len(centre.points))
    s = rng.uniform(4, 6)
    while s < centre.length - 5:
        i = centre.index(s)
        if np.abs(centre.curvature[(i + around) % len(centre.points)]).max() < 0.2:
            side = int(rng.choice([1, -1]))
            depth, length = rng.uniform(0.25, 0.5), rng.uniform(0.4, 1.1)
            wall = float(half[side][i])
            middle = centre.points[i] + centre.normal[i] * side * (wall - depth / 2)
            depth = obstacle(rng, scene, middle, float(centre.heading[i]), depth, length)
            shift -= side * 0.5 * (depth + 0.05) * _bump(centre, s, length / 2 + 0.25, 1.9)
            s += rng.uniform(*gap)
        else:
            s += 0.5
    return shift


def _niches(rng: np.random.Generator, centre: ReferencePath, half: dict[int, np.ndarray]) -> None:
    """Cut recesses into the walls by widening the corridor over short stretches."""
    for _ in range(int(centre.length / 14)):
        width = round(rng.uniform(0.6, 1.2) / centre.spacing)
        i = int(rng.integers(len(centre.points)))
        stretch = np.arange(i, i + width) % len(centre.points)
        if np.abs(centre.curvature[stretch]).max() < 0.15:
            half[int(rng.choice([1, -1]))][stretch] += rng.uniform(0.25, 0.5)


def _doors(rng: np.random.Generator, scene: Scene, centre: ReferencePath, half: dict[int, np.ndarray]) -> None:
    """Closed doors and posters on the walls, and door frames across the corridor."""
    door = (*textures.colour(rng, 0.2, 0.8, 0.4), 1)
    frame = (*textures.colour(rng, 0.2, 0.9, 0.2), 1)
    s = rng.uniform(1, 4)
    while s < centre.length - 1:
        i = centre.index(s)
        stretch = np.arange(i - 12, i + 13) % len(centre.points)
        side = int(rng.choice([1, -1]))
        wall = half[side][stretch]
        if np.abs(centre.curvature[stretch]).max() < 0.12 and np.ptp(wall) < 0.05:
            normal, yaw = centre.normal[i] * side, float(centre.heading[i])
            x, y = centre.points[i] + normal * (wall.mean() - 0.015)
            kind = rng.choice(["door", "poster", "portal"], p=[0.55, 0.25, 0.2])
            if kind == "door":
                scene.geom("box", (x, y, 1.0), (0.45, 0.03, 1.0), yaw, rgba=door)
                scene.geom("box", (x, y, 1.03), (0.52, 0.02, 1.05), yaw, rgba=frame)
                hx, hy = centre.points[i] + normal * (wall.mean() - 0.07) + 0.36 * np.array([np.cos(yaw), np.sin(yaw)])
                scene.geom("sphere", (hx, hy, 1.0), (0.035,), rgba=(0.75, 0.7, 0.5, 1))
            elif kind == "poster":
                size = (rng.uniform(0.2, 0.5), 0.02, rng.uniform(0.2, 0.4))
                rgba = (*textures.colour(rng, 0.1, 1.0, 0.8), 1)
                scene.geom("box", (x, y, rng.uniform(1.0, 1.5)), size, yaw, rgba=rgba)
            else:
                for jamb in (1, -1):
                    jx, jy = centre.points[i] + centre.normal[i] * jamb * (half[jamb][i] - 0.05)
                    scene.geom("box", (jx, jy, HEIGHT / 2), (0.06, 0.06, HEIGHT / 2), yaw, rgba=frame, hit=True)
                lintel = max(1.5, half[1].min())
                scene.geom("box", (*centre.points[i], 2.25), (0.06, lintel, 0.15), yaw, rgba=frame)
        s += rng.uniform(2.5, 6.0)


def _walls(rng: np.random.Generator, scene: Scene, centre: ReferencePath, edges: dict[int, np.ndarray]) -> None:
    """Walls with skirting, floor, ceiling and lamps."""
    scene.texture("wall", scene.cover(textures.wall(rng)))
    floor = scene.cover(textures.floor(rng))
    scene.texture("floor", floor, texrepeat=(0.5, 0.5), texuniform="true")
    skirting = (*skirting_colour(rng, float(floor.mean())), 1)
    tall = rng.uniform(0.06, 0.16)
    for name, side in (("left", 1), ("right", -1)):
        edge = cv2.approxPolyDP(edges[side].astype(np.float32)[:, None], 0.015, True)[:, 0].astype(float)
        scene.outline.insert(0, edge)
        # A strip is seen from the left of its direction, so the left wall runs backwards.
        run = edge[::-1] if side == 1 else edge
        inner = run + 0.012 * _to_left(run)
        for part, line, low, high, look in (
            ("wall", run, 0.0, HEIGHT, {"material": "wall"}),
            ("skirting", inner, 0.0, tall, {"rgba": skirting}),
        ):
            bottom, top = (np.column_stack([line, np.full(len(line), z)]) for z in (low, high))
            scene.strip(f"{part}_{name}", bottom, top, 2.4, **look)
        bounds(scene, edge, side)
    ceiling(rng, scene, float(np.abs(centre.points).max() + 3))
    gap = rng.uniform(2.5, 5.0)
    for s in np.arange(0, centre.length, gap):
        (x, y), yaw, _ = centre.at(float(s))
        lamp(scene, x, y, yaw)


def _to_left(line: np.ndarray) -> np.ndarray:
    tangent = np.roll(line, -1, axis=0) - np.roll(line, 1, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    return np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
