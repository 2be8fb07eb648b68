"""Steering as a fleet's task: every silo learns from the frames of its own places."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from edgeflock.export.datasets import SteeringDataset, concatenate, open_dataset
from edgeflock.export.datasets.base import check_each_once
from edgeflock.export.datasets.splits import deal
from edgeflock.export.fleet.learners.base import TorchTask
from edgeflock.export.fleet.learners.lessons import Lessons
from edgeflock.export.training.config import SteeringConfig
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.frame import STEERING_INPUT
from edgeflock.runtime.tasks.steering import STEERING_OUTPUT

if TYPE_CHECKING:
    from torch import nn


class SteeringTask(TorchTask):
    """A fleet learns steering angles from recorded frames, in any format of docs/data.md."""

    metric: ClassVar[str] = "rmse"
    best: ClassVar[Literal["lowest", "highest"]] = "lowest"
    unit: ClassVar[str] = "rad"

    net: str = Field("fadnet", description="one of edgeflock.export.nets.STEERING_NETS")
    split: str = Field("environment", description="environment, sign, dirichlet:ALPHA or iid")
    augment: bool = True

    def build(self) -> nn.Module:
        """The net that all start from."""
        from edgeflock.export.nets import STEERING_NETS
        from edgeflock.export.training.loop.run import build_net

        return build_net(self.net, STEERING_NETS, self.init, self.seed)

    def shares(self) -> list[np.ndarray]:
        """Indices of every silo's frames."""
        data = training(self.data, self.samples)
        return deal(self.split, data.angles, data.groups, self.silos, self.batch, self.seed)

    def lessons(self) -> Lessons:
        """Mean squared error on the angle."""
        import torch

        from edgeflock.export.training.methods.steering import make_batch, rmse, squared_error, to_input

        data, validation = training(self.data, self.samples), read(self.val)
        config = SteeringConfig(augment=self.augment)
        return Lessons(
            draw=lambda chosen, rng: make_batch(data, config, chosen, rng),
            loss=squared_error,
            figures=lambda net: {"rmse": rmse(net, validation)},
            inputs=lambda batch: to_input(batch[0], torch.device("cpu")),
        )

    def graph(self, net: nn.Module) -> bytes:
        """The net as ONNX, compared with torch on held-out frames."""
        from edgeflock.export.onnx import export_net
        from edgeflock.export.recipes.steering import samples

        judged = samples(read(self.val))
        return export_net(self.net, net, [STEERING_INPUT], [STEERING_OUTPUT], judged).graph()

    def describe(self) -> dict[str, Any]:
        """Data, frames per silo and baselines."""
        from edgeflock.export.training.methods.steering import baselines, describe

        check_each_once(*self.data, *self.val)
        data, validation = training(self.data, self.samples), read(self.val)
        return {
            "data": {"train": describe(data), "val": describe(validation)},
            "shares": [
                {
                    "samples": len(share),
                    "groups": sorted({data.group_names[g] for g in data.groups[share]}),
                    "mean_rad": float(data.angles[share].mean()),
                }
                for share in self.shares()
            ],
            "baselines": baselines(data.angles, validation.angles, self.seed),
        }


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
