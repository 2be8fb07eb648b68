"""Recipe of a net of one's own: what its samples are, and when a quantised one still answers like its original."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import numpy_helper

from edgeflock.calibration.frames import representative
from edgeflock.export.foreign.frames import LABEL
from edgeflock.export.foreign.graph import PARITY, deviation, framed, outputs_of
from edgeflock.export.foreign.meaning import Taken
from edgeflock.export.foreign.source import Source, file_name, imported
from edgeflock.export.graph import ExportedNet, predict
from edgeflock.export.recipe import Answers, Judgement, Recipe, Samples
from edgeflock.export.recipes.limits import NetLimits
from edgeflock.export.recipes.steering import rise_of_rmse, rmse_of
from edgeflock.runtime.bundle.manifest import Criterion, OutputSpec, Training
from edgeflock.runtime.errors import InputError

METRICS = ("agreement", "accuracy", "rmse", "miou")
REFERENCES = 4
"""Reference vectors in a bundle."""
PARITY_SAMPLES = 16
SHARE = 0.05
"""Of an output's largest value: how far another engine may be from a quantised form's reference answers. A rounding
step that falls the other way now and then stays far below; a net that saturates does not (docs/decisions/0002)."""

IGNORED = 255
"""Label of a pixel that does not count."""

Score = Callable[[Answers, Mapping[str, np.ndarray]], float]
"""Answers and labels to a figure, the higher the better."""


def generic_recipe(
    source: Source,
    inputs: Sequence[Taken],
    validation: Samples,
    calibration: Samples | None,
    *,
    name: str | None = None,
    metric: str = "agreement",
    limits: NetLimits | None = None,
    precision: str | None = None,
) -> Recipe:
    """Recipe of a net from elsewhere.

    Parameters
    ----------
    source : Source
    inputs : sequence of Taken
    validation, calibration : Samples
        Samples that the gate judges, and others from which the quantised forms get their ranges (None: no INT8).
    name : str, optional
        Of the net, by default the source's.
    metric : str
        One of `METRICS`, or "module:function" of a `Score`.
    limits : NetLimits, optional
    precision : str, optional
        What the bundle uses unless told otherwise; None: int8 where it passes the gate, else fp32.

    Raises
    ------
    InputError, ParityError
        Labels are missing, all samples are answered alike, or the graph for boards is another net.
    """
    name = file_name(name or source.name)
    exported = exported_net(name, source, inputs, validation)
    answers = predict(exported.model, validation.feeds)
    judge = judge_of(metric, answers, validation, limits or NetLimits())
    features = np.stack([a.reshape(len(validation), -1).mean(1, dtype=np.float64) for a in answers.values()], 1)
    return Recipe(
        task="generic",
        name=name,
        net=name,
        module=exported,
        inputs=[taken.spec for taken in inputs],
        outputs=output_specs(exported, answers),
        validation=validation,
        calibration=calibration,
        judge=judge,
        references=representative(features, REFERENCES, (4,) * features.shape[1]),
        keep_float=("Softmax", "Sigmoid"),  # few values that go through an exponential, and cost next to nothing
        parity=PARITY,
        method=None,
        default_precision=precision,
        training=Training(),
    )


def exported_net(name: str, source: Source, inputs: Sequence[Taken], samples: Samples) -> ExportedNet:
    """Graph for boards of a net, proven on some samples to be the same net."""
    model = framed(source.model, inputs)
    some = samples.spread(PARITY_SAMPLES)
    got, worst = predict(model, some.feeds), 0.0
    for i, sample in enumerate(some.names):
        expected = source.answer({t.spec.name: t.for_net(some.feeds[t.spec.name][i]) for t in inputs})
        for output, value in expected.items():
            worst = max(worst, deviation(got[output][i].reshape(value.shape), value, f"{output} for {sample}"))
    state = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return ExportedNet(name, model, state, worst, len(some))


def output_specs(net: ExportedNet, answers: Answers) -> list[OutputSpec]:
    """Outputs as the manifest describes them, their tolerance from what fp32 answers."""
    return [
        OutputSpec(
            name=name,
            shape=shape,
            dtype=dtype,
            unit="",
            tolerance=float(np.abs(answers[name]).max(initial=0)) * (SHARE if dtype.startswith("float") else 1),
        )
        for name, (shape, dtype) in outputs_of(net.model).items()
    ]


def judge_of(
    metric: str, fp32: Answers, samples: Samples, limits: NetLimits
) -> Callable[[Answers, Answers, Samples], Judgement]:
    """The judge that a metric names.

    Raises
    ------
    InputError
        It needs labels that the samples do not have, or there is no such metric.
    """
    if all(np.ptp(value, axis=0).max(initial=0) == 0 for value in fp32.values()):
        raise InputError(
            f"the net answers all {len(samples)} validation samples alike: name other --val samples, or check --scale, "
            "--mean and --color."
        )
    if metric == "agreement":
        return lambda reference, got, on: agreement(reference, got, on, limits)
    if metric == "accuracy":
        return lambda reference, got, on: accuracy(reference, got, on, limits)
    if metric == "rmse":
        return lambda reference, got, on: rmse(reference, got, on, limits)
    if metric == "miou":
        return lambda reference, got, on: miou(reference, got, on, limits)
    if ":" in metric:
        score = imported(metric, "module:function that takes answers and labels by name and gives a number")
        return lambda reference, got, on: scored(reference, got, on, limits, score, metric)
    raise InputError(f"expected --metric {', '.join(METRICS)} or module:function, got {metric!r}.")


@dataclass(frozen=True)
class _Output:
    """How far one output is from fp32's."""

    name: str
    sqnr: float
    cosine: float | None
    """None for a single number, of which it is the sign."""
    ratio: float
    """Root mean square of the error by that of fp32 around its mean answer: 1 is as bad as the best constant."""
    top1: float | None
    apart: np.ndarray
    """(N,) of each sample."""


