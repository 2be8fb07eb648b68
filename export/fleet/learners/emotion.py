"""Emotions as a fleet's task: every robot learns from the people that it meets, the head of its net or all of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from edgeflock.export.datasets.emotion import EmotionDataset, open_emotion
from edgeflock.export.datasets.splits import deal
from edgeflock.export.fleet.learners.base import TorchTask
from edgeflock.export.fleet.learners.lessons import Lessons
from edgeflock.export.nets import EMOTION_NETS, NETS
from edgeflock.export.training.config import EmotionConfig
from edgeflock.export.training.methods.emotion import (
    Batch,
    accuracy,
    baselines,
    cross_entropy,
    describe,
    make_batch,
    start_net,
)
from edgeflock.runtime.errors import InputError

RENDERED = {"train": 1400, "val": 280}


class EmotionTask(TorchTask):
    """A fleet learns emotions from faces, in any layout of docs/emotion-data.md; without data from rendered ones.

    `layers="fc"` trains and exchanges the head of LDLVA's nets alone (3,591 of ResNet-18's 11 million numbers) and
    keeps what a trained trunk (`init`) sees; '' is the whole net.
    """

    metric: ClassVar[str] = "accuracy"
    best: ClassVar[Literal["lowest", "highest"]] = "highest"

    net: str = Field("fer-resnet18", description="one of edgeflock.export.nets.EMOTION_NETS")
    split: str = Field("dirichlet:0.5", description="dirichlet:ALPHA by emotion, or iid")
    size: int | None = Field(None, ge=32, le=512, description="side of the faces, for a quick start on small ones")

    def build(self) -> nn.Module:
        """The net that all start from."""
        if self.net not in EMOTION_NETS:
            raise InputError(f"unknown emotion net {self.net!r}: choose one of {', '.join(EMOTION_NETS)}.")
        return start_net(self.net, self.init, self.seed)

    def shares(self) -> list[np.ndarray]:
        """Indices of every silo's images."""
        if self.split == "environment":
            raise InputError(
                "images of emotions do not say where they were taken: split them by dirichlet:ALPHA or iid."
            )
        data = self._images("train")
        return deal(self.split, data.labels, np.zeros(len(data), int), self.silos, self.batch, self.seed)

    def lessons(self) -> Lessons:
        """Cross-entropy on the emotion."""
        data, validation = self._images("train"), self._images("val")
        config = EmotionConfig(net=self.net, size=self.size, batch=self.batch)

        def draw(indices: np.ndarray, rng: np.random.Generator) -> Batch:
            return make_batch(data, config, indices, rng)

        def inputs(batch: Batch) -> Tensor:
            if len(batch[0]) > 1:
                raise InputError(f"{self.net} takes a context too: statistics can only be averaged or local.")
            return torch.from_numpy(batch[0][0])

        return Lessons(draw, cross_entropy, lambda net: {"accuracy": accuracy(net, validation, self.size)}, inputs)

    def describe(self) -> dict[str, Any]:
        """Data, images per silo and emotion, baselines."""
        training, validation = self._images("train"), self._images("val")

        def counted(share: np.ndarray) -> dict[str, int]:
            count = np.bincount(training.labels[share], minlength=len(training.classes))
            return dict(zip(training.classes, count.tolist(), strict=True))

        return {
            "data": {"train": describe(training), "val": describe(validation)},
            "shares": [counted(share) for share in self.shares()],
            "baselines": baselines(validation),
        }

    def _images(self, split: str) -> EmotionDataset:
        paths = self.data if split == "train" else self.val
        if len(paths) > 1:
            raise InputError(f"emotions are learnt from one data set, got {len(paths)}.")
        if bool(self.data) != bool(self.val):
            raise InputError("training and validation data go together: name both, or none for rendered images.")
        count = self.samples if split == "train" else None
        return read(self.net, paths, split, count if paths else count or RENDERED[split])


@cache  # one reading, or rendering, for all silos of a process
def read(net: str, paths: tuple[Path, ...], split: str, count: int | None) -> EmotionDataset:
    """Images as a net takes them."""
    return open_emotion(NETS[net](), paths[0] if paths else None, split, count)
