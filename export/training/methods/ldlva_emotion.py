"""Expression nets by LDLVA: which labels of a face data set to doubt, learnt together with the net."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from edgeflock.export.datasets.emotion import EmotionDataset, scaled
from edgeflock.export.nets.resnet import FEATURES
from edgeflock.export.training.config import LdlvaConfig
from edgeflock.export.training.loop.metric import Metric
from edgeflock.export.training.loop.run import Run, prefetched
from edgeflock.export.training.methods.augment import relight
from edgeflock.export.training.methods.emotion import (
    accuracy,
    augment_face,
    baselines,
    check_data,
    describe,
    resized,
    start_net,
)
from edgeflock.export.training.methods.ldlva import Ldlva, LdlvaSettings, Released, area_under_roc, flip
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import write_atomically

LDLVA_NETS = ("fer-resnet18", "fer-resnet50")
SHOWN = 6  # rows of the picture of the uncertainties
THUMBNAIL = 96

METHODS: dict[str, tuple[type[Ldlva], LdlvaSettings]] = {
    "post": (Ldlva, LdlvaSettings()),
    "released": (Released, LdlvaSettings()),
    "released-affectnet": (Released, LdlvaSettings(start=-0.8, momentum=0.9, balanced=True)),
}

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows int64 (B,), their faces float32 (B, 3, h, w), and their neighbours' (B * K, 3, h, w)."""


