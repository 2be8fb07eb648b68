"""Which layer costs how much: each one alone quantised, and each one alone left in float."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgeflock.calibration.observe import OnProgress
from edgeflock.export.graph import predict
from edgeflock.export.quantise.forms import DQ, FORMS, Q, insert, prepare, quantisable
from edgeflock.export.recipe import Answers

if TYPE_CHECKING:
    from onnxruntime.quantization.calibrate import TensorsData

Score = Callable[[Answers], float]
"""The task's metric of the answers to the samples that `sensitivity` gets."""

_BEST_DB = 200.0  # an error of 0, as a number that JSON has


@dataclass(frozen=True)
class Sensitivity:
    """What one layer does to the answers."""

    node: str
    op: str
    sqnr_db: float
    """Of the answers where of all layers only this one is quantised, in dB; of several outputs the worst."""
    score: float | None = None
    """The task's metric then."""
    gain_db: float | None = None
    """By how much the answers of the form get better where this layer alone is left in float, in dB."""


def sensitivity(
    fp32: onnx.ModelProto,
    ranges: TensorsData,
    form: str,
    feeds: Mapping[str, np.ndarray],
    keep_float: Collection[str] = (),
    *,
    score: Score | None = None,
    on_progress: OnProgress | None = None,
) -> list[Sensitivity]:
    """Quantise each layer alone. SQNR is the figure to compare: rounding can lower an error by luck.

    Parameters
    ----------
    fp32, ranges, form, keep_float
        As for `edgeflock.export.quantise.forms.quantize`.
    feeds : mapping
        Calibration samples, (N, ...) by input; those of the gate stay out of decisions. The net runs N times for every
        layer: 16 samples tell the layers apart.
    score : callable, optional
        Task metric of the answers to `feeds`.
    on_progress : callable, optional
        Gets how many layers are done, of how many, and the name of the layer.

    Returns
    -------
    list of Sensitivity
        In the order of the graph. Operators that only hand integers on (`Form.followers`) are no layers; in `int8-qnn`
        every operator is one.
    """
    source = prepare(fp32, form)
    reference = predict(fp32, feeds)
    rows = []
    nodes = layers(source, form, keep_float)
    for i, node in enumerate(nodes):
        others = [other.name for other in nodes if other is not node]
        alone = quantisable(source, form, [*keep_float, *others]) if FORMS[form].layers else [node.name]
        answers = predict(insert(source, ranges, form, alone), feeds)
        rows.append(
            Sensitivity(node.name, node.op_type, sqnr_db(reference, answers), score(answers) if score else None)
        )
        if on_progress:
            on_progress(i + 1, len(nodes), node.name)
    return rows


def float_gains(
    rows: list[Sensitivity],
    fp32: onnx.ModelProto,
    ranges: TensorsData,
    form: str,
    feeds: Mapping[str, np.ndarray],
    keep_float: Collection[str] = (),
    *,
    on_progress: OnProgress | None = None,
) -> list[Sensitivity]:
    """The same table with `gain_db`: leave each layer alone in float, with all others quantised.

    It sees what a layer does together with the others, and costs more time than `sensitivity`: the whole net is
    quantised anew for every layer.
    """
    source = prepare(fp32, form)
    reference = predict(fp32, feeds)

    def quality(kept: Collection[str]) -> float:
        nodes = quantisable(source, form, [*keep_float, *kept])
        return sqnr_db(reference, predict(insert(source, ranges, form, nodes), feeds))

    whole, measured = quality([]), []
    for i, row in enumerate(rows):
        measured.append(replace(row, gain_db=quality([row.node]) - whole))
        if on_progress:
            on_progress(i + 1, len(rows), row.node)
    return measured


def layers(source: onnx.ModelProto, form: str, keep_float: Collection[str] = ()) -> list[onnx.NodeProto]:
    """Nodes of a prepared net that a form quantises for their own sake."""
    chosen, kinds = set(quantisable(source, form, keep_float)), FORMS[form].layers_of(source.graph)
    return [node for node in source.graph.node if node.name in chosen and (not kinds or node.op_type in kinds)]


def scores(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Answers as `predict` gives them, but of outputs that saturate what goes into their Softmax or Sigmoid.

    Where nearly all probabilities are 0 or 1, their error is that of a few samples, and by luck of none.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made_by = {name: node for node in made.graph.node for name in node.output}
    inner: dict[str, str] = {}
    for value in made.graph.output:
        node = made_by.get(value.name)
        while node is not None and node.op_type in (Q, DQ):
            node = made_by.get(node.input[0])
        saturates = node is not None and node.op_type in ("Softmax", "Sigmoid") and node.input[0] not in inner.values()
        inner[value.name] = node.input[0] if node is not None and saturates else value.name
        value.name = inner[value.name]
    found = predict(made, feeds)
    return {name: found[tensor] for name, tensor in inner.items()}


def sqnr_db(reference: Answers, got: Answers) -> float:
    """10 log10 of mean(reference^2) / mean((got - reference)^2), of several outputs the smallest, at most 200."""
    worst = _BEST_DB
    for name, expected in reference.items():
        # One sample after the other: float64 of sixteen dense flows would take gigabytes.
        signal = sum(float(np.sum(np.square(one, dtype=np.float64))) for one in expected)
        noise = sum(
            float(np.sum(np.square(np.subtract(one, other, dtype=np.float64))))
            for one, other in zip(expected, got[name], strict=True)
        )
        if noise > 0:
            worst = min(worst, 10 * float(np.log10(signal / noise)) if signal > 0 else -_BEST_DB)
    return worst
