"""Pictures of fleets that learn: error against rounds and wall clock, robots beside their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeflock.runtime.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
    new_figure,
    save_figure,
)

COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, YELLOW, "black")


def curves_figure(arms: Mapping[str, Sequence[dict[str, Any]]], file: Path, title: str = "") -> None:
    """Metric of the mean model against rounds and, where there is a clock, against simulated time.

    Parameters
    ----------
    arms : mapping of str to sequence of dict
        By name, results of `simulate_learning` that differ in the seed alone; lines are means, bands go from the least
        to the most of them.
    file : Path
    title : str
    """
    clocked = {name: runs for name, runs in arms.items() if runs[0]["clock_ms"]}
    figure = new_figure(9.5 if clocked else 5.0, 3.8, "Pictures of a fleet")
    axes = np.ravel(figure.subplots(1, 2 if clocked else 1, sharey=True, squeeze=False))
    metric = next(iter(arms.values()))[0]["metric"]
    for colour, (name, runs) in zip(COLOURS, arms.items(), strict=False):
        rounds, values = averages(runs)
        for place, at in zip(axes, (rounds, seconds(runs[0], rounds) if name in clocked else None), strict=False):
            if at is not None:
                place.plot(at, values.mean(axis=0), color=colour, label=name)
                if len(runs) > 1:
                    place.fill_between(at, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, lw=0)
    for place, label in zip(axes, ("rounds", "simulated wall clock (s)"), strict=False):
        constant = next(iter(arms.values()))[0]["figures"]["baselines"]["constant"]
        place.axhline(constant, color=GREY, ls="--", lw=1, label="constant answer")
        place.set(xlabel=label)
        place.spines[["top", "right"]].set_visible(False)
        place.grid(alpha=0.3)
    unit = f" ({metric['unit']})" if metric["unit"] else ""
    axes[0].set_ylabel(f"{metric['name']} of the mean model{unit}")
    axes[0].legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    save_figure(figure, file)


def robots_figure(arms: Mapping[str, Sequence[dict[str, Any]]], file: Path, title: str = "") -> None:
    """The error of every robot's own model beside that of their mean, when training ended and after settling."""
    figure = new_figure(9.5, 3.8, "Pictures of a fleet")
    axes = figure.add_subplot()
    metric = next(iter(arms.values()))[0]["metric"]
    for at, runs in enumerate(arms.values()):
        for shift, when, colour in ((-0.17, "trained", BLUE), (0.17, "settled", ORANGE)):
            rows = [row for run in runs if (row := _row(run, when))]
            own = np.concatenate([row["robots"] for row in rows]) if rows else np.empty(0)
            axes.plot(np.full(len(own), at + shift), own, "o", ms=3, color=colour, alpha=0.4)
            means = [row["average"] for row in rows]
            axes.plot(np.full(len(means), at + shift), means, "_", ms=18, mew=2, color="black")
    axes.plot([], [], "o", color=BLUE, label="a robot's own model, training ended")
    axes.plot([], [], "o", color=ORANGE, label="after settling")
    axes.plot([], [], "_", ms=12, mew=2, color="black", label="the mean of all models (a seed each)")
    constant = next(iter(arms.values()))[0]["figures"]["baselines"]["constant"]
    axes.axhline(constant, color=GREY, ls="--", lw=1, label="constant answer")
    axes.set_xticks(range(len(arms)), arms, rotation=20, ha="right", fontsize=8)
    axes.set_ylabel(f"{metric['name']} ({metric['unit']})" if metric["unit"] else metric["name"])
    if metric["best"] == "lowest":
        axes.set_yscale("log")  # a robot alone may be far worse than all others
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    save_figure(figure, file)


def averages(runs: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Rounds in which the mean model was evaluated (r,), and its figures (runs, r)."""
    rows = [{row["round"]: row["average"] for row in run["rows"] if "average" in row} for run in runs]
    rounds = sorted(set.intersection(*map(set, rows)))
    return np.array(rounds), np.array([[row[k] for k in rounds] for row in rows])


def seconds(run: dict[str, Any], rounds: np.ndarray) -> np.ndarray:
    """Simulated time at the end of these rounds."""
    return np.array(run["clock_ms"])[rounds] / 1e3


def _row(run: dict[str, Any], when: str) -> dict[str, Any] | None:
    """Figures at the end of training, or of settling if there was any."""
    if when not in run["figures"]:
        return None
    at = run["rounds"] if when == "trained" else run["rows"][-1]["round"]
    return next(row for row in run["rows"] if row["round"] == at)
