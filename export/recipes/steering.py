"""Recipe of the steering nets: what a frame is to them, and when a quantised one still drives like its original."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeflock.calibration.frames import representative_frames
from edgeflock.calibration.shared import Shared
from edgeflock.export.datasets import SteeringDataset
from edgeflock.export.graph import ExportedNet
from edgeflock.export.recipe import Answers, Judgement, Recipe, Samples
from edgeflock.export.recipes.limits import SteeringLimits
from edgeflock.runtime.bundle.manifest import Criterion, TrainedCamera, Training
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.prepare.frame import STEERING_INPUT, crop_200
from edgeflock.runtime.tasks.steering import STEERING_OUTPUT

if TYPE_CHECKING:
    from torch import nn

REFERENCES = 16

STEERED = 0.02
"""rad (1.1 degrees): below it left and right mean nothing, so a changed sign is not counted."""


def steering_recipe(
    weights: Path | ExportedNet,
    validation: SteeringDataset,
    calibration: SteeringDataset | None,
    *,
    net: str | None = None,
    calibration_frames: int = 128,
    limits: SteeringLimits | None = None,
    precision: str = "int8",
    training: Training | None = None,
    trained_camera: TrainedCamera | None = None,
    others: Sequence[Shared] = (),
) -> Recipe:
    """Recipe of a trained steering net.

    Parameters
    ----------
    weights : Path or ExportedNet
        `.safetensors` or torch file, ours or the authors'; the net is recognised by its tensors. Or what was made of
        one before, which needs no torch.
    validation, calibration : SteeringDataset
        Frames that training did not see, which the gate judges, and training frames, from which INT8 gets its ranges
        (None: no INT8).
    net : str, optional
        Key of `NETS` that the weights must belong to.
    calibration_frames : int
        How many of `calibration` are used; chosen by coverage of angle and brightness.
    limits : SteeringLimits, optional
    precision : str
        What the bundle drives with unless told otherwise.
    training : Training, optional
        How the weights came about.
    trained_camera : TrainedCamera, optional
        That the training frames came from; without it a robot's frames are never brought to its view.
    others : sequence of Shared
        What other robots saw with this net; INT8 gets the ranges of all.

    Raises
    ------
    InputError, DataError
        What is wrong with weights or frames.
    """
    name, module = _net(weights)
    if net not in (None, name):
        raise InputError(f"{weights} holds a {name}, --net asks for {net}.")
    if len(validation) < 2 or not np.ptp(validation.angles) > 0:
        raise InputError(
            f"the gate needs validation frames whose labels differ, at least 2; got {len(validation)}"
            f"{' with one and the same label' if len(validation) else ''}."
        )
    limits = limits or SteeringLimits()
    judged = samples(validation)
    if calibration is not None:
        chosen = representative_frames(calibration.frames, calibration.angles, calibration_frames)
        calibration = calibration.take(chosen)
    return Recipe(
        task="steering",
        name=f"steering-{name}",
        net=name,
        module=module,
        inputs=[STEERING_INPUT],
        outputs=[STEERING_OUTPUT],
        validation=judged,
        calibration=None if calibration is None else samples(calibration),
        judge=lambda fp32, candidate, on: judge(fp32, candidate, on, limits),
        references=representative_frames(judged.feeds["image"][:, 0], validation.angles, REFERENCES, brightness_bins=1),
        default_precision=precision,
        training=training or Training(),
        trained_camera=trained_camera,
        others=others,
    )


def _net(weights: Path | ExportedNet) -> tuple[str, nn.Module | ExportedNet]:
    if isinstance(weights, ExportedNet):
        return weights.net, weights
    with needs("A net from its weights alone", "export"):
        from edgeflock.export.training.loop.checkpoint import load_checkpoint
    return load_checkpoint(weights)


def samples(data: SteeringDataset) -> Samples:
    """Frames as the net takes them, uint8 (N, 1, 200, 200), with `angle` (N,) in rad."""
    crops = np.stack([crop_200(frame) for frame in data.frames])[:, None]
    return Samples({STEERING_INPUT.name: crops}, {"angle": data.angles}, data.names, data.digest())


def judge(fp32: Answers, candidate: Answers, frames: Samples, limits: SteeringLimits) -> Judgement:
    """Let a net pass only if it drives like its original and far better than no net at all.

    The constant predictor is the best there is: the mean label of these very frames. A net near it has learnt nothing,
    and no quantisation can make it worse, so the other criteria alone would let it pass.
    """
    angles = frames.labels["angle"].astype(np.float64)
    reference, got = (answers[STEERING_OUTPUT.name][:, 0].astype(np.float64) for answers in (fp32, candidate))
    deviation = np.abs(got - reference)
    steered = np.abs(reference) > STEERED
    flips = steered & (np.sign(got) != np.sign(reference))
    rmse, rmse_fp32, rmse_constant = rmse_of(got, angles), rmse_of(reference, angles), float(np.std(angles))
    return Judgement(
        metric="RMSE",
        unit="rad",
        value=rmse,
        fp32=rmse_fp32,
        constant=rmse_constant,
        criteria=[
            rise_of_rmse(rmse, rmse_fp32, limits.max_rise),
            Criterion(
                name=f"share of frames beyond {STEERED} rad not steered to the same side as fp32",
                value=float(flips.sum() / max(steered.sum(), 1)),
                limit=limits.max_flips,
            ),
            Criterion(
                name="RMSE as a share of the constant predictor's",
                value=rmse / rmse_constant,
                limit=limits.max_ratio,
            ),
            Criterion(
                name="largest distance from fp32", value=float(deviation.max()), limit=limits.max_deviation, unit="rad"
            ),
        ],
        options=["--max-rise", "--max-flips", "--max-ratio", "--max-deviation"],
        worst=[
            f"{frames.names[i]}: label {angles[i]:+.3f}, fp32 {reference[i]:+.3f}, got {got[i]:+.3f} rad"
            for i in np.argsort(-(deviation if deviation.any() else np.abs(got - angles)))[:3]
        ],
    )


def rmse_of(got: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square error of answers (n, ...) against labels of the same shape, in their unit."""
    return float(np.sqrt(np.mean(np.square(got - expected))))


def rise_of_rmse(rmse: float, fp32: float, limit: float) -> Criterion:
    """How much larger the error may be than fp32's, as a share of it."""
    rise = rmse / fp32 - 1 if fp32 else float(rmse > 0)
    return Criterion(name="relative rise of the RMSE over fp32", value=rise, limit=limit)
