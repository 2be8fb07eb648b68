"""A task of numpy alone for learners in processes: a robot pulls its model to the point that its data name."""

import os
import signal
import time
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from edgeflock.runtime.errors import DataError
from edgeflock.runtime.fleet.learner import LearningTask

SIZE = 2000


class Pull:
    size = SIZE

    def __init__(self, task):
        self.task, self.now, self.steps = task, np.ones(SIZE, np.float32), np.zeros(1, np.float32)

    def model(self):
        return self.now.copy()

    def load(self, model):
        self.now = model.copy()

    def train(self, round_, steps):
        if self.task.dies_once and round_ == 2 and not self.task.dies_once.exists():
            self.task.dies_once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps += steps
        time.sleep(self.task.lesson_s)
        self.now += np.float32(0.2) * (np.float32(self.task.point) - self.now)
        return float(np.abs(self.now - self.task.point).mean())

    def evaluate(self, model):
        distance = float(np.abs(model - self.task.goal).mean())
        return {"distance": distance, "policy": os.sched_getscheduler(0), "steps": float(self.steps[0])}

    def weights(self, model):
        return {"w": model.copy()}

    def state(self):
        return {"steps": self.steps.copy()}

    def restore(self, state):
        self.steps = state["steps"].copy()


class PullTask(LearningTask):
    metric: ClassVar[str] = "distance"
    best: ClassVar[Literal["lowest", "highest"]] = "lowest"
    net: str = "point"
    split: str = "iid"
    point: float = 1.0
    goal: float = 1.2
    dies_once: Path | None = None
    broken: bool = False
    lesson_s: float = 0.0

    def start(self):
        return np.ones(SIZE, np.float32)

    def learner(self, silo):
        if self.broken:
            raise DataError("frame 7 is broken")
        return Pull(self)

    def central(self):
        return Pull(self)

    def describe(self):
        return {}
