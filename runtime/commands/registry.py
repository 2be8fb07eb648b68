"""Verbs that other packages register: no arrow turns back from runtime to export, calibration or ROS.

They come through an entry-point group: the name is the verb, the object a `typer.Typer` (a group) or a plain function
(a command). They are imported when they are used or listed.
"""

from __future__ import annotations

from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
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
    "emotion": "export",
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
        @cached_property
        def registered(self) -> dict[str, EntryPoint]:
            """Verbs by name, looked for once: a search goes through every installed package."""
            return {entry.name: entry for entry in entry_points(group=group)}

        def list_commands(self, ctx: Any) -> list[str]:
            own = super().list_commands(ctx)
            return own + sorted(self.registered.keys() - set(own))

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            own = super().get_command(ctx, cmd_name)
            entry = self.registered.get(cmd_name) if own is None else None
            return own if entry is None else _registered(entry, command)

    return Verbs


def _registered(entry: EntryPoint, command: str) -> Any:
    """Command of a registered verb; where its packages are missing, one that says how to install them."""
    holder, verb = typer.Typer(), entry.name
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
