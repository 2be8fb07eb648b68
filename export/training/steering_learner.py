"""Steering as a fleet's task: every silo learns from the frames of its own places."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.export.datasets import SteeringDataset, concatenate, open_dataset
from edgeflock.export.datasets.splits import deal
from edgeflock.export.nets import STEERING_NETS
from edgeflock.export.training.augment import augment
from edgeflock.export.training.batch_norm import flat_layout, flat_model
from edgeflock.export.training.driving import baselines, describe, predict, to_input
from edgeflock.export.training.learner import NetLearner
from edgeflock.export.training.run import build_net
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.learner import LearningTask
from edgeflock.runtime.preprocess import crop_200

Batch = tuple[Tensor, Tensor]
"""Images float32 (N, 1, 200, 200) and angles float32 (N, 1)."""


class SteeringTask(LearningTask):
    """A fleet learns steering angles from recorded frames, in any format of docs/data.md."""

    metric: ClassVar[str] = "rmse"
    best: ClassVar[Literal["lowest", "highest"]] = "lowest"
    unit: ClassVar[str] = "rad"

    net: str = Field("fadnet", description="one of edgeflock.export.nets.STEERING_NETS")
    augment: bool = True

    def start(self) -> np.ndarray:
        """Flat start model."""
        net = self._net()
        return flat_model(net, flat_layout(net, self.batch_norm, self.layers))

    def learner(self, silo: int) -> NetLearner:
        """The learner of one silo."""
        return self._learner(silo, self._shares()[silo])

    def central(self) -> NetLearner:
        """One learner with all frames; a step follows the mean gradient of as many batches as there are silos."""
        return self._learner(self.silos, np.sort(np.concatenate(self._shares())), self.silos)

    def describe(self) -> dict[str, Any]:
        """Data, frames per silo and baselines."""
        data, validation = training(self.data, self.samples), read(self.val)
        return {
            "data": {"train": describe(data), "val": describe(validation)},
            "shares": [
                {
                    "samples": len(share),
                    "groups": sorted({data.group_names[g] for g in data.groups[share]}),
                    "mean_rad": float(data.angles[share].mean()),
                }
                for share in self._shares()
            ],
            "baselines": baselines(data.angles, validation.angles, self.seed),
        }

    def _net(self) -> nn.Module:
        return build_net(self.net, STEERING_NETS, self.init, self.seed)

    def _shares(self) -> list[np.ndarray]:
        data = training(self.data, self.samples)
        return deal(self.split, data.angles, data.groups, self.silos, self.batch, self.seed)

    def _learner(self, stream: int, share: np.ndarray, parts: int = 1) -> NetLearner:
        data, validation = training(self.data, self.samples), read(self.val)
        labels = torch.from_numpy(validation.angles)

        def draw(indices: np.ndarray, rng: np.random.Generator) -> Batch:
            images, angles = np.empty((len(indices), 200, 200), np.uint8), np.empty((len(indices), 1), np.float32)
            for i, at in enumerate(indices):
                images[i], angles[i] = (
                    augment(data.frames[at], float(data.angles[at]), rng)
                    if self.augment
                    else (crop_200(data.frames[at]), data.angles[at])
                )
            return to_input(images, device), torch.from_numpy(angles).to(device)

        net = self._net()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return NetLearner(
            self,
            net,
            stream,
            share,
            parts,
            draw,
            loss=lambda net, batch: F.mse_loss(net(batch[0]).float(), batch[1]),
            figures=lambda net: {"rmse": float((predict(net, validation).double() - labels).square().mean().sqrt())},
            inputs=lambda batch: batch[0],
        )


@cache  # one reading for all silos of a process
def read(paths: tuple[Path, ...]) -> SteeringDataset:
    """Data sets joined."""
    if not paths:
        raise InputError("steering needs recorded frames: pass --data and --val, any format of docs/data.md.")
    return concatenate([open_dataset(path) for path in paths])


@cache
def training(paths: tuple[Path, ...], most: int | None) -> SteeringDataset:
    """Data sets joined, at most so many frames, evenly from all."""
    data = read(paths)
    return data if most is None or most >= len(data) else data.take(np.arange(most) * len(data) // most)
