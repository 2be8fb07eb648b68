"""Verbs that other packages register: no arrow turns back from runtime to export, calibration or ROS.

They come through an entry-point group: the name is the verb, the object a `typer.Typer` (a group) or a plain function
(a command). They are imported when they are used or listed.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from edgeflock.runtime.errors import MissingExtra

_EXTRAS = {
    "train": "export",
    "calibrate": "export",
    "record": "sim",
    "register": "registration",
    "phantoms": "registration",
    "drive-bars": "drive",
    "emotion-bars": "drive",
    "peers": "export",
    "registration": "export",
}


def extra_of(verb: str) -> str:
    """Extra that brings what a registered verb needs; most are named alike."""
    return _EXTRAS.get(verb, verb)


def verbs(group: str, command: str) -> type[TyperGroup]:
    """Class of a command that has verbs of its own, and after them those registered in an entry-point group.

    Parameters
    ----------
    group : str
        Entry-point group.
    command : str
        The command as it is typed, for messages.
    """

    class Verbs(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            own = super().list_commands(ctx)
            return own + sorted(set(entry_points(group=group).names) - set(own))

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return super().get_command(ctx, cmd_name) or _registered(group, command, cmd_name)

    return Verbs


def _registered(group: str, command: str, verb: str) -> Any:
    """Command of a registered verb; where its packages are missing, one that says how to install them."""
    entry = next(iter(entry_points(group=group, name=verb)), None)
    if entry is None:
        return None
    holder = typer.Typer()
    try:
        target = entry.load()
    except (ImportError, MissingExtra) as error:
        pip = MissingExtra.pip(f"{command} {verb}", extra_of(verb), error)
        missing = error if isinstance(error, MissingExtra) else pip

        def refuse() -> None:
            raise missing

        anything = {"ignore_unknown_options": True, "allow_extra_args": True}
        holder.command(verb, help=f"Not available here. {escape(str(missing))}", context_settings=anything)(refuse)
    else:
        if isinstance(target, typer.Typer):
            holder.add_typer(target, name=verb)
        else:
            holder.command(verb)(target)
    return typer.main.get_group(holder).commands[verb]
