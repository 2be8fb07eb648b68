"""What the export has to know of a net: what goes in and out, real samples, and what a good answer is.

One recipe per task, in `export/recipes`; `export/pipeline.py` makes a bundle of any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx
from pydantic import Field

from edgeflock.calibration.ranges import Method
from edgeflock.calibration.shared import Shared
from edgeflock.export.graph import PARITY, ExportedNet, predict
from edgeflock.runtime.bundle.manifest import GateReport, InputSpec, OutputSpec, TrainedCamera, Training
from edgeflock.runtime.errors import InputError

if TYPE_CHECKING:
    from torch import nn

Answers = Mapping[str, np.ndarray]
"""Output name to (N, ...)."""


@dataclass(frozen=True)
class Samples:
    """Inputs as the net takes them, and what is known of them.

    Attributes
    ----------
    feeds : mapping
        Input name to (N, ...), the values that the net takes; any dtype, cast to float32 when fed.
    labels : mapping
        What the judge compares with, each (N, ...).
    names : sequence of str
        One per sample, for messages.
    digest : str
        SHA-256 of the data, hex.
    """

    feeds: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    names: Sequence[str]
    digest: str

    def __post_init__(self) -> None:
        lengths = {name: len(array) for name, array in {**self.feeds, **self.labels, "names": self.names}.items()}
        if len(set(lengths.values())) != 1:
            raise InputError(f"samples need as many of each as of every other, got {lengths}.")

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: Sequence[int] | np.ndarray) -> Samples:
        """The samples at these indices."""
        return Samples(
            {name: array[indices] for name, array in self.feeds.items()},
            {name: array[indices] for name, array in self.labels.items()},
            [self.names[i] for i in indices],
            self.digest,
        )

    def spread(self, count: int) -> Samples:
        """At most `count` samples, evenly from the first to the last."""
        return self.take(np.unique(np.linspace(0, len(self) - 1, count).astype(int)))


class Judgement(GateReport):
    """What the task's metric says of a net's answers; `export_bundle` fills in precision, data and samples.

    A manifest keeps of it what `GateReport` has.
    """

    precision: str = ""
    data: str = ""
    samples: int = 0
    worst: list[str] = Field(default_factory=list, exclude=True)
    """The samples that went worst, one line each, for the error."""
    options: list[str] = Field(default_factory=list, exclude=True)
    """Of the command line, for each criterion the one that sets its limit, "" for none."""


@dataclass(frozen=True)
class Recipe:
    """Everything about one net that the pipeline needs.

    Attributes
    ----------
    task, name, net : str
        Task of the bundle, its name, and the key of `NETS`.
    module : nn.Module or ExportedNet
        With its weights, on the CPU; takes the inputs in the order of `inputs`.
    inputs, outputs : sequence
        As the manifest describes them.
    validation : Samples
        Neither training nor calibration saw them; the gate judges on them.
    calibration : Samples or None
        Training samples, from which the quantised forms get their ranges; chosen by coverage.
    judge : callable
        (answers of fp32, answers of the candidate, validation) -> Judgement.
    references : sequence of int
        Which validation samples become the reference vectors.
    answers : callable
        (graph, samples) -> what the judge gets; by default the graph's own answers to the samples.
    files, vectors : mapping
        What the bundle holds beside: files by name, and reference vectors by key.
    others : sequence of Shared
        Histograms of other robots, which calibration merges with its own.
    keep_float : tuple of str
        Operator types or node names that stay float in `int8` and `int8-trt`.
    rewrite : callable, optional
        Exact rewrite of the graph before it becomes `int8` or `int8-qnn`, for operators that CPUs and NPUs have no
        integer kernel for.
    parity : float
        How far, of an answer or 1, a graph that is rewritten for a form may be from the net that it was.
    method : str or None
        How the ranges of the quantised forms are found unless told otherwise; None: by the method that answers
        calibration samples best.
    default_precision : str or None
        What the bundle uses unless told otherwise; None: int8 where it passes the gate, else fp32.
    training : Training
        How the weights came about, as the manifest keeps it.
    trained_camera : TrainedCamera, optional
        That the training frames came from, as the manifest keeps it.
    """

    task: str
    name: str
    net: str
    module: nn.Module | ExportedNet
    inputs: Sequence[InputSpec]
    outputs: list[OutputSpec]
    validation: Samples
    calibration: Samples | None
    judge: Callable[[Answers, Answers, Samples], Judgement]
    references: Sequence[int] | np.ndarray
    answers: Callable[[onnx.ModelProto, Samples], Answers] = lambda model, samples: predict(model, samples.feeds)
    files: Mapping[str, bytes] = field(default_factory=dict)
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    others: Sequence[Shared] = ()
    keep_float: tuple[str, ...] = ()
    rewrite: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None
    parity: float = PARITY
    method: Method | None = "entropy"
    default_precision: str | None = "int8"
    training: Training = field(default_factory=Training)
    trained_camera: TrainedCamera | None = None
