"""A fleet of real peers in virtual time, on a network that loses, repeats, reorders and damages messages.

The peers are `edgeflock.runtime.fleet.peer.round.Peer`, the code of the robots. Clock, network, training times and
faults come from one seed, so that every run happens again from its seed: `Fleet.digest` says so.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeflock.runtime.fleet.peer.actions import Action, Alarm, Finished, Mixed, Rejected, Save, Send, State, Train
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.peer.roster import RobotKey, Roster
from edgeflock.runtime.fleet.peer.round import Peer
from edgeflock.runtime.fleet.plan.schedule import Plan
from edgeflock.runtime.fleet.transports.memory import Delivery, Faults, FaultsOf, MemoryNetwork

RUN = "lab"
SCHEMA = hashlib.sha256(b"a vector").hexdigest()
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

Training = Callable[[str, int, np.ndarray], np.ndarray]
"""Robot, round and model to the model after local steps; depends on nothing else."""


def towards_points(names: Sequence[str], size: int, seed: int = 0, rate: float = 0.1, noise: float = 0.01) -> Training:
    """Every robot pulls its model to a point of its own, with noise from seed, robot and round: quick to compute."""
    points = {
        name: 1 + 0.3 * np.random.default_rng([seed, i]).normal(size=size).astype(np.float32)
        for i, name in enumerate(sorted(names))
    }

    def train(name: str, round_: int, model: np.ndarray) -> np.ndarray:
        drawn = np.random.default_rng([seed, sorted(points).index(name), round_]).normal(0, noise, len(model))
        return (model + np.float32(rate) * (points[name][: len(model)] - model) + drawn).astype(np.float32)

    return train


def laboratory_key(name: str) -> Ed25519PrivateKey:
    """Key of a robot in the laboratory: the same every time, worth nothing elsewhere."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"laboratory {name}".encode()).digest())


def laboratory_roster(names: Sequence[str]) -> Roster:
    """Roster of laboratory keys."""
    keys = {name: laboratory_key(name).public_key().public_bytes_raw().hex() for name in names}
    return Roster(run=RUN, robots=tuple(RobotKey(name=name, key=key) for name, key in keys.items()))


@dataclass
class Robot:
    """One machine: its peer while it runs, and what is on its disk."""

    name: str
    skew_ns: int
    peer: Peer | None = None
    boot: int = 0
    disk: list[State] = field(default_factory=list)
    finished: bool = False
    learnt: np.ndarray | None = None
    stalled: bool = False
    missed: list[Callable[[], None]] = field(default_factory=list)


