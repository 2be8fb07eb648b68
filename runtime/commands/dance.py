"""`edgeflock dance`: what is done with dances of groups."""

from __future__ import annotations

import json as json_
import math
from pathlib import Path
from typing import Annotated

import typer

from edgeflock.runtime.commands.registry import verbs
from edgeflock.runtime.files import check_outputs, write_atomically

dance_app = typer.Typer(
    cls=verbs("edgeflock dance", "edgeflock.dance"), no_args_is_help=True, help="Dances of groups to music."
)


@dance_app.callback()
def dance() -> None:
    """Make and measure dances of groups to music."""


@dance_app.command()
def measure(
    folder: Annotated[Path, typer.Argument(help="Dances in AIOZ-GDANCE's layout: motions_smpl/, musics/.")],
    reference: Annotated[
        Path | None, typer.Option(help="Good dances beside which FID, GMR and GenDiv are measured.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of both, such as val; all by default.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures here.")] = None,
) -> None:
    """Measure dances: how well they meet the beat, each other, the floor, and known good ones.

    Example:

      edgeflock dance measure data/dances --split val
    """
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from edgeflock.runtime.motion.folder import DanceFolder
    from edgeflock.runtime.motion.judging import Dance, judge

    check_outputs([json], whole=[folder, reference])

    def dances(path: Path) -> list[Dance]:
        opened = DanceFolder.open(path, split)
        every = track(opened.names, str(path), console=Console(stderr=True), transient=True)
        return [(opened.motion(name), opened.music(name).beats) for name in every]

    figures = judge(dances(folder), None if reference is None else dances(reference))
    table = Table(title=f"{folder}: windows of 5 s at 30 Hz")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:.0f}" if name == "windows" else f"{value:.3f}")
    Console().print(table)
    if json is not None:
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        write_atomically(json, json_.dumps(finite, indent=2) + "\n")
