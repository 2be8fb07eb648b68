"""Bundles of a demonstration's nets, and their drives through every robot's home: ROS 2 nodes in lock-step."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from edgeflock.runtime.errors import EdgeflockError
from edgeflock_lab.demo.learn import SAME, apart
from edgeflock_lab.demo.scene import ALL, HOMES, Folder, Scene, alone, fleet
from edgeflock_lab.drive_record import DriveRecord

LEAST_FRAMES = 0.98
"""Share of the frames without which a drive says more about the machine than about the net."""


def drivers(folder: Folder) -> dict[str, str]:
    """Every net, and the one that drives for it: where the fleet's robots agree, one drives for all of them."""
    agree = apart(folder) < SAME
    first = fleet(next(iter(HOMES)))
    nets = [*map(alone, HOMES), *map(fleet, HOMES), ALL]
    return {net: first if agree and net in map(fleet, HOMES) else net for net in nets}


def make_bundle(folder: Folder, net: str) -> None:
    """Bundle of a net, fp32, signed by the robot that has it: what its steering node opens.

    The gate lets every net pass: how badly it drives is what the demonstration shows.
    """
    out = folder.bundle(net)
    if out.exists():
        return
    from edgeflock.export.datasets import open_dataset
    from edgeflock.export.pipeline import export_bundle
    from edgeflock.export.recipes.limits import SteeringLimits
    from edgeflock.export.recipes.steering import steering_recipe

    robot = net.partition("-")[0] if net != ALL else next(iter(HOMES))
    validation = open_dataset(folder.data(robot, "val"))
    limits = SteeringLimits(max_ratio=1e6)
    recipe = steering_recipe(folder.weights(net), validation, None, limits=limits, precision="fp32")
    export_bundle(recipe, out, folder.key(robot), precisions=("fp32",), report=folder.path / "logs" / f"{net}-export")


def drive(scene: Scene, folder: Folder, net: str, home: str) -> None:
    """Drive a net through a robot's home and write the report of the drive, unless it is there."""
    from rich.console import Console

    from edgeflock_lab.drive import DriveOptions, run_drive

    out, world = folder.drive(net, home), HOMES[home]
    if out.exists():
        return
    draft = out.with_name(f".{home}")  # whole or not there: a drive that was interrupted leaves a report as well
    shutil.rmtree(draft, ignore_errors=True)
    options = DriveOptions(
        out=draft,
        world=world.kind,
        seed=world.seed,
        duration=scene.drive_s,
        bundle=folder.bundle(net),
        keys=tuple(folder.key(robot).with_suffix(".pub") for robot in HOMES),
        lockstep=True,
        speed=scene.speed,
        fps=scene.fps,
        width=320,
        height=240,
    )
    record = run_drive(options, Console(quiet=True))
    if record.duration_s < scene.drive_s:
        raise EdgeflockError(f"The drive of {net} in {world.name} was interrupted: run the same command again.")
    seen = record.frames / (scene.drive_s * scene.fps)
    if seen < LEAST_FRAMES:  # a guard that waits for seconds stops the robot, in lock-step too
        raise EdgeflockError(
            f"The drive of {net} in {world.name} had {seen:.0%} of its frames: the machine is too busy to judge a net. "
            "Run the same command again when it is calmer, or with --jobs 1."
        )
    draft.rename(out)


@dataclass(frozen=True)
class Outcome:
    """How far a net came in a world."""

    record: DriveRecord
    course_m: float

    @property
    def reached_m(self) -> float:
        """Way without collision, at most the course."""
        return min(max(self.record.clear_m or 0.0, 0.0), self.course_m)

    @property
    def whole(self) -> bool:
        """Whether it came to the end of the course without collision."""
        return self.reached_m == self.course_m


def outcomes(scene: Scene, folder: Folder) -> dict[tuple[str, str], Outcome]:
    """Outcome of every net in every home."""

    def read(path: Path) -> Outcome:
        return Outcome(DriveRecord.model_validate_json((path / "drive.json").read_text()), scene.course_m)

    return {(net, home): read(folder.drive(by, home)) for net, by in drivers(folder).items() for home in HOMES}


def shortfalls(found: dict[tuple[str, str], Outcome]) -> list[tuple[str, str, float]]:
    """Robot, world and m by which the fleet's net came less far there than the robot's own."""
    short = ((r, h, found[alone(r), h].reached_m - found[fleet(r), h].reached_m) for r in HOMES for h in HOMES)
    return [(robot, home, metres) for robot, home, metres in short if metres > 0]
