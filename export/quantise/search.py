"""As few layers as possible in float, so that the gate holds (like NNCF's `quantize_with_accuracy_control`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgeflock.calibration.observe import OnProgress
from edgeflock.export.quantise.forms import FORMS, quantize
from edgeflock.export.quantise.sensitivity import Score, Sensitivity, float_gains, sensitivity
from edgeflock.export.recipe import Judgement

if TYPE_CHECKING:
    from onnxruntime.quantization.calibrate import TensorsData

TRIALS = 48
"""Gate runs of one search after which no layer is given back any more. Doubling and bisecting two rankings of 64 layers
takes 24."""


@dataclass(frozen=True)
class Step:
    """One candidate that the gate judged."""

    kept: list[str]
    """Layers in float."""
    passed: bool
    value: float
    """The task's metric."""


@dataclass(frozen=True)
class SearchResult:
    """What came out.

    Attributes
    ----------
    model : onnx.ModelProto
        What passed; where nothing did, the fully quantised form.
    kept : list of str
        Layers in float; none of them can be quantised without failing the gate, unless `TRIALS` ran out.
    judgement : Judgement
        Of `model`.
    table : list of Sensitivity
        In the order of the graph; empty where nothing was quantised, or nothing could be given back and need not be.
    steps : list of Step
        Every candidate that was judged.
    """

    model: onnx.ModelProto
    kept: list[str]
    judgement: Judgement
    table: list[Sensitivity]
    steps: list[Step] = field(default_factory=list)


def search(
    fp32: onnx.ModelProto,
    ranges: TensorsData,
    form: str,
    passes: Callable[[onnx.ModelProto], Judgement],
    feeds: Mapping[str, np.ndarray],
    keep_float: Collection[str] = (),
    *,
    score: Score | None = None,
    blame: bool = True,
    on_progress: OnProgress | None = None,
) -> SearchResult:
    """Quantise what the form allows; where the gate refuses, leave the most sensitive layers in float until it holds.

    Layers are ranked twice: by what each costs alone, and by what the answers gain where it alone stays in float. The
    first sees a tensor that two layers share, which is rounded as long as one of them is quantised; the second sees
    errors that cancel. From the start of each ranking layers are left in float, twice as many until the gate holds and
    then bisected; of the shorter list each layer is tried in INT8 again. `int8-qnn` must not hold float: there
    the result is what the gate says of the whole, with the table that names the layers to blame where it refuses.

    Parameters
    ----------
    fp32, ranges, form, keep_float
        As for `edgeflock.export.quantise.forms.quantize`.
    passes : callable
        The gate.
    feeds, score
        As for `edgeflock.export.quantise.sensitivity.sensitivity`.
    blame : bool
        Whether the table is made where the gate refuses a form that may hold no float.
    on_progress : callable, optional
        Gets how much of a phase is done, of how much, and what it is at.

    Returns
    -------
    SearchResult
        Its judgement fails where no choice of layers helps.

    Raises
    ------
    GateError
        The net cannot take this form at all.
    """
    say = on_progress or (lambda done, total, text: None)
    trials = _Trials(lambda kept: quantize(fp32, ranges, form, [*keep_float, *kept]), passes, say)
    whole, must_not = trials.run([]), not FORMS[form].layers
    if must_not and (whole.passed or not blame):  # every operator would be a layer of the table
        return trials.result([], [])
    table = sensitivity(fp32, ranges, form, feeds, keep_float, score=score, on_progress=on_progress)
    if whole.passed or must_not:
        return trials.result([], table)
    table = float_gains(table, fp32, ranges, form, feeds, keep_float, on_progress=on_progress)
    by_cost, by_gain = (
        [row.node for row in sorted(table, key=key)]
        for key in (lambda row: row.sqnr_db, lambda row: (-(row.gain_db or 0), row.sqnr_db))
    )
    found = [kept for kept in (_shortest(order, trials) for order in (by_cost, by_gain)) if kept is not None]
    return trials.result(_give_back(min(found, key=len), trials) if found else [], table)


def _shortest(order: list[str], trials: _Trials) -> list[str] | None:
    """Fewest layers from the start of a ranking with which the gate holds; at least one layer stays in INT8."""
    failed, count = 0, 1
    while count < len(order) and not trials.run(order[:count]).passed:
        failed, count = count, min(2 * count, max(len(order) - 1, count + 1))
    if count >= len(order):
        return None
    while count - failed > 1:
        middle = (failed + count) // 2
        if trials.run(order[:middle]).passed:
            count = middle
        else:
            failed = middle
    return order[:count]


def _give_back(kept: list[str], trials: _Trials) -> list[str]:
    """Quantise again what the gate does not need in float, until no single layer can be given back."""
    changed = True
    while changed:
        changed = False
        for node in reversed(kept):
            fewer = [other for other in kept if other != node]
            if fewer and trials.left > 0 and trials.run(fewer).passed:
                kept, changed = fewer, True
    return kept


class _Trials:
    """Candidates and what the gate said of them; none is judged twice."""

    def __init__(
        self,
        build: Callable[[list[str]], onnx.ModelProto],
        passes: Callable[[onnx.ModelProto], Judgement],
        say: OnProgress,
    ) -> None:
        self._build, self._passes, self._say = build, passes, say
        self._seen: dict[frozenset[str], Judgement] = {}
        self._steps: list[Step] = []

    @property
    def left(self) -> int:
        """Gate runs that may still be spent, below 0 where the rankings took more."""
        return TRIALS - len(self._seen)

    def run(self, kept: list[str]) -> Judgement:
        """What the gate says with these layers in float."""
        key = frozenset(kept)
        if key not in self._seen:
            self._say(len(self._seen), TRIALS, f"gate with {len(kept)} layers in float")
            self._seen[key] = judgement = self._passes(self._build(kept))
            self._steps.append(Step(sorted(kept), judgement.passed, judgement.value))
        return self._seen[key]

    def result(self, kept: list[str], table: list[Sensitivity]) -> SearchResult:
        """The candidate with these layers in float."""
        order = [row.node for row in table]
        return SearchResult(
            self._build(kept), sorted(kept, key=order.index), self._seen[frozenset(kept)], table, self._steps
        )
