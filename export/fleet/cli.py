"""`edgeflock fleet`: what an overlay costs, the plan of a fleet, what mixing does; every verb calls one function."""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from edgeflock.export.fleet.lab.cli import pace, soak
from edgeflock.export.fleet.learning_cli import experiments, simulate
from edgeflock.export.fleet.options import AsJson, Disturbance, LoadOptions, OverlayOptions, check_reports, wrote_json
from edgeflock.export.recipes.limits import SteeringLimits
from edgeflock.runtime.commands.registry import verbs
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import check_outputs
from edgeflock.runtime.fleet.verbs import adopt, delays, join, keys_app, rollback
from edgeflock.runtime.fleet.watch.verb import watch
from edgeflock.runtime.model_options import Fields, model_options
from edgeflock.runtime.options import next_command, refuse_unused
from edgeflock.runtime.tasks.shadow import ShadowLimits

if TYPE_CHECKING:
    from edgeflock.runtime.fleet.plan.network import SiloNetwork
    from edgeflock.runtime.fleet.plan.schedule import Plan

fleet_app = typer.Typer(cls=verbs("edgeflock fleet", "edgeflock.fleet"), no_args_is_help=True)
fleet_app.add_typer(keys_app, name="keys")
INFLUENCE_LINES = {
    "least": "least",
    "most": "most",
    "least_round": "least in a round",
    "most_round": "most in a round",
    "least_state_0": "least before state 0",
    "most_state_0": "most before state 0",
    "lasting": "learning that lasts",
    "half_life_rounds": "half-life, rounds",
}
NARROW: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}  # fits 80 columns


@fleet_app.callback(epilog="Example: edgeflock fleet cycle-time --network gaia")
def fleet() -> None:
    """Robots that learn together: who talks to whom, when, and what that costs."""


@fleet_app.command("cycle-time", epilog="Example: edgeflock fleet cycle-time --network gaia --t 5 --json -")
@model_options
def cycle_time(
    context: typer.Context,
    lines: Annotated[LoadOptions, Fields()],
    overlay: Annotated[OverlayOptions, Fields("t", "tour")],
    disturbance: Annotated[Disturbance, Fields()],
    hub: Annotated[str | None, typer.Option(help="Hub of the star: a silo, or 'best' (default: the first).")] = None,
    matcha: Annotated[bool, typer.Option("--matcha/--no-matcha", help="MATCHA, the slowest to compute.")] = True,
    paced_mesh: Annotated[bool, typer.Option("--paced-mesh", help="Add the schedule beyond the multigraph.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the jitter.")] = 0,
    as_json: AsJson = None,
) -> None:
    """Compare overlays: time per round by three measures, half-life of disagreement, time to consensus, bytes.

    Stragglers, jitter and Wi-Fi change the measure `event`, which is then simulated.
    """
    from edgeflock.export.fleet.compare import compare, matchas
    from edgeflock.runtime.fleet.plan.delay import Delays
    from edgeflock.runtime.fleet.plan.overlays import best_hub

    if not disturbance.jitter:
        refuse_unused(context, "without --jitter", "seed")
    check_reports(as_json, read=[lines.network, overlay.tour])
    opened, work = lines.silos(), lines.workload()
    middle = best_hub(Delays.of(opened, work).relayed()) if hub == "best" else opened.index(hub) if hub else 0
    conditions = disturbance.conditions(opened.silos, lines.model_bits, seed)
    with Console(stderr=True).status("") as status:
        status.update("MATCHA's matchings" if matcha else "overlays")
        found = compare(
            opened,
            work,
            overlay.t,
            tour=overlay.tour,
            hub=middle,
            matcha=matchas(opened) if matcha else None,
            with_paced_mesh=paced_mesh,
            conditions=conditions,
            on_progress=lambda name: status.update(name),
        )
    if not wrote_json(json.dumps(found, indent=2), as_json):
        _print_comparison(opened, found)
        typer.echo(next_command("fleet", "plan", "--network", lines.network, "--t", overlay.t, "--json", "plan.json"))


