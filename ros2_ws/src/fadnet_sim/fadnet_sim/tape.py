"""A tape track: one or two lines of tape on the floor of a furnished room, that close on themselves.

On one line the robot drives over the line, between two lines in their middle.
"""

from __future__ import annotations

import numpy as np

from fadnet_sim.scene import Scene, World, assemble

from . import textures
from .interior import HEIGHT, ceiling, lamp, obstacle, rectangle, skirting_colour
from .layout import Course, log_uniform
from .painting import GroundPainting
from .path import ReferencePath

LANES = (0.5, 1.5)  # m between two lines
ONE_LINE = 0.8  # m: a robot that is further than half of it beside its only line has left it
TIGHTEST = 0.6  # m, radius of a bend
SQUARE_LANE = 0.7  # m: around a square corner of a narrower one no car gets
TAPES = {
    "white": (0.92, 0.92, 0.9),
    "yellow": (0.93, 0.78, 0.12),
    "blue": (0.1, 0.3, 0.72),
    "black": (0.07, 0.07, 0.07),
}
CONTRAST = 0.22  # of full scale, in grey: nobody lays tape that cannot be seen on the floor
_LUMA = np.array([0.299, 0.587, 0.114])
_FLOOR_M = 2.0  # of a tile of floor texture
_TILE = 512


def build(rng: np.random.Generator, seed: int, scene: Scene) -> World:
    """Build the room of a seed (see `world.make_world`)."""
    lines = int(rng.integers(1, 3))
    lane = ONE_LINE if lines == 1 else log_uniform(rng, *LANES)
    squared = rng.random() < 0.4 and lane >= SQUARE_LANE
    tightest = max(TIGHTEST, lane / 2 + 0.15)
    course = Course.grow(
        rng, length=rng.uniform(26, 40), width=lane, apart=(0.5, 1.2), jitter=0.15, radius=(tightest, tightest + 0.9),
        inside=TIGHTEST, square=0.7 if squared else 0.0,
    )  # fmt: skip
    path = ReferencePath(course.path())
    half_room = np.abs(path.points).max(axis=0) + lane / 2 + rng.uniform(0.5, 2.0, 2)
    floor = str(rng.choice(["tiles", "carpet", "wood", "concrete"]))
    tile = scene.cover(textures.floor(rng, _TILE, floor))
    reach = float(half_room.max()) + 0.5
    edges = [course.edge(offset) for offset in ([0.0] if lines == 1 else [lane / 2, -lane / 2])]
    glossy = floor != "carpet" and rng.random() < 0.5
    shine = {"reflectance": rng.uniform(0.1, 0.35)} if glossy else {}
    scene.texture("floor", _paint(rng, tile, edges, reach), **shine)
    scene.outline += edges
    ceiling(rng, scene, reach)
    _walls(rng, scene, half_room, float(tile.mean()))
    _lamps(rng, scene, half_room)
    _furnish(rng, scene, path, half_room, lane)
    return assemble(
        "tape", seed, rng, scene, path, path, lane / 2, lane=lane,
        ambient=rng.uniform(0.25, 0.5), head=rng.uniform(0.1, 0.35), fog=textures.colour(rng, 0.2, 0.6, 0.1),
    )  # fmt: skip


def _paint(rng: np.random.Generator, tile: np.ndarray, edges: list[np.ndarray], reach: float) -> np.ndarray:
    """The floor with the tape on it."""
    paint = GroundPainting(tile, reach, _FLOOR_M)
    grey = float((tile.reshape(-1, 3).mean(axis=0) / 255) @ _LUMA)
    seen = [np.array(rgb) for rgb in TAPES.values() if abs(np.array(rgb) @ _LUMA - grey) > CONTRAST]
    colours = [seen[rng.integers(len(seen))]] * len(edges)
    if len(edges) == 2 and rng.random() < 0.3:
        colours[1] = seen[rng.integers(len(seen))]
    width, worn, wide = rng.uniform(0.019, 0.05), rng.uniform(0.01, 0.08), rng.uniform(0.85, 1.05)
    pieces = rng.random() < 0.3  # torn off and laid piece by piece, else from one roll
    for edge, colour in zip(edges, colours, strict=True):
        line = ReferencePath(edge)
        stretches = _pieces(rng, line) if pieces else None
        tape = textures.shade(np.clip(colour * wide, 0, 1), textures.noise(rng, _TILE, 32), worn)
        paint.lay(tape, paint.band(line.points, width, stretches))
    return paint.image


