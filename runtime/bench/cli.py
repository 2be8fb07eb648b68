"""`edgeflock bench`: measure, report, compare. Thin; every verb calls one function."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgeflock.runtime.commands.registry import verbs
from edgeflock.runtime.errors import ResultError
from edgeflock.runtime.files import check_outputs, left_over
from edgeflock.runtime.options import Keys, next_command, refuse_unused, this_command

if TYPE_CHECKING:
    from edgeflock.runtime.bench.record import Measured, Missing

bench_app = typer.Typer(cls=verbs("edgeflock bench", "edgeflock.bench"), no_args_is_help=True)


@bench_app.callback(epilog="Example: edgeflock bench run --seconds 60 --mode paced --rate 30")
def bench() -> None:
    """Measure a net on this board, and say what the figures are worth."""


@bench_app.command(epilog="Example: edgeflock bench run my_bundle --scope task --mode paced --rate 30 --out records")
def run(
    context: typer.Context,
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder (default: the one of edgeflock).")] = None,
    net: Annotated[Path | None, typer.Option(help="Measure this ONNX file instead, fed with noise.")] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Repeat for more; 'all' records why the others are not usable."),
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="Repeat for more (default: all of the bundle).")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="net (the engine), task (frame to answer), chain (message to command). Default: net, task."),
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(help="back-to-back, paced, max-throughput. Default: back-to-back, paced."),
    ] = None,
    rate: Annotated[
        list[float] | None, typer.Option(help="Of the paced mode, Hz. Default: 30.", min=0.1, max=10000)
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.05, max=86400, help="Of each measurement; 600 states every percentile.")
    ] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0.0, max=3600, help="Longest warm-up, s.")] = 30.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the engine and of OpenCV.")] = 1,
    source: Annotated[str | None, typer.Option(help="Of scope chain: sim, realsense or a recording.")] = None,
    beside: Annotated[
        str | None,
        typer.Option(help="Command: scope chain is measured without it, then while it runs (from its first line on)."),
    ] = None,
    board: Annotated[str | None, typer.Option(help="Name of this board in reports (default: its model).")] = None,
    out: Annotated[Path, typer.Option(help="File, or folder for <board>-<net>.json.")] = Path("bench"),
    key: Keys = None,
) -> None:
    """Measure latency, throughput, CPU time, memory, clocks and power, and write the record."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from edgeflock.runtime.bench.machine import commit, this_board
    from edgeflock.runtime.bench.measure import measure_apart
    from edgeflock.runtime.bench.plan import plans
    from edgeflock.runtime.bench.record import BenchFile, Missing
    from edgeflock.runtime.bench.report import compared, not_measured, table
    from edgeflock.runtime.board.facts import check_threads

    check_threads(threads)
    modes, scopes = mode or ["back-to-back", "paced"], scope or ["net", "task"]
    if net is not None:
        refuse_unused(context, "with --net, which measures scope net", "scope", "key", "source", "beside")
    if "chain" not in scopes:
        refuse_unused(context, "without --scope chain", "source", "beside")
        if "paced" not in modes:
            refuse_unused(context, "without --mode paced", "rate")
    name, wanted = plans(
        bundle=bundle,
        net=net,
        engines=engine,
        precisions=precision,
        scopes=scopes,
        modes=modes,
        rates=rate or [30.0],
        seconds=seconds,
        warm_up_s=warm_up,
        threads=threads,
        source=source,
        keys=key or [],
        beside=beside,
    )
    machine = this_board(board)
    slug = re.sub(r"[^a-z0-9]+", "-", f"{machine.name}-{name}".lower()).strip("-")
    path = out if out.suffix == ".json" else out / f"{slug}.json"
    check_outputs([path], inputs=[net], whole=[bundle])
    console = Console()
    cells: list[Measured | Missing] = []
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(wanted))
        for plan in wanted:
            if isinstance(plan, Missing):
                cells.append(plan)
            else:
                progress.update(bar, description=f"{plan.engine} {plan.precision} {plan.scope} {plan.mode}")
                cells.append(measure_apart(plan, name))
            progress.advance(bar)
    file = BenchFile(
        edgeflock=version("edgeflock"),
        commit=commit(),
        command=this_command(),
        board=machine,
        cells=cells,
    )
    console.print(table([file]), highlight=False)
    for line in compared(cells):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    missing = [("", cell) for cell in cells if isinstance(cell, Missing)]
    for line in not_measured(missing):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    file.write(path)
    console.print(f"Record: {path}", highlight=False, soft_wrap=True)
    if len(missing) == len(cells):
        raise ResultError(f"nothing could be measured; {path} has the reasons.")
    console.print(next_command("bench", "report", path), highlight=False, markup=False, soft_wrap=True)


