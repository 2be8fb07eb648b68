"""Who sent what to whom and when, from the event logs of a fleet's robots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeflock.runtime.figures import BLUE, GREEN, VERMILLION, new_figure, save_figure

COLOURS = (BLUE, GREEN, VERMILLION)


@dataclass
class Link:
    """One direction between two robots."""

    sender: str
    receiver: str
    mixed_s: list[float] = field(default_factory=list)
    """When the receiver mixed a model of the sender, s after the first line of any log."""
    sent_bytes: int = 0


def read_links(logs: dict[str, Path]) -> list[Link]:
    """Links of a fleet from the `events.jsonl` of each robot; bytes are what the sender counted."""
    links = {(a, b): Link(a, b) for a in logs for b in logs if a != b}
    events = {robot: [json.loads(line) for line in log.read_text().splitlines()] for robot, log in logs.items()}
    start = min(lines[0]["time"] for lines in events.values() if lines)
    for robot, lines in events.items():
        counted = dict.fromkeys(logs, 0)
        for event in lines:
            if event["event"] != "mixed":
                continue
            for sender in event["heard"]:
                links[sender, robot].mixed_s.append(event["time"] - start)
            for other, counts in event["links"].items():
                now = counts["sent_bytes"]
                # A robot that was started again counts from 0.
                links[robot, other].sent_bytes += now - counted[other] if now >= counted[other] else now
                counted[other] = now
    return list(links.values())


def exchange_figure(links: Sequence[Link], names: dict[str, str], file: Path) -> None:
    """Draw the map of the robots with models and bytes of each link, and beside it when each model was mixed.

    Parameters
    ----------
    links : sequence of Link
    names : dict
        What stands under each robot.
    file : Path
    """
    import numpy as np

    figure = new_figure(11.0, 4.2, "The report of the demonstration")
    chart, when = figure.subplots(1, 2, width_ratios=(1, 1.5))
    angles = np.pi / 2 + 2 * np.pi * np.arange(len(names)) / len(names)
    at = dict(zip(names, np.stack([np.cos(angles), np.sin(angles)], axis=1), strict=True))
    colour = dict(zip(names, COLOURS, strict=True))
    for link in links:
        a, b = at[link.sender], at[link.receiver]
        along = (b - a) / np.hypot(*(b - a))
        aside = 0.07 * np.array([-along[1], along[0]])
        ends = a + aside + 0.24 * along, b + aside - 0.24 * along
        arrow = {"arrowstyle": "-|>", "color": colour[link.sender], "lw": 2}
        chart.annotate("", ends[1], ends[0], arrowprops=arrow)
        text = f"{len(link.mixed_s)} models, {link.sent_bytes / 1e6:.0f} MB"
        turn = np.degrees(np.arctan2(along[1], along[0]))
        turn = turn - 180 if turn > 90 else turn + 180 if turn < -90 else turn
        chart.text(
            *(a + b) / 2 + 2.3 * aside, text, color=colour[link.sender], rotation=turn, ha="center", va="center",
            fontsize=8,
        )  # fmt: skip
    for robot, place in at.items():
        chart.text(
            *place, f"{robot}\n{names[robot]}", ha="center", va="center", fontsize=9, color="white",
            bbox={"boxstyle": "round,pad=0.4", "fc": colour[robot], "ec": "none"},
        )  # fmt: skip
    chart.set(xlim=(-1.35, 1.35), ylim=(-0.95, 1.3), aspect="equal")
    chart.axis("off")
    when.eventplot(
        [link.mixed_s for link in links], colors=[colour[link.sender] for link in links], linelengths=0.7, linewidths=1
    )
    when.set_yticks(range(len(links)), [f"{link.sender} to {link.receiver}" for link in links])
    when.invert_yaxis()
    when.set(xlabel="s after the first robot began", title="a line for each model that was mixed")
    when.spines[["top", "right"]].set_visible(False)
    save_figure(figure, file)
