"""The experiments of the FADNet and multigraph posts, with real training on recorded frames and simulated time.

Three questions, each answered by a table and a picture: which net and which way to learn are better where (`nets`);
what a schedule gives per simulated second (`clock`); how far the robots' own models are from the mean that papers
report (`robots`). The order found is reported as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeflock.export.fleet.config import ExperimentSettings, SimulationConfig
from edgeflock.export.fleet.learning_plots import averages, curves_figure, robots_figure, seconds
from edgeflock.export.fleet.simulation import clock_of, simulate_learning
from edgeflock.export.fleet.workers import Pool
from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.fleet.choose.paced_mesh import paced_mesh
from edgeflock.runtime.fleet.learner import LearningTask
from edgeflock.runtime.fleet.plan.delay import Delays, Workload
from edgeflock.runtime.fleet.plan.network import open_network
from edgeflock.runtime.fleet.plan.schedule import Plan, plan_of

NETS = ("fadnet", "dronet")
NETWORKS = ("gaia", "amazon")
LONGER = 2  # times the rounds, for schedules whose rounds are shorter than the ring's

Results = dict["Arm", list[dict[str, Any]]]


@dataclass(frozen=True)
class Arm:
    """One way to learn, to be run with every seed."""

    net: str
    network: str
    mode: str
    base: str = ""
    t: int = 1

    @property
    def name(self) -> str:
        """As in tables and pictures."""
        if self.mode == "dfl":
            schedule = {"ring": "RING" if self.t == 1 else f"MULTIGRAPH t={self.t}"}.get(self.base)
            return schedule or f"paced mesh t={self.t}"
        return {"cll": "CLL", "sfl": "STAR", "local": "local only"}[self.mode]

    @property
    def folder(self) -> str:
        """Of its runs, without the seed."""
        return "-".join(part for part in (self.net, self.network, self.mode, self.base, f"t{self.t}") if part)


def nets_arms() -> list[Arm]:
    """Both nets, three ways to learn, both networks."""
    ways = (("cll", ""), ("sfl", ""), ("dfl", "ring"))
    return [Arm(net, network, mode, base) for net in NETS for network in NETWORKS for mode, base in ways]


def clock_arms() -> list[Arm]:
    """Schedules of the post on Gaia with FADNet, and ours."""
    rings = [Arm("fadnet", "gaia", "dfl", "ring", t) for t in (1, 3, 5)]
    return [Arm("fadnet", "gaia", "sfl"), *rings, Arm("fadnet", "gaia", "dfl", "paced_mesh", 5)]


def all_arms() -> list[Arm]:
    """Every arm once; `local` shows what learning together is worth."""
    return list(dict.fromkeys([*nets_arms(), *clock_arms(), Arm("fadnet", "gaia", "local")]))


def run_experiments(
    make_task: Callable[..., LearningTask],
    settings: ExperimentSettings,
    runs: Path,
    pool: Pool,
    *,
    on_run: Callable[[str, int, int], None] = lambda name, done, of: None,
) -> Results:
    """All arms with all seeds; a run that is done is not done again, one that was interrupted goes on.

    Parameters
    ----------
    make_task : callable
        Silos, net, seed and the settings' fields of the same name to the task.
    settings : ExperimentSettings
    runs : Path
        A folder per run in it.
    pool : Pool
    on_run : callable
        Name of the next run, how many are done, of how many.
    """
    found: Results = {arm: [] for arm in all_arms()}
    todo = [(arm, seed) for seed in range(settings.seeds) for arm in found]
    for done, (arm, seed) in enumerate(todo):
        on_run(f"{arm.folder}, seed {seed}", done, len(todo))
        found[arm].append(_run(make_task, settings, arm, seed, runs / f"{arm.folder}-{seed}", pool))
    return found


def _run(
    make_task: Callable[..., LearningTask], settings: ExperimentSettings, arm: Arm, seed: int, out: Path, pool: Pool
) -> dict[str, Any]:
    network = open_network(arm.network)
    shared = {name: getattr(settings, name) for name in ("batch", "lr", "split", "samples")}
    task = make_task(silos=len(network), net=arm.net, seed=seed, **shared)
    delays = Delays.of(network, Workload(32.0 * task.start().size, settings.compute_ms))
    plan: Plan | None = None
    if arm.mode == "sfl":
        plan = plan_of(network.silos, delays, 1, "star")
    elif arm.base == "paced_mesh":
        plan = paced_mesh(network.silos, delays, arm.t)
    elif arm.mode == "dfl":
        plan = plan_of(network.silos, delays, arm.t, arm.base)
    rounds = settings.rounds * (LONGER if arm.t > 1 else 1)
    config = SimulationConfig(mode=arm.mode, evaluate=settings.evaluate, robots=100, settle=settings.settle)
    clock = clock_of(arm.mode, plan, delays.compute_ms, rounds + settings.settle)
    result = simulate_learning(task, config, plan, rounds, out, pool, clock_ms=clock)
    (out / "checkpoint.safetensors").unlink(missing_ok=True)  # a hundred megabytes, and the run is done
    return result


def nets_table(results: Results) -> list[dict[str, Any]]:
    """Error of the mean model when training ended, per net, network and way: mean and spread over seeds, in rad."""
    return [
        {"net": arm.net, "network": arm.network, "way": {"dfl": "DFL (ring)"}.get(arm.mode, arm.mode.upper())}
        | _spread([run["figures"]["trained"]["average"] for run in results[arm]])
        for arm in nets_arms()
    ]


def clock_table(results: Results, rounds: int) -> list[dict[str, Any]]:
    """Schedules at equal rounds and at equal simulated time, that of the arm which was given the least."""
    arms = clock_arms()
    budget = min(results[arm][0]["clock_ms"][results[arm][0]["rounds"]] for arm in arms) / 1e3
    table = []
    for arm in arms:
        clock = results[arm][0]["clock_ms"]
        at, values = averages(results[arm])
        within = np.flatnonzero(seconds(results[arm][0], at) <= budget * (1 + 1e-9))[-1]
        table.append(
            {"schedule": arm.name, "ms_per_round": round(clock[rounds] / rounds, 2)}
            | {f"after_{rounds}_rounds": _spread(values[:, list(at).index(rounds)])}
            | {f"within_{budget:.2f}_s": _spread(values[:, within]) | {"rounds": int(at[within])}}
        )
    return table


def robots_table(results: Results) -> list[dict[str, Any]]:
    """Error of the robots' own models beside their mean's, when training ended and after settling; FADNet on Gaia."""
    table = []
    for arm in robots_arms():
        runs = results[arm]
        row: dict[str, Any] = {"way": arm.name, "rounds": runs[0]["rounds"]}
        for when in ("trained", "settled"):
            if when in runs[0]["figures"]:
                for name in ("average", "robots_mean", "worst"):
                    row[f"{when}_{name}"] = round(float(np.mean([run["figures"][when][name] for run in runs])), 4)
        table.append(row)
    return table


def robots_arms() -> list[Arm]:
    """FADNet on Gaia, all that have silos of their own."""
    return [*clock_arms(), Arm("fadnet", "gaia", "local")]


def write_report(results: Results, settings: ExperimentSettings, out: Path, command: str) -> Path:
    """Tables (`experiments.json`, `experiments.md`) and pictures of finished experiments; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    some = next(iter(results.values()))[0]
    tables = {
        "nets": nets_table(results),
        "clock": clock_table(results, settings.rounds),
        "robots": robots_table(results),
    }
    content = {
        "command": command,
        "settings": settings.model_dump(),
        "data": some["data"],
        "baselines": some["figures"]["baselines"],
        "wall_s": round(sum(run["figures"]["wall_s"] for runs in results.values() for run in runs)),
        "versions": some["versions"],
        **tables,
    }
    write_atomically(out / "experiments.json", json.dumps(content, indent=1) + "\n")
    curves_figure({arm.name: results[arm] for arm in clock_arms()}, out / "clock.png", "FADNet on Gaia")
    nets = {f"{arm.net}, {arm.network}, {arm.mode.upper()}": results[arm] for arm in nets_arms() if arm.mode != "cll"}
    curves_figure(nets, out / "nets.png", "SFL and DFL (ring)")
    robots_figure({arm.name: results[arm] for arm in robots_arms()}, out / "robots.png", "FADNet on Gaia")
    page = out / "experiments.md"
    write_atomically(page, _page(content))
    return page


