"""A robot of the laboratory as a process: the robots' own machine, driver, transports and disk, and a tiny task.

    python -m edgeflock.export.fleet.lab.robot SPEC.json

Its model is a vector that is pulled to a point of the robot's own, and its training takes as long as it is told. All
else is what `edgeflock fleet join` runs. It writes `events.jsonl`, `status.json`, `transfers.jsonl` (each model that
was sent: from the offer to the word of the receiver, which has then checked its SHA-256) and, in the end, `end.json`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TextIO, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edgeflock.export.fleet.faults import SCHEMA, laboratory_key, laboratory_roster, towards_points
from edgeflock.export.fleet.lab.namespace import die_with_parent
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.fleet.learner import LearningTask
from edgeflock.runtime.fleet.peer.actions import State
from edgeflock.runtime.fleet.peer.codecs import digest
from edgeflock.runtime.fleet.peer.config import Part, PeerConfig
from edgeflock.runtime.fleet.peer.drive import Driver
from edgeflock.runtime.fleet.peer.join import stop_on_signals
from edgeflock.runtime.fleet.peer.round import Peer
from edgeflock.runtime.fleet.peer.store import Store
from edgeflock.runtime.fleet.peer.trainer import Trainer
from edgeflock.runtime.fleet.peer.wire import MAGIC, Code, Refused, Signed, decode
from edgeflock.runtime.fleet.plan.schedule import Plan
from edgeflock.runtime.fleet.transports.base import Transport
from edgeflock.runtime.fleet.transports.memory import Faults, MemoryNetwork
from edgeflock.runtime.fleet.transports.tcp import Limits, TcpPeer, TcpTransport
from edgeflock.runtime.fleet.transports.zenoh import ZenohTransport


class Spec(BaseModel):
    """All that a robot of the laboratory needs to know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    own: str
    places: dict[str, tuple[str, int]] = Field(description="where each robot listens")
    plan: Path
    config: PeerConfig
    out: Path
    transport: Literal["tcp", "zenoh"] = "tcp"
    weights: int = Field(1000, ge=1)
    train_ms: float = Field(0.0, ge=0)
    seed: int = 0
    faults: Faults | None = Field(None, description="of messages on their way out")
    checkpoints: bool = True
    patience_s: float = Field(10.0, gt=0, description="for a connection")


class PointTask(LearningTask):
    """Pull a model to the robot's own point."""

    metric: ClassVar[str] = "distance"
    best: ClassVar[Literal["lowest", "highest"]] = "lowest"
    net: str = "point"
    split: str = "iid"
    weights: int
    robots: tuple[str, ...]
    own: str
    train_ms: float
    seed: int

    def start(self) -> np.ndarray:
        """Near the points, as models of a fleet lie; noise, which no compression makes smaller than weights are."""
        return np.random.default_rng(self.seed).normal(1, 0.1, self.weights).astype(np.float32)

    def learner(self, silo: int) -> PointLearner:
        """The learner of this robot."""
        return PointLearner(self)

    def central(self) -> PointLearner:
        """The same."""
        return PointLearner(self)

    def describe(self) -> dict[str, Any]:
        """There are no data."""
        return {}


class PointLearner:
    """See `towards_points`."""

    def __init__(self, task: PointTask) -> None:
        self._task, self._now = task, task.start()
        self._pull = towards_points(task.robots, task.weights, task.seed)

    @property
    def size(self) -> int:  # noqa: D102
        return len(self._now)

    def model(self) -> np.ndarray:
        """As every `Learner`; so are the others."""
        return self._now.copy()

    def load(self, model: np.ndarray) -> None:  # noqa: D102
        self._now = model.copy()

    def train(self, round_: int, steps: int) -> float:  # noqa: D102
        until = time.monotonic() + self._task.train_ms / 1e3
        self._now = self._pull(self._task.own, round_, self._now)
        time.sleep(max(0.0, until - time.monotonic()))
        return 0.0

    def evaluate(self, model: np.ndarray) -> dict[str, float]:  # noqa: D102
        return {"distance": float(np.abs(model - 1).mean())}

    def weights(self, model: np.ndarray) -> dict[str, np.ndarray]:  # noqa: D102
        return {"w": model.copy()}

    def graph(self, model: np.ndarray) -> bytes:  # noqa: D102
        raise InputError("a point is no net: there is nothing to drive with.")

    def state(self) -> dict[str, np.ndarray]:  # noqa: D102
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:  # noqa: D102
        pass


class NoStore(Store):
    """Keeps nothing: a benchmark of transports is none of disks."""

    def save(self, round_: int, peer: State, learner: Mapping[str, np.ndarray], facts: Any = None) -> None:  # noqa: D102
        pass


