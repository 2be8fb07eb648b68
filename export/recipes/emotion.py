"""Recipe of the emotion nets: what a face is to them, and when a quantised one still reads it like its original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from edgeflock.calibration.frames import representative
from edgeflock.export.datasets.emotion import EmotionDataset, open_emotion
from edgeflock.export.nets import EMOTION_NETS
from edgeflock.export.nets.glamor import CONTEXT, Glamor
from edgeflock.export.recipe import Answers, Judgement, Recipe, Samples
from edgeflock.export.recipes.limits import EmotionLimits
from edgeflock.export.training.loop.checkpoint import load_checkpoint
from edgeflock.runtime.bundle.manifest import Criterion, OutputSpec, Training
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.tasks.emotion import attention_output, probabilities_output

REFERENCES = 8
"""Reference vectors in a bundle; they are float32 images, 0.6 MB each for the largest net."""

KEEP_FLOAT = ("Softmax", "/attention/Conv_1", "/face_weight", "/context_weight")
"""GLAMOR-Net's attention and fusion: their scores are few, go through an exponential, and cost next to nothing."""

LEAD = 0.05
"""Of a probability: where the two most probable emotions are closer, their order means nothing and is not counted."""


RENDERED = 504
"""Rendered images that the gate judges unless told otherwise."""


def emotion_recipe(
    weights: Path,
    validation: Path | None = None,
    calibration: Path | None = None,
    *,
    net: str | None = None,
    samples: int | None = None,
    calibration_samples: int = 128,
    limits: EmotionLimits | None = None,
    precision: str = "int8",
    batch: int = 1,
    training: Training | None = None,
    console: Console | None = None,
) -> Recipe:
    """Recipe of a trained emotion net.

    Parameters
    ----------
    weights : Path
        `.safetensors`, torch file, or the authors' Keras variables as `.npz`; the net is recognised by its tensors.
    validation, calibration : Path, optional
        Data sets as `open_emotion` takes them (docs/emotion-data.md): images that training did not see, which the gate
        judges, and training images, from which the quantised forms get their ranges. Without `validation` both are
        rendered, that is synthetic; own images are never mixed with rendered ones.
    net : str, optional
        Key of `NETS` that the weights must belong to.
    samples : int, optional
        How many images the gate judges: rendered ones exactly (`RENDERED`), of a data set at most (all).
    calibration_samples : int
        How many calibration images are used; chosen by coverage of emotion and brightness.
    limits : EmotionLimits, optional
    precision : str
        What the bundle uses unless told otherwise.
    batch : int
        Faces that the net reads at once.
    training : Training, optional
        How the weights came about.
    console : Console, optional
        Shows the progress.

    Raises
    ------
    InputError, DataError
        What is wrong with weights or images.
    """
    name, module = load_checkpoint(weights)
    if name not in EMOTION_NETS or net not in (None, name):
        raise InputError(f"{weights} holds a {name}, expected {net or 'one of ' + ', '.join(EMOTION_NETS)}.")
    if validation is None and calibration is not None:
        raise InputError("own calibration images need own validation images: rendered ones would judge another net.")
    judged = open_emotion(module, validation, "val", samples or (RENDERED if validation is None else None), console)
    if len(np.unique(judged.labels)) < 2:
        raise InputError(f"the gate needs images of at least 2 emotions, {judged.source} are all of one.")
    seen = None
    if validation is None or calibration is not None:
        rendered = 4 * calibration_samples if calibration is None else None
        seen = open_emotion(module, calibration, "train", rendered, console)
    limits = limits or EmotionLimits()
    return Recipe(
        task="emotion",
        name=f"emotion-{name}",
        net=name,
        module=module,
        inputs=[spec.model_copy(update={"shape": (batch, *spec.shape[1:])}) for spec in judged.specs],
        outputs=outputs(module, batch),
        validation=to_samples(judged),
        calibration=to_samples(seen, _covering(seen, calibration_samples)) if seen else None,
        judge=lambda fp32, candidate, on: judge(fp32, candidate, on, limits),
        references=_covering(judged, REFERENCES).tolist(),
        keep_float=KEEP_FLOAT if isinstance(module, Glamor) else ("Softmax",),
        method="minmax",  # 41.1 dB on FER ResNet-18, entropy 38.6; int8-qnn of GLAMOR-Net needs it to pass
        default_precision=precision,
        training=training or Training(),
    )


def outputs(net: Any, batch: int = 1) -> list[OutputSpec]:
    """What an emotion net gives, as the manifest describes it."""
    specs = [probabilities_output(net.labels, batch)]
    if isinstance(net, Glamor):
        cells = -(-CONTEXT // net.stride)
        specs.append(attention_output(cells, cells, batch))
    return specs


def to_samples(data: EmotionDataset, index: np.ndarray | None = None) -> Samples:
    """Examples, or those at an index, as the net takes them, with `emotion` (N,) as an index into its labels."""
    index = np.arange(len(data)) if index is None else index
    names = [data.names[i] for i in index]
    return Samples(data.feeds(index), {"emotion": data.labels[index]}, names, data.digest())


def judge(fp32: Answers, candidate: Answers, faces: Samples, limits: EmotionLimits) -> Judgement:
    """Let a net pass only if it names and weighs emotions like its original, and far better than no net at all."""
    labels = faces.labels["emotion"]
    reference, got = (answers["probabilities"].astype(np.float64) for answers in (fp32, candidate))
    named, named_fp32 = got.argmax(1), reference.argmax(1)
    distance = np.abs(got - reference).sum(1) / 2
    second, first = np.partition(reference, -2)[:, -2:].T
    leading = first - second >= LEAD
    right, right_fp32, count = int(np.sum(named == labels)), int(np.sum(named_fp32 == labels)), len(labels)
    constant = float(np.bincount(labels).max() / count)
    return Judgement(
        metric="accuracy",
        unit="",
        value=right / count,
        fp32=right_fp32 / count,
        constant=constant,
        criteria=[
            Criterion(
                name="drop of the accuracy below fp32", value=(right_fp32 - right) / count, limit=limits.max_drop
            ),
            Criterion(
                name=f"share of fp32's labels kept where they lead by {LEAD}",
                value=float((named == named_fp32)[leading].sum() / max(leading.sum(), 1)),
                at="least",
                limit=limits.min_agreement,
            ),
            Criterion(
                name="mean total variation distance from fp32", value=float(distance.mean()), limit=limits.max_distance
            ),
            Criterion(
                name="error as a share of the constant predictor's",
                value=(1 - right / count) / (1 - constant),
                limit=limits.max_ratio,
            ),
        ],
        options=["--max-drop", "--min-agreement", "--max-distance", ""],
        worst=[
            f"{faces.names[i]}: emotion {labels[i]}, fp32 {named_fp32[i]} ({reference[i].max():.2f}), "
            f"got {named[i]} ({got[i].max():.2f})"
            for i in np.argsort(-distance)[:3]
        ],
    )


def _covering(data: EmotionDataset, count: int) -> np.ndarray:
    """Indices that cover emotions and brightness."""
    features = np.stack([data.labels, data.face.reshape(len(data), -1).mean(1)], 1)
    return representative(features, count, (len(data.classes), 4))
