"""The targets as a Markdown page and as a table for the terminal, both from `TARGETS`."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from edgeflock.export.targets import TARGETS, Route, Target
from edgeflock.runtime.engines import PRECISIONS

COLUMNS = tuple(dict.fromkeys(precision for taken in PRECISIONS.values() for precision in taken))
_HEAD = ["runs with", "artefacts, best first", "newest opset, IR", "refuses", "source"]
BEGIN, END = "<!-- edgeflock export targets -->", "<!-- end -->"


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
        lines += [f"### {target.name}", "", f"{target.board}, {target.chip}. {target.image}.", ""]
        lines += [*_table(_HEAD, _routes(target)), ""]
        known_bad = [
            f"Known bad: {entry.package} {entry.versions}".rstrip() + f", {entry.reason}. Instead: {entry.way_out}."
            for entry in target.known_bad
        ]
        if told := [f"- {line}" for line in (*target.notes, *known_bad)]:
            lines += [*told, ""]
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
