"""`edgeflock drive-bars`: drive a list of worlds in lock-step, each beside the expert's own figure.

In lock-step the result does not depend on how fast the machine is, so these figures can be compared between machines.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from edgeflock.runtime.engines import REFERENCE
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import check_outputs, left_over, write_atomically
from edgeflock.runtime.model_options import Fields, model_options
from edgeflock.runtime.options import Keys, refuse_unused
from edgeflock_lab.drive import DriveOptions

if TYPE_CHECKING:
    from edgeflock_lab.drive_record import DriveRecord
    from fadnet_sim.rollout import Rollout
    from fadnet_sim.scene import Kind

# Even seeds below 1000 are for validation: no net was trained on them.
WORLDS = "indoor:100,indoor:200,indoor:300,outdoor:100,outdoor:200,outdoor:300,tape:100,tape:200,tape:300"
RMS_BARS_M = {"indoor": 0.10, "outdoor": 0.04, "tape": 0.08}  # of other kinds there is none


@model_options
def bars(
    context: typer.Context,
    given: Annotated[dict[str, Any], Fields("bundle", "speed", of=DriveOptions)],
    worlds: Annotated[str, typer.Option(help="kind:seed, separated by commas.")] = WORLDS,
    duration: Annotated[float, typer.Option(min=0.5, help="Driving time in each world, s.")] = 60.0,
    precision: Annotated[Literal["fp32", "int8"], typer.Option(help="Of the net.")] = "int8",
    key: Keys = None,
    size: Annotated[str, typer.Option(help="Of the image, px.")] = "640x480",
    mounts: Annotated[
        bool, typer.Option("--mounts", help="Cameras at eight other mounts instead: frames, and drives through one.")
    ] = False,
    foreign: Annotated[
        Literal["duckietown", "miniworld"] | None,
        typer.Option(help="Worlds that others drew instead: frames and drives. pip fetches 56 or 42 MB once."),
    ] = None,
    out: Annotated[Path, typer.Option(help="For drive.json, drive.md, drives.png, reports.")] = Path("drive-bars"),
) -> None:
    """Drive several worlds in lock-step, each beside the expert's own figure. Ends with 3 after a collision."""
    bundle = given.get("bundle")
    if mounts:
        refuse_unused(context, "with --mounts", "foreign", "worlds", "duration", "speed", "size")
        raise typer.Exit(_mounts(out, bundle, precision, tuple(key or ())))
    if foreign:
        refuse_unused(context, f"with --foreign {foreign}", "worlds", "duration", "speed", "size")
        raise typer.Exit(_foreign(foreign, out, bundle, precision, tuple(key or ())))
    from rich.console import Console

    from edgeflock_lab.drive import launch_line, parse_size, run_drive
    from edgeflock_lab.figures import write_posters
    from fadnet_sim.rollout import rollout
    from fadnet_sim.world import make_world

    console = Console()
    width, height = parse_size(size)
    results = []
    chosen = parse_worlds(worlds)
    check_outputs([out / name for name in ("drive.json", "drive.md", "drives.png")], [out], whole=[bundle])
    for kind, seed in chosen:
        options = DriveOptions(
            out=out / f"drive-{kind}-{seed}",
            world=kind,
            seed=seed,
            duration=duration,
            precision=precision,
            keys=tuple(key or ()),
            lockstep=True,
            width=width,
            height=height,
            **given,
        )
        record = run_drive(options, console)
        results.append((record, rollout(make_world(kind, seed), None, duration, speed=options.speed)))
    plain = [{"drive": record.model_dump(), "expert": asdict(expert)} for record, expert in results]
    write_atomically(out / "drive.json", json.dumps(plain, indent=2) + "\n")
    first = {kind: out / f"drive-{kind}-{seed}" for kind, seed in reversed(chosen)}
    write_posters(reversed(first.values()), out / "drives.png")
    page = markdown(results)
    write_atomically(out / "drive.md", page)
    console.print(page, highlight=False, soft_wrap=True)
    for line in left_over(out, (out / f"drive-{kind}-{seed}" for kind, seed in chosen), "drive-*"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    code = max(record.exit_code for record, _ in results)
    if code == 0:
        print(launch_line(options))
    raise typer.Exit(code)


def _mounts(out: Path, bundle: Path | None, precision: str, keys: tuple[Path, ...]) -> int:
    """Measure other mounts; returns the exit code."""
    from rich.console import Console

    from edgeflock.runtime.tasks.steering import SteeringPolicy
    from edgeflock_lab import mount_bars

    check_outputs([out / "mounts.json", out / "mounts.md"], [out], whole=[bundle])
    console = Console(highlight=False, soft_wrap=True)

    def open_policy() -> SteeringPolicy:
        return SteeringPolicy(bundle, precision, engine=REFERENCE, keys=keys)

    seen, driven = mount_bars.measure(open_policy, console)
    console.print(mount_bars.write(out, seen, driven, open_policy()))
    return 3 if any(drive.canonical.collisions for drive in driven) else 0


def _foreign(name: str, out: Path, bundle: Path | None, precision: str, keys: tuple[Path, ...]) -> int:
    """Drive in worlds that others drew; returns the exit code."""
    from rich.console import Console

    from edgeflock.runtime.tasks.steering import SteeringPolicy
    from edgeflock_lab import foreign_bars

    check_outputs([out / f"foreign-{name}.json", out / f"foreign-{name}.md"], [out], whole=[bundle])
    console = Console(highlight=False, soft_wrap=True)
    policy = SteeringPolicy(bundle, precision, engine=REFERENCE, keys=keys)
    rows = foreign_bars.measure(foreign_bars.SOURCES[name], policy, console)
    console.print(foreign_bars.write(out, name, rows, policy))
    return 3 if any(row.net.collisions for row in rows) else 0


def parse_worlds(text: str) -> list[tuple[Kind, int]]:
    """`indoor:100,outdoor:2` -> [("indoor", 100), ("outdoor", 2)]; InputError for anything else."""
    from edgeflock_lab.drive import LAST_SEED
    from fadnet_sim.scene import KINDS

    worlds: list[tuple[Kind, int]] = []
    for word in text.split(","):
        kind, _, seed = word.strip().partition(":")
        if kind not in KINDS or not seed.isdecimal() or int(seed) > LAST_SEED:
            raise InputError(f"Expected --worlds kind:seed,..., for instance indoor:100,outdoor:2, got {word!r}.")
        worlds.append((cast("Kind", kind), int(seed)))
    return worlds


def markdown(results: list[tuple[DriveRecord, Rollout]]) -> str:
    """Table of the drives, the expert beside the net."""
    lines = [
        "| world | seed | driven | collisions | lateral error RMS | max | expert RMS | expert max | frames dropped |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for d, e in results:
        lines.append(
            f"| {d.world} | {d.seed} | {d.duration_s:.0f} s, {d.distance_m:.1f} m | {d.collisions} | "
            f"{d.lateral_error_m.rms:.3f} m | {d.lateral_error_m.max:.3f} m | "
            f"{e.lateral_rms_m:.3f} m | {e.lateral_max_m:.3f} m | "
            f"{d.frames_dropped} of {d.frames} |"
        )
    first = results[0][0]
    missed = [f"{d.world} {d.seed}" for d, _ in results if not _keeps(d)]
    limits = ", ".join(f"{limit:.2f} m {kind}" for kind, limit in RMS_BARS_M.items())
    return (
        "\n".join(lines)
        + f"\n\n{first.engine}, {first.precision}, bundle {first.bundle_sha256}. "
        + f"Bar: no collision, RMS of at most {limits}: "
        + (f"missed in {', '.join(missed)}.\n" if missed else "met.\n")
    )


def _keeps(drive: DriveRecord) -> bool:
    """Whether a drive keeps the bar of its kind of world."""
    limit = RMS_BARS_M.get(drive.world or "", math.inf)
    return drive.exit_code == 0 and (drive.lateral_error_m.rms or 0.0) <= limit