def _pieces(rng: np.random.Generator, line: ReferencePath) -> list[np.ndarray]:
    """Indices of the points of each piece of tape."""
    pieces, s = [], 0.0
    while s < line.length - 0.5:
        length = rng.uniform(0.3, 1.2)
        pieces.append(np.arange(line.index(s), min(round((s + length) / line.spacing), len(line.points))))
        s += length + rng.uniform(0.05, 0.2)
    return pieces


def _walls(rng: np.random.Generator, scene: Scene, half_room: np.ndarray, floor: float) -> None:
    """Four walls with skirting around the room."""
    corners = half_room * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    scene.texture("wall", scene.cover(textures.wall(rng)))
    skirting = (*skirting_colour(rng, floor), 1)
    tall = rng.uniform(0.06, 0.16)
    for part, line, high, look in (
        ("wall", corners, HEIGHT, {"material": "wall"}),
        ("skirting", corners * (1 - 0.012 / half_room), tall, {"rgba": skirting}),
    ):
        bottom, top = (np.column_stack([line, np.full(4, z)]) for z in (0.0, high))
        scene.strip(part, bottom, top, 2.4, **look)
    for axis, yaw in ((0, np.pi / 2), (1, 0.0)):
        for side in (1, -1):
            at = np.zeros(2)
            at[axis] = side * (half_room[axis] + 0.05)
            scene.collider("box", (*at, HEIGHT / 2), (half_room[1 - axis] + 0.1, 0.05, HEIGHT / 2), yaw)
    scene.outline.append(corners)


def _lamps(rng: np.random.Generator, scene: Scene, half_room: np.ndarray) -> None:
    """Rows of lamps, which a glossy floor reflects."""
    gap, yaw = rng.uniform(1.8, 3.5, 2), rng.choice([0.0, np.pi / 2])
    for x in np.arange(-half_room[0] + gap[0] / 2, half_room[0], gap[0]):
        for y in np.arange(-half_room[1] + gap[1] / 2, half_room[1], gap[1]):
            lamp(scene, x, y, yaw)


def _furnish(rng: np.random.Generator, scene: Scene, path: ReferencePath, half_room: np.ndarray, lane: float) -> None:
    """Tables, furniture, boxes and people wherever the track leaves room."""
    for _ in range(int(rng.uniform(0.5, 1.5) * half_room.prod())):
        depth, length = rng.uniform(0.25, 0.6), rng.uniform(0.3, 1.1)
        at, yaw = rng.uniform(-half_room, half_room), rng.uniform(0, np.pi)
        beside = lane / 2 + 0.3 + np.hypot(depth, length) / 2
        if np.hypot(*(path.points - at).T).min() < beside:
            continue
        if rng.random() < 0.2:
            _table(rng, scene, at, yaw, depth, length)
        else:
            obstacle(rng, scene, at, yaw, depth, length)


def _table(rng: np.random.Generator, scene: Scene, at: np.ndarray, yaw: float, depth: float, length: float) -> None:
    """A table top on four legs."""
    tone = (*textures.colour(rng, 0.2, 0.9, 0.3), 1)
    scene.geom("box", (*at, 0.72), (length / 2, depth / 2, 0.015), yaw, rgba=tone)
    for leg in rectangle(at, yaw, length - 0.06, depth - 0.06):
        scene.geom("cylinder", (*leg, 0.35), (0.02, 0.35), rgba=tone, hit=True)
    scene.outline.append(rectangle(at, yaw, length, depth))
