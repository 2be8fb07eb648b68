"""Recipe of the registration nets: what a pair of scans is to them, and when a quantised one still registers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from edgeflock.export.datasets.volumes import VolumeDataset
from edgeflock.export.nets import REGISTRATION_NETS
from edgeflock.export.nets.ldr import LDR, HalfSizeFlow
from edgeflock.export.quantise.planes import to_2d
from edgeflock.export.recipe import Answers, Judgement, Recipe, Samples
from edgeflock.export.recipes.limits import RegistrationLimits
from edgeflock.export.training.loop.checkpoint import load_checkpoint
from edgeflock.export.training.methods.registration import check_size
from edgeflock.runtime.bundle.manifest import Criterion, Training
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.volume import dice, to_grid, warp
from edgeflock.runtime.tasks.registration import (
    REGISTRATION_INPUTS,
    REGISTRATION_OUTPUT,
    SIDE,
    Jacobian,
    registration_inputs,
    registration_output,
)

SAMPLING = ("Add", "Sub", "Mul", "Div", "Clip", "Min", "Floor", "MatMul", "GatherElements")
"""Operators of the warps inside cascades, which no net has otherwise: places in a volume need more than 8 bits."""

PAIRS = 8
"""Pairs that the gate judges and, of other volumes, pairs that INT8 gets its ranges from."""


def registration_recipe(
    weights: Path,
    validation: VolumeDataset,
    calibration: VolumeDataset | None,
    *,
    net: str | None = None,
    size: int = SIDE,
    pairs: int = PAIRS,
    limits: RegistrationLimits | None = None,
    precision: str = "int8",
    training: Training | None = None,
) -> Recipe:
    """Recipe of a trained registration net.

    Parameters
    ----------
    weights : Path
        `.safetensors` or torch file of a run at `size`; the net is recognised by its tensors.
    validation, calibration : VolumeDataset
        Volumes that training did not see, whose pairs the gate judges, and training volumes, whose pairs give INT8 its
        ranges (None: no INT8).
    net : str, optional
        Key of `NETS` that the weights must belong to.
    size : int
        Side of the grid that the net sees scans on; those of an affine stem are trained for one size.
    pairs : int
        How many pairs of each are used.
    limits : RegistrationLimits, optional
    precision : str
        What the bundle registers with unless told otherwise.
    training : Training, optional
        How the weights came about.

    Raises
    ------
    InputError, DataError
        What is wrong with weights or volumes.
    """
    name, module = load_checkpoint(weights)
    if name not in REGISTRATION_NETS or net not in (None, name):
        raise InputError(f"{weights} holds a {name}, expected {net or 'one of ' + ', '.join(REGISTRATION_NETS)}.")
    check_size(name, module, size, validation, *([calibration] if calibration else []))
    side = size
    if isinstance(module, LDR) and isinstance(module.flow, HalfSizeFlow):
        module.coarse, side = True, size // 2  # the task brings the flow to the scan's grid in any case
    module.register_forward_pre_hook(_from_grey)
    limits = limits or RegistrationLimits()
    return Recipe(
        task="registration",
        name=f"registration-{name}",
        net=name,
        module=module,
        inputs=registration_inputs(size),
        outputs=[registration_output(side)],
        validation=samples(validation, pairs, size),
        calibration=None if calibration is None else samples(calibration, pairs, size),
        judge=lambda fp32, candidate, on: judge(fp32, candidate, on, limits, validation.classes),
        references=[0],
        keep_float=SAMPLING,
        rewrite=to_2d,
        method="minmax",  # the others cut the largest displacements: 2.1 voxels off at most, minmax 1.1
        default_precision=precision,
        training=training or Training(),
    )


def _from_grey(_: nn.Module, volumes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The nets take 0..1, scans and reference vectors are 0..255: a byte per voxel, exact in INT8 too."""
    return tuple(volume / 255 for volume in volumes)


def samples(data: VolumeDataset, pairs: int, size: int) -> Samples:
    """Pairs as the net takes them, uint8 (N, 1, size, size, size), and their segmentations where both have one."""
    chosen = data.some_pairs(pairs)
    volumes = {i: data[i].at(size) for i in {i for pair in chosen for i in pair}}
    feeds = {
        spec.name: np.stack([volumes[pair[side]].image[None] for pair in chosen])
        for side, spec in enumerate(REGISTRATION_INPUTS)
    }
    segmentations = {i: volume.labels for i, volume in volumes.items() if volume.labels is not None}
    labels = {}
    if len(segmentations) == len(volumes):
        labels = {
            spec.name: np.stack([segmentations[pair[side]] for pair in chosen])
            for side, spec in enumerate(REGISTRATION_INPUTS)
        }
    sha = hashlib.sha256()
    for array in (*feeds.values(), *labels.values()):
        sha.update(array.data)
    names = [f"{data.names[fixed]} <- {data.names[moving]}" for fixed, moving in chosen]
    return Samples(feeds, labels, names, sha.hexdigest())


def judge(
    fp32: Answers, candidate: Answers, pairs: Samples, limits: RegistrationLimits, classes: tuple[int, ...]
) -> Judgement:
    """Let a net pass only if it registers like its original and clearly better than doing nothing."""
    reference, got = (answers[REGISTRATION_OUTPUT.name] for answers in (fp32, candidate))
    every = range(len(pairs))
    before = np.array([score(np.zeros_like(got[i]), pairs, i, classes) for i in every])
    exact, mine = (np.array([score(flows[i], pairs, i, classes) for i in every]) for flows in (reference, got))
    folded = [np.mean([Jacobian.of(flow).folded for flow in flows]) for flows in (reference, got)]
    gain = exact.mean() - before.mean()
    metric = "Dice" if pairs.labels else "correlation"
    worst = np.argsort(mine - exact)[:3]
    return Judgement(
        metric=metric,
        unit="",
        value=float(mine.mean()),
        fp32=float(exact.mean()),
        constant=float(before.mean()),
        criteria=[
            Criterion(name=f"{metric} below fp32", value=float(exact.mean() - mine.mean()), limit=limits.max_drop),
            Criterion(
                name="share of folded voxels above fp32", value=float(folded[1] - folded[0]), limit=limits.max_folded
            ),
            Criterion(
                name=f"part of fp32's gain in {metric} kept",
                value=float((mine.mean() - before.mean()) / gain) if gain > 0 else 0.0,
                at="least",
                limit=limits.min_kept,
            ),
            Criterion(
                name=f"gain in {metric} over no registration",
                value=float(mine.mean() - before.mean()),
                at="least",
                limit=limits.min_gain,
            ),
        ],
        options=["--max-drop", "--max-folded", "", "--min-gain"],
        worst=[f"{pairs.names[i]}: {metric} {mine[i]:.4f}, fp32 {exact[i]:.4f}, before {before[i]:.4f}" for i in worst],
    )


def score(flow: np.ndarray, pairs: Samples, index: int, classes: tuple[int, ...]) -> float:
    """Mean Dice of the warped segmentation, or the correlation of the warped image where there is none."""
    if pairs.labels:
        fixed, moving = (pairs.labels[spec.name][index] for spec in REGISTRATION_INPUTS)
        return dice(warp(moving, to_grid(flow, moving.shape), nearest=True), fixed, classes)
    fixed, moving = (pairs.feeds[spec.name][index, 0] for spec in REGISTRATION_INPUTS)
    return float(np.corrcoef(warp(moving, to_grid(flow, moving.shape)).ravel(), fixed.ravel())[0, 1])
