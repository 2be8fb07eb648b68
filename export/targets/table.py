"""The targets as a Markdown page and as a table for the terminal, both from `TARGETS`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rich.table import Table

from edgeflock.export.targets import TARGETS, Route, Target
from edgeflock.runtime.engines import PRECISIONS

COLUMNS = tuple(dict.fromkeys(precision for taken in PRECISIONS.values() for precision in taken))
_HEAD = ["runs with", "artefacts, best first", "newest opset, IR", "refuses", "source"]
BEGIN, END = "<!-- edgeflock export targets -->", "<!-- end -->"
WIDTH = 140
"""Columns of a line in docs/; rows of tables cannot be broken."""


def rows() -> list[list[str]]:
    """Target, board, and for every precision the first engine that takes it there."""
    return [
        [target.name, target.board, *(_engine(target, precision) for precision in COLUMNS)]
        for target in TARGETS.values()
    ]


def terminal() -> Table:
    """The matrix for a terminal."""
    table = Table("target", "board", *COLUMNS, title="Engine per precision, best first within a board")
    for row in rows():
        table.add_row(*row)
    return table


def markdown() -> str:
    """The matrix, and below it what each board takes, refuses and is known to fail with."""
    lines = [BEGIN, "", *_table(["target", "board", *COLUMNS], rows()), ""]
    for target in TARGETS.values():
        about = textwrap.wrap(f"{target.board}, {target.chip}. {target.image}.", WIDTH)
        lines += [f"### {target.name}", "", *about, ""]
        lines += [*_table(_HEAD, _routes(target)), ""]
        known_bad = [
            f"Known bad: {entry.package} {entry.versions}".rstrip() + f", {entry.reason}. Instead: {entry.way_out}."
            for entry in target.known_bad
        ]
        for told in (*target.notes, *known_bad):
            lines += textwrap.wrap(f"- {told}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        if target.notes or known_bad:
            lines.append("")
    return "\n".join([*lines, END])


def _engine(target: Target, precision: str) -> str:
    stopped = {p for entry in target.known_bad for p in entry.stops}
    for route in target.routes:
        if precision in route.precisions and precision not in stopped:
            return route.engine
    return "-"


def _routes(target: Target) -> Iterator[list[str]]:
    for route in target.routes:
        yield _route(route, route.engine)
    if target.vendor is not None:
        yield _route(target.vendor, f"{target.vendor.engine} (outside edgeflock)")


def _route(route: Route, name: str) -> list[str]:
    return [
        f"{name} {route.version}",
        ", ".join(route.precisions),
        f"{route.opset}, {route.ir}",
        "; ".join(f"{limit}: {limit.why}" for limit in route.limits) or "-",
        route.source,
    ]


def _table(head: list[str], body: Iterator[list[str]] | list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]
