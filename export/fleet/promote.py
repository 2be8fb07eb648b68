"""From a round's model to the bundle that a robot drives with: re-quantise, gate, shadow, swap."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from edgeflock.calibration.shared import Shared
from edgeflock.export.datasets import SteeringDataset
from edgeflock.export.graph import ExportedNet
from edgeflock.export.pipeline import export_bundle
from edgeflock.export.recipes.limits import SteeringLimits
from edgeflock.export.recipes.steering import steering_recipe
from edgeflock.runtime.bundle.driving import DrivingBundle
from edgeflock.runtime.errors import GateError
from edgeflock.runtime.tasks.shadow import Answer, Shadow, ShadowLimits, shadow
from edgeflock.runtime.tasks.steering import Steering, SteeringPolicy


@dataclass(frozen=True)
class Promotion:
    """What drives now, and the shadow run that it passed; None where nothing drove before."""

    bundle: Path
    shadow: Shadow | None


def promote(
    weights: Path,
    validation: SteeringDataset,
    calibration: SteeringDataset,
    key: Path,
    driving: DrivingBundle,
    *,
    gate: SteeringLimits | None = None,
    limits: ShadowLimits | None = None,
    trusted: list[Path] | None = None,
    others: Sequence[Shared] = (),
    console: Console | None = None,
) -> Promotion:
    """Make a bundle of a fleet's model and drive with it, if gate and shadow let it pass.

    Whatever fails, `driving` is as it was.

    Parameters
    ----------
    weights : Path
        `model.safetensors` of `edgeflock fleet join`. With the `model.onnx` that lies beside it, no torch is needed.
    validation, calibration : SteeringDataset
        This robot's own held-out frames, and those from which INT8 gets its ranges.
    key : Path
        The robot's private key; its `.pub` file lies beside it.
    driving : DrivingBundle
    gate, limits : SteeringLimits, ShadowLimits, optional
    trusted : list of Path, optional
        Further `.pub` files, for the bundle that drives now.
    others : sequence of Shared
        What the fleet's other robots saw with these weights; INT8 gets the ranges of all.

    Raises
    ------
    ParityError, GateError
        The model is refused by gate or shadow.
    InputError, DataError, BundleError
        What is wrong with weights, frames or key.
    """
    net = ExportedNet.beside(weights) or weights
    recipe = steering_recipe(net, validation, calibration, limits=gate, others=others)
    draft = driving.draft()
    report = driving.folder / "report"
    try:
        export_bundle(recipe, draft, key, precisions=("fp32", "int8"), report=report, console=console)
        keys = [key.with_suffix(".pub"), *(trusted or [])]
        candidate, seen = _policy(draft, keys), None
        if driving.current.exists():
            seen = shadow(_policy(driving.current, keys), candidate, validation.frames, validation.angles)
            if problems := seen.problems(limits or ShadowLimits()):
                why = "; ".join(problems)
                raise GateError(f"the shadow run refuses the new bundle: {why}. The one before drives on.")
        return Promotion(driving.install(draft), seen)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _policy(bundle: Path, keys: list[Path]) -> Answer:
    policy = SteeringPolicy(bundle, threads=1, keys=keys)

    def answer(frame: np.ndarray) -> Steering:
        return policy(frame, "mono8")

    return answer