def train_ldlva(
    config: LdlvaConfig,
    training: EmotionDataset,
    validation: EmotionDataset,
    out: str | Path,
    *,
    init: str | Path | None = None,
    fresh: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Train an expression net on uncertain labels; goes on where an interrupted run in `out` stopped (see `Run`).

    Beside what every run writes, `method.safetensors` has uncertainties (`doubt`, before the sigmoid, in the order of
    the training data), calibration and centres of the best epoch; `uncertainty.csv` lists every training image with its
    label and uncertainty after the last epoch, the most doubtful first, and `uncertainty.jpg` shows some of them.

    Parameters
    ----------
    config : LdlvaConfig
    training, validation : EmotionDataset
        Prepared for this net; the training data with valence and arousal of every image.
    init : str or Path, optional
        Weights to start from: of the same net (see `load_checkpoint`), or of a torchvision ResNet for its trunk.
    out, fresh, command
        See `Run.train`.

    Returns
    -------
    dict
        As in `result.json`; `figures` has the accuracy on the validation set, the mean `uncertainty`, and with noise
        its area under the ROC curve for telling flipped labels from given ones, `uncertainty_auc`.

    Raises
    ------
    InputError
        Unknown net, data prepared for another net, start weights of another net, `out` holds a run with other settings
        or data, or the loss is NaN.
    DataError
        Too little data, images without valence and arousal, unreadable weights or checkpoint.
    """
    if config.net not in LDLVA_NETS:
        raise InputError(f"LDLVA trains {' or '.join(LDLVA_NETS)}, got {config.net!r}.")
    net = start_net(config.net, init, config.seed)
    check_data(net, config, training, validation)
    affect = known_affect(training)
    given = training.labels
    labels = flip(given, len(training.classes), config.noise, config.seed)
    training = replace(training, labels=labels)
    kind, settings = METHODS[config.preset]
    method = kind(torch.from_numpy(affect), torch.from_numpy(labels), len(training.classes), FEATURES, settings)
    near = method.neighbours.numpy()
    described = {"train": describe(training), "val": describe(validation)}
    described["train"]["sha256"] = hashlib.sha256(described["train"]["sha256"].encode() + affect.tobytes()).hexdigest()
    steps = len(training) // config.batch
    run = Run.start(config, net, steps, described, init, method, method.optimisers())
    device = next(net.parameters()).device

    def loss(net: nn.Module, batch: Batch) -> Tensor:
        index, faces, others = (torch.from_numpy(array).to(device) for array in batch)
        with torch.no_grad():
            v_near, scores_near = answers(net, others)
        v, scores = answers(net, faces)
        shape = (len(index), -1, v.shape[1])
        with torch.autocast(device.type, enabled=False):
            near = v_near.float().view(shape), scores_near.float().view(*shape[:2], scores.shape[1])
            return method(index, v.float(), scores.float(), *near)

    def validate(net: nn.Module) -> dict[str, float]:
        uncertainty = method.uncertainty.cpu().numpy()
        figures = {"accuracy": accuracy(net, validation, config.size), "uncertainty": float(uncertainty.mean())}
        if (flipped := labels != given).any():
            figures["uncertainty_auc"] = area_under_roc(uncertainty, flipped)
        return figures

    result = run.train(
        out,
        Metric("accuracy", "highest", baselines(validation)),
        lambda epoch: _batches(training, near, config, epoch, steps),
        loss,
        validate,
        fresh=fresh,
        command=command,
    )
    uncertainty = method.uncertainty.cpu().numpy()
    write_atomically(Path(out) / "uncertainty.csv", as_csv(training, uncertainty).encode())
    write_atomically(Path(out) / "uncertainty.jpg", picture(training, uncertainty))
    return result


def answers(net: nn.Module, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, V) and scores (N, 7) of an expression net."""
    v = net.features(faces.contiguous(memory_format=torch.channels_last))  # type: ignore[operator]
    return v, net.fc(v)  # type: ignore[operator]


def known_affect(data: EmotionDataset) -> np.ndarray:
    """Valence and arousal of every image, float32 (N, 2); DataError where they are missing."""
    missing = len(data) if data.affect is None else int(np.isnan(data.affect).any(1).sum())
    if data.affect is None or missing:
        raise DataError(
            f"{data.source}: LDLVA needs valence and arousal of every training image, {missing} of {len(data)} "
            "have none: estimate them with --affect MODEL.onnx (docs/ldlva.md)."
        )
    return data.affect


def as_csv(data: EmotionDataset, uncertainty: np.ndarray) -> str:
    """Table of all images with label and uncertainty, the most doubtful first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "label", "uncertainty"])
    for i in np.argsort(-uncertainty, kind="stable"):
        writer.writerow([data.names[i], data.classes[data.labels[i]], f"{uncertainty[i]:.6f}"])
    return text.getvalue()


def picture(data: EmotionDataset, uncertainty: np.ndarray) -> bytes:
    """JPEG as figure 4 of the post: a column per label, the most doubtful on top, the most certain below."""
    side, head = THUMBNAIL, 16
    sheet = np.full((head + SHOWN * (side + head), len(data.classes) * side, 3), 255, np.uint8)

    def write(text: str, x: int, y: int) -> None:
        cv2.putText(sheet, text, (x + 3, y + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)

    for column, name in enumerate(data.classes):
        write(name, column * side, 0)
        rows = np.flatnonzero(data.labels == column)
        ranked = rows[np.argsort(-uncertainty[rows], kind="stable")]
        shown = np.unique(np.linspace(0, max(len(ranked) - 1, 0), min(SHOWN, len(ranked))).round().astype(int))
        for line, i in enumerate(ranked[shown]):
            x, y = column * side, head + line * (side + head)
            face = cv2.resize(data.face[i], (side, side), interpolation=cv2.INTER_AREA)
            sheet[y : y + side, x : x + side] = face[:, :, ::-1]
            write(f"{uncertainty[i]:.2f}", x, y + side)
    return cv2.imencode(".jpg", sheet)[1].tobytes()


def _batches(data: EmotionDataset, near: np.ndarray, config: LdlvaConfig, epoch: int, steps: int) -> Iterator[Batch]:
    """Samples, augmented, and their neighbours as they are."""
    order = np.random.default_rng([config.seed, epoch]).permutation(len(data))

    def make(step: int) -> Batch:
        rng = np.random.default_rng([config.seed, epoch, step])
        chosen = order[step * config.batch : (step + 1) * config.batch]
        faces = [resized(data.face[i], config.size) for i in chosen]
        if config.augment and config.light:
            faces = [relight([face], rng)[0] for face in faces]
        if config.augment:
            faces = [augment_face(face, rng) for face in faces]
        others = [resized(data.face[i], config.size) for i in near[chosen].ravel()]
        return chosen, scaled(np.stack(faces), data.specs[0]), scaled(np.stack(others), data.specs[0])

    return prefetched(make, steps)
