"""The gate: what the task's metric says of each form of a net, its report, and the refusal that names the ways out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from edgeflock.export.quantise.forms import FORMS
from edgeflock.export.quantise.search import SearchResult
from edgeflock.export.recipe import Answers, Judgement, Recipe
from edgeflock.export.report import write_report
from edgeflock.runtime.errors import GateError


@dataclass
class Gate:
    """Judges the forms of a net on its validation samples, against what fp32 answers.

    Attributes
    ----------
    recipe : Recipe
    fp32 : onnx.ModelProto
    report : Path
        Folder that every verdict is written to.
    """

    recipe: Recipe
    fp32: onnx.ModelProto
    report: Path
    reference: Answers = field(init=False)

    def __post_init__(self) -> None:
        self.reference = self.recipe.answers(self.fp32, self.recipe.validation)

    @property
    def data(self) -> str:
        """The samples, as a manifest names them."""
        samples = self.recipe.validation
        return f"{len(samples)} samples, SHA-256 {samples.digest[:16]}"

    def judge(self, model: onnx.ModelProto) -> Judgement:
        """The task's verdict on a form.

        Raises
        ------
        GateError
            An answer is not a number; that is never judged.
        """
        samples = self.recipe.validation
        answers = self.reference if model is self.fp32 else self.recipe.answers(model, samples)
        for name, array in answers.items():
            finite = np.isfinite(array.reshape(len(array), -1)).all(1)
            if not finite.all():
                raise GateError(
                    f"the gate refuses the net: {name} is not finite for {samples.names[int(np.argmin(finite))]} "
                    f"and {(~finite).sum()} of {len(array)} samples; expected numbers."
                )
        return self.recipe.judge(self.reference, answers, samples)

    def let_through(self, precision: str, found: SearchResult) -> Judgement:
        """Write the report of a form.

        Returns
        -------
        Judgement
            As the manifest keeps it.

        Raises
        ------
        GateError
            It does not pass.
        """
        filled = {"precision": precision, "data": self.data, "samples": len(self.recipe.validation)}
        verdict = found.judgement.model_copy(update=filled)
        write_report(self.report, verdict, found)
        if not verdict.passed:
            raise GateError(_refusal(precision, verdict))
        return verdict


def summary(verdict: Judgement, kept: Sequence[str]) -> str:
    """One line of a form that passed."""
    figures = f"{verdict.metric} {verdict.value:.4f} {verdict.unit}".rstrip()
    against = f"fp32 {verdict.fp32:.4f}, constant {verdict.constant:.4f}"
    return f"{figures} ({against})" + (f", kept in float: {', '.join(kept)}" if kept else "")


def _refusal(precision: str, judgement: Judgement) -> str:
    failed = [i for i, criterion in enumerate(judgement.criteria) if not criterion.passed]
    limits = [judgement.options[i] for i in failed if i < len(judgement.options) and judgement.options[i]]
    ways = ["train longer"]
    if precision in FORMS:
        ways += ["calibrate with other samples (--calib) or another --method"]
    if precision != "fp32":
        ways += ["ship another --precision (--default names the one that is used)"]
    if limits:
        ways += [f"set {' and '.join(limits)} to what your data allows"]
    return (
        f"the gate refuses the {precision} net. {'. '.join(str(judgement.criteria[i]) for i in failed)}. "
        f"Worst samples: {'; '.join(judgement.worst)}. "
        f"{judgement.metric} {judgement.value:.4f} {judgement.unit}, fp32 {judgement.fp32:.4f}, constant predictor "
        f"{judgement.constant:.4f}. Way out: {', or '.join(ways)}."
    )
