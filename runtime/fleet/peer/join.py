"""One robot's part in a run: from files and settings to rounds, and what becomes of the model after a round."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import secrets
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save

from edgeflock.runtime.bundle.driving import DrivingBundle
from edgeflock.runtime.bundle.signing import key_id, read_private_key, read_public_key
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.fleet.learner import LearningTask
from edgeflock.runtime.fleet.peer.actions import Mixed
from edgeflock.runtime.fleet.peer.config import Place
from edgeflock.runtime.fleet.peer.drive import Driver
from edgeflock.runtime.fleet.peer.next_plan import NEXT_PLAN, NextPlan, read_next_plan
from edgeflock.runtime.fleet.peer.privacy import Privacy, check_private
from edgeflock.runtime.fleet.peer.promoter import Promoter
from edgeflock.runtime.fleet.peer.roster import Roster, read_roster
from edgeflock.runtime.fleet.peer.round import Peer
from edgeflock.runtime.fleet.peer.settings import Settings
from edgeflock.runtime.fleet.peer.store import Checkpoint, Store
from edgeflock.runtime.fleet.peer.trainer import Trainer, TrainerDied
from edgeflock.runtime.fleet.plan.schedule import Plan
from edgeflock.runtime.fleet.transports.base import Transport
from edgeflock.runtime.fleet.transports.tcp import TcpPeer, TcpTransport

Connect = Callable[[Ed25519PrivateKey, Mapping[str, bytes]], Transport]
"""Takes this robot's key and the others' raw public keys by name; gives a transport that is not open yet."""


@dataclass
class Verdict:
    """What the validation gate said of a round's model."""

    round: int
    figure: float
    accepted: bool
    figures: dict[str, float]


class Validation:
    """The gate after a round: a model is written for export only if it is good on this robot's own held-out data.

    Parameters
    ----------
    trainer : Trainer
    task : LearningTask
    out : Path
        Gets `model.safetensors`, the newest model that passed.
    worse : float
        Share by which a figure may be worse than the best so far.
    graph : bool
        Write `model.onnx` beside it, from which a bundle is made without torch.
    """

    def __init__(self, trainer: Trainer, task: LearningTask, out: Path, worse: float, graph: bool = False) -> None:
        self._trainer, self._task, self._out, self._worse, self._graph = trainer, task, out, worse, graph
        self._sign = 1 if task.best == "lowest" else -1
        self._path = out / "validation.json"
        self.best: float | None = None
        self.judged: int | None = None  # the latest round
        if self._path.exists():  # it goes on
            self.best = json.loads(self._path.read_text())["best"]

    async def judge(self, round_: int, model: np.ndarray) -> Verdict:
        """Look at a model; write it where it passes."""
        self.judged = round_
        figures = await self._trainer.evaluate(model)
        figure = figures[self._task.metric]
        best = figure if self.best is None else self.best
        limit = best + self._sign * self._worse * abs(best)
        accepted = math.isfinite(figure) and self._sign * (figure - limit) <= 0
        if accepted:
            best = self._sign * min(self._sign * figure, self._sign * best)
            metadata = {"net": self._task.net, "round": str(round_), self._task.metric: str(figure)}
            weights = save(await self._trainer.weights(model), metadata)
            graph = await self._trainer.graph(model) if self._graph else b""
            write_atomically(self._out / "model.safetensors", weights)
            if graph:
                write_atomically(self._out / "model.onnx", graph)
            else:
                (self._out / "model.onnx").unlink(missing_ok=True)  # it would be another model's
            facts = {"best": best, "round": round_, "figures": figures}
            write_atomically(self._path, json.dumps(facts, indent=1) + "\n")
            self.best = best
        return Verdict(round_, figure, accepted, figures)


def schema_of(task_name: str, task: LearningTask, size: int, shapes: list[tuple[str, str]]) -> str:
    """SHA-256 of what a flat model means: task, net, what is exchanged of it, names and shapes of its tensors."""
    meaning = [task_name, task.net, task.batch_norm, task.layers, size, shapes]
    return hashlib.sha256(json.dumps(meaning, separators=(",", ":")).encode()).hexdigest()


