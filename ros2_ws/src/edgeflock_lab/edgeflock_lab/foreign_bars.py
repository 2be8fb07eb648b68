"""`edgeflock drive-bars --foreign`: worlds that others drew, which are not part of edgeflock.

In one process, without ROS and without the guard; a drive ends where the robot leaves the road or touches a wall.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import yaml

from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.tasks.steering import SteeringPolicy
from edgeflock_lab import foreign_packages
from edgeflock_lab.mount_bars import SIZE, angles_in, driver_of, look_through
from fadnet_sim import duckietown, miniworld
from fadnet_sim.rollout import Rollout, View, rollout
from fadnet_sim.scene import World

if TYPE_CHECKING:
    from rich.console import Console

DATA = "duckietown-world-daffy-6.4.3/src/duckietown_world/data/gd1"
PHOTOS = {
    "straight": "straight_1.jpg", "curve_left": "curve_left_1.png", "curve_right": "curve_right_1.png",
    "asphalt": "asphalt_1.jpg", "floor": "floor_1.png", "grass": "grass_1.jpg",
}  # fmt: skip
MAPS = ("small_loop", "loop_empty", "experiment_loop", "zigzag_dists")  # of one closed road, without crossings
CORRIDORS = (2.25, 3.25) * 4  # m wide, by seed
DRIVE_S = 40.0


@dataclass(frozen=True)
class Place:
    """One world, and what renders it where MuJoCo does not."""

    name: str
    world: World
    view: View | None = None


@dataclass(frozen=True)
class Foreign:
    """What was measured in one world.

    Attributes
    ----------
    net, expert : Rollout
        The drives; distances up to where the robot left the road or touched a wall, or to the end.
    angles : list of (float, float)
        rad, at poses around the path: wanted, the net's.
    """

    world: str
    net: Rollout
    expert: Rollout
    angles: list[tuple[float, ...]]


@dataclass(frozen=True)
class Source:
    """Who drew worlds, and what is asked of a net there.

    Attributes
    ----------
    package : str
        What is fetched.
    places : callable
        Gives the worlds, each of which holds until the next is asked for.
    poses : int
        Frames of each world.
    ratio : float
        RMSE over that of answering the mean, at most.
    whole : int
        Drives that do not end early, at least.
    """

    package: str
    places: Callable[[], Iterator[Place]]
    poses: int
    ratio: float
    whole: int


def duckietown_places(archive: Path | None = None) -> Iterator[Place]:
    """Each map of Duckietown both ways around."""
    with tarfile.open(archive or foreign_packages.duckietown_archive()) as tar:  # known, so what is read of it is there

        def read(name: str) -> bytes:
            member = tar.extractfile(f"{DATA}/{name}")
            assert member is not None
            return member.read()

        @cache
        def photo(kind: str) -> np.ndarray:
            image = cv2.imdecode(np.frombuffer(read(f"textures/tiles/photos/{PHOTOS[kind]}"), np.uint8), 1)
            assert image is not None
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

        for seed, name in enumerate(MAPS):
            tiles = duckietown.tiles_of(yaml.safe_load(read(f"maps/{name}.yaml")))
            for backwards in (False, True):
                world = duckietown.build(tiles, photo, backwards, 2 * seed + backwards)
                yield Place(f"{name}{', backwards' if backwards else ''}", world)


def miniworld_places() -> Iterator[Place]:
    """Corridors of two widths with MiniWorld's textures, light and renderer."""
    folder = str(foreign_packages.miniworld_folder())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # before any newer pyglet, which it does not take
    for seed, width in enumerate(CORRIDORS):
        world, rooms = miniworld.build(seed, width)
        camera = miniworld.MiniWorldCamera(world, rooms, *SIZE)
        yield Place(f"{width} m wide, seed {seed}", world, camera.color)
        camera.close()


SOURCES = {
    "duckietown": Source(foreign_packages.DUCKIETOWN, duckietown_places, 25, 0.45, 8),
    "miniworld": Source(next(iter(foreign_packages.MINIWORLD)), miniworld_places, 30, 0.5, 6),
}


def measure(source: Source, policy: SteeringPolicy, console: Console, drive_s: float = DRIVE_S) -> list[Foreign]:
    """Frames and a drive of every world."""
    rows = []
    for place in source.places():
        world = place.world
        angles = list(angles_in(world, source.poses, policy, view=place.view))
        look_through(policy, world)
        net, expert = (rollout(world, see, drive_s, ends=True, view=place.view) for see in (driver_of(policy), None))
        rows.append(Foreign(place.name, net, expert, angles))
        console.print(f"{place.name}: {net.distance_m:.1f} m, {'ends early' if net.collisions else 'to the end'}")
    return rows


def write(out: Path, name: str, rows: list[Foreign], policy: SteeringPolicy) -> str:
    """Write foreign-NAME.json and foreign-NAME.md; returns the page."""
    source = SOURCES[name]
    about = {"engine": policy.engine.name, "precision": policy.precision, "bundle_sha256": policy.bundle.digest}
    plain = {**about, "package": source.package, "drives": [asdict(row) for row in rows]}
    write_atomically(out / f"foreign-{name}.json", json.dumps(plain, indent=2) + "\n")
    said = ", ".join(f"{key} {value}" for key, value in about.items())
    page = f"{markdown(source, rows)}\n{source.package}; {said}.\n"
    write_atomically(out / f"foreign-{name}.md", page)
    return page


def markdown(source: Source, rows: list[Foreign]) -> str:
    """Table of the drives, what the frames say, and which bar is met."""
    lines = [
        "| world | driven | to the end | lateral error RMS | expert driven | to the end | RMS |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        cells = [
            cell
            for r in (row.net, row.expert)
            for cell in (f"{r.distance_m:.1f} m", "no" if r.collisions else "yes", f"{r.lateral_rms_m:.3f} m")
        ]
        lines.append(f"| {row.world} | {' | '.join(cells)} |")
    wanted, got = np.array([pair for row in rows for pair in row.angles]).T
    ratio = float(np.sqrt(((got - wanted) ** 2).mean()) / wanted.std())
    whole = sum(not row.net.collisions for row in rows)
    lines += [
        "",
        f"{len(wanted)} frames around the paths: r {np.corrcoef(wanted, got)[0, 1]:.2f}, RMSE over Constant's "
        f"{ratio:.2f}. Bar: at most {source.ratio:.2f}: {_met(ratio <= source.ratio)}. {source.whole} of {len(rows)} "
        f"drives to the end: {_met(whole >= source.whole)} ({whole}).",
    ]
    return "\n".join(lines) + "\n"


def _met(yes: bool) -> str:
    return "met" if yes else "missed"
