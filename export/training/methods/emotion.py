"""Emotion nets by cross-entropy, the common start of LDLVA and GLAMOR-Net."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.export.datasets.emotion import EmotionDataset, open_emotion, scaled
from edgeflock.export.nets import EMOTION_NETS, NETS
from edgeflock.export.nets.glamor import CONTEXT
from edgeflock.export.nets.resnet import load_trunk
from edgeflock.export.training.config import EmotionConfig, EmotionSource
from edgeflock.export.training.loop.checkpoint import read_state
from edgeflock.export.training.loop.metric import Metric
from edgeflock.export.training.loop.run import Run, build_net, prefetched
from edgeflock.export.training.methods.augment import relight
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.prepare.face import CONTEXT_CROP

EVAL_BATCH = 32
PAD = 8  # of the face before its random crop (code of arXiv 2209.10448)


Batch = tuple[list[np.ndarray], np.ndarray]


def train_emotion(
    config: EmotionConfig,
    training: EmotionDataset,
    validation: EmotionDataset,
    out: str | Path,
    *,
    net: nn.Module | None = None,
    init: str | Path | None = None,
    fresh: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Train a net to tell emotions apart; goes on where an interrupted run in `out` stopped (see `Run`).

    Parameters
    ----------
    config : EmotionConfig
    training, validation : EmotionDataset
        Prepared for this net.
    net : nn.Module, optional
        To train in place of a new one from `config.net`, which then only names it.
    init : str or Path, optional
        Weights to start from: of the same net (see `load_checkpoint`), or of a torchvision ResNet for its trunks.
    out, fresh, command
        See `Run.train`.

    Returns
    -------
    dict
        As in `result.json`; `figures` has the accuracy on the validation set, of the net (best epoch), of the most
        frequent class and of chance.

    Raises
    ------
    InputError
        Unknown net, data prepared for another net, start weights of another net, `out` holds a run with other settings
        or data, or the loss is NaN.
    DataError
        Too little data, unreadable weights or checkpoint.
    """
    net = start_net(config.net, init, config.seed) if net is None else net
    check_data(net, config, training, validation)
    steps = len(training) // config.batch
    run = Run.start(config, net, steps, {"train": describe(training), "val": describe(validation)}, init)

    def validate(net: nn.Module) -> dict[str, float]:
        return {"accuracy": accuracy(net, validation, config.size)}

    return run.train(
        out,
        Metric("accuracy", "highest", baselines(validation)),
        lambda epoch: _batches(training, config, epoch, steps),
        cross_entropy,
        validate,
        fresh=fresh,
        command=command,
    )


def start_net(name: str, init: str | Path | None, seed: int) -> nn.Module:
    """New emotion net, with the weights of a file of the same net, or of a torchvision ResNet in its trunks."""
    state = read_state(Path(init)) if init is not None else {}
    if "layer1.0.conv1.weight" not in state:
        return build_net(name, EMOTION_NETS, init, seed)
    net = build_net(name, EMOTION_NETS, None, seed)
    load_trunk(net, state)
    return net


def check_data(net: nn.Module, config: EmotionConfig, training: EmotionDataset, validation: EmotionDataset) -> None:
    """Refuse data with less than a batch (`DataError`) or with other classes than the net's (`InputError`)."""
    for what, data, least in (("training", training, config.batch), ("validation", validation, 1)):
        if len(data) < least:
            raise DataError(f"the {what} data must have at least {least} images, one batch, got {len(data)}.")
        if data.classes != tuple(net.labels):  # type: ignore[arg-type]  # every emotion net has them
            raise InputError(f"the {what} data has the classes {data.classes}, {config.net} has {net.labels}.")


def open_both(net: str, source: EmotionSource, console: Console) -> tuple[EmotionDataset, EmotionDataset]:
    """Training and validation images, prepared for a net (see `open_emotion`) and told apart.

    Raises
    ------
    InputError, DataError
        See `open_emotion` and `told_apart`.
    """
    training = open_emotion(NETS[net](), source.data, "train", source.samples, console)
    return training, told_apart(training, open_emotion(NETS[net](), source.val, "val", console=console))


def told_apart(training: EmotionDataset, validation: EmotionDataset) -> EmotionDataset:
    """Validation data whose source says how many of its images are training images too; `InputError` if all are."""

    def looks(data: EmotionDataset) -> list[int]:
        parts = [data.face] if data.context is None else [data.face, data.context]
        return [hash(tuple(image.tobytes() for image in images)) for images in zip(*parts, strict=True)]

    seen = set(looks(training))
    both = sum(look in seen for look in looks(validation))
    if both == len(validation):
        raise InputError(
            f"training and validation images are the same ({validation.source}), so no figure would say how good the "
            "net is: name other images for one of --data and --val."
        )
    return replace(validation, source=f"{validation.source}; {both} are training images too") if both else validation


def cross_entropy(net: nn.Module, batch: Batch) -> Tensor:
    """Mean loss of a batch, which may still be on the CPU."""
    inputs, labels = batch
    device = next(net.parameters()).device
    images = [torch.from_numpy(array).to(device, memory_format=torch.channels_last) for array in inputs]
    return F.cross_entropy(logits(net, images).float(), torch.from_numpy(labels).to(device))


