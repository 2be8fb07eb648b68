"""All overlays of a network side by side: what `edgeflock fleet cycle-time` prints."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeflock.export.fleet.event import CALM, Conditions, pace, simulate, simulate_matcha
from edgeflock.export.fleet.matcha import Matcha
from edgeflock.runtime.fleet.choose import cycle_time
from edgeflock.runtime.fleet.choose.by_name import find_tour
from edgeflock.runtime.fleet.choose.consensus import bytes_per_round, half_life, time_to_consensus
from edgeflock.runtime.fleet.choose.paced_mesh import paced_mesh
from edgeflock.runtime.fleet.plan.delay import Delays, Workload
from edgeflock.runtime.fleet.plan.network import SiloNetwork
from edgeflock.runtime.fleet.plan.overlays import star
from edgeflock.runtime.fleet.plan.schedule import Plan, T, plan_of

Tables = dict[str, dict[str, float]]


def matchas(network: SiloNetwork) -> dict[str, Matcha]:
    """MATCHA on the network's links and on all pairs; neither depends on the workload."""
    n = len(network)
    pairs = np.argwhere(np.triu(np.ones((n, n)), 1))
    on_all = Matcha.of(n, pairs)
    return {
        "matcha_underlay": on_all if len(network.links) == len(pairs) else Matcha.of(n, network.links),
        "matcha_connectivity": on_all,
    }


def compare(
    network: SiloNetwork,
    work: Workload,
    t: int = T,
    *,
    tour: str = "improved",
    hub: int = 0,
    matcha: dict[str, Matcha] | None = None,
    with_paced_mesh: bool = False,
    conditions: Conditions = CALM,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Tables:
    """Cycle time by three measures, half-life, time to consensus and bytes of every overlay.

    Parameters
    ----------
    network, work : SiloNetwork, Workload
        Where and what.
    t : int
        Largest period of the multigraph (and period of the paced mesh).
    tour : str
        As for `find_tour`.
    hub : int
        Silo in the middle of the star.
    matcha : dict, optional
        Of `matchas`; left out when None.
    with_paced_mesh : bool
        Add `paced_mesh`, held to the multigraph's bytes and, where it can, to its round.
    conditions : Conditions
        Of the `event` measure.

    Returns
    -------
    dict
        `cycle_mean`, `round_max`, `event` (ms per round), `half_life_rounds` (the states' matrices alone),
        `half_life_delivered_rounds` (with the age of what is mixed), `time_to_consensus_ms` (by `event` and the
        delivered half-life), `bytes_per_round` (whole fleet); each by overlay.
    """
    delays = Delays.of(network, work)
    roster = network.silos
    tables: Tables = {
        name: {}
        for name in (
            "cycle_mean", "round_max", "event", "half_life_rounds", "half_life_delivered_rounds",
            "time_to_consensus_ms", "bytes_per_round",
        )
    }  # fmt: skip

    def note(name: str, *values: float) -> None:
        by_clock, delivered = values[2], values[4]
        row = (*values[:5], time_to_consensus(by_clock, delivered), values[5])
        for table, value in zip(tables.values(), row, strict=True):
            table[name] = float(value)

    def by_clock(plan: Plan) -> float:
        if conditions.calm:
            return cycle_time.event(plan, delays.compute_ms)
        return pace(simulate(plan, delays.compute_ms, conditions=conditions))

    def note_plan(name: str, plan: Plan) -> None:
        on_progress(name)
        means = (measure(plan, delays.compute_ms) for measure in (cycle_time.cycle_mean, cycle_time.round_max))
        lives = half_life(plan, stale=False), half_life(plan)
        note(name, *means, by_clock(plan), *lives, bytes_per_round(plan, work.model_bits))

    on_progress("ring")
    order = find_tour(tour, network, delays)
    edges = star(len(network), hub)
    once = np.ones(len(edges), dtype=int)
    note_plan("star", Plan(roster, "star", 1, edges, once, delays.relayed().along(edges)))
    note_plan("mst", plan_of(roster, delays, 1, "mst"))
    note_plan("delta_mbst", plan_of(roster, delays, 1, "delta_mbst"))
    note_plan("ring", plan_of(roster, delays, 1, order))
    multigraph = plan_of(roster, delays, t, order)
    note_plan("multigraph", multigraph)
    for name, found in (matcha or {}).items():
        on_progress(name)
        cycle, life = found.cycle_ms(delays), found.half_life()
        clock = pace(simulate_matcha(found, delays, conditions=conditions))
        note(name, cycle, cycle, clock, life, life, found.messages() * work.model_bits / 8)
    if with_paced_mesh:
        on_progress("paced_mesh")
        messages = float((1 / multigraph.periods).mean()) * len(multigraph.edges) / len(network)
        limit = cycle_time.event(multigraph, delays.compute_ms)
        note_plan("paced_mesh", paced_mesh(roster, delays, t, messages, limit))
    return tables
