"""Registration without labels, as VTN and LDR are trained: 1 - correlation, and smoothness (arXiv 1902.05020).

Segmentations are not trained on. Where the validation volumes have them, the Dice of the warped labels says which
weights are best, else the correlation of the warped images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.export.datasets.volumes import VolumeDataset
from edgeflock.export.nets import REGISTRATION_NETS
from edgeflock.export.nets.spatial import Cascade, jacobian_determinant, linear_part, warp
from edgeflock.export.nets.vtn import VTN, AffineStem
from edgeflock.export.training.config import RegistrationConfig
from edgeflock.export.training.loop.metric import Metric
from edgeflock.export.training.loop.run import Run, build_net, prefetched
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare import volume as volumes
from edgeflock.runtime.prepare.phantom import bspline_field


@dataclass(frozen=True)
class Batch:
    """Training pairs of one step.

    Attributes
    ----------
    fixed, moving : ndarray
        uint8 (N, S, S, S).
    bend : ndarray
        float32 (N, 3, size, size, size), voxels of the size that is trained at; moving is warped by it.
    pairs : list of (int, int)
        Indices of fixed and moving among the training volumes.
    step : int
        Number of the step since the start of the run, from 0.
    """

    fixed: np.ndarray
    moving: np.ndarray
    bend: np.ndarray
    pairs: list[tuple[int, int]]
    step: int


Loss = Callable[[nn.Module, Tensor, Tensor, Tensor, Batch], Tensor]
"""Net, fixed and bent moving image (N, 1, size, size, size) in 0..1, the bend, and the batch they are from."""


@dataclass(frozen=True)
class Lesson:
    """What a net is trained for, beside the images alone.

    Attributes
    ----------
    loss : callable
    pairs : list of (int, int), optional
        Training pairs, by default all.
    described : dict
        What the loss knows, with its "sha256", by a name; kept in the result and compared when a run goes on.
    method, own
        See `Run.start`.
    figures : callable
        Further figures of the epoch that is over.
    """

    loss: Loss
    pairs: list[tuple[int, int]] | None = None
    described: dict[str, dict[str, Any]] = field(default_factory=dict)
    method: nn.Module | None = None
    own: Sequence[torch.optim.Optimizer] = ()
    figures: Callable[[], dict[str, float]] = dict


def train_registration(
    config: RegistrationConfig,
    training: VolumeDataset,
    validation: VolumeDataset,
    out: str | Path,
    lesson: Lesson | None = None,
    *,
    init: str | Path | None = None,
    fresh: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Train a net to register; goes on where an interrupted run in `out` stopped (see `Run`).

    Parameters
    ----------
    config : RegistrationConfig
    training, validation : VolumeDataset
    out : str or Path
        See `Run.train`, as for `fresh` and `command`.
    lesson : Lesson, optional
        By default the images alone are learnt from.
    init : str or Path, optional
        Weights to start from (see `load_checkpoint`), of the same net.

    Returns
    -------
    dict
        As in `result.json`; `figures` of the best epoch are `dice` (where there are segmentations), `correlation`,
        `folded` (share of voxels whose Jacobian determinant is not positive) and `jacobian_std`, "constant" is the
        Dice or correlation without registration.

    Raises
    ------
    InputError
        Unknown net, a size that the net or the volumes do not take, and as for `Run.train`.
    DataError
        Volumes of different sizes, unreadable weights or checkpoint.
    """
    net = build_net(config.net, REGISTRATION_NETS, init, config.seed)
    check_size(config.net, net, config.size, training, validation)
    pairs = [as_seen(validation, pair, config.size) for pair in validation.some_pairs(config.pairs)]
    labelled = all(pair["labels"] is not None for pair in pairs)
    before = figures(None, pairs, validation.classes)
    metric = "dice" if labelled else "correlation"
    lesson = lesson or Lesson(lambda net, fixed, moving, _bend, _batch: registration_loss(net, fixed, moving, config))
    data = {"train": _describe(training), "val": _describe(validation), **lesson.described}
    run = Run.start(config, net, config.steps, data, init, lesson.method, lesson.own)

    def loss(net: nn.Module, batch: Batch) -> Tensor:
        device = next(net.parameters()).device
        arrays = (torch.from_numpy(array).to(device) for array in (batch.fixed, batch.moving, batch.bend))
        fixed, moving, bend = next(arrays), next(arrays), next(arrays)
        fixed, moving = to_input(fixed, config.size), to_input(moving, config.size)
        return lesson.loss(net, fixed, warp(moving, bend) if config.bend else moving, bend, batch)

    return run.train(
        out,
        Metric(metric, "highest", {"constant": before[metric]}),
        lambda epoch: _batches(training, lesson.pairs or training.pairs, config, epoch),
        loss,
        lambda net: figures(net, pairs, validation.classes) | lesson.figures(),
        fresh=fresh,
        command=command,
    )