class Watched:
    """A transport that damages what is sent, by faults from a seed, and notes how long each model took.

    Everything else is the transport's own.
    """

    def __init__(self, inner: Transport, faults: Faults | None, seed: int, transfers: TextIO) -> None:
        self._inner, self._transfers = inner, transfers
        self._network = MemoryNetwork(seed, faults) if faults else None
        self._offered: dict[tuple[str, int], tuple[int, int]] = {}  # by receiver and number: when, and its bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, peer: str, message: bytes) -> bool:
        """Let a message go, when and as the faults have it."""
        if message.startswith(MAGIC + b"O"):
            offer: Any = cast(Signed, decode(message)).header
            self._offered.setdefault((peer, offer.number), (time.monotonic_ns(), offer.body_bytes))
        if self._network is None:
            return self._inner.send(peer, message)
        now = time.monotonic_ns()
        self._network.send(self._inner.own, peer, message, now)
        if (following := self._network.next_ns()) is not None:
            asyncio.get_running_loop().call_later(max(0, following - now) / 1e9, self._release)
        return True

    def _release(self) -> None:
        assert self._network is not None
        for delivery in self._network.due(time.monotonic_ns()):
            if len(delivery.message) <= self._inner.max_message:
                self._inner.send(delivery.target, delivery.message)
        if (following := self._network.next_ns()) is not None:
            wait = max(0, following - time.monotonic_ns())
            asyncio.get_running_loop().call_later(wait / 1e9, self._release)

    async def receive(self) -> tuple[str, bytes]:
        """Take the next message."""
        peer, message = await self._inner.receive()
        if message.startswith(MAGIC + b"A"):
            with contextlib.suppress(Refused):  # it was damaged on its way
                self._note(peer, cast(Signed, decode(message)).header)
        return peer, message

    def _note(self, peer: str, ack: Any) -> None:
        began = self._offered.pop((peer, ack.offer), None)
        if began is not None and ack.code in (Code.ACCEPTED, Code.MIXED):
            took = {"to": peer, "body_bytes": began[1], "ms": (time.monotonic_ns() - began[0]) / 1e6}
            self._transfers.write(json.dumps(took) + "\n")
            self._transfers.flush()


TransportOf = Callable[[Spec, Mapping[str, bytes]], Transport]
"""Transport of a robot to those whose keys are in force."""


def by_spec(spec: Spec, keys: Mapping[str, bytes]) -> Transport:
    """TCP or Zenoh."""
    others = {name: spec.places[name] for name in keys}
    host, port = spec.places[spec.own]
    if spec.transport == "zenoh":
        connect = [f"tcp/{at}:{number}" for at, number in others.values()]
        return ZenohTransport(spec.own, others, [f"tcp/{host}:{port}"], connect)
    peers = {name: TcpPeer(*at, keys[name]) for name, at in others.items()}
    limits = Limits(connect=spec.patience_s, handshake=spec.patience_s, silence=2 * spec.patience_s)
    return TcpTransport(spec.own, laboratory_key(spec.own), (host, port), peers, limits=limits)


async def take_part(spec: Spec, transport_of: TransportOf) -> None:
    """Do all rounds, going on where the robot stopped before."""
    plan = Plan.from_json(spec.plan.read_text(), spec.plan)
    store = (Store if spec.checkpoints else NoStore)(spec.out / "checkpoints")
    saved = store.load()
    task = PointTask(
        silos=1, weights=spec.weights, robots=plan.roster, own=spec.own, train_ms=spec.train_ms, seed=spec.seed
    )
    trainer = Trainer(task, Part())
    try:
        start, _ = await trainer.start(saved.learner if saved else None)
        boot, nonce = store.boot(int(time.time())), secrets.token_hex(4)
        roster, key = laboratory_roster(plan.roster), laboratory_key(spec.own)
        peer = Peer(spec.own, spec.config, roster, key, plan, start, SCHEMA, boot, nonce, saved.peer if saved else None)
        with (spec.out / "events.jsonl").open("a") as events, (spec.out / "transfers.jsonl").open("a") as transfers:

            def connect(keys: dict[str, bytes]) -> Transport:
                seed = hash((spec.seed, boot)) & 0xFFFF
                return cast(Transport, Watched(transport_of(spec, keys), spec.faults, seed, transfers))

            driver = Driver(peer, trainer, store, {}, connect, None, events, spec.out / "status.json")
            await driver.run(stop_on_signals())
        found = {"round": peer.round, "sha256": digest(peer.model), "tally": dict(peer.status()["tally"])}
        np.save(spec.out / "model.npy", peer.model)
        write_atomically(spec.out / "end.json", json.dumps(found))
    finally:
        trainer.close()


def main(transport_of: TransportOf = by_spec) -> None:
    """Run the robot of a specification."""
    die_with_parent()
    spec = Spec.model_validate_json(Path(sys.argv[1]).read_text())
    spec.out.mkdir(parents=True, exist_ok=True)
    asyncio.run(take_part(spec, transport_of))


if __name__ == "__main__":
    main()
