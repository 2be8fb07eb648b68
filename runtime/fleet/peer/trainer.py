"""A learner in a process of its own that stands back, so that training never takes the robot's driving along.

The two ends are one program on one machine and speak through a pipe that nobody else has.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.fleet.learner import LearningTask
from edgeflock.runtime.fleet.peer.config import Part


class TrainerDied(EdgeflockError):
    """The learner's process ended: killed, out of memory, or by an error of its own."""


@dataclass(frozen=True)
class Lesson:
    """What came of a round's training: model float32 (d,), mean loss, the learner's own state."""

    model: np.ndarray
    loss: float
    state: dict[str, np.ndarray]


class Trainer:
    """A robot's learner in another process. Calls take turns; all wait without holding the event loop.

    Parameters
    ----------
    task : LearningTask
        Its first silo is this robot.
    part : Part
        Local steps per round, and what they may cost the robot.
    """

    def __init__(self, task: LearningTask, part: Part) -> None:
        self._task, self._part = task, part
        self._process: Any = None
        self._pipe: Connection | None = None
        self._turn = asyncio.Lock()

    async def start(self, state: Mapping[str, np.ndarray] | None = None) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """Start the process, or another one after it died; `state` is the learner's from before.

        Returns
        -------
        ndarray, float32 (d,)
            The task's start model.
        list of (str, str)
            Tensors of the whole net, by name, with their shapes as text.

        Raises
        ------
        EdgeflockError
            What is wrong with settings or data, in the learner's words; `TrainerDied` where it had none.
        """
        self.close()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = theirs, self._task, self._part, dict(state or {})
        self._process = context.Process(target=_serve, args=arguments, name="learner", daemon=True)
        self._process.start()
        theirs.close()
        return await self._answer()

    async def train(self, round_: int, model: np.ndarray) -> Lesson:
        """Local steps of a round from this model; `TrainerDied` when the process ends meanwhile."""
        return await self._ask("train", round_, model)

    async def evaluate(self, model: np.ndarray) -> dict[str, float]:
        """Figures of a model on the task's validation data."""
        return await self._ask("evaluate", model)

    async def weights(self, model: np.ndarray) -> dict[str, np.ndarray]:
        """The whole net of a model, by tensor names."""
        return await self._ask("weights", model)

    async def graph(self, model: np.ndarray) -> bytes:
        """The whole net of a model as ONNX; empty where the task makes none."""
        return await self._ask("graph", model)

    @property
    def pid(self) -> int | None:
        """Process id of the learner."""
        return self._process.pid if self._process is not None else None

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    async def _ask(self, verb: str, *arguments: Any) -> Any:
        async with self._turn:
            if self._pipe is None:
                raise TrainerDied("the learner's process is not started.")
            try:
                self._pipe.send((verb, arguments))
            except OSError:
                raise TrainerDied("the learner's process has ended.") from None
            return await self._answer()

    async def _answer(self) -> Any:
        pipe, loop = self._pipe, asyncio.get_running_loop()
        assert pipe is not None
        ready: asyncio.Event = asyncio.Event()
        loop.add_reader(pipe.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(pipe.fileno())
        try:
            good, answer = pipe.recv()
        except (EOFError, OSError):
            raise TrainerDied(
                "the learner's process ended while it worked: was it killed, or is memory short?"
            ) from None
        if not good:
            raise answer
        return answer


def stand_back() -> None:
    """Give this process only the time that no other wants: SCHED_IDLE of sched(7), elsewhere the lowest nice value."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


def _serve(pipe: Connection, task: LearningTask, part: Part, state: dict[str, np.ndarray]) -> None:
    """The learner's process: answers until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the robot, which then ends this process
    if part.idle:
        stand_back()
    try:
        learner = task.learner(0)
        start = task.start()
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(part.threads)
        if state:
            learner.restore(state)
        shapes = sorted((name, str(value.shape)) for name, value in learner.weights(start).items())
        pipe.send((True, (start, shapes)))
        while True:
            verb, arguments = pipe.recv()
            if verb == "train":
                round_, model = arguments
                learner.load(model)
                began = time.monotonic()
                loss = learner.train(round_, part.steps)
                time.sleep((time.monotonic() - began) * (1 / part.duty - 1))
                pipe.send((True, Lesson(learner.model(), loss, learner.state())))
            else:
                pipe.send((True, getattr(learner, verb)(*arguments)))
    except (EOFError, OSError):
        return  # the robot's process is gone
    except EdgeflockError as error:
        pipe.send((False, error))
    except Exception as error:
        pipe.send((False, TrainerDied(f"the learner failed: {type(error).__name__}: {error}")))
