"""Fleets of real peers under random faults, each run from one seed, and what must hold in all of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgeflock.export.fleet.faults import Fleet, towards_points
from edgeflock.runtime.fleet.mixing.rules import default_rule
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.plan.schedule import make_plan
from edgeflock.runtime.fleet.transports.memory import Faults

SIZE = 40
"""Weights of the robots' models."""
LIMIT_S = 3000.0
"""Virtual time after which a fleet counts as blocked."""
DRIFT = 1e-5
"""The mean of all models may move so far by rounding."""
KINDS = ("crash", "older", "emptied", "leave", "part", "stall", "nan", "huge", "zero", "flipped", "broken")
LIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nan": lambda model: np.full_like(model, np.nan),
    "huge": lambda model: model * np.float32(1e6),
    "zero": np.zeros_like,
    "flipped": lambda model: -model,
}


class Event(BaseModel):
    """Something that happens to robots at a time, and for how long."""

    model_config = ConfigDict(frozen=True)

    at_s: float
    kind: str
    robots: tuple[str, ...]
    seconds: float


class Scenario(BaseModel):
    """All that a run depends on."""

    model_config = ConfigDict(frozen=True)

    seed: int
    base: str
    robots: int
    t: int
    config: PeerConfig
    faults: Faults
    events: tuple[Event, ...]

    @classmethod
    def of(cls, seed: int) -> Scenario:
        """Scenario of a seed."""
        chance = random.Random(f"scenario {seed}")
        robots, base = chance.randint(3, 5), chance.choice(["ring", "mst", "star", "complete"])
        codec = chance.choice(["fp32", "fp32", "fp16", "int8", "topk"])
        low = chance.uniform(1, 30)
        bad = chance.choice([0.0, 0.02, 0.1])
        faults = Faults(
            drop=chance.random() * bad * 2,
            duplicate=chance.random() * bad,
            reorder=chance.random() * bad,
            corrupt=chance.random() * bad / 2,
            truncate=chance.random() * bad / 2,
            delay_ms=(low, low * chance.uniform(1, 4)),
        )
        names = [f"r{i}" for i in range(robots)]
        events = tuple(
            Event(
                at_s=round(chance.uniform(0, 12), 3),
                kind=kind,
                robots=tuple(chance.sample(names, chance.randint(1, robots - 1) if kind == "part" else 1)),
                seconds=round(chance.uniform(0.1, 15), 3),
            )
            for kind in chance.choices(KINDS, k=chance.randint(0, 3))
        )
        config = PeerConfig(rounds=12, settle=2, codec=codec, keep=0.3, snapshot_every=5, ping_s=0)
        return cls(
            seed=seed, base=base, robots=robots, t=chance.randint(1, 3), config=config, faults=faults, events=events
        )


class Outcome(BaseModel):
    """What came of a run; `broken` says which promises did not hold."""

    scenario: Scenario
    broken: tuple[str, ...]
    digest: str
    seconds: float
    drift: float
    disagreement: float
    refused: dict[str, int]
    tally: dict[str, int]