class Fleet:
    """N peers, a network and a clock.

    Parameters
    ----------
    plan : Plan
        Its roster names the robots.
    config : PeerConfig
    train : Training
    start : ndarray, float32 (d,)
    seed : int
        Of network, training times and nonces.
    faults : Faults or callable, optional
        Of the network; perfect without.
    train_ms : (float, float)
        Least and most time of a round's training.
    skew_s : float
        Clocks of the robots differ by up to so much.
    extra : sequence of str
        Robots that are in the roster and not in the plan.
    """

    def __init__(
        self,
        plan: Plan,
        config: PeerConfig,
        train: Training,
        start: np.ndarray,
        seed: int = 0,
        faults: Faults | FaultsOf | None = None,
        train_ms: tuple[float, float] = (80, 120),
        skew_s: float = 0.0,
        extra: Sequence[str] = (),
    ) -> None:
        self.plan, self.config, self.train, self.start_model = plan, config, train, start
        self.roster = laboratory_roster([*plan.roster, *extra])
        self.network = MemoryNetwork(seed, faults or Faults(delay_ms=(1, 3)))
        self.train_ms = train_ms
        self.chance = random.Random(f"fleet {seed}")
        self.now_ns = 0
        self.robots = {
            name: Robot(name, round(self.chance.uniform(-skew_s, skew_s) * NS_PER_S))
            for name in sorted(self.roster.names)
        }
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._log = hashlib.sha256()
        self.alarms: list[tuple[str, Alarm]] = []
        self.refused: Counter[tuple[str, str]] = Counter()
        self.mixed: list[tuple[str, Mixed]] = []
        self.keep_mixed = False

    # ---- what happens to robots

    def start(self, *names: str) -> None:
        """Switch robots on, all by default; one that was on before goes on from its disk."""
        for name in names or self.robots:
            self._boot(self.robots[name])

    def _boot(self, robot: Robot) -> None:
        robot.boot += 1
        saved = robot.disk[-1] if robot.disk else None
        robot.peer = Peer(
            robot.name,
            self.config,
            self.roster,
            laboratory_key(robot.name),
            self.plan,
            self.start_model,
            SCHEMA,
            robot.boot,
            f"{self.chance.getrandbits(32):08x}",
            saved,
        )
        robot.finished, robot.missed = False, []
        self._do(robot, robot.peer.start(self._clock(robot)))

    def crash(self, name: str) -> None:
        """Power off: what is not on disk is lost."""
        self.robots[name].peer = None

    def restart(self, name: str, older: int = 0, emptied: bool = False) -> None:
        """Power on again; from a checkpoint `older` ones before the newest, or with an empty disk."""
        robot = self.robots[name]
        robot.disk = [] if emptied else robot.disk[: max(1, len(robot.disk) - older)]
        self._boot(robot)

    def leave(self, name: str) -> None:
        """Switch a robot off in good order."""
        robot = self.robots[name]
        if robot.peer is not None:
            self._do(robot, robot.peer.leave(self._clock(robot)))
            robot.peer = None

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        """Let something happen at a time from the start."""
        heapq.heappush(self._events, (round(seconds * NS_PER_S), next(self._order), what))

    def stall(self, name: str, seconds: float) -> None:
        """Let a robot do nothing for a while, as one that sleeps or whose processor is busy; its clock goes on."""
        robot = self.robots[name]
        robot.stalled = True

        def go_on() -> None:
            robot.stalled = False
            missed, robot.missed = robot.missed, []
            for one in missed:
                one()

        self.at(self.now_ns / NS_PER_S + seconds, go_on)

    def lie(self, name: str, how: Callable[[np.ndarray], np.ndarray] | None) -> None:
        """Let a robot offer something else than its model, until it restarts; None ends it."""
        exchange = self.peer(name)._exchange
        honest = type(exchange).offer

        def offer(to: str, mix: int, of: int, state: np.ndarray, view: str | None) -> np.ndarray | None:
            if how is None:
                return honest(exchange, to, mix, of, state, view)
            honest(exchange, to, mix, of, how(state), view)
            return None

        exchange.offer = offer  # type: ignore[method-assign]

    def inject(self, source: str, target: str, message: bytes) -> None:
        """Put a message on the network in the name of a robot."""
        self.network.send(source, target, message, self.now_ns)

    # ---- time

    def run(self, until: Callable[[], bool] | None = None, limit_s: float = 3600.0) -> bool:
        """Let time pass until a condition holds (all robots that are on have finished) or time is up."""
        until = until or self.all_finished
        limit = self.now_ns + round(limit_s * NS_PER_S)
        while not until():
            at = self._next_ns()
            if at is None or at > limit:
                self.now_ns = limit
                return until()
            self.now_ns = max(self.now_ns, at)
            self._step()
        return True

    def all_finished(self) -> bool:
        """Whether every robot that is on has done its rounds, no edge is in doubt, and nothing is planned any more."""
        return not self._events and all(
            robot.finished and not robot.peer.in_doubt for robot in self.robots.values() if robot.peer is not None
        )

    def _next_ns(self) -> int | None:
        times = [self._events[0][0]] if self._events else []
        if (network := self.network.next_ns()) is not None:
            times.append(network)
        times += [
            robot.peer.wake_ns - robot.skew_ns for robot in self.robots.values() if robot.peer and not robot.stalled
        ]
        return min(times, default=None)

    def _step(self) -> None:
        while self._events and self._events[0][0] <= self.now_ns:
            heapq.heappop(self._events)[2]()
        for delivery in self.network.due(self.now_ns):
            self._arrive(self.robots[delivery.target], delivery)
        for robot in self.robots.values():
            if robot.peer is not None and not robot.stalled and robot.peer.wake_ns <= self._clock(robot):
                self._do(robot, robot.peer.tick(self._clock(robot)))

    def _arrive(self, robot: Robot, delivery: Delivery) -> None:
        if robot.stalled:
            robot.missed.append(lambda: self._arrive(robot, delivery))
        elif robot.peer is not None:
            self._do(robot, robot.peer.receive(delivery.source, delivery.message, self._clock(robot)))

    def _clock(self, robot: Robot) -> int:
        return self.now_ns + robot.skew_ns

    def _do(self, robot: Robot, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                if action.to in self.robots:
                    self.network.send(robot.name, action.to, action.message, self.now_ns)
            elif isinstance(action, Train):
                self._train(robot, action)
            elif isinstance(action, Save):
                robot.disk = [*robot.disk[-9:], action.state]
            elif isinstance(action, Mixed):
                self._log.update(f"{robot.name} {action.round} {self.now_ns} {action.heard}".encode())
                self._log.update(action.model.tobytes())
                if self.keep_mixed:
                    self.mixed.append((robot.name, action))
            elif isinstance(action, Finished):
                robot.finished = True
            elif isinstance(action, Alarm):
                self.alarms.append((robot.name, action))
            elif isinstance(action, Rejected):
                self.refused[robot.name, action.code.value] += 1

    def _train(self, robot: Robot, order: Train) -> None:
        boot, peer = robot.boot, robot.peer
        took = round(self.chance.uniform(*self.train_ms) * NS_PER_MS)

        def done() -> None:
            if robot.peer is None or robot.boot != boot:
                return  # it crashed while it trained
            assert peer is robot.peer
            if robot.stalled:
                robot.missed.append(done)
                return
            model = self.train(robot.name, order.round, order.model)
            if np.isfinite(model).all():
                change = model.astype(np.float64) - order.model
                robot.learnt = change if robot.learnt is None else robot.learnt + change
            self._do(robot, robot.peer.trained(order.round, model, 0.0, self._clock(robot)))

        heapq.heappush(self._events, (self.now_ns + took, next(self._order), done))

    # ---- what can be seen

    def peer(self, name: str) -> Peer:
        """The peer of a robot that is on."""
        peer = self.robots[name].peer
        assert peer is not None, f"{name} is off"
        return peer

    def models(self) -> np.ndarray:
        """Models of the robots that are on, (n, d), in the order of their names."""
        return np.array([robot.peer.model for robot in self.robots.values() if robot.peer is not None])

    def disagreement(self) -> float:
        """Largest distance of a model from the mean of all, over the mean's length."""
        models = self.models()
        mean = models.mean(axis=0)
        return float(np.linalg.norm(models - mean, axis=1).max() / np.linalg.norm(mean))

    def drift(self) -> float:
        """How far the mean of all models is from start plus what was learnt; 0 but for rounding without crashes."""
        learnt = [robot.learnt for robot in self.robots.values() if robot.learnt is not None]
        there = self.models().astype(np.float64).mean(axis=0)
        return float(np.abs(there - self.start_model - np.sum(learnt, axis=0) / len(self.robots)).max())

    def counts(self) -> Counter[str]:
        """Refusals of all robots that are on, by reason."""
        found: Counter[str] = Counter()
        for robot in self.robots.values():
            if robot.peer is not None:
                for counter in robot.peer.refusals.values():
                    found += counter
        return found

    def tally(self) -> Counter[str]:
        """Events of all robots that are on."""
        found: Counter[str] = Counter()
        for robot in self.robots.values():
            if robot.peer is not None:
                found += Counter(robot.peer.status()["tally"])
        return found

    def digest(self) -> str:
        """SHA-256 over all that was mixed, when and from whom: equal for equal seeds."""
        return self._log.hexdigest()
