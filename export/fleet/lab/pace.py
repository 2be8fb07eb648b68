"""Robots as processes on a network's links: the measured time per round beside that of the `event` simulation.

Every directed link goes through the relay of `links`, which gives it the network's latency and the time that a model of
the workload takes on it. The robots' own model is small and its links are slow in proportion, and all runs some times
slower than the network, so that this machine's processors do not count. Local steps are a sleep of their given length.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeflock.export.fleet.event import pace, simulate
from edgeflock.export.fleet.lab.crew import Crew
from edgeflock.export.fleet.lab.links import Link, Relay
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.plan.delay import Delays
from edgeflock.runtime.fleet.plan.network import SiloNetwork
from edgeflock.runtime.fleet.plan.schedule import Plan

WEIGHTS = 1000
ON_THE_WIRE = 5600
"""Bytes of such a model with its offer, TLS and TCP/IP."""
LEAST_ROUNDS, MOST_ROUNDS = 10, 240


@dataclass(frozen=True)
class Row:
    """One overlay: ms per round of the network's time."""

    overlay: str
    rounds: int
    event_ms: float
    measured_ms: float
    missing: int
    """Models that did not come before their deadline."""

    @property
    def off(self) -> float:
        """Share by which the measured time is above the simulated one."""
        return self.measured_ms / self.event_ms - 1


def measure(
    overlay: str,
    plan: Plan,
    network: SiloNetwork,
    delays: Delays,
    slower: float,
    seconds: float,
    folder: Path,
    on_round: Callable[[int, int], None] = lambda done, rounds: None,
) -> Row:
    """Let a plan's robots do some rounds.

    Parameters
    ----------
    overlay : str
        Its name in the row.
    plan : Plan
        Of the network's silos.
    network : SiloNetwork
    delays : Delays
    slower : float
        Times by which all takes longer than in the network.
    seconds : float
        About as long as it is measured.
    folder : Path
        Of the robots.
    on_round : callable, optional
        Takes the rounds done by all, and all rounds.

    Raises
    ------
    EdgeflockError
        This machine makes no namespaces, or a robot failed.
    """
    at = [network.index(name) for name in plan.roster]
    latency, transfer = delays.latency_ms[np.ix_(at, at)], delays.core_ms[np.ix_(at, at)].copy()
    source, target = plan.edges.T
    transfer[source, target] = plan.delay_ms - delays.compute_ms - latency[source, target]

    def link(i: int, j: int) -> Link:
        bits_per_s = 8 * ON_THE_WIRE / (transfer[i, j] * slower / 1e3)
        return Link(latency_ms=latency[i, j] * slower, bits_per_s=bits_per_s, buffer_s=60)

    far_s = float(latency.max()) * slower / 1e3
    expected = pace(simulate(plan, delays.compute_ms, 2000))
    rounds = int(np.clip(seconds * 1e3 / (expected * slower), LEAST_ROUNDS, MOST_ROUNDS))
    wait_s = 60 + 10 * far_s
    config = PeerConfig(
        rounds=rounds, floor_s=wait_s, ceiling_s=wait_s, silent_s=wait_s, join_s=wait_s,
        retry_s=4 * far_s + 1, longest_retry_s=8 * far_s + 2, beat_s=max(1, 4 * far_s), ping_s=0,
    )  # fmt: skip
    named = replace(plan, roster=tuple(re.sub(r"\W+", "_", name) for name in plan.roster))
    train_ms = delays.compute_ms * slower
    with (
        Relay(link, control="reno") as relay,  # BBR spreads even a small model over a long round trip
        Crew(folder, named, config, relay, weights=WEIGHTS, train_ms=train_ms, patience_s=wait_s) as crew,
    ):
        crew.start()
        for done in crew.running():
            on_round(min(done.values()), rounds)
            if min(done.values()) >= rounds:
                break
        time.sleep(0.5)
    events = [crew.events(name, "mixed") for name in crew.names]
    clocks = np.array([[event["time"] * 1e3 for event in of] for of in events]).T
    simulated = pace(simulate(plan, delays.compute_ms, rounds)[1:])
    missing = sum(len(event["missing"]) for of in events for event in of)
    return Row(overlay, rounds, simulated, pace(clocks) / slower, missing)