def run(scenario: Scenario) -> Outcome:
    """Run a scenario and look whether all promises hold.

    1. Every robot does all its rounds: nobody can block another.
    2. No robot ever has NaN, infinity or a liar's model: all weights stay where the robots' own points lie.
    3. A robot's rounds rise; after a crash it goes on no more than one round before the one that it lost.
    4. On mutual plans, without crashes, leaves, lies and joins, the mean of all models is what was learnt.
    """
    chance = random.Random(f"delays {scenario.seed}")
    n, names = scenario.robots, [f"r{i}" for i in range(scenario.robots)]
    delays = np.array([[chance.uniform(5, 40) for _ in range(n)] for _ in range(n)])
    plan = make_plan(names, delays + delays.T, scenario.t, scenario.base)
    broken_rounds: dict[str, set[int]] = {name: set() for name in names}
    for event in scenario.events:
        if event.kind == "broken":
            broken_rounds[event.robots[0]] = set(range(int(event.at_s), int(event.at_s) + 3))
    towards = towards_points(names, SIZE, scenario.seed)

    def train(name: str, round_: int, model: np.ndarray) -> np.ndarray:
        return towards(name, round_, model) if round_ not in broken_rounds[name] else np.full_like(model, np.nan)

    fleet = Fleet(plan, scenario.config, train, np.ones(SIZE, np.float32), scenario.seed, scenario.faults, skew_s=86400)
    fleet.keep_mixed = True
    for event in scenario.events:
        _plan(fleet, event)
    fleet.start()
    finished = fleet.run(limit_s=LIMIT_S)
    tally = fleet.tally()
    broken = [] if finished else [f"blocked: {_phases(fleet)}"]
    for name, mixed in fleet.mixed:
        if not (np.isfinite(mixed.model).all() and np.abs(mixed.model - 1).max() < 3):
            broken.append(f"{name} has a model in round {mixed.round} that nobody trained")
            break
    broken += _disorder(fleet, scenario)
    keeps = plan.mutual and default_rule(plan) != "server"
    gentle = {event.kind for event in scenario.events} <= {"part", "stall", "broken"}
    drift = fleet.drift()
    if finished and keeps and gentle and not tally["pulled"] and drift > DRIFT:
        broken.append(f"the mean moved by {drift:.2g}")
    return Outcome(
        scenario=scenario,
        broken=tuple(broken),
        digest=fleet.digest(),
        seconds=fleet.now_ns / 1e9,
        drift=drift,
        disagreement=fleet.disagreement(),
        refused=dict(fleet.counts()),
        tally=dict(tally),
    )


def _plan(fleet: Fleet, event: Event) -> None:
    name, end = event.robots[0], event.at_s + event.seconds

    def off(how: Any) -> None:
        if fleet.robots[name].peer is not None and not fleet.robots[name].stalled:
            how(name)

    def on(**how: Any) -> None:
        if fleet.robots[name].peer is None:
            fleet.restart(name, **how)

    if event.kind in ("crash", "older", "emptied", "leave"):
        how: dict[str, Any] = {"older": 2} if event.kind == "older" else {"emptied": event.kind == "emptied"}
        fleet.at(event.at_s, lambda: off(fleet.leave if event.kind == "leave" else fleet.crash))
        fleet.at(end, lambda: on(**how))
    elif event.kind == "part":
        fleet.at(event.at_s, lambda: fleet.network.part(event.robots, set(fleet.robots) - set(event.robots)))
        fleet.at(end, fleet.network.heal)
    elif event.kind == "stall":
        fleet.at(event.at_s, lambda: off(lambda name: fleet.stall(name, event.seconds)))
    elif event.kind in LIES:
        fleet.at(event.at_s, lambda: off(lambda name: fleet.lie(name, LIES[event.kind])))


def _disorder(fleet: Fleet, scenario: Scenario) -> list[str]:
    """Robots whose rounds do not rise."""
    lost = {"older": 4, "emptied": scenario.config.last}  # checkpoints, counted generously where two events meet
    found = []
    for name in fleet.robots:
        rounds = [mixed.round for who, mixed in fleet.mixed if who == name]
        may = sum(lost.get(event.kind, 1) for event in scenario.events if name in event.robots and event.kind in _OFF)
        back = sum(max(0, before + 1 - after) for before, after in pairwise(rounds))
        if back > may:
            found.append(f"{name} went back {back} rounds, at most {may} were lost")
    return found


_OFF = ("crash", "older", "emptied", "leave")


def _phases(fleet: Fleet) -> str:
    return ", ".join(
        f"{name} {robot.peer.status()['phase']} in round {robot.peer.round}, {robot.peer.in_doubt} in doubt"
        for name, robot in fleet.robots.items()
        if robot.peer is not None
    )