def baselines(validation: EmotionDataset) -> dict[str, float]:
    """Accuracy of naming the most frequent class, and of chance."""
    counts = np.bincount(validation.labels, minlength=len(validation.classes))
    return {"constant": float(counts.max() / counts.sum()), "chance": 1 / len(validation.classes)}


def logits(net: nn.Module, inputs: list[Tensor]) -> Tensor:
    """Scores (N, classes) before the softmax, of any emotion net."""
    scores = net.logits(*inputs)  # type: ignore[operator]
    return scores[0] if isinstance(scores, tuple) else scores


def predict(net: nn.Module, data: EmotionDataset, size: int | None = None) -> Tensor:
    """Probabilities float32 (N, classes) of a net in evaluation mode, with faces of `size` instead of the net's own."""
    device = next(net.parameters()).device
    parts = []
    with torch.inference_mode():
        for start in range(0, len(data), EVAL_BATCH):
            feeds = data.feeds(slice(start, start + EVAL_BATCH))
            inputs = [torch.from_numpy(array).to(device) for array in feeds.values()]
            if size is not None:
                inputs[0] = F.interpolate(inputs[0], (size, size), mode="bilinear", antialias=True)
            parts.append(logits(net, inputs).softmax(1).cpu())
    return torch.cat(parts)


def accuracy(net: nn.Module, data: EmotionDataset, size: int | None = None) -> float:
    """Share of the examples that a net in evaluation mode names right, with faces of `size` as in `predict`."""
    return float((predict(net, data, size).argmax(1).numpy() == data.labels).mean())


def _batches(data: EmotionDataset, config: EmotionConfig, epoch: int, steps: int) -> Iterator[Batch]:
    """Inputs as the net takes them and labels int64 (batch,)."""
    order = np.random.default_rng([config.seed, epoch]).permutation(len(data))

    def make(step: int) -> Batch:
        rng = np.random.default_rng([config.seed, epoch, step])
        return make_batch(data, config, order[step * config.batch : (step + 1) * config.batch], rng)

    return prefetched(make, steps)


def make_batch(data: EmotionDataset, config: EmotionConfig, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
    """Inputs as the net takes them and labels int64 (batch,) of the chosen examples."""
    faces = [resized(data.face[i], config.size) for i in chosen]
    seen = mismatched(chosen, config.mismatch, rng) if config.mismatch else chosen
    contexts = [data.context[i] for i in seen] if data.context is not None else None
    if config.augment and config.light:
        frames = zip(faces, contexts, strict=True) if contexts is not None else zip(faces, strict=True)
        faces, *rest = (list(parts) for parts in zip(*(relight(frame, rng) for frame in frames), strict=True))
        contexts = rest[0] if rest else None
    if config.augment:
        faces = [augment_face(face, rng, config.erase) for face in faces]
    images = [faces]
    if contexts is not None:
        images.append([crop_context(context, rng if config.augment else None) for context in contexts])
    inputs = [scaled(np.stack(batch), spec) for batch, spec in zip(images, data.specs, strict=True)]
    return inputs, data.labels[chosen]


def mismatched(chosen: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Whose context each sample of a batch (n,) gets: its own, or, of a share, that of any in the batch."""
    return np.where(rng.random(len(chosen)) < share, rng.permutation(chosen), chosen)


def augment_face(face: np.ndarray, rng: np.random.Generator, erase: bool = True) -> np.ndarray:
    """Mirror and turn by up to 20 degrees (`minhnhatvt/glamor-net`): uint8 (size, size, 3), newly made.

    With `erase` also shift by up to `PAD` and erase a part (4.2). Black comes in where the face moved away.
    """
    size = len(face)
    turn = cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), rng.uniform(-20, 20), 1)
    if erase:
        turn[:, 2] = turn[:, 2] + rng.uniform(-PAD, PAD, 2) * size / 224
    face = cv2.warpAffine(face[:, ::-1] if rng.random() < 0.5 else face, turn, (size, size))
    if erase and rng.random() < 0.5:
        area, aspect = rng.uniform(0.02, 0.3) * size * size, np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
        height, width = (min(size, int(np.sqrt(area * ratio)) + 1) for ratio in (aspect, 1 / aspect))
        y, x = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
        face[y : y + height, x : x + width] = rng.integers(0, 256, (height, width, 3), np.uint8)
    return face


def crop_context(context: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """112x112 of a 128x171 context: the centre, or with chance anywhere and mirrored."""
    if rng is None:
        return context[CONTEXT_CROP]
    y, x = (int(rng.integers(0, whole - CONTEXT + 1)) for whole in context.shape[:2])
    crop = context[y : y + CONTEXT, x : x + CONTEXT]
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def resized(face: np.ndarray, size: int | None) -> np.ndarray:
    """A face with another side; None leaves it."""
    return face if size is None else cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA)


def describe(data: EmotionDataset) -> dict[str, Any]:
    """What a result says of a data set."""
    return {"images": len(data), "source": data.source, "synthetic": data.synthetic, "sha256": data.digest()}
