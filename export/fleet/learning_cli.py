"""`edgeflock fleet simulate` and `edgeflock fleet experiments`: fleets that learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from edgeflock.export.fleet.config import ExperimentSettings, SimulationConfig
from edgeflock.export.fleet.options import (
    AsJson,
    Disturbance,
    NetworkOptions,
    OverlayOptions,
    check_reports,
    wrote_json,
)
from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.fleet.learner import LearningTask
from edgeflock.runtime.model_options import Fields, model_options, validated
from edgeflock.runtime.options import next_command, refuse_unused, this_command, typed_flags

Data = Annotated[list[Path], typer.Option(help="Training data, dealt to the silos; repeat to join (docs/data.md).")]
Val = Annotated[list[Path], typer.Option(help="Validation data, the same for all; repeat to join.")]
EngineName = Annotated[str, typer.Option(help="Where silos train: processes, or ray (RAY_ADDRESS for a cluster).")]
Workers = Annotated[int | None, typer.Option(min=1, help="Silos that train at the same time; one per core by default.")]


@model_options
def simulate(
    context: typer.Context,
    lines: Annotated[NetworkOptions, Fields()],
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was interrupted goes on by itself.")],
    overlay: Annotated[OverlayOptions, Fields()],
    config: Annotated[SimulationConfig, Fields("mode", "rule", "robust", "evaluate", "robots", "settle")],
    learning: Annotated[
        dict[str, Any],
        Fields(
            "net", "split", "batch", "lr", "batch_norm", "layers", "samples", "init", "seed", "bf16", of=LearningTask
        ),
    ],
    disturbance: Annotated[Disturbance, Fields()],
    data: Data = (),  # type: ignore[assignment]  # typer gives a list
    val: Val = (),  # type: ignore[assignment]  # as above
    plan: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Plan of `fleet plan --json`, for --base and --t.")
    ] = None,
    task: Annotated[str, typer.Option(help="What is learnt: steering or emotion.")] = "steering",
    size: Annotated[int | None, typer.Option(min=32, help="Side of the faces, for a quick start (emotion).")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="May be raised later, to go on.")] = 300,
    compute_ms: Annotated[float, typer.Option(help="One local step on a silo, ms (4.9: the authors' Gazebo).")] = 4.9,
    model_bits: Annotated[
        float | None, typer.Option(help="Size of a message; the model's 32-bit size if not set.")
    ] = None,
    engine: EngineName = "processes",
    workers: Workers = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew although the folder holds a run.")] = False,
    as_json: AsJson = None,
) -> None:
    """Let a fleet learn: real training of every silo, time as the network would take it.

    Writes rounds.csv, result.json, average.safetensors (the mean model, for `edgeflock export`), curve.png and
    checkpoint.safetensors (to go on) into --out.
    """
    from edgeflock.export.fleet.learning_plots import curves_figure
    from edgeflock.export.fleet.simulation import clock_of, simulate_learning
    from edgeflock.export.fleet.workers import open_pool
    from edgeflock.runtime.fleet.learner import learning_task
    from edgeflock.runtime.fleet.plan.delay import Delays
    from edgeflock.runtime.fleet.plan.schedule import Plan, plan_of

    mode = config.mode
    if mode != "dfl":
        unused = ["base", "t", "tour", "plan"] + (["rule", "robust", "settle"] if mode != "sfl" else [])
        refuse_unused(context, f"with --mode {mode}, which has no overlay of peers", *unused)
    if mode == "cll":
        refuse_unused(context, "with --mode cll, which has no clock", "straggler", "jitter", "wifi_bps", "compute_ms")
    if plan is not None:
        refuse_unused(context, "with --plan, which says who mixes with whom, and when", "base", "t", "tour")
    read = [lines.network, overlay.tour, plan, learning.get("init"), *data, *val]
    check_reports(as_json, read=read, folders=[out])
    silos = lines.silos()
    learning |= {"silos": len(silos), "data": tuple(data), "val": tuple(val)} | ({"size": size} if size else {})
    learnt = validated(learning_task(task), learning, typed_flags(context))
    config = config.model_copy(update={"local_steps": lines.local_steps})
    bits = 32.0 * learnt.start().size if model_bits is None else model_bits
    delays = Delays.of(silos, lines.work(bits, compute_ms))
    made: Plan | None = None
    if mode == "sfl":
        made = plan_of(silos.silos, delays, 1, "star")
    elif mode == "dfl" and plan is not None:
        made = Plan.from_json(plan.read_bytes(), plan)
        if set(made.roster) != set(silos.silos):
            odd = sorted(set(made.roster) ^ set(silos.silos))
            raise InputError(f"{plan} is for other silos than {silos.name}: {', '.join(odd[:5])} are in one alone.")
    elif mode == "dfl":
        made = overlay.plan(silos, delays)
    conditions = disturbance.conditions(made.roster if made else silos.silos, bits, learnt.seed)
    clock = clock_of(mode, made, delays.compute_ms, rounds + config.settle, conditions)
    with open_pool(engine, workers) as opened:
        result = simulate_learning(
            learnt,
            config,
            made,
            rounds,
            out,
            opened,
            clock_ms=clock,
            fresh=fresh,
            command=this_command(),
        )
    try:
        curves_figure({f"{mode} {made.base} t={made.t}" if made else mode: [result]}, out / "curve.png")
    except MissingExtra as missing:  # no reason to lose a run for
        Console(stderr=True).print(f"curve.png is not drawn: {missing}", markup=False, highlight=False, soft_wrap=True)
    if not wrote_json(json.dumps(result["figures"], indent=2), as_json):
        _print_figures(result, out)
        sets = _sets(("--data", val), ("--calib", data))
        weights = ["--weights", out / "average.safetensors", *sets]
        typer.echo(next_command("export", task, *weights, "--key", "FLEET.pem", "--out", "BUNDLE"))


@model_options
def experiments(
    data: Data,
    val: Val,
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")],
    settings: Annotated[
        ExperimentSettings, Fields("rounds", "seeds", "batch", "lr", "split", "samples", "settle", "compute_ms")
    ],
    runs: Annotated[Path, typer.Option(help="Folder for the runs; those that are done are not done again.")] = Path(
        "runs/experiments"
    ),
    engine: EngineName = "processes",
    workers: Workers = None,
) -> None:
    """Repeat the posts' experiments on recorded frames, the defaults within an hour on 2 cores.

    FADNet and DroNet, centralised, with a server and among peers, on Gaia and Amazon; schedules against simulated time;
    the robots' own models beside their mean. Writes experiments.json, experiments.md and pictures.
    """
    from functools import partial

    from edgeflock.export.fleet.experiments import run_experiments, write_report
    from edgeflock.export.fleet.workers import open_pool
    from edgeflock.runtime.fleet.learner import learning_task

    check_reports(None, read=[*data, *val], folders=[out, runs])
    settings = settings.model_copy(update={"evaluate": max(1, settings.rounds // 10)})
    console = Console()
    steering: Any = learning_task("steering")
    make = partial(steering, data=tuple(data), val=tuple(val), augment=False)  # as the authors
    with open_pool(engine, workers) as opened:
        results = run_experiments(
            make,
            settings,
            runs,
            opened,
            on_run=lambda name, done, of: console.print(f"run {done + 1} of {of}: {name}", highlight=False),
        )
    page = write_report(results, settings, out, this_command())
    console.print(page.read_text(), markup=False, highlight=False, soft_wrap=True)
    sets = _sets(("--data", data), ("--val", val))
    typer.echo(next_command("fleet", "simulate", "--network", "gaia", *sets, "--out", "runs/fleet"))


def _sets(*named: tuple[str, list[Path]]) -> list[object]:
    """Words that name data sets on a command line."""
    return [word for option, paths in named for path in paths for word in (option, path)]


def _print_figures(result: dict[str, Any], out: Path) -> None:
    figures, metric = result["figures"], result["metric"]
    unit = f" {metric['unit']}" if metric["unit"] else ""
    console = Console()
    for when in ("trained", "settled"):
        if when in figures:
            one = figures[when]
            console.print(
                f"{when}: {metric['name']} of the mean model {one['average']:.4f}{unit}, of the robots' own "
                f"{one['robots_mean']:.4f} ({one['best']:.4f} to {one['worst']:.4f})",
                highlight=False,
                soft_wrap=True,
            )
    against = ", ".join(f"{name} {value:.4f}" for name, value in figures["baselines"].items())
    clock = f"; simulated time {result['clock_ms'][-1] / 1e3:.1f} s" if result["clock_ms"] else ""
    console.print(f"without a net: {against}{clock}; {out / 'average.safetensors'}", highlight=False, soft_wrap=True)