@fleet_app.command(epilog="Example: edgeflock fleet plan --network gaia --t 3 --json plan.json --states states.png")
@model_options
def plan(
    lines: Annotated[LoadOptions, Fields()],
    overlay: Annotated[OverlayOptions, Fields()],
    picture: Annotated[Path | None, typer.Option(help="Draw the overlay into this file (.png, .svg, .pdf).")] = None,
    states: Annotated[Path | None, typer.Option(help="Draw the first states, isolated silos marked.")] = None,
    as_json: AsJson = None,
) -> None:
    """Make the plan of a fleet: which edge binds in which round. Every robot gets the same from the same delays."""
    check_reports(as_json, picture, states, read=[lines.network, overlay.tour])
    from edgeflock.runtime.fleet.plan.delay import Delays

    opened = lines.silos()
    delays = Delays.of(opened, lines.workload())
    made = overlay.plan(opened, delays)
    if picture or states:
        from edgeflock.export.fleet.plots import overlay_figure, states_figure

        for file, draw in ((picture, overlay_figure), (states, states_figure)):
            if file:
                draw(opened, made, file)
    if not wrote_json(made.to_json(), as_json):
        _print_plan(made, delays.compute_ms)
        planned = ["--plan", as_json] if as_json else ["--base", overlay.base, "--t", overlay.t]
        sets = ["--data", "TRAIN", "--val", "VAL", "--out", "runs/fleet"]
        typer.echo(next_command("fleet", "simulate", "--network", lines.network, *planned, *sets))


