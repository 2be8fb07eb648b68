"""Pictures of overlays and plans. matplotlib is loaded when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeflock.runtime.figures import BLUE, GREEN, GREY, ORANGE, VERMILLION, new_figure, save_figure
from edgeflock.runtime.fleet.plan.network import SiloNetwork
from edgeflock.runtime.fleet.plan.schedule import Plan

STATES_SHOWN = 12
NAMES_SHOWN = 40  # silos; more names than this hide the picture


def layout(network: SiloNetwork) -> np.ndarray:
    """Where to draw the silos, (n, 2): their positions, or else latencies flattened (classical scaling)."""
    if network.positions is not None:
        return network.positions
    n = len(network)
    squared = ((network.latency_ms + network.latency_ms.T) / 2) ** 2
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-centre @ squared @ centre / 2)
    return vectors[:, -2:][:, ::-1] * np.sqrt(np.maximum(values[-2:][::-1], 0))


def overlay_figure(network: SiloNetwork, plan: Plan, file: Path) -> None:
    """The overlay on the map, every edge coloured by its period and named by its delay where there is room."""
    at = _places(network, plan)
    figure = new_figure(8.5, 1.0 + 8.0 * _height(at), "Pictures of a fleet")
    axes = figure.add_subplot()
    periods = np.unique(plan.periods)
    shades = dict(zip(periods.tolist(), _shades(len(periods)), strict=True))
    lines = _lines(plan)
    for pairs, two_way, period, delay in lines:
        axes.annotate("", at[pairs[1]], at[pairs[0]], arrowprops=_arrow(two_way, shades[period], 1.8))
        if max(plan.n, len(lines)) <= NAMES_SHOWN:
            x, y = (at[pairs[0]] + at[pairs[1]]) / 2
            axes.text(x, y, f"{delay:.0f}", fontsize=6, color=GREY, ha="center")
    axes.plot(*at.T, "o", ms=7 if plan.n <= NAMES_SHOWN else 4, mfc="white", mec="black", zorder=5)
    if plan.n <= NAMES_SHOWN:
        for name, place in zip(plan.roster, at, strict=True):
            axes.annotate(name, place, (5, 5), textcoords="offset points", fontsize=8, zorder=6)
    for period, shade in shades.items():
        axes.plot([], [], color=shade, lw=2, label=f"every {period} rounds" if period > 1 else "every round")
    _bare(axes, network)
    figure.suptitle(f"{network.name}: {plan.base}, t = {plan.t}, {len(lines)} lines, delays in ms", fontsize=11)
    figure.legend(loc="outside lower center", ncols=len(shades), frameon=False)
    save_figure(figure, file)


def states_figure(network: SiloNetwork, plan: Plan, file: Path, shown: int = STATES_SHOWN) -> None:
    """The first states as small multiples: strong edges drawn, weak ones faint, isolated silos filled."""
    count = min(plan.states, shown)
    columns = min(count, 3 if count <= 6 else 4)
    rows = -(-count // columns)
    at = _places(network, plan)
    figure = new_figure(3.0 * columns, (0.3 + 3.0 * _height(at)) * rows + 0.8, "Pictures of a fleet")
    lines = _lines(plan)
    for k, axes in enumerate(np.ravel(figure.subplots(rows, columns, squeeze=False))):
        if k >= count:
            axes.set_axis_off()
            continue
        for pairs, two_way, period, _ in lines:
            strong = k % period == 0
            style = _arrow(two_way, BLUE, 1.6) if strong else _arrow(two_way, "#d0d0d0", 0.7)
            axes.annotate("", at[pairs[1]], at[pairs[0]], arrowprops=style, zorder=3 if strong else 2)
        alone = plan.isolated(k)
        axes.plot(*at.T, "o", ms=4, mfc="white", mec="black", zorder=4, ls="")
        axes.plot(*at[alone].T, "o", ms=6, mfc=ORANGE, mec="black", zorder=5, ls="")
        _bare(axes, network)
        axes.set_title(f"state {k}: {len(alone)} isolated", fontsize=9)
    more = f", the first {count}" if count < plan.states else ""
    figure.suptitle(f"{network.name}: {plan.states} states of the {plan.base}, t = {plan.t}{more}", fontsize=11)
    handles = [
        figure.axes[0].plot([], [], color=BLUE, lw=1.6, label="strong")[0],
        figure.axes[0].plot([], [], color="#d0d0d0", lw=0.7, label="weak")[0],
        figure.axes[0].plot([], [], "o", mfc=ORANGE, mec="black", ls="", label="isolated")[0],
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    save_figure(figure, file)


def cost_figure(silos: Sequence[int], seconds: Mapping[str, Sequence[float]], file: Path) -> None:
    """How the time of each stage grows with the number of silos, both axes logarithmic."""
    figure = new_figure(6.5, 4.2, "Pictures of a fleet")
    axes = figure.add_subplot()
    for (name, values), colour in zip(seconds.items(), (BLUE, ORANGE, GREEN, VERMILLION, GREY), strict=False):
        axes.loglog(silos, values, "o-", color=colour, label=name)
    axes.set(xlabel="silos", ylabel="time (s)")
    axes.grid(alpha=0.3, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save_figure(figure, file)


def _places(network: SiloNetwork, plan: Plan) -> np.ndarray:
    """Positions in the order of the plan's roster."""
    return layout(network)[[network.index(name) for name in plan.roster]]


def _height(at: np.ndarray) -> float:
    """Height of the picture over its width."""
    wide, tall = np.ptp(at, axis=0)
    return float(np.clip(tall / wide, 0.45, 0.9))


def _lines(plan: Plan) -> list[tuple[tuple[int, int], bool, int, float]]:
    """Edges to draw: two opposite ones of the same period as one."""
    found: dict[tuple[int, int], tuple[int, float]] = {}
    for (i, j), period, delay in zip(plan.edges.tolist(), plan.periods.tolist(), plan.delay_ms.tolist(), strict=True):
        found[i, j] = period, delay
    return [
        ((i, j), found.get((j, i), (0,))[0] == period, period, delay)
        for (i, j), (period, delay) in found.items()
        if i < j or found.get((j, i), (0,))[0] != period
    ]


def _arrow(two_way: bool, colour, width: float) -> dict:
    return {"arrowstyle": "-" if two_way else "-|>", "color": colour, "lw": width, "shrinkA": 3, "shrinkB": 3}


def _shades(count: int) -> list:
    from matplotlib import colormaps

    return [colormaps["viridis"](x) for x in np.linspace(0, 0.85, count)]


def _bare(axes, network: SiloNetwork) -> None:
    axes.margins(0.1)
    axes.set(xticks=[], yticks=[])
    if network.positions is not None:
        axes.set_aspect("equal", adjustable="datalim")
    axes.spines[:].set_color("#d0d0d0")
