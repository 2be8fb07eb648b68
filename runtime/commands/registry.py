"""Verbs that other packages register: no arrow turns back from runtime to export, calibration or ROS.

They come with a family (`edgeflock.runtime.tasks.family`), or one by one through an entry-point group: the name is the
verb, the object a `typer.Typer` (a group) or a plain function (a command). They are imported when they are used or
listed. The extra that a verb needs stands behind its object, as "package.module:name [extra]".
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from edgeflock.runtime.errors import MissingExtra
from edgeflock.runtime.extras import needs
from edgeflock.runtime.tasks.family import extra_of, families


def verbs(command: str, group: str | None = None) -> type[TyperGroup]:
    """Class of a command that has verbs of its own, and after them those that were registered.

    Parameters
    ----------
    command : str
        The command as it is typed: what families name it.
    group : str, optional
        Entry-point group of the verbs that belong to no family.
    """

    class Verbs(TyperGroup):
        @cached_property
        def registered(self) -> dict[str, EntryPoint]:
            """Verbs by name, looked for once: a search goes through every installed package."""
            return registered(command, group)

        def list_commands(self, ctx: Any) -> list[str]:
            own = super().list_commands(ctx)
            return own + sorted(self.registered.keys() - set(own))

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            known = self.list_commands(ctx)
            if args[0] not in known and (near := get_close_matches(args[0], known)):  # typer knows none registered
                ctx.fail(f"No such command {args[0]!r}. Did you mean {', '.join(map(repr, near))}?")
            return super().resolve_command(ctx, args)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            own = super().get_command(ctx, cmd_name)
            entry = self.registered.get(cmd_name) if own is None else None
            return own if entry is None else _registered(entry, command)

    return Verbs


def registered(command: str, group: str | None = None) -> dict[str, EntryPoint]:
    """Verbs of a command that families and the entry points of a group bring, by name."""
    found = {entry.name: entry for entry in entry_points(group=group)} if group else {}
    for family in families().values():
        found |= {name: EntryPoint(name, value, command) for name, value in family.verbs.get(command, {}).items()}
    return found


def _registered(entry: EntryPoint, command: str) -> Any:
    """Command of a registered verb; where its packages are missing, one that says how to install them."""
    holder, verb = typer.Typer(), entry.name
    try:
        with needs(f"{command} {verb}", extra_of(entry.value)):
            target = entry.load()
    except MissingExtra as error:
        missing = error

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
