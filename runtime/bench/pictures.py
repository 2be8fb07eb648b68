"""Pictures of a benchmark: bars that are read at a glance, accuracy against latency, and the whole tail."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgeflock.runtime.bench.latency import PERCENTILES, Latency
from edgeflock.runtime.bench.record import Key, Measured
from edgeflock.runtime.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, GREY)


def shown(cell: Measured) -> Latency:
    """The latency that stands in reports: with the waiting where frames wait for each other, else that of the work."""
    return cell.response if cell.mode == "max-throughput" and cell.response else cell.latency


def median(cell: Measured) -> float:
    """p50 in ms; infinite where too few frames were measured."""
    p50 = shown(cell).percentiles["p50"].ms
    return math.inf if p50 is None else p50


def at_a_glance(measured: Mapping[Key, Measured]) -> dict[Key, Measured]:
    """The cells that engines are compared by, the fastest first: the net alone or else what there is, back to back."""
    alone = {key: cell for key, cell in measured.items() if key.beside is None and math.isfinite(median(cell))}
    for scope, mode in (("net", "back-to-back"), ("task", "back-to-back"), ("chain", "paced")):
        found = {key: cell for key, cell in alone.items() if (key.scope, key.mode) == (scope, mode)}
        if found:
            return dict(sorted(found.items(), key=lambda item: median(item[1])))
    return {}


def bars_figure(measured: Mapping[Key, Measured]) -> Figure:
    """Latency of each engine and precision, the fastest on top: p50 as a bar, p99 behind it."""
    cells = list(at_a_glance(measured).items())[::-1]
    figure = new_figure(8.4, 1.1 + 0.4 * len(cells), "The benchmark report")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    precisions = list(dict.fromkeys(sorted(key.precision for key, _ in cells)))
    for y, (key, cell) in enumerate(cells):
        colour, p50, p99 = COLOURS[precisions.index(key.precision) % len(COLOURS)], median(cell), _p99(cell)
        if p99 is not None:
            axes.barh(y, p99, color=colour, alpha=0.3, height=0.7)
        axes.barh(y, p50, color=colour, height=0.7)
        said = f"{p50:.3g} ms" + (f", p99 {p99:.3g}" if p99 is not None else "")
        axes.annotate(said, (max(p50, p99 or 0), y), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(cells)), [key.unit for key, _ in cells], fontsize=8)
    axes.margins(x=0.25)
    axes.set(xlabel=f"latency (ms): p50, and p99 behind it; {cells[0][0].load}" if cells else "", xlim=(0, None))
    return figure


def accuracy_figure(measured: Mapping[Key, Measured]) -> Figure | None:
    """The gate's figure against the median latency, a point for each engine and precision; None where none is known."""
    known = {key: cell for key, cell in at_a_glance(measured).items() if cell.gate is not None}
    if not known:
        return None
    figure = new_figure(6.4, 4.0, "The benchmark report")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    engines = list(dict.fromkeys(key.engine for key in known))
    for key, cell in known.items():
        assert cell.gate is not None
        axes.plot(median(cell), cell.gate.value, "o", color=COLOURS[engines.index(key.engine) % len(COLOURS)], ms=8)
        axes.annotate(key.unit, (median(cell), cell.gate.value), (6, 4), textcoords="offset points", fontsize=8)
    gate = next(iter(known.values())).gate
    assert gate is not None
    axes.axhline(gate.fp32, color=GREY, lw=1, ls="--")
    axes.set(xlabel="latency, p50 (ms)", ylabel=f"{gate.metric} {gate.unit}".rstrip(), xscale="log")
    axes.set_title("held-out samples of the gate; dashed: fp32", fontsize=9)
    axes.margins(0.15)
    return figure


def _p99(cell: Measured) -> float | None:
    return shown(cell).percentiles["p99"].ms


def _figure(width: float, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    figure = new_figure(width, height, "The benchmark report")
    columns = min(2, panels)
    axes = figure.subplots(math.ceil(panels / columns), columns, squeeze=False, sharex=True, sharey=True).ravel()
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    for unused in axes[panels:]:
        unused.set_visible(False)
    return figure, list(axes[:panels])


def _spread(p: float | np.ndarray) -> float | np.ndarray:
    """Percentiles on an axis that gives each nine of the tail as much room as the body."""
    return -np.log10(1 - np.asarray(p))


def latency_figure(measured: dict[Key, Measured]) -> Figure:
    """Latency over percentile, a panel for each scope and mode; a curve ends where its samples do not carry it."""
    loads = list(dict.fromkeys(key.load for key in measured))
    nets = list(dict.fromkeys(key.unit for key in measured))
    figure, panels = _figure(9.0, 0.6 + 3.0 * math.ceil(len(loads) / 2), len(loads))
    for panel, load in zip(panels, loads, strict=True):
        for key, cell in measured.items():
            if key.load != load:
                continue
            latency = shown(cell)
            counts, edges = np.array(latency.histogram.counts), latency.histogram.edges_ms()
            share = np.minimum(np.cumsum(counts) / counts.sum(), 1 - 1 / (counts.sum() + 1))
            stated = [p for name, p in PERCENTILES.items() if latency.percentiles[name].ms is not None]
            kept = share <= max(stated, default=0.0)
            n = nets.index(key.unit)
            style, colour = "-" if n < len(COLOURS) else "--", COLOURS[n % len(COLOURS)]
            panel.plot(_spread(share[kept]), edges[1:][kept], style, color=colour, label=key.unit, lw=1.6)
        ticks = [0.0, *PERCENTILES.values()]
        panel.set_xticks([float(_spread(p)) for p in ticks], ["0", "50", "90", "95", "99", "99.9"])
        panel.set(xlabel="percentile", ylabel="latency (ms)", yscale="log")
        panel.tick_params(labelbottom=True)  # shared axes hide it above the last row
        panel.set_title(load, fontsize=9)
        panel.grid(alpha=0.25)
        panel.legend(fontsize=7, frameon=False)
    return figure
