"""Supervised steering: mean squared error on the angle, the centralised training of the FADNet post."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.export.datasets.base import SteeringDataset
from edgeflock.export.nets import STEERING_NETS
from edgeflock.export.training.config import SteeringConfig
from edgeflock.export.training.loop.metric import Metric
from edgeflock.export.training.loop.run import Run, build_net, prefetched
from edgeflock.export.training.methods.augment import augment
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.prepare.frame import crop_200

EVAL_BATCH = {"cpu": 16, "cuda": 256}
"""On CPUs half the time of 256: activations above 32 MB are given back to the system after every layer."""


Batch = tuple[np.ndarray, np.ndarray]
"""Images uint8 (N, 200, 200) and angles float32 (N,)."""


def train_steering(
    config: SteeringConfig,
    training: SteeringDataset,
    validation: SteeringDataset,
    out: str | Path,
    *,
    init: str | Path | None = None,
    fresh: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Train a net to steer; goes on where an interrupted run in `out` stopped (see `Run`).

    Parameters
    ----------
    config : SteeringConfig
    training, validation : SteeringDataset
    init : str or Path, optional
        Weights to start from (see `load_checkpoint`), of the same net.
    out, fresh, command
        See `Run.train`.

    Returns
    -------
    dict
        As in `result.json`; `figures` has the RMSE over the whole validation set in rad, of the net (best epoch), of a
        random training label and of the constant mean training label.

    Raises
    ------
    InputError
        Unknown net, start weights of another net, `out` holds a run with other settings or data, or the loss is NaN.
    DataError
        Too little data, unreadable weights or checkpoint.
    """
    net = build_net(config.net, STEERING_NETS, init, config.seed)
    for what, data, least in (("training", training, config.batch), ("validation", validation, 1)):
        if len(data) < least:
            raise DataError(f"the {what} data must have at least {least} frames, one batch, got {len(data)}.")
    steps = len(training) // config.batch
    run = Run.start(config, net, steps, {"train": describe(training), "val": describe(validation)}, init)
    return run.train(
        out,
        Metric("rmse", "lowest", baselines(training.angles, validation.angles, config.seed), "rad"),
        lambda epoch: _batches(training, config, epoch, steps),
        squared_error,
        lambda net: {"rmse": rmse(net, validation)},
        fresh=fresh,
        command=command,
    )


def squared_error(net: nn.Module, batch: Batch) -> Tensor:
    """Mean loss of a batch, which may still be on the CPU."""
    images, angles = batch
    device = next(net.parameters()).device
    return F.mse_loss(net(to_input(images, device)).float(), torch.from_numpy(angles)[:, None].to(device))


def rmse(net: nn.Module, data: SteeringDataset) -> float:
    """Error in rad of a net in evaluation mode over all frames of a data set."""
    return float((predict(net, data).double() - torch.from_numpy(data.angles)).square().mean().sqrt())


def predict(net: nn.Module, data: SteeringDataset) -> Tensor:
    """Steering angles float32 (N,) in rad that a net in evaluation mode gives for all frames of a data set."""
    device = next(net.parameters()).device
    angles, count = [], EVAL_BATCH[device.type]
    with torch.inference_mode():
        for start in range(0, len(data), count):
            images = np.stack([crop_200(frame) for frame in data.frames[start : start + count]])
            angles.append(net(to_input(images, device)).squeeze(1).cpu())
    return torch.cat(angles)


def _batches(data: SteeringDataset, config: SteeringConfig, epoch: int, steps: int) -> Iterator[Batch]:
    order = np.random.default_rng([config.seed, epoch]).permutation(len(data))

    def make(step: int) -> Batch:
        chosen = order[step * config.batch : (step + 1) * config.batch]
        return make_batch(data, config, chosen, np.random.default_rng([config.seed, epoch, step]))

    return prefetched(make, steps)


def make_batch(data: SteeringDataset, config: SteeringConfig, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
    """Batch of the chosen frames; what is random in it comes from the generator alone."""
    images, angles = np.empty((len(chosen), 200, 200), np.uint8), np.empty(len(chosen), np.float32)
    for i, frame in enumerate(chosen):
        images[i], angles[i] = (
            augment(data.frames[frame], float(data.angles[frame]), rng, config.shift)
            if config.augment
            else (crop_200(data.frames[frame]), data.angles[frame])
        )
    return images, angles


def describe(data: SteeringDataset) -> dict[str, Any]:
    """What a run's result says of a data set."""
    return {
        "frames": len(data),
        "groups": sorted(set(data.group_names)),
        "synthetic": data.synthetic,
        "sha256": data.digest(),
    }


def baselines(training: np.ndarray, validation: np.ndarray, seed: int) -> dict[str, float]:
    """RMSE of predicting a random training label, and the mean training label."""
    guess = np.random.default_rng(seed).choice(training, len(validation))
    return {
        "random": float(np.sqrt(np.mean((guess.astype(np.float64) - validation) ** 2))),
        "constant": float(np.sqrt(np.mean((training.mean(dtype=np.float64) - validation) ** 2))),
    }


def to_input(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (N, 200, 200) -> float32 (N, 1, 200, 200)."""
    return torch.from_numpy(images)[:, None].to(device).float()
