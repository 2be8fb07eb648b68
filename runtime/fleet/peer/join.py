"""One robot joins a run over TCP: from files and settings to a driver, and what becomes of the model after a round."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from edgeflock.runtime.bundle.driving import DrivingBundle
from edgeflock.runtime.bundle.signing import key_id, read_private_key
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.fleet.learner import LearningTask
from edgeflock.runtime.fleet.peer.actions import Mixed
from edgeflock.runtime.fleet.peer.config import PeerConfig, Place
from edgeflock.runtime.fleet.peer.drive import Driver
from edgeflock.runtime.fleet.peer.next_plan import NEXT_PLAN, NextPlan, read_next_plan
from edgeflock.runtime.fleet.peer.promoter import Promoter
from edgeflock.runtime.fleet.peer.roster import Roster, read_roster
from edgeflock.runtime.fleet.peer.round import Peer
from edgeflock.runtime.fleet.peer.store import Store
from edgeflock.runtime.fleet.peer.trainer import Trainer, TrainerDied
from edgeflock.runtime.fleet.plan.schedule import Plan
from edgeflock.runtime.fleet.transports.tcp import TcpPeer, TcpTransport


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


async def join(
    place: Place,
    config: PeerConfig,
    task_name: str,
    task: LearningTask,
    say: Callable[[str], None] = lambda text: None,
    fresh: bool = False,
) -> Validation:
    """Take part in a run until its last round, or until SIGINT or SIGTERM, which leave in good order.

    Parameters
    ----------
    place : Place
    config : PeerConfig
    task_name, task : str, LearningTask
    say : callable, optional
        Takes lines for a person.
    fresh : bool
        Start from round 1 although the folder holds a run.

    Raises
    ------
    EdgeflockError
        What is wrong with files, settings or data.
    """
    fleet_key = place.fleet_key
    signed = read_roster(place.roster, fleet_key)
    roster, fleet_key = signed.roster, signed.fleet_key
    key = read_private_key(place.key)
    _check_key(place, roster, key.public_key().public_bytes_raw())
    plan = Plan.from_json(place.plan.read_text(), place.plan)
    _check_addresses(place, plan)
    store = Store(place.out / "checkpoints")
    if fresh:
        store.clear()
    saved = store.load()
    for path in store.damaged:
        say(f"{path} is damaged and passed over")

    def next_plan() -> NextPlan | None:
        path = place.roster.with_name(NEXT_PLAN)
        if not path.exists():
            return None
        found = read_next_plan(path, roster.run, fleet_key)
        _check_addresses(place, found.plan)
        return found

    adopted = next_plan() if saved and saved.peer[1]["plan"] != plan.hash else None
    if adopted and saved and adopted.plan.hash == saved.peer[1]["plan"]:
        plan = adopted.plan  # it was gone over to before the restart
    trainer = Trainer(task, place.steps, place.threads)
    promoter: Promoter | None = None
    try:
        start, shapes = await trainer.start(saved.learner if saved else None)
        peer = Peer(
            place.own, config, roster, key, plan, start, schema_of(task_name, task, len(start), shapes),
            store.boot(int(time.time())), secrets.token_hex(4), saved.peer if saved else None,
        )  # fmt: skip
        say(
            f"{place.own} joins run {roster.run} of the fleet {key_id(fleet_key)} "
            f"{'after' if saved else 'before'} round {saved.round if saved else 1} of {config.last}"
        )
        if place.promote:

            def promoted(said: str) -> None:
                say(said)
                note_driving(said)

            promoter = Promoter(place.promote, place.out / "promote.log", promoted)
        validation = Validation(trainer, task, place.out, place.worse, graph=bool(place.promote))

        def note_driving(said: str) -> None:
            current = DrivingBundle(Path(place.promote[0])).current
            bundle = current.resolve().name if current.exists() else None
            driver.note({"event": "driving", "round": peer.round, "bundle": bundle, "why": said})

        async def look(round_: int, model: np.ndarray) -> None:
            with contextlib.suppress(TrainerDied):  # it is started again; the next look comes
                try:
                    verdict = await validation.judge(round_, model)
                except OSError as error:  # a full disk stops no robot; the model that passed before is still there
                    driver.note({"event": "alarm", "what": "store", "peer": place.own, "why": str(error)})
                    return
                judged = {"metric": task.metric, "best": task.best, "unit": task.unit} | asdict(verdict)
                driver.note({"event": "validated"} | judged)
                said = "passes" if verdict.accepted else "does not pass: the model before stays"
                say(f"round {round_}: {task.metric} {verdict.figure:.4g} {task.unit}, {said}")
                if verdict.accepted and promoter is not None:
                    promoter.promote()

        async def mixed(found: Mixed) -> None:
            names = ", ".join(found.heard) or "nobody"
            late = f", without {', '.join(found.missing)}" if found.missing else ""
            say(f"round {found.round}: mixed with {names}{late}")
            if found.round % place.evaluate == 0:
                await look(found.round, found.model)

        def connect(keys: Mapping[str, bytes]) -> TcpTransport:
            peers = {name: TcpPeer(*place.peers[name], raw) for name, raw in keys.items() if name in place.peers}
            return TcpTransport(place.own, key, place.listen, peers)

        with (place.out / "events.jsonl").open("a") as events:
            driver = Driver(
                peer, trainer, store, dict(saved.learner) if saved else {}, connect,
                lambda: read_roster(place.roster, fleet_key).roster, events, place.out / "status.json", mixed,
                next_plan,
            )  # fmt: skip
            if place.promote:
                note_driving("join begins")
            await driver.run(_stop_on_signals())
            if driver.finished.is_set():
                if validation.judged != peer.round:
                    await look(peer.round, peer.model)
                if promoter is not None:
                    await promoter.ended()
        return validation
    finally:
        trainer.close()
        if promoter is not None:
            await promoter.close()


def _check_key(place: Place, roster: Roster, public: bytes) -> None:
    if key_id(public) not in roster.keys(place.own):
        raise InputError(
            f"{place.key} (key {key_id(public)}) is not the key of '{place.own}' in {place.roster}: add it with "
            f"`edgeflock fleet keys add`, or name the right robot."
        )


def _check_addresses(place: Place, plan: Plan) -> None:
    if missing := sorted(set(plan.roster) - {place.own} - set(place.peers)):
        raise InputError(f"the plan names {', '.join(missing)}: say where they listen, --peer {missing[0]}=HOST:PORT.")


def _stop_on_signals() -> asyncio.Event:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    return stop


def settings_of(given: list[str], known: Mapping[str, Any]) -> dict[str, str]:
    """KEY=VALUE texts by key.

    Raises
    ------
    InputError
        Not of this form, or not one of the known keys.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise InputError(f"--set '{text}': expected KEY=VALUE with one of the keys {', '.join(sorted(known))}.")
        found[name] = value
    return found