def registration_loss(net: nn.Module, fixed: Tensor, moving: Tensor, config: RegistrationConfig) -> Tensor:
    """1 - correlation of the last warped image, plus the regularisers of every stem."""
    return image_loss(net, *stages(net, fixed, moving), fixed, moving, config)


def stages(net: nn.Module, fixed: Tensor, moving: Tensor) -> tuple[list[Tensor], Tensor]:
    """Flow of each stem of a net, and the flow of all of them in float32."""
    if isinstance(net, Cascade):
        flows, aggregate = net.stages(fixed, moving)
    else:
        flows = [net(fixed, moving)]
        aggregate = flows[0]
    return flows, aggregate.float()


def image_loss(
    net: nn.Module, flows: list[Tensor], aggregate: Tensor, fixed: Tensor, moving: Tensor, config: RegistrationConfig
) -> Tensor:
    """`registration_loss` of the flows that `stages` gave."""
    stems = list(net.stems) if isinstance(net, Cascade) else [net]
    with torch.autocast(fixed.device.type, enabled=False):
        total = (1 - correlation(warp(moving, aggregate), fixed)).mean()
        if config.folds:
            total = total + config.folds * folding(aggregate)
        for stem, flow in zip(stems, flows, strict=True):
            if isinstance(stem, AffineStem):
                total = total + config.affine * sum(affine_penalties(flow.float()))
            else:
                # of one stem the flow is the aggregate, so that whoever asks for its gradient gets all of it
                flow = aggregate if len(flows) == 1 else flow.float()
                total = total + config.smoothness * smoothness(flow)
    return total


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson correlation of two batches of images (N, ...) -> (N,), over all voxels."""
    a, b = (image.flatten(1) - image.flatten(1).mean(1, keepdim=True) for image in (one, other))
    return (a * b).sum(1) / ((a * a).sum(1) * (b * b).sum(1) + 1e-12).sqrt()


def smoothness(flow: Tensor) -> Tensor:
    """Half the squared forward differences along three axes, per entry of the flow (N, 3, D, H, W)."""
    return sum((flow.diff(dim=axis) ** 2).sum() for axis in (2, 3, 4)) / (2 * flow.numel())  # type: ignore[return-value]


def folding(flow: Tensor) -> Tensor:
    """Mean over the voxels of what the Jacobian determinant lacks to 0.1; 0 for a flow that folds nowhere."""
    return F.relu(0.1 - jacobian_determinant(flow)).mean()


def affine_penalties(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Of an affine flow x -> (A - I) x + b: 1/2 (det A - 1)^2, and sum(s + 1/s) - 6 over the eigenvalues s of A^T A.

    Both are 0 for a rotation; 1e-5 on the diagonal of A^T A keeps the eigenvalues away from 0.
    """
    identity = torch.eye(3, device=flow.device, dtype=flow.dtype)
    a = linear_part(flow) + identity
    gram = a.transpose(1, 2) @ a + 1e-5 * identity
    # traces instead of eigenvalues: their sum and the sum of their reciprocals, with a gradient also where two agree
    traces = gram.diagonal(dim1=1, dim2=2).sum(1) + torch.linalg.inv(gram).diagonal(dim1=1, dim2=2).sum(1)
    return ((torch.linalg.det(a) - 1) ** 2).mean() / 2, (traces - 6).mean()


