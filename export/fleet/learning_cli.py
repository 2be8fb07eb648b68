"""`edgeflock fleet simulate` and `edgeflock fleet experiments`: fleets that learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from edgeflock.export.fleet.options import (
    AccessBps,
    AsJson,
    CoreBps,
    Jitter,
    LocalSteps,
    Network,
    Periods,
    Straggler,
    Tour,
    WifiBps,
    check_reports,
    conditions_of,
    open_silos,
    refuse_unused,
    wrote_json,
)
from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.options import next_command, this_command

Data = Annotated[list[Path], typer.Option(help="Training data, dealt to the silos; repeat to join (docs/data.md).")]
Val = Annotated[list[Path], typer.Option(help="Validation data, the same for all; repeat to join.")]
StepMs = Annotated[float, typer.Option("--compute-ms", help="One local step on a silo, ms (4.9: the authors' Gazebo).")]
SPLITS = "How data is dealt to the silos: environment, sign, dirichlet:ALPHA or iid"
Batch = Annotated[int, typer.Option(min=2, help="Samples per local step.")]
Rate = Annotated[float, typer.Option(min=1e-9, help="Learning rate of Adam.")]
Samples = Annotated[int | None, typer.Option(min=1, help="At most so many training samples, evenly from all.")]
EngineName = Annotated[str, typer.Option(help="Where silos train: processes, or ray (RAY_ADDRESS for a cluster).")]
Workers = Annotated[int | None, typer.Option(min=1, help="Silos that train at the same time; one per core by default.")]


def simulate(
    ctx: typer.Context,
    network: Network,
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was interrupted goes on by itself.")],
    data: Data = (),  # type: ignore[assignment]  # typer gives a list
    val: Val = (),  # type: ignore[assignment]  # as above
    mode: Annotated[str, typer.Option(help="dfl (peers), sfl (server), cll (all data in one place) or local.")] = "dfl",
    base: Annotated[str, typer.Option(help="Overlay: ring, mst, delta_mbst, star, complete or paced_mesh.")] = "ring",
    t: Periods = 5,
    tour: Tour = "improved",
    plan: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Plan of `fleet plan --json`, for --base and --t.")
    ] = None,
    rule: Annotated[
        str | None, typer.Option(help="Weights: half, authors, push_sum, metropolis, fdla (default: what fits).")
    ] = None,
    robust: Annotated[
        str | None, typer.Option(help="clipping:radius=R, clipping:F, median:F, trimmed_mean:F or multi_krum:F.")
    ] = None,
    task: Annotated[str, typer.Option(help="What is learnt: steering or emotion.")] = "steering",
    net: Annotated[str | None, typer.Option(help="Net, by the name that `edgeflock train` has for it.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="May be raised later, to go on.")] = 300,
    local_steps: LocalSteps = 1,
    split: Annotated[str | None, typer.Option(help=f"{SPLITS}; default: the task's.")] = None,
    batch: Batch = 8,
    lr: Rate = 1e-3,
    batch_norm: Annotated[str, typer.Option(help="Statistics: average, local or re-estimate.")] = "average",
    layers: Annotated[str, typer.Option(help="Train and exchange only layers whose names begin so, as head.")] = "",
    samples: Samples = None,
    size: Annotated[int | None, typer.Option(min=32, help="Side of the faces, for a quick start (emotion).")] = None,
    init: Annotated[Path | None, typer.Option(help="Start weights of all silos.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, shares, batches and augmentation.")] = 0,
    bf16: Annotated[bool, typer.Option(help="bfloat16 convolutions while training.")] = True,
    evaluate: Annotated[int, typer.Option(min=1, help="Rounds between evaluations of the mean model.")] = 20,
    robots: Annotated[int, typer.Option(min=1, help="Evaluations between those of every silo's own model.")] = 5,
    settle: Annotated[int, typer.Option(min=0, help="Rounds of mixing without training in the end.")] = 0,
    compute_ms: StepMs = 4.9,
    model_bits: Annotated[
        float | None, typer.Option(help="Size of a message; the model's 32-bit size if not set.")
    ] = None,
    access_bps: AccessBps = 1e10,
    core_bps: CoreBps = "1e9",
    straggler: Straggler = None,
    jitter: Jitter = 0.0,
    wifi_bps: WifiBps = None,
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
    from edgeflock.export.fleet.simulation import MODES, SimulationConfig, clock_of, simulate_learning
    from edgeflock.export.fleet.workers import open_pool
    from edgeflock.runtime.fleet.choose.by_name import plan_by_name
    from edgeflock.runtime.fleet.learner import learning_task
    from edgeflock.runtime.fleet.plan.delay import Delays, Workload
    from edgeflock.runtime.fleet.plan.schedule import Plan, plan_of

    if mode not in MODES:
        raise InputError(f"no mode '{mode}': expected one of {', '.join(MODES)}.")
    if mode != "dfl":
        unused = ["base", "t", "tour", "plan"] + (["rule", "robust", "settle"] if mode != "sfl" else [])
        refuse_unused(ctx, unused, f"mode '{mode}' has no overlay of peers")
    if mode == "cll":
        refuse_unused(ctx, ["straggler", "jitter", "wifi_bps", "compute_ms"], "mode 'cll' has no clock")
    if plan is not None:
        refuse_unused(ctx, ["base", "t", "tour"], f"{plan} says who mixes with whom, and when")
    check_reports(as_json, read=[network, tour, plan, init, *data, *val], folders=[out])
    silos = open_silos(network, core_bps)
    chosen = {"net": net, "split": split, "size": size, "samples": samples, "init": init}
    settings: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    settings |= {"batch": batch, "lr": lr, "batch_norm": batch_norm, "layers": layers, "seed": seed, "bf16": bf16}
    try:
        learnt = learning_task(task)(silos=len(silos), data=tuple(data), val=tuple(val), **settings)
    except ValidationError as error:
        wrong = "; ".join(f"--{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise InputError(f"'{task}' cannot be set so: {wrong}.") from error
    config = SimulationConfig(
        mode=mode,
        local_steps=local_steps,
        rule=rule,
        robust=robust,
        evaluate=evaluate,
        robots=robots,
        settle=settle,
    )
    bits = 32.0 * learnt.start().size if model_bits is None else model_bits
    delays = Delays.of(silos, Workload(bits, compute_ms, local_steps, access_bps))
    made: Plan | None = None
    if mode == "sfl":
        made = plan_of(silos.silos, delays, 1, "star")
    elif mode == "dfl" and plan is not None:
        made = Plan.from_json(plan.read_bytes(), plan)
        if set(made.roster) != set(silos.silos):
            odd = sorted(set(made.roster) ^ set(silos.silos))
            raise InputError(f"{plan} is for other silos than {silos.name}: {', '.join(odd[:5])} are in one alone.")
    elif mode == "dfl":
        made = plan_by_name(silos, delays, t, base, tour)
    conditions = conditions_of(made.roster if made else silos.silos, bits, straggler, jitter, wifi_bps, seed)
    clock = clock_of(mode, made, delays.compute_ms, rounds + settle, conditions)
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


def experiments(
    data: Data,
    val: Val,
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")],
    runs: Annotated[Path, typer.Option(help="Folder for the runs; those that are done are not done again.")] = Path(
        "runs/experiments"
    ),
    rounds: Annotated[int, typer.Option(min=1, help="The post's: 3000.")] = 100,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    batch: Annotated[int, typer.Option(min=2, help="Frames per local step; the post's: 32.")] = 8,
    lr: Rate = 1e-3,
    split: Annotated[str, typer.Option(help=f"{SPLITS}.")] = "environment",
    samples: Samples = None,
    settle: Annotated[int, typer.Option(min=0, help="Rounds of mixing without training in the end.")] = 20,
    compute_ms: StepMs = 4.9,
    engine: EngineName = "processes",
    workers: Workers = None,
) -> None:
    """Repeat the posts' experiments on recorded frames, the defaults within an hour on 2 cores.

    FADNet and DroNet, centralised, with a server and among peers, on Gaia and Amazon; schedules against simulated time;
    the robots' own models beside their mean. Writes experiments.json, experiments.md and pictures.
    """
    from functools import partial

    from edgeflock.export.fleet.experiments import ExperimentSettings, run_experiments, write_report
    from edgeflock.export.fleet.workers import open_pool
    from edgeflock.runtime.fleet.learner import learning_task

    check_reports(None, read=[*data, *val], folders=[out, runs])
    settings = ExperimentSettings(
        rounds=rounds,
        seeds=seeds,
        batch=batch,
        lr=lr,
        split=split,
        samples=samples,
        settle=settle,
        compute_ms=compute_ms,
        evaluate=max(1, rounds // 10),
    )
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
