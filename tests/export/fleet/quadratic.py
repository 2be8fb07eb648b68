"""A task of numpy alone, small enough to compute by hand: silo i pulls its model to its own point."""

import os
import signal
from typing import ClassVar, Literal

import numpy as np

from edgeflock.runtime.errors import DataError
from edgeflock.runtime.fleet.learner import LearningTask

D = 6


def points(silos, seed=0):
    return np.random.default_rng(seed).normal(size=(silos, D)).astype(np.float32)


class Quadratic:
    """loss = |model - point|^2 / 2, one gradient step with momentum; the noise depends on silo and round."""

    def __init__(self, task, silo, target):
        self.task, self.silo, self.target = task, silo, target
        self.now, self.velocity = np.zeros(D, np.float32), np.zeros(D, np.float32)

    size = D

    def model(self):
        return self.now.copy()

    def load(self, model):
        self.now = model.copy()

    def train(self, round_, steps):
        if self.task.fails and (self.silo, round_) == (1, 4):
            if self.task.fails == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.task.fails == "raises":
                raise DataError("frame 7 is broken")
            return float("nan")
        for step in range(steps):
            noise = np.random.default_rng([self.task.seed, self.silo, round_, step]).normal(0, 0.1, D)
            self.velocity = (0.5 * self.velocity + self.now - self.target + noise).astype(np.float32)
            self.now = self.now - np.float32(self.task.lr) * self.velocity
        return float(((self.now - self.target) ** 2).sum() / 2)

    def evaluate(self, model):
        return {"distance": float(np.linalg.norm(model - points(self.task.silos).mean(axis=0)))}

    def weights(self, model):
        return {"w": model.copy()}

    def state(self):
        return {"velocity": self.velocity.copy()}

    def restore(self, state):
        self.velocity = state["velocity"].copy()


class QuadraticTask(LearningTask):
    metric: ClassVar[str] = "distance"
    best: ClassVar[Literal["lowest", "highest"]] = "lowest"
    net: str = "point"
    split: str = "iid"
    lr: float = 0.2
    fails: str = ""

    def start(self):
        return np.full(D, 3, np.float32)

    def learner(self, silo):
        return Quadratic(self, silo, points(self.silos)[silo])

    def central(self):
        return Quadratic(self, 0, points(self.silos).mean(axis=0))

    def describe(self):
        data = {split: {"sha256": f"{self.silos} points of {split}"} for split in ("train", "val")}
        return {"data": data, "shares": [1] * self.silos, "baselines": {"constant": 1.0}}
