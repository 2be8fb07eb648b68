"""`edgeflock fleet keys` and `edgeflock fleet join`: who belongs to a fleet, and one robot's part in a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edgeflock.runtime.bundle.signing import generate_key, key_id, read_private_key, read_public_key
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import check_outputs, write_atomically
from edgeflock.runtime.fleet.learner import LearningTask
from edgeflock.runtime.fleet.peer.config import Course, Part, PeerConfig, Place
from edgeflock.runtime.fleet.peer.roster import LAST_ROUND, Roster, change_roster, read_roster, write_roster
from edgeflock.runtime.fleet.peer.settings import address, addresses, configured
from edgeflock.runtime.model_options import Fields, model_options
from edgeflock.runtime.options import next_command

keys_app = typer.Typer(no_args_is_help=True)

ROSTER, FLEET_KEY = "roster.json", "fleet.pem"
Folder = Annotated[Path, typer.Argument(help="Folder of the fleet, with roster.json and fleet.pem.")]
Name = Annotated[str, typer.Argument(help="Name of the robot.")]
Key = Annotated[Path, typer.Argument(help="The robot's .pub file, as `edgeflock bundle keygen` writes it.")]
FromRound = Annotated[int, typer.Option(min=0, max=LAST_ROUND, help="First round in which it counts.")]


@keys_app.callback(epilog="Example: edgeflock fleet keys init fleet --run hall-3")
def keys() -> None:
    """Roster of a fleet: which robots belong to it, by which keys, in which rounds."""


@keys_app.command(epilog="Example: edgeflock fleet keys init fleet --run hall-3")
def init(
    folder: Folder,
    run: Annotated[str, typer.Option(help="Name of the run; messages of another run are refused.")],
) -> None:
    """Make the fleet's key and an empty roster."""
    if (folder / ROSTER).exists():
        raise InputError(f"{folder / ROSTER} exists already: add robots with `edgeflock fleet keys add`.")
    roster = Roster.begin(run)  # refuses a bad name before a key is made
    made = generate_key(folder / FLEET_KEY, f"fleet {run}")
    write_roster(folder / ROSTER, roster, read_private_key(folder / FLEET_KEY))
    typer.echo(
        f"made {folder / ROSTER}, signed by the fleet key {made.key_id}. Keep {folder / FLEET_KEY} secret, off the "
        f"robots. Next, on each robot: edgeflock bundle keygen robot.pem; then here: "
        f"edgeflock fleet keys add {folder} ROBOT robot.pub"
    )


@keys_app.command(epilog="Example: edgeflock fleet keys add fleet r1 r1.pub")
def add(folder: Folder, name: Name, key: Key, from_round: FromRound = 0) -> None:
    """Add a robot."""
    raw = read_public_key(key).raw
    _tell(folder, _change(folder, lambda roster: roster.add(name, raw, from_round)))


@keys_app.command(epilog="Example: edgeflock fleet keys revoke fleet r1 --at-round 120")
def revoke(
    folder: Folder,
    name: Name,
    at_round: Annotated[
        int, typer.Option(min=0, max=LAST_ROUND, help="First round in which its messages are refused.")
    ],
) -> None:
    """End a robot's membership, such as of one that was lost or stolen."""
    _tell(folder, _change(folder, lambda roster: roster.revoke(name, at_round)))


@keys_app.command(epilog="Example: edgeflock fleet keys rotate fleet r1 r1-new.pub --at-round 120")
def rotate(
    folder: Folder,
    name: Name,
    key: Key,
    at_round: Annotated[int, typer.Option(min=0, max=LAST_ROUND, help="First round that the new key signs.")],
) -> None:
    """Let a robot sign with another key from a round on."""
    raw = read_public_key(key).raw
    _tell(folder, _change(folder, lambda roster: roster.rotate(name, raw, at_round)))


@keys_app.command(epilog="Example: edgeflock fleet keys show fleet")
def show(folder: Folder) -> None:
    """Show the roster, and whether its signature holds."""
    found = read_roster(folder / ROSTER)
    roster = found.roster
    table = Table("robot", "key", "from round", "until round", title=f"run {roster.run}, serial {roster.serial}")
    for robot in roster.robots:
        until = "" if robot.until_round is None else str(robot.until_round)
        table.add_row(robot.name, key_id(bytes.fromhex(robot.key)), str(robot.from_round), until)
    Console().print(table)
    typer.echo(f"signed by the fleet key {key_id(found.fleet_key)}")


def _change(folder: Path, change: Callable[[Roster], Roster]) -> Roster:
    return change_roster(folder, change, read_private_key(folder / FLEET_KEY))


def _tell(folder: Path, roster: Roster) -> None:
    typer.echo(f"{folder / ROSTER} has serial {roster.serial}: copy it to every robot, each takes it while it runs.")
    typer.echo(next_command("fleet", "keys", "show", folder))


