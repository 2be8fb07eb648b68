"""What a learner in torch needs of its task: the net, how it is learnt, and its form as ONNX. Without torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeflock.runtime.fleet.learner import LearningTask

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Lessons:
    """How a net learns a task."""

    draw: Callable[[np.ndarray, np.random.Generator], Any]
    """A batch of the samples at these indices; what is random in it comes from the generator alone."""
    loss: Callable[[nn.Module, Any], Tensor]
    """Net and batch to the scalar to minimise."""
    figures: Callable[[nn.Module], dict[str, float]]
    """Net in evaluation mode to figures on the validation data."""
    inputs: Callable[[Any], Tensor]
    """Batch to the net's first argument, to re-estimate batch statistics."""


class NetTask(LearningTask):
    """A task for a net of torch."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The net that all start from."""

    @abstractmethod
    def lessons(self) -> Lessons:
        """How it is learnt."""

    def graph(self, net: nn.Module) -> bytes:
        """The net in evaluation mode as ONNX for a bundle; empty where the task makes no bundles on a robot."""
        return b""