def _spread(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    found = np.asarray(values, dtype=float)
    spread = float(found.std(ddof=1)) if len(found) > 1 else 0.0
    return {"mean": round(float(found.mean()), 4), "sd": round(spread, 4), "seeds": len(found)}


def _page(content: Mapping[str, Any]) -> str:
    """Markdown; every figure from `content`."""
    settings, base = content["settings"], content["baselines"]
    train, val = (content["data"][split]["frames"] for split in ("train", "val"))
    parts = [
        "# Experiments of a fleet that learns\n",
        f"Printed by `{content['command']}`; its runs took {content['wall_s'] / 60:.0f} minutes one after the other. "
        f"Synthetic data: {train:,} rendered frames to learn from, {val:,} of other worlds to judge by. Split: "
        f"{settings['split']}. {settings['rounds']} rounds of one step of {settings['batch']} frames, Adam "
        f"{settings['lr']:g}, {settings['seeds']} seeds. RMSE in rad over all validation frames, mean ± standard "
        f"deviation over seeds; Random {base['random']:.4f}, Constant {base['constant']:.4f}.\n",
        "## Which net, which way to learn, which network\n",
        "RMSE of the mean model when training ended.\n",
        _grid(content["nets"]),
        "![](nets.png)\n",
        "## What a schedule gives per simulated second\n",
        f"FADNet on Gaia. Multigraphs and paced mesh trained for {LONGER} times the rounds.\n",
        _rows(content["clock"]),
        "![](clock.png)\n",
        "## A robot's own model beside the mean\n",
        f"FADNet on Gaia. Settling: {settings['settle']} rounds of mixing without training.\n",
        _rows(content["robots"]),
        "![](robots.png)\n",
    ]
    return "\n".join(parts)


def _grid(table: Sequence[Mapping[str, Any]]) -> str:
    ways = list(dict.fromkeys(row["way"] for row in table))
    lines = [f"| net | network | {' | '.join(ways)} |", "|---|---|" + "---:|" * len(ways)]
    for net, network in dict.fromkeys((row["net"], row["network"]) for row in table):
        cells = [_shown(row) for row in table if (row["net"], row["network"]) == (net, network)]
        lines.append(f"| {net} | {network} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _rows(table: Sequence[Mapping[str, Any]]) -> str:
    heads = list(table[0])
    lines = [f"| {' | '.join(head.replace('_', ' ') for head in heads)} |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    lines += [f"| {' | '.join(_shown(row.get(head, '')) for head in heads)} |" for row in table]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if value < 1 else f"{value:g}"
    if not isinstance(value, Mapping):
        return str(value)
    after = f" ({value['rounds']} rounds)" if "rounds" in value else ""
    return f"{value['mean']:.4f} ± {value['sd']:.4f}{after}"
