"""What a silo does between two exchanges: the one seam between a fleet and the nets that it trains.

The fleet sees flat float32 models and figures. What trains them is a task, found by the name of its family
(`edgeflock.runtime.tasks.family`), so that this side needs no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.tasks.family import extra_of, families, part


class Learner(Protocol):
    """One silo's own net, optimiser and data."""

    @property
    def size(self) -> int:
        """Length d of the flat model: what is exchanged and mixed."""

    def model(self) -> np.ndarray:
        """Copy of the flat model, float32 (d,)."""

    def load(self, model: np.ndarray) -> None:
        """Go on from this flat model, float32 (d,). The optimiser's state stays: it is the silo's own."""

    def train(self, round_: int, steps: int) -> float:
        """Local steps of one round; returns their mean loss, NaN or infinity where training broke.

        What is drawn (batches, augmentation, dropout) depends on the task's seed, the silo and the round alone.
        """

    def evaluate(self, model: np.ndarray) -> dict[str, float]:
        """Figures of any flat model on the task's validation data, the task's `metric` among them.

        The silo's own model and training are left as they are.
        """

    def weights(self, model: np.ndarray) -> dict[str, np.ndarray]:
        """The whole net of any flat model by tensor names, as the export takes it; what is not mixed is the silo's."""

    def graph(self, model: np.ndarray) -> bytes:
        """The whole net of any flat model as ONNX, for a bundle that is made without torch; empty: none is made."""

    def state(self) -> dict[str, np.ndarray]:
        """What else is needed to go on after a crash: optimiser, and buffers that are not mixed."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what `state` gave."""


class LearningTask(BaseModel, ABC):
    """What a fleet learns: settings and data, from which every silo's learner is made.

    Light and picklable: it travels to workers in other processes and on other machines, which call `learner` there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: ClassVar[str]
    """Name of the figure that tells how good a model is."""
    best: ClassVar[Literal["lowest", "highest"]]
    unit: ClassVar[str] = ""

    silos: int = Field(ge=1)
    net: str = Field(description="Net, by the name that `edgeflock train` has for it.")
    data: tuple[Path, ...] = Field((), description="Training data, dealt to the silos.")
    val: tuple[Path, ...] = Field((), description="Validation data, the same for all.")
    split: str = Field(
        description="How data is dealt to the silos: environment, sign, dirichlet:ALPHA or iid; default: the task's."
    )
    batch: int = Field(8, ge=2, description="Samples per local step.")  # at least 2, for batch normalisation
    lr: float = Field(1e-3, ge=1e-9, description="Learning rate of Adam.")
    batch_norm: str = Field("average", description="Statistics: average, local or re-estimate.")
    layers: str = Field("", description="Train and exchange only layers whose names begin so, as head.")
    samples: int | None = Field(None, ge=1, description="At most so many training samples, evenly from all.")
    bf16: bool = Field(True, description="bfloat16 convolutions while training, where the processor has them.")
    init: Path | None = Field(None, description="Start weights, the same for all.")
    seed: int = Field(0, ge=0, description="Of weights, shares, batches and augmentation.")

    @abstractmethod
    def start(self) -> np.ndarray:
        """Flat model, float32 (d,), that all silos start from."""

    @abstractmethod
    def learner(self, silo: int) -> Learner:
        """The learner of one silo, 0 .. silos - 1.

        Raises
        ------
        InputError, DataError
            What is wrong with settings or data.
        """

    @abstractmethod
    def central(self) -> Learner:
        """One learner with the data of all silos, whose steps follow the mean gradient of `silos` batches."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a run keeps beside the settings, as plain JSON values.

        Keys: "data" {"train": {"sha256", ...}, "val": {...}}, "shares" (samples per silo), "baselines" (the metric of
        answers that need no net, by name; "constant" among them).
        """


def learning_task(name: str) -> type[LearningTask]:
    """Find a task by name.

    Raises
    ------
    InputError
        There is none of this name.
    MissingExtra
        It needs packages that are not installed.
    """
    found = {name: family.learner for name, family in families().items() if family.learner}
    if name not in found:
        raise InputError(f"no learning task '{name}': expected one of {', '.join(sorted(found)) or 'none installed'}.")
    with needs(f"learning '{name}'", extra_of(found[name])):
        kind = part(found[name])
    return kind