@fleet_app.command(epilog="Example: edgeflock fleet influence --network gaia --t 5")
@model_options
def influence(
    lines: Annotated[LoadOptions, Fields()],
    overlay: Annotated[OverlayOptions, Fields("t", "tour")],
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="Weights: half, authors, push_sum, metropolis, fdla, server; repeat for more (default: all that fit)"
        ),
    ] = None,
    base: Annotated[str, typer.Option(help="Overlay: ring, mst, delta_mbst, star or complete.")] = "ring",
    reverse: Annotated[bool, typer.Option("--reverse", help="Turn the ring round.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="As if every model came at once: the literature's.")] = False,
    as_json: AsJson = None,
) -> None:
    """Show each silo's weight in the consensus model, by weight rule.

    1 is an equal share. Figures are means over a period. Extremes, and how much of all learning lasts, stand below.
    """
    check_reports(as_json, read=[lines.network, overlay.tour])
    from edgeflock.runtime.fleet.choose.by_name import find_tour
    from edgeflock.runtime.fleet.choose.consensus import influence_table
    from edgeflock.runtime.fleet.plan.delay import Delays
    from edgeflock.runtime.fleet.plan.schedule import plan_of

    opened = lines.silos()
    delays = Delays.of(opened, lines.workload())
    order: str | list[int] = base
    if base == "ring":
        order = find_tour(overlay.tour, opened, delays)[:: -1 if reverse else 1]
    elif overlay.tour != "improved" or reverse:
        raise InputError(f"--tour and --reverse order a ring, and --base is '{base}': leave them out.")
    found = influence_table(plan_of(opened.silos, delays, overlay.t, order), rule, stale=not fresh)
    if wrote_json(json.dumps(found, indent=2), as_json):
        return
    table = Table("silo", title=f"{opened.name}, {base}, t = {overlay.t}: influence of each silo", **NARROW)
    for name in found:
        table.add_column(name, justify="right")
    for silo in opened.silos:
        table.add_row(silo, *(f"{column['influence'][silo]:.2f}" for column in found.values()))
    table.add_section()
    for line, head in INFLUENCE_LINES.items():
        if fresh or not line.endswith("state_0"):
            table.add_row(head, *(f"{column[line]:.2f}" for column in found.values()))
    Console().print(table)
    words = ["--network", lines.network, "--base", overlay.base, "--t", overlay.t]
    typer.echo(next_command("fleet", "plan", *words, "--json", "plan.json"))


@fleet_app.command(epilog="Example: edgeflock fleet scale --silos 100 --silos 1000 --picture scale.png")
@model_options
def scale(
    overlay: Annotated[OverlayOptions, Fields("t")],
    silos: Annotated[list[int], typer.Option(min=3, help="Sizes to try; repeat for more.")] = [50, 100, 200, 500, 1000],  # noqa: B006
    seed: Annotated[int, typer.Option(min=0, help="Of the random networks.")] = 0,
    picture: Annotated[Path | None, typer.Option(help="Draw the times into this file.")] = None,
) -> None:
    """Time ring and multigraph on random geometric networks, FEMNIST's workload."""
    check_reports(None, picture, read=[])
    from edgeflock.runtime.fleet.choose.cycle_time import cycle_mean, event
    from edgeflock.runtime.fleet.plan.delay import Delays, Workload
    from edgeflock.runtime.fleet.plan.network import open_network
    from edgeflock.runtime.fleet.plan.schedule import plan_of

    table = Table(title="seconds of computing", **NARROW)
    seconds: dict[str, list[float]] = {}
    console = Console()
    open_network("random:3")  # what is imported for the first time counts for no size
    for n in silos:
        marks = [time.perf_counter()]

        def lap(marks: list[float] = marks) -> None:
            marks.append(time.perf_counter())

        with Console(stderr=True).status(f"{n} silos"):
            strewn = open_network(f"random:{n}:{seed}")
            delays = Delays.of(strewn, Workload(4843243, 4.6))
            lap()
            ring = plan_of(strewn.silos, delays, 1)
            lap()
            multigraph = plan_of(ring.roster, delays, overlay.t, ring.edges[:, 0].tolist())
            means = cycle_mean(ring, delays.compute_ms), cycle_mean(multigraph, delays.compute_ms)
            lap()
            clock = event(multigraph, delays.compute_ms)
            lap()
        stages = dict(zip(("network", "ring", "cycle_mean", "event"), np.diff(marks), strict=True))
        for name, value in (stages | {"together": marks[-1] - marks[0]}).items():
            seconds.setdefault(name, []).append(float(value))
        if not table.columns:
            for head in ("silos", *seconds, "ring\nms", "multi-\ngraph\nms", "by\nevent\nms"):
                table.add_column(head, justify="right")
        figures = (*(f"{v[-1]:.2f}" for v in seconds.values()), *(f"{m:.2f}" for m in means))
        table.add_row(str(n), *figures, f"{clock:.2f}")
    console.print(table)
    if picture:
        from edgeflock.export.fleet.plots import cost_figure

        cost_figure(silos, seconds, picture)
    typer.echo(
        next_command("fleet", "cycle-time", "--network", f"random:{silos[0]}:{seed}", "--t", overlay.t, "--no-matcha")
    )


def _print_comparison(network: SiloNetwork, found: dict[str, dict[str, float]]) -> None:
    heads = {
        "cycle_mean": "cycle\nmean\nms",
        "round_max": "round\nmax\nms",
        "event": "event\n\nms",
        "half_life_rounds": "half-\nlife\nrounds",
        "half_life_delivered_rounds": "as deli-\nvered\nrounds",
        "time_to_consensus_ms": "to con-\nsensus\nms",
        "bytes_per_round": "sent\nper\nround\nMB",
    }
    table = Table(title=f"{network.name}, {len(network)} silos", **NARROW)
    table.add_column("overlay", no_wrap=True)
    for head in heads.values():
        table.add_column(head, justify="right")
    for overlay in found["cycle_mean"]:
        cells = [found[key][overlay] / (1e6 if key == "bytes_per_round" else 1) for key in heads]
        table.add_row(overlay, *(f"{c:.0f}" if c >= 1000 else f"{c:.2f}" if c < 100 else f"{c:.1f}" for c in cells))
    Console().print(table)


def _print_plan(made: Plan, compute_ms: float) -> None:
    from edgeflock.runtime.fleet.choose.cycle_time import cycle_mean, event, round_max

    table = Table("from", "to", title=f"{made.base}, t = {made.t}")
    for head in ("delay, ms", "every … rounds"):
        table.add_column(head, justify="right")
    for (i, j), period, delay in zip(made.edges.tolist(), made.periods, made.delay_ms, strict=True):
        table.add_row(made.roster[i], made.roster[j], f"{delay:.2f}", str(period))
    console = Console()
    console.print(table)
    shown = min(made.states, 2520)
    alone = [len(made.isolated(k)) for k in range(shown)]
    measures = (f"{f.__name__} {f(made, compute_ms):.2f} ms" for f in (cycle_mean, round_max, event))
    console.print(
        f"{made.states} states, {sum(a > 0 for a in alone)} of the first {shown} with isolated silos (at most "
        f"{max(alone)}); models at most {made.staleness} rounds old; {', '.join(measures)}\nplan {made.hash}",
        highlight=False,
    )


fleet_app.command(epilog="Example: edgeflock fleet delays runs/r1/status.json --json delays.json")(delays)
fleet_app.command(epilog="Example: edgeflock fleet adopt plan.json --fleet fleet --at-round 200")(adopt)
fleet_app.command(
    epilog="Example: edgeflock fleet join r1 --key r1.pem --roster roster.json --plan plan.json "
    "--peer r2=10.0.0.2:7600 --data data/r1/train --val data/r1/val --out runs/r1"
)(join)


@fleet_app.command(
    epilog="Example: edgeflock fleet promote driving --weights runs/r1/model.safetensors --data data/r1/val "
    "--calib data/r1/train --key r1.pem"
)
@model_options
def promote(
    driving: Annotated[Path, typer.Argument(help="Folder of the driving bundle; steering opens DRIVING/current.")],
    weights: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="model.safetensors of `fleet join`.")],
    data: Annotated[list[Path], typer.Option(help="This robot's held-out data, for gate and shadow; repeat to join.")],
    calib: Annotated[list[Path], typer.Option(help="Its own frames, for the ranges of INT8; repeat to join.")],
    key: Annotated[Path, typer.Option(help="This robot's private key, to sign the bundle; .pub lies beside it.")],
    gate: Annotated[SteeringLimits, Fields("max_rise", "max_ratio")],
    limits: Annotated[ShadowLimits, Fields()],
    trust: Annotated[list[Path] | None, typer.Option(help="A .pub file of the driving bundle; repeat.")] = None,
    shared: Annotated[
        list[Path] | None,
        typer.Option(help="File of another robot's `edgeflock calibrate share`, of these weights; repeat."),
    ] = None,
    roster: Annotated[
        Path | None, typer.Option(help="The fleet's roster.json; it says whose --shared is taken.")
    ] = None,
) -> None:
    """Drive with what the fleet learnt: re-quantise on this robot, gate, shadow run, swap in one step.

    A model that gate or shadow refuses changes nothing. No torch is needed where model.onnx lies beside the weights, as
    `fleet join --driving` writes it.
    """
    from edgeflock.calibration.shared import read_shared
    from edgeflock.export.datasets import SteeringDataset, concatenate, open_dataset

    with needs("Quantising a model", "requantise"):
        from edgeflock.export.fleet.promote import promote as take
    from edgeflock.runtime.bundle.driving import DrivingBundle
    from edgeflock.runtime.bundle.signing import read_private_key, read_public_key
    from edgeflock.runtime.fleet.peer.roster import read_roster

    def read(paths: list[Path]) -> SteeringDataset:
        return concatenate([open_dataset(path) for path in paths])

    read_private_key(key)  # key and place first: frames and weights take long
    read_public_key(key.with_suffix(".pub"))
    check_outputs(folders=[driving], inputs=[weights, key], whole=[*data, *calib])
    if bool(shared) != bool(roster):
        raise InputError("--shared and --roster go together: the roster says by which keys such files are signed.")
    members = read_roster(roster).roster if roster else None
    others = [read_shared(path, members.run, members.public_keys()) for path in shared or () if members]
    found = take(
        weights, read(data), read(calib), key, DrivingBundle(driving),
        gate=gate, limits=limits, trusted=trust, others=others, console=Console(),
    )  # fmt: skip
    if seen := found.shadow:
        typer.echo(
            f"shadow, {seen.frames} frames: RMSE {seen.candidate_rmse:.4g} rad, was {seen.driving_rmse:.4g}; "
            f"{seen.candidate_ms:.2f} ms, was {seen.driving_ms:.2f}; at most {seen.apart:.3g} rad apart"
        )
    back = shlex.join(["edgeflock", "fleet", "rollback", str(driving)])
    typer.echo(f"{driving / 'current'} is {found.bundle.name}; back: {back}")
    typer.echo(next_command("tune", driving / "current", "--key", key.with_suffix(".pub")))


