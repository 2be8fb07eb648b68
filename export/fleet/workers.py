"""Where the silos of a simulated fleet train: in processes of this machine, or on Ray.

Every worker keeps the learners of some silos for the whole run, so that optimisers and data stay where they are and
only flat models travel.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from edgeflock.runtime.errors import EdgeflockError, EngineError, InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.fleet.learner import Learner, LearningTask

GOES_ON = "The same command goes on from the last checkpoint."

Job = tuple[int, np.ndarray]
"""A silo, and the model that it is to evaluate with what is its own."""


class Worker:
    """The learners of some silos, one after the other in one process."""

    def __init__(self) -> None:
        self._learners: dict[int, Learner] = {}

    def start(self, task: LearningTask, silos: Sequence[int], central: bool) -> None:
        """Make the learners of these silos, or the one of centralised training (silo 0); forget those before."""
        if "torch" in sys.modules:  # the task's class has imported it, if it needs it
            sys.modules["torch"].set_num_threads(1)  # small batches gain little by more, and lose on a busy machine
        self._learners = {i: task.central() if central else task.learner(i) for i in silos}

    def train(self, models: np.ndarray, round_: int, steps: int) -> tuple[np.ndarray, list[float]]:
        """Models (g, d) of the silos after local steps, and their mean losses."""
        trained, losses = np.empty_like(models), []
        for i, (learner, model) in enumerate(zip(self._learners.values(), models, strict=True)):
            learner.load(model)
            losses.append(learner.train(round_, steps))
            trained[i] = learner.model()
        return trained, losses

    def evaluate(self, jobs: Sequence[Job]) -> list[dict[str, float]]:
        """Figures of models on the validation data."""
        return [self._learners[silo].evaluate(model) for silo, model in jobs]

    def weights(self, silo: int, model: np.ndarray) -> dict[str, np.ndarray]:
        """The whole net of a flat model, with what is this silo's own."""
        return self._learners[silo].weights(model)

    def state(self) -> dict[str, np.ndarray]:
        """What the learners need to go on, keys `silo/name`."""
        return {f"{i}/{name}": value for i, one in self._learners.items() for name, value in one.state().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what `state` gave."""
        for i, learner in self._learners.items():
            own = f"{i}/"
            learner.restore({name.removeprefix(own): v for name, v in state.items() if name.startswith(own)})


class Pool(ABC):
    """Workers that run at the same time; a context manager that ends them."""

    slots: int
    """How many there are."""

    @abstractmethod
    def call(self, method: str, arguments: Sequence[tuple]) -> list[Any]:
        """Results of a method of `Worker`, called at once in as many workers as there are tuples of arguments.

        Raises
        ------
        EdgeflockError
            What a worker raised.
        EngineError
            A worker ended.
        """

    @abstractmethod
    def close(self) -> None:
        """End the workers."""

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Silos:
    """The silos of one run, dealt to the workers of a pool.

    Parameters
    ----------
    task : LearningTask
    pool : Pool
    central : bool
        One learner with the data of all.

    Raises
    ------
    InputError, DataError
        What is wrong with the task's settings or data.
    """

    def __init__(self, task: LearningTask, pool: Pool, central: bool = False) -> None:
        self.n = 1 if central else task.silos
        count = min(pool.slots, self.n)
        self._pool = pool
        self._groups = [range(self.n * i // count, self.n * (i + 1) // count) for i in range(count)]
        pool.call("start", [(task, list(group), central) for group in self._groups])

    def train(self, models: np.ndarray, round_: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Local steps of all silos: models (n, d) to trained models (n, d) and losses (n,)."""
        rows = (models[group.start : group.stop] for group in self._groups)
        parts = self._pool.call("train", [(its, round_, steps) for its in rows])
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def evaluate(self, jobs: Sequence[Job]) -> list[dict[str, float]]:
        """Figures of models, each by the silo named."""
        theirs = [[at for at, (silo, _) in enumerate(jobs) if silo in group] for group in self._groups]
        parts = self._pool.call("evaluate", [([jobs[at] for at in places],) for places in theirs])
        found: dict[int, dict[str, float]] = {}
        for places, part in zip(theirs, parts, strict=True):
            found.update(zip(places, part, strict=True))
        return [found[at] for at in range(len(jobs))]

    def weights(self, model: np.ndarray) -> dict[str, np.ndarray]:
        """The whole net of a flat model, with what is not mixed from the first silo."""
        [found] = self._pool.call("weights", [(0, model)])
        return found

    def state(self) -> dict[str, np.ndarray]:
        """What all learners need to go on, keys `silo/name`."""
        parts = self._pool.call("state", [()] * len(self._groups))
        return {name: value for part in parts for name, value in part.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state; the number of workers may be another."""
        owner = {name: int(name.partition("/")[0]) for name in state}
        parts = [({name: state[name] for name, silo in owner.items() if silo in group},) for group in self._groups]
        self._pool.call("restore", parts)


class Processes(Pool):
    """Processes of this machine, by default one per core. They end when this one does, however it ends."""

    def __init__(self, workers: int | None = None) -> None:
        self.slots = workers or len(os.sched_getaffinity(0))
        context = multiprocessing.get_context("spawn")  # forked ones could use neither CUDA nor torch's threads
        self._started: list[tuple[BaseProcess, Connection]] = []
        for _ in range(self.slots):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._started.append((process, ours))

    def call(self, method: str, arguments: Sequence[tuple]) -> list[Any]:
        """Results of a method, called at once."""
        called = self._started[: len(arguments)]
        results = []
        for (process, pipe), given in zip(called, arguments, strict=True):
            try:
                pipe.send((method, given))
            except OSError as error:
                raise _died(process) from error
        for process, pipe in called:
            try:
                results.append(pipe.recv())
            except (EOFError, OSError) as error:
                raise _died(process) from error
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    def close(self) -> None:
        """End the processes."""
        for process, pipe in self._started:
            pipe.close()
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
        self._started = []


def _died(process: BaseProcess) -> EngineError:
    process.join(timeout=5)
    return EngineError(
        f"a worker of the simulation ended with exit code {process.exitcode} (-9: killed, often for lack of memory). "
        f"{GOES_ON} Fewer --workers take less memory."
    )


def _serve(pipe: Connection) -> None:
    """Answer calls until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that the user started
    worker = Worker()
    while True:
        try:
            method, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = getattr(worker, method)(*arguments)
        except EdgeflockError as error:
            answer = error
        except Exception as error:
            answer = EngineError(f"a silo failed: {type(error).__name__}: {error}")
        try:
            pipe.send(answer)
        except OSError:
            return


class Ray(Pool):
    """Actors of the Ray cluster in RAY_ADDRESS, or of this machine. The data must lie at the same path everywhere.

    Raises
    ------
    MissingExtra
        Ray is not installed.
    """

    def __init__(self, workers: int | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no report to anybody
        with needs("--engine ray"):
            import ray
        self._ray = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            alone: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
            cluster = "RAY_ADDRESS" in os.environ
            ray.init(log_to_driver=False, logging_level=logging.WARNING, **({} if cluster else alone))
        there = ray.cluster_resources()
        self.slots = workers or int(there.get("CPU", 1))
        actor = ray.remote(num_cpus=1, num_gpus=there.get("GPU", 0) / self.slots)(Worker)
        self._actors: list[Any] = [actor.remote() for _ in range(self.slots)]

    def call(self, method: str, arguments: Sequence[tuple]) -> list[Any]:
        """Results of a method, called at once."""
        called = zip(self._actors, arguments, strict=False)
        try:
            return self._ray.get([getattr(actor, method).remote(*given) for actor, given in called])
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, EdgeflockError):
                raise error.cause from error
            raise EngineError(f"a silo failed: {type(error.cause).__name__}: {error.cause}") from error
        except self._ray.exceptions.RayActorError as error:
            raise EngineError(f"a worker on Ray ended ({str(error).splitlines()[0]}). {GOES_ON}") from error

    def close(self) -> None:
        """Give the actors back; end Ray if it was started here."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
        if self._ours:
            self._ray.shutdown()


POOLS: dict[str, type[Processes] | type[Ray]] = {"processes": Processes, "ray": Ray}
"""Where silos train, by name."""


def open_pool(name: str, workers: int | None = None) -> Pool:
    """Start a pool by name; `InputError` when there is none of this name."""
    if name not in POOLS:
        raise InputError(f"no pool of workers '{name}': expected one of {', '.join(POOLS)}.")
    return POOLS[name](workers)