class Participant:
    """One robot in a run: open it, run it, close it.

    Parameters
    ----------
    settings : Settings
    connect : callable
        See `Connect`.
    say : callable, optional
        Takes lines for a person.
    held : iterable of str
        Reasons for which the robot takes no part yet.

    Attributes
    ----------
    held : set of str
        Reasons for which the robot takes no part for now. While there is one it has left the run in good order and has
        neither learner nor transport.
    finished : bool
        Whether all rounds are done.
    validation : Validation
    """

    def __init__(
        self,
        settings: Settings,
        connect: Connect,
        say: Callable[[str], None] = lambda text: None,
        held: Iterable[str] = (),
    ) -> None:
        self._place, self._config, self._name, self._task = settings
        self._connect, self._say = connect, say
        self.held = set(held)
        self.finished = False
        self._changed, self._resting = asyncio.Event(), asyncio.Event()
        self._resting.set()
        place = self._place
        self._trainer = Trainer(self._task, place)
        self.validation = Validation(self._trainer, self._task, place.out, place.worse, graph=place.driving is not None)
        self._promoter: Promoter | None = None
        if place.driving is not None:
            words = [str(place.driving), *place.promotion]
            self._promoter = Promoter(words, place.out / "promote.log", self._promoted, place.idle)
        self._events: TextIO | None = None
        self._privacy: Privacy | None = None
        self._ready: Start | None = None
        self._peer: Peer | None = None
        self._driver: Driver | None = None

    async def open(self, fresh: bool = False) -> None:
        """Read and check all files, start the learner.

        Parameters
        ----------
        fresh : bool
            Start from round 1 although the folder holds a run.

        Raises
        ------
        EdgeflockError
            What is wrong with files, settings or data.
        """
        place = self._place
        signed = read_roster(place.roster, read_public_key(place.fleet_key).raw if place.fleet_key else None)
        self._roster, self._fleet_key = signed.roster, signed.fleet_key
        self._key = read_private_key(place.key)
        _check_key(place, signed.roster, self._key.public_key().public_bytes_raw())
        self._plan = Plan.from_json(place.plan.read_bytes(), place.plan)
        self._check_addresses(self._plan)
        self._store = Store(place.out / "checkpoints")
        if fresh:
            self._store.clear()
        self._events = (place.out / "events.jsonl").open("a")
        self._ready = await self._start_learner()

    async def run(self, stop: asyncio.Event) -> None:
        """Take part until the last round is done, or until `stop` is set, which leaves in good order.

        Raises
        ------
        EdgeflockError
            The transport cannot be opened, or the learner says what is wrong with its settings or data.
        """
        stopped = asyncio.ensure_future(stop.wait())
        try:
            while not (stop.is_set() or self.finished):
                if self.held:
                    await self._until(lambda: not self.held, stopped)
                    continue
                self._resting.clear()
                try:
                    await self._take_part(stopped)
                finally:
                    self._resting.set()
        finally:
            stopped.cancel()

    def hold(self, reason: str) -> None:
        """Leave the run in good order, and take no part in it until every reason is released."""
        self.held.add(reason)
        self._changed.set()

    def release(self, reason: str) -> None:
        """Take a reason back; with the last one the robot joins again."""
        self.held.discard(reason)
        self._changed.set()

    async def rests(self) -> None:
        """Wait until no part is taken."""
        await self._resting.wait()

    async def close(self) -> None:
        """End the learner and what promotes."""
        self._trainer.close()
        if self._promoter is not None:
            await self._promoter.close()
        if self._events is not None:
            with contextlib.suppress(OSError):  # a full disk
                self._events.close()

    def status(self) -> dict[str, Any]:
        """Where this robot stands, once it is open: plain JSON values."""
        if self._driver is not None:
            there = self._driver.status()
        else:
            saved = self._ready.saved if self._ready else None
            there = {
                "robot": self._place.own, "run": self._roster.run, "phase": "new", "plan": self._plan.hash,
                "round": saved.round if saved else 0, "rounds": self._config.last,
            }  # fmt: skip
        gate = {"metric": self._task.metric, "best": self.validation.best}
        return there | {"held": sorted(self.held)} | gate

    # ---- one part, between two pauses

    async def _start_learner(self) -> Start:
        saved = self._store.load()
        for path in self._store.damaged:
            self._say(f"{path} is damaged and passed over")
        model, shapes = await self._trainer.start(saved.learner if saved else None)
        check_private(self._config, [name for name, _ in shapes], self._task.layers)
        if self._config.clip is not None:
            self._privacy = Privacy(self._config, self._place.out / "privacy.json")
        return Start(saved, model, shapes)

    async def _take_part(self, stopped: asyncio.Future) -> None:
        start, self._ready = self._ready or await self._start_learner(), None
        place, saved = self._place, start.saved
        if saved and saved.peer[1]["plan"] != self._plan.hash:  # it went over to another one before it stopped
            following = self._next_plan()
            if following is not None and following.plan.hash == saved.peer[1]["plan"]:
                self._plan = following.plan
        peer = self._peer = Peer(
            place.own, self._config, self._roster, self._key, self._plan, start.model,
            schema_of(self._name, self._task, len(start.model), start.shapes),
            self._store.boot(int(time.time())), secrets.token_hex(4), saved.peer if saved else None,
        )  # fmt: skip
        self._say(
            f"{place.own} joins run {self._roster.run} of the fleet {key_id(self._fleet_key)} "
            f"{'after' if saved else 'before'} round {saved.round if saved else 1} of {self._config.last}"
        )
        driver = self._driver = Driver(
            peer, self._trainer, self._store, dict(saved.learner) if saved else {},
            lambda keys: self._connect(self._key, keys), self._newest_roster, self._events, place.out / "status.json",
            self._mixed, self._privacy, place.rate, self._next_plan,
        )  # fmt: skip
        self._note_driving("join begins")
        leave = asyncio.Event()
        running = asyncio.ensure_future(driver.run(leave))
        try:
            await self._until(lambda: bool(self.held), stopped, running)
            leave.set()
            await running
        finally:
            running.cancel()
            await asyncio.wait([running])
        self.finished = driver.finished.is_set()
        if self.finished:
            if self.validation.judged != peer.round:
                await self._look(peer.round, peer.model)
            if self._promoter is not None:
                await self._promoter.ended()
        if self._privacy is not None:
            self._say(f"{place.own} released {self._privacy.status()['releases']} updates{self._privacy.said()}")
        self._trainer.close()

    async def _until(self, condition: Callable[[], bool], *futures: asyncio.Future) -> None:
        """Wait for a change after which the condition holds, or for any of the futures."""
        while not (condition() or any(future.done() for future in futures)):
            self._changed.clear()
            change = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait([change, *futures], return_when=asyncio.FIRST_COMPLETED)
            finally:
                change.cancel()

    def _newest_roster(self) -> Roster:
        self._roster = read_roster(self._place.roster, self._fleet_key).roster
        return self._roster

    def _next_plan(self) -> NextPlan | None:
        path = self._place.roster.with_name(NEXT_PLAN)
        if not path.exists():
            return None
        found = read_next_plan(path, self._roster.run, self._fleet_key)
        self._check_addresses(found.plan)
        return found

    def _check_addresses(self, plan: Plan) -> None:
        own = self._place.own
        others = {robot.name: bytes.fromhex(robot.key) for robot in self._roster.robots if robot.name != own}
        if missing := sorted(set(plan.roster) - {own} - self._connect(self._key, others).peers):
            raise InputError(
                f"the plan names {', '.join(missing)}: say where they listen, --peer {missing[0]}=HOST:PORT."
            )

    async def _mixed(self, found: Mixed) -> None:
        names = ", ".join(found.heard) or "nobody"
        late = f", without {', '.join(found.missing)}" if found.missing else ""
        self._say(f"round {found.round}: mixed with {names}{late}{self._privacy.said() if self._privacy else ''}")
        if found.round % self._place.evaluate == 0:
            await self._look(found.round, found.model)

    async def _look(self, round_: int, model: np.ndarray) -> None:
        with contextlib.suppress(TrainerDied):  # it is started again; the next look comes
            try:
                verdict = await self.validation.judge(round_, model)
            except OSError as error:  # a full disk stops no robot; the model that passed before is still there
                self._note({"event": "alarm", "what": "store", "peer": self._place.own, "why": str(error)})
                return
            judged = {"metric": self._task.metric, "best": self._task.best, "unit": self._task.unit} | asdict(verdict)
            self._note({"event": "validated"} | judged)
            said = "passes" if verdict.accepted else "does not pass: the model before stays"
            self._say(f"round {round_}: {self._task.metric} {verdict.figure:.4g} {self._task.unit}, {said}")
            if verdict.accepted and self._promoter is not None:
                self._promoter.promote()

    def _promoted(self, said: str) -> None:
        self._say(said)
        self._note_driving(said)

    def _note_driving(self, why: str) -> None:
        if self._place.driving is not None and self._peer is not None:
            current = DrivingBundle(self._place.driving).current
            bundle = current.resolve().name if current.exists() else None
            self._note({"event": "driving", "round": self._peer.round, "bundle": bundle, "why": why})

    def _note(self, event: dict[str, Any]) -> None:
        if self._driver is not None:
            self._driver.note(event)


