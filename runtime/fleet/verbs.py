"""`edgeflock fleet keys`: who belongs to a fleet. A robot needs no torch for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from edgeflock.runtime.bundle.signing import generate_key, key_id, read_private_key, read_public_key
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.peer.roster import Roster, change_roster, read_roster, write_roster

keys_app = typer.Typer(no_args_is_help=True)

ROSTER, FLEET_KEY = "roster.json", "fleet.pem"
Folder = Annotated[Path, typer.Argument(help="Folder of the fleet, with roster.json and fleet.pem.")]
Name = Annotated[str, typer.Argument(help="Name of the robot.")]
Key = Annotated[Path, typer.Argument(help="The robot's .pub file, as `edgeflock bundle keygen` writes it.")]
FromRound = Annotated[int, typer.Option(min=0, help="First round in which it counts.")]


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
    at_round: Annotated[int, typer.Option(min=0, help="First round in which its messages are refused.")],
) -> None:
    """End a robot's membership, such as of one that was lost or stolen."""
    _tell(folder, _change(folder, lambda roster: roster.revoke(name, at_round)))


@keys_app.command(epilog="Example: edgeflock fleet keys rotate fleet r1 r1-new.pub --at-round 120")
def rotate(
    folder: Folder,
    name: Name,
    key: Key,
    at_round: Annotated[int, typer.Option(min=0, help="First round that the new key signs.")],
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
