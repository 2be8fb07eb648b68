"""Nets of torch as learners of a fleet: what a task has to say. Torch itself is imported where a net is built.

The process that talks to the other robots holds a task and never its net; only the learner's process has torch.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from edgeflock.export.fleet.learners.lessons import NetTask
from edgeflock.runtime.fleet.learner import Learner


class TorchTask(NetTask):
    """A task for a net of torch: what it is and what its data are is the subclass's, how silos learn it is here."""

    @abstractmethod
    def shares(self) -> list[np.ndarray]:
        """Indices of every silo's training samples."""

    def start(self) -> np.ndarray:
        """Flat start model."""
        from edgeflock.export.fleet.learners.flat import flat_layout, flat_model

        net = self.build()
        return flat_model(net, flat_layout(net, self.batch_norm, self.layers))

    def learner(self, silo: int) -> Learner:
        """The learner of one silo."""
        from edgeflock.export.fleet.learners.net import NetLearner

        return NetLearner(self, silo, self.shares()[silo])

    def central(self) -> Learner:
        """One learner with all samples; a step follows the mean gradient of as many batches as there are silos."""
        from edgeflock.export.fleet.learners.net import NetLearner

        return NetLearner(self, self.silos, np.sort(np.concatenate(self.shares())), self.silos)
