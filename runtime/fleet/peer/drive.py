"""Carries a peer's actions out on a robot: sends, trains, keeps, tells; one asyncio loop, no decision of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from edgeflock.runtime.errors import EdgeflockError, TransportError
from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.fleet.peer.actions import Action, Alarm, Finished, Mixed, Rejected, Save, Send, Train
from edgeflock.runtime.fleet.peer.bucket import Bucket
from edgeflock.runtime.fleet.peer.next_plan import NextPlan
from edgeflock.runtime.fleet.peer.privacy import Privacy
from edgeflock.runtime.fleet.peer.roster import Roster
from edgeflock.runtime.fleet.peer.round import Peer
from edgeflock.runtime.fleet.peer.store import Store
from edgeflock.runtime.fleet.peer.trainer import Trainer, TrainerDied
from edgeflock.runtime.fleet.peer.wire import is_chunk
from edgeflock.runtime.fleet.transports.base import Transport

LOOK_S = 1.0
"""Time between two looks at the roster's file and two writings of the status."""
REST_S = (1.0, 60.0)
"""Shortest and longest rest before a learner that died is started again."""
MEASURED_S = 60.0
"""Time between two notes of what the links measure."""
ANSWERS_BEATS = 3
"""A robot that is done goes on answering until, for so many beats, nobody needed anything."""