class Start(NamedTuple):
    """What a part begins with: the newest checkpoint, the task's start model, shapes of the net's tensors."""

    saved: Checkpoint | None
    model: np.ndarray
    shapes: list[tuple[str, str]]


async def join(participant: Participant, fresh: bool = False) -> None:
    """Take part in a run until its last round, or until SIGINT, SIGTERM or SIGHUP, which leave in good order.

    Raises
    ------
    EdgeflockError
        What is wrong with files, settings or data.
    """
    try:
        await participant.open(fresh)
        await participant.run(stop_on_signals())
    finally:
        await participant.close()


def by_tcp(own: str, listen: tuple[str, int], addresses: Mapping[str, tuple[str, int]]) -> Connect:
    """TCP with TLS to the robots whose addresses (host, port) are known."""

    def connect(key: Ed25519PrivateKey, keys: Mapping[str, bytes]) -> TcpTransport:
        peers = {name: TcpPeer(*addresses[name], raw) for name, raw in keys.items() if name in addresses}
        return TcpTransport(own, key, listen, peers)

    return connect


def _check_key(place: Place, roster: Roster, public: bytes) -> None:
    if key_id(public) not in roster.keys(place.own):
        raise InputError(
            f"{place.key} (key {key_id(public)}) is not the key of '{place.own}' in {place.roster}: add it with "
            f"`edgeflock fleet keys add`, or name the right robot."
        )


def stop_on_signals() -> asyncio.Event:
    """Event that SIGINT, SIGTERM and SIGHUP set: leave in good order."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    return stop