def adopt(
    plan: Annotated[Path, typer.Argument(help="Plan of `edgeflock fleet plan --json`.")],
    fleet: Annotated[Path, typer.Option(help="Folder of the fleet, with roster.json and fleet.pem.")],
    at_round: Annotated[
        int, typer.Option(min=1, max=LAST_ROUND, help="First round of the new plan; all robots have to be before it.")
    ],
) -> None:
    """Let a fleet go over to another plan in a named round: writes next-plan.json, signed by the fleet's key.

    Copied beside roster.json on every robot, it is taken while they run. Where a robot that is there does not have it
    when the round comes, all keep the old plan, with an alarm.
    """
    from edgeflock.runtime.fleet.peer.next_plan import NEXT_PLAN, NextPlan, write_next_plan
    from edgeflock.runtime.fleet.plan.schedule import Plan

    key = read_private_key(fleet / FLEET_KEY)
    roster = read_roster(fleet / ROSTER, key.public_key().public_bytes_raw()).roster
    try:
        text = plan.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{plan} cannot be read ({error}): expected a plan of `edgeflock fleet plan --json`."
        ) from error
    following = NextPlan(Plan.from_json(text, plan), at_round)
    write_next_plan(fleet / NEXT_PLAN, following, roster, key)
    typer.echo(
        f"{fleet / NEXT_PLAN}: plan {following.plan.hash[:12]} from round {at_round} on. Copy it beside roster.json on "
        f"every robot before that round; robots that start later take {plan} as their --plan."
    )


def delays(
    status: Annotated[list[Path], typer.Argument(help="status.json of one or of several robots.")],
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write the network, for `edgeflock fleet plan`.")
    ] = None,
) -> None:
    """Show what robots measured between each other, and write it as a network to plan by.

    Each robot tells the others what it finds, so that one status.json holds the whole matrix; of several the later
    counts.
    """
    from edgeflock.runtime.fleet.measured import Measured

    check_outputs(files=[as_json], inputs=status)
    found = Measured.of(status)
    table = Table("from", "to", title="between the robots")
    for head in ("delay, ms", "Mbit/s"):
        table.add_column(head, justify="right")
    for sender, to, delay_ms, bps in found.rows():
        table.add_row(sender, to, f"{delay_ms:.2f}", "" if bps is None else f"{bps / 1e6:.1f}")
    Console().print(table)
    for note in found.notes:
        typer.echo(note)
    if as_json:
        write_atomically(as_json, found.to_json())
        typer.echo(next_command("fleet", "plan", "--network", as_json, "--json", "plan.json"))


@model_options
def join(
    name: Name,
    key: Annotated[Path, typer.Option(help="This robot's private key.")],
    roster: Annotated[Path, typer.Option(help="The fleet's roster.json; a newer one is taken while it runs.")],
    plan: Annotated[Path, typer.Option(help="Plan of `edgeflock fleet plan --json`, the same on all robots.")],
    out: Annotated[Path, typer.Option(help="Folder of this robot's part; one that was interrupted goes on by itself.")],
    peer: Annotated[list[str], typer.Option(help="NAME=HOST:PORT of another robot; repeat.")],
    data: Annotated[list[Path], typer.Option(help="This robot's training data; repeat to join (docs/data.md).")],
    val: Annotated[list[Path], typer.Option(help="Its held-out data, for the validation gate; repeat to join.")],
    learning: Annotated[dict[str, Any], Fields("net", "init", of=LearningTask)],
    exchange: Annotated[dict[str, Any], Fields(*Course.model_fields, of=PeerConfig)],
    part: Annotated[dict[str, Any], Fields(*Part.model_fields, of=Place)],
    listen: Annotated[str, typer.Option(help="HOST:PORT to listen on; 0.0.0.0 is every address.")] = "0.0.0.0:7600",
    task: Annotated[str, typer.Option(help="What is learnt: steering or emotion.")] = "steering",
    driving: Annotated[
        Path | None, typer.Option(help="Folder of the driving bundle: promote every model that passes (steering).")
    ] = None,
    fleet_key: Annotated[Path | None, typer.Option(help="The .pub file that must have signed the roster.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the task or the peer; repeat.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew although the folder holds a run.")] = False,
) -> None:
    """Let this robot learn with others: train here, exchange models with the neighbours, keep what passes.

    Ctrl-C and SIGTERM leave in good order; the same command goes on. --out gets events.jsonl, status.json and
    model.safetensors, the newest model that passed the gate, for `edgeflock fleet promote` and `edgeflock export`.
    """
    import asyncio

    from edgeflock.runtime.fleet.peer.join import Participant, by_tcp
    from edgeflock.runtime.fleet.peer.join import join as take_part

    place = Place(
        own=name, key=key, roster=roster, fleet_key=fleet_key, plan=plan, out=out, data=tuple(data), val=tuple(val),
        driving=driving, **part,
    )  # fmt: skip
    found = configured(place, task, exchange, learning, settings or [])
    participant = Participant(found, by_tcp(name, address(listen), addresses(peer)), typer.echo)
    asyncio.run(take_part(participant, fresh))
    if (best := participant.validation.best) is not None:
        typer.echo(f"best {found.task.metric} on {name}'s own held-out data: {best:.4g} {found.task.unit}")
        if driving is None and task == "steering":
            typer.echo(next_command("fleet", "promote", "driving", *place.promotion))


def rollback(
    driving: Annotated[Path, typer.Argument(help="Folder of the driving bundle, as `fleet promote` fills it.")],
) -> None:
    """Drive with the bundle before again; a second time takes it back."""
    from edgeflock.runtime.bundle.driving import DrivingBundle

    typer.echo(f"{driving / 'current'} is {DrivingBundle(driving).roll_back().name}")
    typer.echo(next_command("tune", driving / "current", "--key", "ROBOT.pub"))
