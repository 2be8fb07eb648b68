"""`edgeflock dance bench`: what music, gamma and the number of steps are worth to a trained GCD, on songs held out."""

from __future__ import annotations

import json as json_
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from edgeflock.export.training.options import Threads, use_torch
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.files import check_outputs, write_atomically

SHOWN = ("MMC above chance", "synchrony", "GenDiv", "energy, m/s")


def bench(
    weights: Annotated[Path, typer.Argument(help="best.safetensors of `edgeflock train gcd`.")],
    data: Annotated[Path, typer.Option(help="Dances whose split val has the songs, and the dances to compare with.")],
    songs: Annotated[int, typer.Option(min=1, help="Songs of that split.")] = 8,
    seeds: Annotated[int, typer.Option(min=1, help="Of the noise; figures are means over them.")] = 3,
    threads: Threads = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures here.")] = None,
) -> None:
    """Measure GCD's dances to songs held out: without the music, by gamma, and by the number of steps.

    Example:

      edgeflock dance bench runs/gcd/best.safetensors --data data/dances
    """
    use_torch(threads)
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from edgeflock.export.dance.perform import Diffusion, Wish, encoder_beside
    from edgeflock.export.nets.gcd import GCD
    from edgeflock.export.training.loop.checkpoint import load_checkpoint
    from edgeflock.runtime.motion.folder import DanceFolder
    from edgeflock.runtime.motion.group import group_of_rows
    from edgeflock.runtime.motion.judging import judge

    check_outputs([json], whole=[weights, data])
    name, net = load_checkpoint(weights)
    if not isinstance(net, GCD):
        raise DataError(f"{weights} holds a {name}, expected weights of `edgeflock train gcd`.")
    encoder = encoder_beside(net, weights)
    folder = DanceFolder.open(data, "val")
    names = [folder.names[i] for i in np.unique(np.linspace(0, len(folder.names) - 1, songs).astype(int))]
    drawn = [(folder.motion(name), folder.music(name)) for name in names]
    known = [(group, music.beats) for group, music in drawn]
    few = {"steps": 8, "order": 2}
    asked: dict[str, dict[str, Any]] = {
        **{"8 steps, music not told": {**few, "guidance": 0.0}},
        **{f"8 steps, gamma {gamma:+d}": {**few, "gamma": float(gamma)} for gamma in (-1, 0, 1)},
        **{f"{steps} steps of DDIM": {"steps": steps} for steps in (50, 20, 8, 4)},
        **{f"{steps} steps of DPM-Solver++": {"steps": steps, "order": 2} for steps in (50, 20, 4)},
    }
    found = {"drawn dances": judge(known, known)}
    console = Console()
    for title, wish in track(asked.items(), "dancing", console=console, transient=True):
        every = []
        for seed in range(seeds):
            dance = Diffusion(net, encoder if wish.get("gamma") else None, Wish(drawn[0][0].dancers, seed=seed, **wish))
            started = time.process_time()
            made = [(group_of_rows(dance(music.features)), music.beats) for _, music in drawn]
            took = time.process_time() - started
            figures = judge(made, known)
            figures["s of motion a CPU second"] = sum(len(group) for group, _ in made) / 30 / took
            every.append(figures)
        found[title] = {key: float(np.mean([one[key] for one in every])) for key in every[0]}
        found[title] |= {f"{key}, deviation": float(np.std([one[key] for one in every])) for key in SHOWN}
    table = Table(title=f"{weights}: {len(names)} songs, {seeds} seeds, mean and deviation over seeds")
    table.add_column(no_wrap=True)
    for column in (*SHOWN, "s of motion a CPU second"):
        table.add_column(column, justify="right")
    for title, figures in found.items():
        cells = [
            f"{figures[key]:.3f}" + (f" ±{d:.3f}" if (d := figures.get(f"{key}, deviation")) else "") for key in SHOWN
        ]
        pace = figures.get("s of motion a CPU second")
        table.add_row(title, *cells, "" if pace is None else f"{pace:.2f}")
    console.print(table)
    if json is not None:
        write_atomically(json, json_.dumps(found, indent=2) + "\n")
