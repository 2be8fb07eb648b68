"""What stands in buildings: ceiling and lamps, furniture and people."""

from __future__ import annotations

import numpy as np

from fadnet_sim.scene import Scene

from . import textures

HEIGHT = 2.4  # m, walls


def skirting_colour(rng: np.random.Generator, floor: float) -> np.ndarray:
    """Colour (3,) in 0..1 of the skirting over a floor of this mean brightness (0..255).

    Where wall and floor meet must be seen whatever their colours: that line is what a net steers by in a building.
    """
    low, high = (0.05, 0.2) if floor > 90 else (0.7, 0.95)
    return textures.colour(rng, low, high, 0.2)


def bounds(scene: Scene, edge: np.ndarray, side: int) -> None:
    """What the robot touches where it comes to an edge (n, 2) m of its way, 1: the left one, -1: the right one."""
    for a, b in zip(edge, np.roll(edge, -1, axis=0), strict=True):
        length, yaw = np.hypot(*(b - a)), np.arctan2(*(b - a)[::-1])
        out = np.array([-np.sin(yaw), np.cos(yaw)]) * side * 0.05
        scene.collider("box", (*((a + b) / 2 + out), HEIGHT / 2), (length / 2 + 0.02, 0.05, HEIGHT / 2), yaw)


def ceiling(rng: np.random.Generator, scene: Scene, reach: float) -> None:
    """The floor (material `floor`) and the ceiling, `reach` m in each direction, and the light of a building."""
    scene.ground(reach, "floor")
    scene.geom("box", (0, 0, HEIGHT + 0.05), (reach, reach, 0.05), rgba=(*textures.colour(rng, 0.5, 0.95, 0.05), 1))
    scene.bodies.append(
        '<light directional="true" dir="0.2 0.3 -1" castshadow="false" diffuse=".25 .25 .25" specular="0 0 0"/>'
    )
    scene.bodies.append(
        '<light directional="true" dir="-0.5 -0.2 -0.3" castshadow="false" diffuse=".15 .15 .15" specular="0 0 0"/>'
    )
    scene.assets.append('<material name="lamp" emission="1" rgba="1 1 0.95 1"/>')


def lamp(scene: Scene, x: float, y: float, yaw: float) -> None:
    """A strip light under the ceiling."""
    scene.geom("box", (x, y, HEIGHT - 0.02), (0.5, 0.08, 0.02), yaw, material="lamp")


def obstacle(rng: np.random.Generator, scene: Scene, at: np.ndarray, yaw: float, depth: float, length: float) -> float:
    """One piece of furniture or one person, centred at `at` (2,) m; returns how deep it is, m."""
    rgba = (*textures.colour(rng, 0.15, 0.9, 0.6), 1)
    dark = (*textures.colour(rng, 0.05, 0.4, 0.3), 1)
    kind = rng.choice(["cabinet", "person", "plant", "bin", "bench", "boxes"], p=[0.25, 0.3, 0.1, 0.1, 0.1, 0.15])
    x, y = at
    if kind == "person":
        hip = rng.uniform(0.75, 0.95)
        for leg in (-0.09, 0.09):
            p = (x + leg * np.cos(yaw), y + leg * np.sin(yaw), hip / 2)
            scene.geom("capsule", p, (0.075, hip / 2 - 0.05), rgba=dark)
        scene.geom("ellipsoid", (x, y, hip + 0.28), (0.22, 0.14, 0.36), yaw, rgba=rgba)
        scene.geom(
            "sphere", (x, y, hip + 0.75), (0.11,), rgba=(*(np.array([0.85, 0.65, 0.5]) * rng.uniform(0.4, 1.1)), 1)
        )
        scene.collider("cylinder", (x, y, 0.9), (0.2, 0.9))
        scene.outline.append(_ring(at, 0.2))
        return 0.4
    if kind in ("plant", "bin"):
        r = min(depth, 0.4) / 2
        tall = rng.uniform(0.3, 0.8)
        scene.geom("cylinder", (x, y, tall / 2), (r, tall / 2), rgba=rgba, hit=True)
        if kind == "plant":
            scene.geom(
                "ellipsoid", (x, y, tall + 0.3), (0.9 * r, 0.9 * r, 0.4), rgba=(0.1, rng.uniform(0.25, 0.6), 0.12, 1)
            )
        scene.outline.append(_ring(at, r))
        return 2 * r
    if kind == "boxes":
        z = 0.0
        for _ in range(int(rng.integers(1, 4))):
            tall = rng.uniform(0.2, 0.4)
            tone = (*np.clip(np.array([0.65, 0.5, 0.33]) * rng.uniform(0.6, 1.2), 0, 1), 1)
            scene.geom(
                "box",
                (x, y, z + tall / 2),
                (length / 2, depth / 2, tall / 2),
                yaw + rng.uniform(-0.05, 0.05),
                rgba=tone,
            )
            z += tall
        tall = max(z, 0.4)
    else:
        tall = rng.uniform(0.6, 1.9) if kind == "cabinet" else rng.uniform(0.4, 0.5)
        scene.geom("box", (x, y, tall / 2), (length / 2, depth / 2, tall / 2), yaw, rgba=rgba)
    scene.collider("box", (x, y, tall / 2), (length / 2, depth / 2, tall / 2), yaw)
    scene.outline.append(rectangle(at, yaw, length, depth))
    return depth


def _ring(at: np.ndarray, radius: float) -> np.ndarray:
    """Outline (16, 2) of a circle."""
    a = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return at + radius * np.stack([np.cos(a), np.sin(a)], axis=1)


def rectangle(at: np.ndarray, yaw: float, length: float, depth: float) -> np.ndarray:
    """Outline (4, 2)."""
    along, across = np.array([np.cos(yaw), np.sin(yaw)]) * length / 2, np.array([-np.sin(yaw), np.cos(yaw)]) * depth / 2
    return np.array([at + along + across, at + along - across, at - along - across, at - along + across])