fleet_app.command(epilog="Example: edgeflock fleet rollback driving")(rollback)


@fleet_app.command(epilog="Example: edgeflock fleet faults --seeds 200")
def faults(
    seeds: Annotated[int, typer.Option(min=1, help="Fleets to run, each from a seed of its own.")] = 100,
    first: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    as_json: Annotated[
        str | None, typer.Option("--json", help="Write a line of JSON for every run; '-' prints them.")
    ] = None,
) -> None:
    """Run fleets of real peers under random faults, in virtual time, and look whether every promise holds.

    Ends with 1 when one does not; its seed brings the same run again.
    """
    from edgeflock.export.fleet.fault_runs import Scenario, run

    check_reports(as_json, read=[])
    outcomes = []
    for seed in track(range(first, first + seeds), "fleets", console=Console(stderr=True)):
        outcomes.append(run(Scenario.of(seed)))
        for why in outcomes[-1].broken:
            typer.echo(f"seed {seed}: {why}", err=True)
    broken = sum(bool(one.broken) for one in outcomes)
    if wrote_json("\n".join(one.model_dump_json() for one in outcomes), as_json):
        raise typer.Exit(bool(broken))
    happened = Counter(event.kind for one in outcomes for event in one.scenario.events)
    refused: Counter[str] = sum((Counter(one.refused) for one in outcomes), Counter())
    typer.echo("faults of robots: " + ", ".join(f"{kind} {n}" for kind, n in happened.most_common()))
    typer.echo("refused: " + ", ".join(f"{code} {n}" for code, n in refused.most_common()))
    rounds = sum(one.tally.get("rounds", 0) for one in outcomes)
    typer.echo(f"{rounds} rounds of robots in {seeds} fleets; promises broken in {broken}")
    if broken:
        raise typer.Exit(1)
    typer.echo(next_command("fleet", "keys", "init", "FLEET", "--run", "RUN"))


fleet_app.command(epilog="Example: edgeflock fleet pace --network gaia --slower 40 --out docs/perf/fleet/pace.json")(
    pace
)
fleet_app.command(epilog="Example: edgeflock fleet soak --rounds 2000")(soak)
fleet_app.command(
    epilog="Example: edgeflock fleet simulate --network gaia --data data/drive/train --val data/drive/val "
    "--rounds 300 --t 5 --out runs/fleet"
)(simulate)
fleet_app.command(
    epilog="Example: edgeflock fleet experiments --data data/fleet/train --val data/fleet/val --out docs/perf/fleet"
)(experiments)
fleet_app.command(epilog="Example: edgeflock fleet watch runs/r1 runs/r2 --replay")(watch)