def _compare(name: str, reference: np.ndarray, got: np.ndarray) -> _Output:
    count = len(reference)
    a, b = (array.reshape(count, -1).astype(np.float64) for array in (reference, got))
    noise, signal = np.square(a - b).sum(), np.square(a).sum()
    spread = np.square(a - a.mean(0)).sum()
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.where(lengths > 0, (a * b).sum(1) / np.maximum(lengths, 1e-30), (a == b).all(1))
    classes = a.shape[1] > 1 and reference.size == count * reference.shape[-1]
    return _Output(
        name=name,
        sqnr=float(np.clip(10 * np.log10(signal / noise), -100, 200)) if noise and signal else 200.0 * (not noise),
        cosine=float(cosine.mean()) if a.shape[1] > 1 else None,
        ratio=float(np.sqrt(noise / spread)) if spread else 0.0,
        top1=float((a.argmax(1) == b.argmax(1)).mean()) if classes else None,
        apart=np.linalg.norm(a - b, axis=1),
    )


def agreement(fp32: Answers, candidate: Answers, samples: Samples, limits: NetLimits) -> Judgement:
    """Let a net pass only if every output is near fp32's, and far nearer than a constant answer."""
    outputs = [_compare(name, fp32[name], candidate[name]) for name in fp32]
    worst = max(outputs, key=lambda output: output.ratio)
    criteria, options = _near_fp32(outputs, limits)
    return Judgement(
        metric="error, relative to fp32's spread",
        value=worst.ratio,
        fp32=0.0,
        constant=1.0,
        criteria=[*criteria, Criterion(name="error by a constant answer's", value=worst.ratio, limit=limits.max_ratio)],
        options=[*options, "--max-ratio"],
        worst=_worst(samples, worst),
    )


def accuracy(fp32: Answers, candidate: Answers, samples: Samples, limits: NetLimits) -> Judgement:
    """Let a net pass only if it names classes as often as fp32, and far more often than one answer would."""
    name = next(iter(fp32))
    labels, count = labels_of(samples, LABEL, "accuracy").astype(int).reshape(-1), len(samples)
    output = _compare(name, fp32[name], candidate[name])
    if output.top1 is None or labels.min() < 0 or labels.max() >= fp32[name].shape[-1]:
        raise InputError(
            f"--metric accuracy: expected a first output of a value per class and labels below that, got {name} "
            f"{list(fp32[name].shape)} and labels {labels.min()}..{labels.max()}: use --metric module:function."
        )
    right, right_fp32 = (
        float((answers[name].reshape(count, -1).argmax(1) == labels).mean()) for answers in (candidate, fp32)
    )
    constant = float(np.bincount(labels).max() / count)
    if constant == 1:
        raise InputError("--metric accuracy needs samples of at least 2 classes, these are all of one.")
    ratio = (1 - right) / (1 - constant)
    return Judgement(
        metric="accuracy",
        value=right,
        fp32=right_fp32,
        constant=constant,
        criteria=[
            Criterion(name="drop of the accuracy below fp32", value=right_fp32 - right, limit=limits.max_drop),
            Criterion(name="share of fp32's classes kept", value=output.top1, at="least", limit=limits.min_top1),
            Criterion(name="error by a constant answer's", value=ratio, limit=limits.max_ratio),
        ],
        options=["--max-drop", "--min-top1", "--max-ratio"],
        worst=_worst(samples, output),
    )