class Driver:
    """One robot in a run.

    Parameters
    ----------
    peer : Peer
    trainer : Trainer
        Started.
    store : Store
    learner : dict of str to ndarray
        State of the learner so far.
    connect : callable
        Takes the robots' keys in force, by name, and gives a transport that is not open yet.
    roster : callable, optional
        Gives the newest roster; called now and then.
    events : TextIO, optional
        Takes a line of JSON for everything that happens.
    status : Path, optional
        File that says where the robot stands.
    on_mixed : callable, optional
        Awaited after each round with its `Mixed`.
    privacy : Privacy, optional
        What a trained model goes through before the peer has it.
    rate : float
        Bytes of models per second that go out at most; 0: no limit.
    next_plan : callable, optional
        Gives the plan that is adopted next, None where there is none; called now and then.
    """

    def __init__(
        self,
        peer: Peer,
        trainer: Trainer,
        store: Store,
        learner: dict[str, np.ndarray],
        connect: Callable[[dict[str, bytes]], Transport],
        roster: Callable[[], Roster] | None = None,
        events: TextIO | None = None,
        status: Path | None = None,
        on_mixed: Callable[[Mixed], Awaitable[None]] | None = None,
        privacy: Privacy | None = None,
        rate: float = 0.0,
        next_plan: Callable[[], NextPlan | None] | None = None,
    ) -> None:
        self._peer, self._trainer, self._store, self._learner = peer, trainer, store, learner
        self._connect, self._roster, self._events, self._status = connect, roster, events, status
        self._on_mixed, self._next_plan, self._privacy = on_mixed, next_plan, privacy
        self._released: dict[str, Any] = {"privacy": privacy.status()} if privacy else {}
        self._announced: tuple[str, int] | None = None
        self._problems: dict[str, str] = {}
        self._bucket = Bucket(rate, time.monotonic_ns())
        self._keys: dict[str, bytes] = {}
        self._transport: Transport | None = None
        self._wake = asyncio.Event()
        self._orders: asyncio.Queue[Train] = asyncio.Queue()
        self._mixed: asyncio.Queue[Mixed] = asyncio.Queue()
        self._losses: dict[int, float] = {}
        self.finished = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Do all rounds, then answer the others until they need nothing more; or leave when `stop` is set.

        Raises
        ------
        EdgeflockError
            The transport cannot be opened, or the learner says what is wrong with its settings or data.
        """
        await self._open()
        peer = self._peer
        run, last = peer.status()["run"], peer.config.last
        self.note({"event": "joined", "robot": peer.own, "run": run, "round": peer.round, "rounds": last})
        stories = [self._receive(), self._tick(), self._train(), self._look(), self._tell_mixed(), self._done()]
        tasks = [asyncio.ensure_future(story) for story in (*stories, stop.wait())]
        try:
            self._do(self._peer.start(time.monotonic_ns()))
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
            self._do(self._peer.leave(time.monotonic_ns()))
            await asyncio.sleep(0.2)  # let the word get out
        finally:
            left = set(tasks)
            while left:  # more than once: up to Python 3.11, wait_for may swallow a cancellation (bpo-37658)
                for task in left:
                    task.cancel()
                _, left = await asyncio.wait(left, timeout=0.1)
            if self._transport is not None:
                await self._transport.close()
            self._write_status()

    # ---- stories that go on side by side

    async def _receive(self) -> None:
        while True:
            transport = self._transport
            if transport is None:  # a changed roster brings another one
                await asyncio.sleep(0.05)
                continue
            try:
                name, message = await transport.receive()
            except TransportError:
                if transport is self._transport:
                    raise
                continue
            self._do(self._peer.receive(name, message, time.monotonic_ns()))

    async def _tick(self) -> None:
        while True:
            self._wake.clear()
            wait = (self._peer.wake_ns - time.monotonic_ns()) / 1e9
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(wait, 0.0))
                continue
            self._do(self._peer.tick(time.monotonic_ns()))

    async def _train(self) -> None:
        rest = REST_S[0]
        while True:
            order = await self._orders.get()
            while True:
                try:
                    lesson = await self._trainer.train(order.round, order.model)
                    break
                except TrainerDied as died:
                    self.note({"event": "trainer", "round": order.round, "why": str(died)})
                await asyncio.sleep(rest)
                rest = min(2 * rest, REST_S[1])
                with contextlib.suppress(TrainerDied):
                    await self._trainer.start(self._learner)
            rest = REST_S[0]
            self._learner = lesson.state
            self._losses = {order.round: lesson.loss}
            model = await self._release(order.model, lesson.model)
            self._do(self._peer.trained(order.round, model, lesson.loss, time.monotonic_ns()))

    async def _release(self, base: np.ndarray, model: np.ndarray) -> np.ndarray:
        """What may leave this robot of a trained model."""
        if self._privacy is None:
            return model
        try:
            model = self._privacy.release(base, model)
        except OSError as error:  # what cannot be counted is not sent
            self.note({"event": "alarm", "what": "privacy", "peer": self._peer.own, "why": str(error)})
            return base
        self._released = {"privacy": await asyncio.to_thread(self._privacy.status)}  # the accountant takes its time
        return model

    async def _look(self) -> None:
        """Take a newer roster and the next plan, and say where this robot stands."""
        measured_s = 0.0
        while True:
            self._try("roster", self._take_roster)
            self._try("next_plan", self._announce)
            if self._keys != self._peer.keys():
                await self._open()
            self._write_status()
            if time.monotonic() - measured_s >= MEASURED_S:
                measured_s = time.monotonic()
                self.note({"event": "delays"} | self._peer.status()["delays"])
            await asyncio.sleep(LOOK_S)

    def _take_roster(self) -> None:
        if self._roster is not None:
            self._peer.set_roster(self._roster())

    def _announce(self) -> None:
        following = self._next_plan() if self._next_plan is not None else None
        if following is None or following.plan.hash == self._peer.plan.hash:
            return
        announced = following.plan.hash, following.at_round
        if announced != self._announced:
            self._peer.adopt(following.plan, following.at_round)
            self._announced = announced
            self.note({"event": "next_plan", "plan": following.plan.hash, "round": following.at_round})

    def _try(self, what: str, take: Callable[[], None]) -> None:
        """Take a file that a person copies; where it is half copied or does not fit, the one before holds."""
        try:
            take()
            self._problems.pop(what, None)
        except (EdgeflockError, OSError) as error:
            if self._problems.get(what) != str(error):
                self._problems[what] = str(error)
                self.note({"event": "alarm", "what": what, "peer": self._peer.own, "why": str(error)})

    async def _tell_mixed(self) -> None:
        while True:
            mixed = await self._mixed.get()
            if self._on_mixed is not None:
                await self._on_mixed(mixed)

    async def _done(self) -> None:
        await self.finished.wait()
        calm = 0
        while calm < ANSWERS_BEATS or not self._mixed.empty():
            await asyncio.sleep(self._peer.config.beat_s)
            calm = calm + 1 if self._peer.settled else 0

    # ---- actions

    async def _open(self) -> None:
        before, self._keys = self._transport, self._peer.keys()
        if before is not None:
            self._transport = None
            await before.close()
        self._transport = self._connect(self._keys)
        await self._transport.open()

    def _do(self, actions: list[Action]) -> None:
        self._wake.set()
        for action in actions:
            if isinstance(action, Send):
                self._send(action)
            elif isinstance(action, Train):
                self._orders.put_nowait(action)
            elif isinstance(action, Save):
                self._save(action)
            elif isinstance(action, Mixed):
                loss = self._losses.get(action.round)
                heard, missing = list(action.heard), list(action.missing)
                said = {"event": "mixed", "round": action.round, "heard": heard, "missing": missing, "loss": loss}
                self.note(said | {"links": self._links()})
                self._mixed.put_nowait(action)
            elif isinstance(action, Rejected):
                self.note({"event": "rejected", "peer": action.peer, "code": action.code.value, "why": action.why})
            elif isinstance(action, Alarm):
                self.note({"event": "alarm", "what": action.what, "peer": action.peer, "why": action.why})
            elif isinstance(action, Finished):
                self.note({"event": "finished", "round": action.round})
                self.finished.set()

    def _send(self, action: Send) -> None:
        transport = self._transport
        if transport is None or action.to not in transport.peers:
            return
        if is_chunk(action.message) and not self._bucket.take(len(action.message), time.monotonic_ns()):
            transport.counts[action.to].dropped["rate"] += 1
            return
        with contextlib.suppress(TransportError):  # it closes: the message is lost, as any may be
            transport.send(action.to, action.message)

    def _save(self, action: Save) -> None:
        try:
            self._store.save(action.round, action.state, self._learner)
        except OSError as error:  # a full disk stops no robot: the checkpoint before is still there
            self.note({"event": "alarm", "what": "store", "peer": self._peer.own, "why": str(error)})

    def note(self, event: dict[str, Any]) -> None:
        """Write what happened, under `event`, to the events with the time."""
        if self._events is not None:
            with contextlib.suppress(OSError):  # a full disk stops no robot; what is not written yet stays buffered
                self._events.write(json.dumps({"time": round(time.time(), 3)} | event) + "\n")
                self._events.flush()

    def status(self) -> dict[str, Any]:
        """Where this robot stands, plain JSON values."""
        reachable = sorted(self._transport.reachable()) if self._transport else []
        there = {"time": round(time.time(), 3), "reachable": reachable, "links": self._links()}
        return self._peer.status() | there | self._released

    def _write_status(self) -> None:
        if self._status is not None:
            with contextlib.suppress(OSError):  # a full disk stops no robot
                write_atomically(self._status, json.dumps(self.status(), indent=1) + "\n", sync=False)

    def _links(self) -> dict[str, dict[str, Any]]:
        """What passed each link since this transport was opened."""
        return {
            name: {
                "sent_bytes": counts.sent_bytes,
                "received_bytes": counts.received_bytes,
                "dropped": dict(counts.dropped),
            }
            for name, counts in (self._transport.counts if self._transport else {}).items()
        }
