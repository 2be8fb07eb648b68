"""`edgeflock drive-bars --mounts`: what the canonical view is worth to cameras that are not the trained one.

Frames: the correlation of the net's angle with the expert's, at poses around the path. Closed loop: one mount that has
nothing of the trained one, in one process without ROS and without the guard, which would stop for what lies ahead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.tasks.steering import SteeringPolicy
from fadnet_sim.rollout import Rollout, View, rollout
from fadnet_sim.scene import Kind, World
from fadnet_sim.world import make_world

if TYPE_CHECKING:
    from rich.console import Console

KINDS: tuple[Kind, ...] = ("indoor", "outdoor", "tape")
SEEDS = (100, 200)  # of each kind; even ones were not trained on
POSES = 30  # of each world, for the frames
LATERAL_M, HEADING = 0.25, 0.2
SIZE = (640, 480)

MOUNTS: dict[str, dict[str, float]] = {
    "the world's own": {},
    "0.15 m high": {"height": 0.15},
    "0.25 m high": {"height": 0.25},
    "0.60 m high": {"height": 0.60},
    "level": {"pitch": 0.0},
    "25 degrees down": {"pitch": math.radians(25)},
    "lens of 65 degrees": {"fovy": math.radians(65)},
    "lens of 110 degrees": {"fovy": math.radians(110)},
    "0.25 m, 20 degrees down, lens of 65": {"height": 0.25, "pitch": math.radians(20), "fovy": math.radians(65)},
}
FAR_OFF = "0.25 m, 20 degrees down, lens of 65"
DRIVES: tuple[tuple[Kind, int], ...] = tuple((kind, seed) for kind in KINDS for seed in SEEDS)
DRIVE_S = 20.0

BAR_R, BAR_RMS_M = 0.80, 0.25


@dataclass(frozen=True)
class Seen:
    """Frames of one kind of world through one mount.

    Attributes
    ----------
    as_is, canonical : float
        Correlation of the net's angle with the expert's.
    """

    mount: str
    kind: str
    frames: int
    as_is: float
    canonical: float


@dataclass(frozen=True)
class Driven:
    """One world, driven through the mount `FAR_OFF` with and without the canonical view."""

    kind: str
    seed: int
    as_is: Rollout
    canonical: Rollout


def measure(
    open_policy: Callable[[], SteeringPolicy], console: Console, poses: int = POSES, drive_s: float = DRIVE_S
) -> tuple[list[Seen], list[Driven]]:
    """Frames of every mount, then the drives."""
    seen, driven = [], []
    plain, canonical = open_policy(), open_policy()
    for mount, look in MOUNTS.items():
        for kind in KINDS:
            worlds = [_through(make_world(kind, seed), look) for seed in SEEDS]
            angles = np.array([row for world in worlds for row in angles_in(world, poses, canonical, plain)])
            wanted, brought, as_is = angles.T
            r = (float(np.corrcoef(wanted, got)[0, 1]) for got in (as_is, brought))
            seen.append(Seen(mount, kind, len(angles), *r))
            console.print(f"{mount}, {kind}: r {seen[-1].as_is:.2f} as is, {seen[-1].canonical:.2f} in the view")
    for kind, seed in DRIVES:
        world = _through(make_world(kind, seed), MOUNTS[FAR_OFF])
        look_through(canonical, world)
        drives = [rollout(world, driver_of(policy), drive_s) for policy in (plain, canonical)]
        driven.append(Driven(kind, seed, *drives))
        console.print(f"{kind} {seed}: {drives[0].collisions} collisions as is, {drives[1].collisions} in the view")
    return seen, driven


def angles_in(
    world: World, poses: int, canonical: SteeringPolicy, *plain: SteeringPolicy, view: View | None = None
) -> Iterator[tuple[float, ...]]:
    """Angles at poses around the path: wanted, of the frame in the view, and of the frame as it is.

    Frames are MuJoCo's, or what `view` renders.
    """
    from fadnet_sim.camera import SimCamera

    look_through(canonical, world)
    camera, expert = None, world.expert
    if view is None:
        camera = SimCamera(world, *SIZE)
        view = camera.color
    rng = np.random.default_rng(world.seed)
    for index in range(poses):
        (x, y), yaw, _ = world.path.at(rng.uniform(0, world.path.length))
        lateral, heading = rng.uniform(-LATERAL_M, LATERAL_M), rng.uniform(-HEADING, HEADING)
        pose = x - lateral * math.sin(yaw), y + lateral * math.cos(yaw), yaw + heading
        frame = view(*pose, index=index)
        yield (expert(*pose), *(policy(frame).angle for policy in (canonical, *plain)))
    if camera is not None:
        camera.close()


def _through(world: World, look: dict[str, float]) -> World:
    return replace(world, look=replace(world.look, **look))


def driver_of(policy: SteeringPolicy) -> Callable[[np.ndarray], float]:
    """What `rollout` lets drive."""
    return lambda frame: policy(frame).angle


def look_through(policy: SteeringPolicy, world: World) -> None:
    """Tell the net of the camera of a world's robot."""
    policy.look_through(Intrinsics.of_lens(*SIZE, world.look.fovy), world.look.mount)


def write(out: Path, seen: list[Seen], driven: list[Driven], policy: SteeringPolicy) -> str:
    """Write mounts.json and mounts.md; returns the page."""
    plain = {"frames": [asdict(row) for row in seen], "drives": [asdict(row) for row in driven]}
    about = {"engine": policy.engine.name, "precision": policy.precision, "bundle_sha256": policy.bundle.digest}
    write_atomically(out / "mounts.json", json.dumps({**about, **plain}, indent=2) + "\n")
    page = markdown(seen, driven) + f"\n{', '.join(f'{name} {value}' for name, value in about.items())}.\n"
    write_atomically(out / "mounts.md", page)
    return page


def markdown(seen: list[Seen], driven: list[Driven]) -> str:
    """Table of the frames, table of the drives, and which bar is met."""
    lines = ["| camera |", "| --- |"]
    for kind in KINDS:
        lines[0] += f" {kind}, as is | in the view |"
        lines[1] += " ---: | ---: |"
    for mount in MOUNTS:
        cells = [cell for row in seen if row.mount == mount for cell in (f"{row.as_is:.2f}", f"{row.canonical:.2f}")]
        lines.append(f"| {mount} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Driven through {FAR_OFF}:",
        "",
        "| world | seed | as is: collisions | lateral error RMS | in the view: collisions | lateral error RMS |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for d in driven:
        cells = [cell for r in (d.as_is, d.canonical) for cell in (str(r.collisions), f"{r.lateral_rms_m:.3f} m")]
        lines.append(f"| {d.kind} | {d.seed} | {' | '.join(cells)} |")
    worst = min(seen, key=lambda row: row.canonical)
    crashed = sum(d.canonical.collisions > 0 for d in driven)
    rms = max(d.canonical.lateral_rms_m for d in driven)
    lines += [
        "",
        f"Bar: r of at least {BAR_R:.2f} in the view everywhere: {_met(worst.canonical >= BAR_R)} (least "
        f"{worst.canonical:.2f}: {worst.mount}, {worst.kind}). No collision and RMS of at most {BAR_RMS_M} m: "
        f"{_met(not crashed and rms <= BAR_RMS_M)} ({crashed} of {len(driven)} collide, largest RMS {rms:.2f} m).",
    ]
    return "\n".join(lines) + "\n"


def _met(yes: bool) -> str:
    return "met" if yes else "missed"
