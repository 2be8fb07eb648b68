"""Coordinates of the page's two drawings: the map of who exchanges with whom, and the course of a model's figure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeflock.runtime.fleet.watch.view import Link, Model, Robot, View, amount

WIDTH, HEIGHT = 640, 330
SIDES = ((math.cos, WIDTH), (math.sin, HEIGHT))
LABELLED = 8
"""Robots up to which the links of the map carry figures; beyond, the table alone has them."""
SPARK = (140, 36)


@dataclass(frozen=True)
class Node:
    """A robot on the map: centre and radius."""

    robot: Robot
    x: float
    y: float
    r: float


@dataclass(frozen=True)
class Line:
    """A link on the map, from rim to rim, with its figures at (lx, ly)."""

    link: Link
    x1: float
    y1: float
    x2: float
    y2: float
    lx: float
    ly: float
    text: str


def fleet_map(view: View) -> tuple[list[Node], list[Line]]:
    """Robots on an ellipse in the order of their names, the first on top."""
    count = len(view.robots)
    radius = min(34.0, 340.0 / max(count, 1))
    angles = [2 * math.pi * i / count - math.pi / 2 for i in range(count)]
    xs, ys = (_spread([turn(angle) for angle in angles], size, radius) for turn, size in SIDES)
    nodes = {robot.name: Node(robot, x, y, round(radius, 1)) for robot, x, y in zip(view.robots, xs, ys, strict=True)}
    lines = []
    for link in view.links:
        a, b = nodes[link.a], nodes[link.b]
        length = math.dist((a.x, a.y), (b.x, b.y))
        dx, dy = (b.x - a.x) / length * radius, (b.y - a.y) / length * radius
        text = link_text(link) if count <= LABELLED else ""
        x1, y1, x2, y2 = (round(v, 1) for v in (a.x + dx, a.y + dy, b.x - dx, b.y - dy))
        lines.append(Line(link, x1, y1, x2, y2, (a.x + b.x) / 2, (a.y + b.y) / 2, text))
    return list(nodes.values()), lines


def _spread(values: list[float], size: float, radius: float) -> list[float]:
    """Stretch positions over a side of the map; where all are equal they stand in its middle."""
    low, span, room = min(values), max(values) - min(values), size - 2 * (radius + 12)
    if span < 1e-9:
        return [size / 2] * len(values)
    return [round(radius + 12 + (value - low) / span * room, 1) for value in values]


def link_text(link: Link) -> str:
    """Delay and bytes of a link, in a few words."""
    times = [ms for ms in (link.ms_ab, link.ms_ba) if ms is not None]
    sent = amount(link.bytes_ab + link.bytes_ba)
    return f"{max(times):.1f} ms · {sent}" if times else sent


def spark(model: Model) -> tuple[str, list[tuple[float, float, bool]]]:
    """Points of the polyline of what passed, and all points that were looked at; low figures lie low."""
    width, height = SPARK
    finite = [point for point in model.history if math.isfinite(point[1])]
    rounds, figures = [p[0] for p in finite], [p[1] for p in finite]
    low, span = min(figures), max(figures) - min(figures)

    def place(round_: int, figure: float) -> tuple[float, float]:
        x = (round_ - rounds[0]) / max(rounds[-1] - rounds[0], 1)
        y = (figure - low) / span if span else 0.5
        return round(4 + x * (width - 8), 1), round(height - 4 - y * (height - 8), 1)

    points = [(*place(round_, figure), passed) for round_, figure, passed in finite]
    return " ".join(f"{x},{y}" for x, y, passed in points if passed), points