def figures(net: nn.Module | None, pairs: list[dict[str, Any]], classes: tuple[int, ...]) -> dict[str, float]:
    """Mean figures over pairs of a net in evaluation mode, or of no registration at all (None)."""
    sums: dict[str, list[float]] = {}
    for pair in pairs:
        fixed, moving = pair["fixed"], pair["moving"]
        flow = torch.zeros(1, 3, *fixed.shape[2:])
        if net is not None:
            device = next(net.parameters()).device
            flow = net(fixed.to(device), moving.to(device)).cpu()
        determinant = jacobian_determinant(flow)
        found = {
            "correlation": float(correlation(warp(moving, flow), fixed)),
            "folded": float((determinant <= 0).double().mean()),
            "jacobian_std": float(determinant.std()),
        }
        if pair["labels"] is not None:
            goal, labels = pair["labels"]
            found["dice"] = volumes.dice(volumes.warp(labels, flow[0].numpy(), nearest=True), goal, classes)
        for name, value in found.items():
            sums.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in sums.items()}


def check_size(name: str, net: nn.Module, size: int, *data: VolumeDataset) -> None:
    """InputError unless a net and all the volumes can be brought to a size."""
    fixed = {stem.size for stem in net.modules() if isinstance(stem, AffineStem)}
    multiple = 64 if any(isinstance(stem, VTN) for stem in net.modules()) else 16
    if fixed - {size} or size % multiple:
        takes = fixed or f"of any multiple of {multiple}"
        raise InputError(f"{name} takes the size {takes}, got {size}: pass another --size.")
    for part in data:
        if part.size % size:
            raise InputError(
                f"the volumes have sides of {part.size} voxels, which --size {size} does not divide evenly."
            )


def as_seen(data: VolumeDataset, pair: tuple[int, int], size: int) -> dict[str, Any]:
    """One pair as the net takes it, (1, 1, size, size, size) each, and both segmentations if there are."""
    fixed, moving = (data[i].at(size) for i in pair)
    labels = [part.labels for part in (fixed, moving) if part.labels is not None]
    images = (to_input(torch.from_numpy(part.image[None]), size) for part in (fixed, moving))
    return {**dict(zip(("fixed", "moving"), images, strict=True)), "labels": labels if len(labels) == 2 else None}


def _batches(
    data: VolumeDataset, known: list[tuple[int, int]], config: RegistrationConfig, epoch: int
) -> Iterator[Batch]:
    def make(step: int) -> Batch:
        rng = np.random.default_rng([config.seed, epoch, step])
        pairs = [known[i] for i in rng.integers(len(known), size=config.batch)]
        images = [np.stack([data[pair[side]].image for pair in pairs]) for side in (0, 1)]
        # most bends are small: the authors' cubed uniform numbers on 5^3 control points
        control = rng.uniform(-1, 1, (config.batch, 3, 5, 5, 5)) ** 3 * config.bend * config.size
        bend = np.stack([bspline_field(points, config.size) for points in control])
        return Batch(images[0], images[1], bend, pairs, epoch * config.steps + step)

    return prefetched(make, config.steps)


def to_input(images: Tensor, size: int) -> Tensor:
    """What a net sees of volumes: uint8 (N, S, S, S) -> float32 (N, 1, size, size, size) in 0..1, averaged."""
    return F.avg_pool3d(images[:, None].float() / 255, images.shape[-1] // size)


def _describe(data: VolumeDataset) -> dict[str, Any]:
    described = {"volumes": len(data), "classes": list(data.classes), "sha256": data.digest()}
    return described | ({"synthetic": True} if data.synthetic else {})
