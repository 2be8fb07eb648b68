"""`edgeflock fleet pace` and `edgeflock fleet soak`: fleets of processes with real sockets on this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from edgeflock.export.fleet.options import LoadOptions, OverlayOptions
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import check_record
from edgeflock.runtime.model_options import Fields, model_options
from edgeflock.runtime.options import next_command, this_command

OVERLAYS = {"star": ("star", 1), "ring": ("ring", 1), "multigraph": ("ring", None), "paced_mesh": ("paced_mesh", None)}
PUBLISHED = {"gaia": 57.2 / 15.7}
"""RING over MULTIGRAPH of the published table (FEMNIST)."""
WITHIN = 0.15
Out = Annotated[Path | None, typer.Option(help="Write the record as JSON, and the table beside it as .md.")]


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} rounds")
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))


@model_options
def pace(
    lines: Annotated[LoadOptions, Fields()],
    multigraph: Annotated[OverlayOptions, Fields("t")],
    overlay: Annotated[
        list[str] | None, typer.Option(help="star, ring, multigraph or paced_mesh; repeat (default: all).")
    ] = None,
    slower: Annotated[
        float, typer.Option(min=1, help="Times by which all takes longer than in the network: processors count less.")
    ] = 20,
    seconds: Annotated[float, typer.Option(min=1, help="About as long as each overlay is measured.")] = 60,
    out: Out = None,
) -> None:
    """Measure the time per round of robots as processes, each link through a relay with the network's delays.

    One process per silo, TCP with TLS between them; local steps are a sleep. Ends with 1 when an overlay is off the
    simulation by more than 15 %: try a quieter machine, or a larger --slower. Needs Linux, `ip` and /dev/net/tun.
    """
    from edgeflock.export.bench.figures import write_figures
    from edgeflock.export.fleet.lab.pace import Row, measure
    from edgeflock.runtime.fleet.choose.by_name import plan_by_name
    from edgeflock.runtime.fleet.plan.delay import Delays

    check_record(out)
    chosen = overlay or list(OVERLAYS)
    if unknown := set(chosen) - set(OVERLAYS):
        raise InputError(f"--overlay {', '.join(sorted(unknown))}: expected some of {', '.join(OVERLAYS)}.")
    opened, t = lines.silos(), multigraph.t
    delays = Delays.of(opened, lines.workload())
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, _progress() as progress:
        for name in chosen:
            base, period = OVERLAYS[name]
            plan = plan_by_name(opened, delays, period or t, base)
            bar = progress.add_task(name, total=None)

            def tell(done: int, rounds: int, bar: TaskID = bar) -> None:
                progress.update(bar, completed=done, total=rounds)

            rows.append(measure(name, plan, opened, delays, slower, seconds, Path(folder) / name, tell))
    table = [
        f"{opened.name}, {len(opened)} robots as processes, {slower:g} times slower; ms per round of the network:",
        "",
        "| overlay | rounds | `event` | measured | off | models too late |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        off = f"{100 * row.off:+.0f} %"
        table.append(
            f"| {row.overlay} | {row.rounds} | {row.event_ms:.1f} | {row.measured_ms:.1f} | {off} | {row.missing} |"
        )
    by_name = {row.overlay: row for row in rows}
    if {"ring", "multigraph"} <= by_name.keys():
        one, other = by_name["ring"], by_name["multigraph"]
        ratios = f"measured {one.measured_ms / other.measured_ms:.2f}"
        ratios += f", event {one.event_ms / other.event_ms:.2f}"
        if opened.name in PUBLISHED and t == 5:
            ratios += f", published {PUBLISHED[opened.name]:.2f}"
        table += ["", f"ring over multigraph: {ratios}"]
    table += ["", f"load of the machine in the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"]
    typer.echo("\n".join(table))
    if out is not None:
        write_figures(
            out, "\n".join(table), rows, "edgeflock", command=this_command(), network=lines.network, slower=slower
        )
        typer.echo(f"record: {out}")
    if any(abs(row.off) > WITHIN for row in rows):
        raise typer.Exit(1)


def soak(
    robots: Annotated[int, typer.Option(min=3, max=20, help="Processes.")] = 5,
    rounds: Annotated[int, typer.Option(min=100, help="Rounds of training.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the faults.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Keep the robots' logs and disks here.")] = None,
) -> None:
    """Let robots run for long under random faults: does memory stay flat, and do the models agree in the end.

    Messages are lost, repeated, reordered, damaged and delayed; robots are stopped, killed and started again. Ends with
    1 when memory grows by more than 2 MB in 1,000 rounds or the models differ by more than 1 %.
    """
    from edgeflock.export.fleet.lab.soak import FAULTS, SETTLE
    from edgeflock.export.fleet.lab.soak import soak as run

    with tempfile.TemporaryDirectory() as scratch, _progress() as progress:
        bar = progress.add_task("slowest robot", total=rounds + SETTLE)
        place = folder or Path(scratch)
        found = run(place, robots, rounds, seed, lambda done: progress.update(bar, completed=done))
    typer.echo(
        f"{robots} robots, {rounds} rounds and {SETTLE} of mixing alone, {found.seconds:.0f} s; messages: {FAULTS}"
    )
    typer.echo(f"stopped {found.stops} times, killed {found.starts.total() - robots} times")
    typer.echo(f"models mixed {found.mixed}, too late {found.missing}")
    typer.echo("refused: " + ", ".join(f"{code} {n}" for code, n in found.refused.most_common()))
    for name, memory in found.memory.items():
        typer.echo(
            f"{name}: {memory.megabytes[0]:.1f} MB at first, {memory.megabytes[-1]:.1f} MB in the end, "
            f"{memory.slope:+.2f} MB per 1,000 rounds"
        )
    typer.echo(f"farthest model from the mean of all: {100 * found.disagreement:.2g} % of its length")
    if not found.holds:
        if folder is None:
            typer.echo(next_command("fleet", "soak", "--seed", seed, "--folder", "soak"))
        raise typer.Exit(1)