@bench_app.command(epilog="Example: edgeflock bench report docs/perf/records --out site")
def report(
    records: Annotated[list[Path], typer.Argument(help="Record files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for benchmark.md, benchmark.html and pictures.")] = Path("report"),
    summary: Annotated[
        Path | None, typer.Option(help="Page that gets the table of all boards, between its two marks.")
    ] = None,
) -> None:
    """Make tables, pictures and one HTML page of records; several boards stand against each other."""
    from edgeflock.runtime.bench.record import read_all
    from edgeflock.runtime.bench.report import write_report, write_summary

    files = read_all(records)
    if summary:
        write_summary(files, summary)
    check_outputs([out / "benchmark.md", out / "benchmark.html"], [out], inputs=[p for p in records if p.is_file()])
    made = write_report(files, out)
    for line in (*made, *left_over(out, made, "*-latency.png", "*-accuracy.png", "*-percentiles.png")):
        typer.echo(line)
    typer.echo(next_command("bench", "diff", records[0], "NEWER.json"))


@bench_app.command(epilog="Example: edgeflock bench diff old.json new.json --fail-above 1.2")
def diff(
    old: Annotated[Path, typer.Argument(help="Record file, or folder of them.")],
    new: Annotated[Path, typer.Argument(help="The same, newer.")],
    metric: Annotated[
        Literal["p50", "p90", "p99", "mean", "fps"],
        typer.Option(help="Latencies are those of the work, waiting left out."),
    ] = "p50",
    fail_above: Annotated[
        float | None,
        typer.Option(min=1.0, help="End with 1 when a cell is worse by more than this factor, or gone."),
    ] = None,
) -> None:
    """Sort the changes between two sets of records into buckets."""
    from edgeflock.runtime.bench.diff import BUCKETS, compare
    from edgeflock.runtime.bench.record import read_all

    found = compare(read_all([old]), read_all([new]), metric)
    unit = "frames/s" if metric == "fps" else "ms"
    for bucket in (*reversed(BUCKETS[1:]), None):
        changes = [c for c in found.changes if c.bucket == bucket]
        if changes and bucket is None:
            typer.echo(f"unchanged within {BUCKETS[0]:g}x: {len(changes)}")
        elif changes:
            low = BUCKETS[BUCKETS.index(bucket) - 1]
            typer.echo(f"{low:g}x to {bucket:g}x" if bucket != BUCKETS[-1] else f"{low:g}x and more")
            for c in changes:
                way = "worse" if c.worse else "better"
                typer.echo(f"  {way:6} {c.factor:.2f}x  {c.old:g} -> {c.new:g} {unit} {metric}  {c.key}")
    for key in found.new:
        typer.echo(f"new: {key}")
    for key, reason in found.gone.items():
        typer.echo(f"gone: {key}: {reason or 'no record says why'}")
    if fail_above is not None and (failures := found.failures(fail_above)):
        typer.echo("\n".join(["", *failures]), err=True)
        raise typer.Exit(1)
    typer.echo(next_command("bench", "report", old, new))