def miou(fp32: Answers, candidate: Answers, samples: Samples, limits: NetLimits) -> Judgement:
    """Let a net pass only if the classes of its pixels cover those of the labels as well as fp32's do.

    The first output has a score per class, (N, C, H, W); labels are (N, H, W) class numbers, 255 where nothing counts.
    The figure is the mean over the classes that occur of intersection over union, all samples together.
    """
    name, count = next(iter(fp32)), len(samples)
    labels, reference = labels_of(samples, LABEL, "miou").astype(int), fp32[name]
    if reference.ndim != 4 or labels.shape != (count, *reference.shape[2:]):
        raise InputError(
            f"--metric miou: expected a first output (N, C, H, W) and labels (N, H, W) of its size, got {name} "
            f"{list(reference.shape)} and labels {list(labels.shape)}: resize them, or use --metric module:function."
        )
    classes, counts = reference.shape[1], labels != IGNORED
    if labels[counts].size == 0 or labels[counts].max() >= classes or labels.min() < 0:
        raise InputError(f"--metric miou: expected labels 0..{classes - 1} or {IGNORED}, got others or none.")
    got, got_fp32 = (_miou(answers[name].argmax(1)[counts], labels[counts], classes) for answers in (candidate, fp32))
    constant = max(_miou(np.full(counts.sum(), k), labels[counts], classes) for k in np.unique(labels[counts]))
    ratio = (1 - got) / (1 - constant) if constant < 1 else 1.0
    return Judgement(
        metric="mIoU",
        value=got,
        fp32=got_fp32,
        constant=constant,
        criteria=[
            Criterion(name="drop of the mIoU below fp32", value=got_fp32 - got, limit=limits.max_drop),
            Criterion(name="error by a constant answer's", value=ratio, limit=limits.max_ratio),
        ],
        options=["--max-drop", "--max-ratio"],
        worst=_worst(samples, _compare(name, reference, candidate[name])),
    )


def _miou(named: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Mean intersection over union of the classes that occur in either."""
    pairs = np.bincount(labels * classes + named, minlength=classes**2).reshape(classes, classes)
    both, union = pairs.diagonal(), pairs.sum(0) + pairs.sum(1) - pairs.diagonal()
    return float((both[union > 0] / union[union > 0]).mean())


def rmse(fp32: Answers, candidate: Answers, samples: Samples, limits: NetLimits) -> Judgement:
    """Let a net pass only if its error is fp32's, and far below that of the best constant answer."""
    name = next(iter(fp32))
    known = [key for key in (name, "angle", LABEL) if key in samples.labels]
    labels = labels_of(samples, known[0] if known else name, "rmse").astype(np.float64).reshape(len(samples), -1)
    if labels[0].size != fp32[name][0].size:
        raise InputError(
            f"--metric rmse: expected labels of the {fp32[name][0].size} values of {name}, got {labels[0].size} each."
        )
    got, got_fp32 = (rmse_of(answers[name].reshape(labels.shape), labels) for answers in (candidate, fp32))
    constant = rmse_of(labels.mean(0), labels)
    if not constant:
        raise InputError("--metric rmse needs samples whose labels differ, these are all alike.")
    output = _compare(name, fp32[name], candidate[name])
    return Judgement(
        metric="RMSE",
        value=got,
        fp32=got_fp32,
        constant=constant,
        criteria=[
            rise_of_rmse(got, got_fp32, limits.max_rise),
            Criterion(name="RMSE by a constant answer's", value=got / constant, limit=limits.max_ratio),
        ],
        options=["--max-rise", "--max-ratio"],
        worst=_worst(samples, output),
    )


def scored(
    fp32: Answers, candidate: Answers, samples: Samples, limits: NetLimits, score: Score, metric: str
) -> Judgement:
    """Let a net pass only if a figure of one's own is fp32's, and better than that of the mean answer."""
    mean = {name: np.broadcast_to(value.mean(0, keepdims=True), value.shape) for name, value in fp32.items()}
    got, got_fp32, constant = (float(score(answers, samples.labels)) for answers in (candidate, fp32, mean))
    outputs = [_compare(name, fp32[name], candidate[name]) for name in fp32]
    return Judgement(
        metric=metric.partition(":")[2],
        value=got,
        fp32=got_fp32,
        constant=constant,
        criteria=[
            Criterion(name=f"drop of {metric} below fp32", value=got_fp32 - got, limit=limits.max_drop),
            Criterion(name=f"{metric} above the mean answer's", value=got - constant, at="least", limit=0.0),
        ],
        options=["--max-drop", ""],
        worst=_worst(samples, max(outputs, key=lambda output: output.ratio)),
    )


def _near_fp32(outputs: Sequence[_Output], limits: NetLimits) -> tuple[list[Criterion], list[str]]:
    criteria, options = [], []
    for i, o in enumerate(outputs):
        for what, value, limit, unit, option in (
            ("SQNR", o.sqnr, limits.min_sqnr, "dB", "--min-sqnr"),
            ("mean cosine to fp32", o.cosine, limits.min_cosine, "", "--min-cosine"),
            ("share of fp32's classes kept", None if i else o.top1, limits.min_top1, "", "--min-top1"),
        ):
            if value is not None:
                criteria.append(Criterion(name=f"{what}, {o.name}", value=value, at="least", limit=limit, unit=unit))
                options.append(option)
    return criteria, options


def _worst(samples: Samples, output: _Output) -> list[str]:
    order = np.argsort(-output.apart)[:3]
    return [f"{samples.names[i]}: {output.name} off by {output.apart[i]:.3g}" for i in order]


def labels_of(samples: Samples, name: str, metric: str) -> np.ndarray:
    """Labels of a name that a metric needs; InputError where the samples have none."""
    if name not in samples.labels:
        raise InputError(
            f"--metric {metric} needs labels {name!r} of the --val samples, got {', '.join(samples.labels) or 'none'}: "
            f"an array of that name in the npz, a column of labels.csv beside the pictures, or a folder per class. "
            "--metric agreement needs none."
        )
    return samples.labels[name]
