"""A fleet of processes under random faults for long: whether memory grows, and whether the models agree in the end.

Messages are lost, repeated, reordered, damaged, cut off and delayed; all robots are stopped and go on now and then
(SIGSTOP), two of them are killed (SIGKILL) and started again.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from edgeflock.export.fleet.lab.crew import Crew
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.plan.schedule import make_plan
from edgeflock.runtime.fleet.transports.memory import Faults

WEIGHTS = 20_000
SETTLE = 60
CALM_ROUNDS = 50
"""At the end of training, in which no robot is stopped or killed any more."""
FAULTS = Faults(drop=0.02, duplicate=0.02, reorder=0.02, corrupt=0.01, truncate=0.01, delay_ms=(0, 5))
PAUSE_S = 4.0
"""Mean time between two faults of robots."""
AGREE = 0.01
"""Robots agree when none is farther from the mean of all than this share of its length."""
GROWTH_MB = 2.0
"""Most that a robot's memory may grow in 1,000 rounds: Python's own heap is not flat to the byte."""


@dataclass
class Memory:
    """Resident memory of one robot's process, MB, by round."""

    rounds: list[int] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    @property
    def slope(self) -> float:
        """MB per 1,000 rounds after the first quarter, by least squares."""
        late = [(k, m) for k, m in zip(self.rounds, self.megabytes, strict=True) if k >= self.rounds[-1] / 4]
        k, m = np.array(late).T
        return float(np.polyfit(k, m, 1)[0] * 1000) if len(set(k)) > 1 else 0.0


@dataclass
class Outcome:
    """What came of a soak."""

    seconds: float
    memory: dict[str, Memory]
    starts: Counter[str]
    stops: int
    refused: Counter[str]
    missing: int
    mixed: int
    disagreement: float

    @property
    def holds(self) -> bool:
        """Whether memory is flat and the models agree; that all rounds were done is given."""
        return self.disagreement < AGREE and all(one.slope < GROWTH_MB for one in self.memory.values())


def soak(
    folder: Path, robots: int, rounds: int, seed: int, on_round: Callable[[int], None] = lambda done: None
) -> Outcome:
    """Run a fleet on loopback; every robot does all its rounds, however often it is stopped or killed.

    Raises
    ------
    EdgeflockError
        A robot ended with an error.
    """
    chance = random.Random(seed)
    names = [f"r{i}" for i in range(robots)]
    delays = np.random.default_rng(seed).uniform(5, 40, (robots, robots))
    plan = make_plan(names, delays + delays.T, 2, "mst")
    config = PeerConfig(
        rounds=rounds, settle=SETTLE, codec="topk", keep=0.3, floor_s=0.3, ceiling_s=3, silent_s=3, join_s=3,
        beat_s=0.5, retry_s=0.1, ttl_s=60,
    )  # fmt: skip
    found = Outcome(0.0, {name: Memory() for name in names[:-2]}, Counter(), 0, Counter(), 0, 0, np.inf)
    began = time.monotonic()
    asleep: dict[str, float] = {}
    dead: dict[str, float] = {}
    came = dict.fromkeys(names, 0)  # rounds at the last start: who has done none since is not killed again
    next_fault = began + PAUSE_S
    with Crew(folder, plan, config, nice=5, weights=WEIGHTS, faults=FAULTS, seed=seed) as crew:
        crew.start()
        found.starts.update(names)
        for done in crew.running():
            now = time.monotonic()
            on_round(min(done.values()))
            for name, memory in found.memory.items():
                due = done[name] > (memory.rounds[-1] if memory.rounds else 0) + rounds // 200
                if due and crew.processes[name].poll() is None:
                    memory.rounds.append(done[name])
                    memory.megabytes.append(psutil.Process(crew.processes[name].pid).memory_info().rss / 1e6)
            for name in [name for name, until in asleep.items() if now >= until]:
                crew.processes[name].send_signal(signal.SIGCONT)
                del asleep[name]
            for name in [name for name, until in dead.items() if now >= until]:
                crew.start(name)
                found.starts[name] += 1
                came[name] = done[name]
                del dead[name]
            if now < next_fault or not min(done.values()) or max(done.values()) > rounds - CALM_ROUNDS:
                continue
            next_fault = now + chance.expovariate(1 / PAUSE_S)
            name = chance.choice(names)
            if name in asleep or name in dead or crew.processes[name].poll() is not None:
                continue
            if name in names[-2:] and done[name] > came[name] and chance.random() < 0.5:
                crew.processes[name].kill()
                crew.processes[name].wait()
                dead[name] = now + chance.uniform(0.5, 5)
            else:
                crew.processes[name].send_signal(signal.SIGSTOP)
                found.stops += 1
                asleep[name] = now + chance.uniform(0.1, 2)
        found.seconds = time.monotonic() - began
        models = np.array([crew.model(name) for name in names])
        for name in names:
            found.refused.update(event["code"] for event in crew.events(name, "rejected"))
            for event in crew.events(name, "mixed"):
                found.mixed += len(event["heard"])
                found.missing += len(event["missing"])
    mean = models.mean(axis=0)
    found.disagreement = float(np.linalg.norm(models - mean, axis=1).max() / np.linalg.norm(mean))
    return found
