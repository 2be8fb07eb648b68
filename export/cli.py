"""`edgeflock export`: thin, every verb calls one function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgeflock.runtime.errors import InputError, MissingExtra

export_app = typer.Typer(no_args_is_help=True, help="Turn trained weights into a bundle.")


@export_app.callback()
def export() -> None:
    """Turn trained weights into a bundle."""


@export_app.command()
def steering(
    weights: Annotated[Path, typer.Option(help="best.safetensors of a training run, or the authors' .pth.")],
    data: Annotated[list[Path], typer.Option(help="Validation data for the gate; repeat to join.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; an older bundle there is replaced.")],
    key: Annotated[Path, typer.Option(help="Private key to sign with (`edgeflock bundle keygen`).")],
    calib: Annotated[
        list[Path] | None, typer.Option(help="Training data for INT8 calibration; repeat to join.")
    ] = None,
    net: Annotated[str | None, typer.Option(help="Net that the weights must belong to; recognised anyway.")] = None,
    precision: Annotated[str, typer.Option(help="int8 (fp32 rides along) or fp32 alone.")] = "int8",
    method: Annotated[
        Literal["minmax", "percentile", "entropy"], typer.Option(help="How the ranges of INT8 are found.")
    ] = "percentile",
    frames: Annotated[int, typer.Option(min=1, help="Calibration frames.")] = 128,
    max_drop: Annotated[float, typer.Option(min=0, help="Gate: relative rise of the RMSE over fp32.")] = 0.02,
    max_flips: Annotated[float, typer.Option(min=0, help="Gate: share of frames steered to the other side.")] = 0.005,
    max_ratio: Annotated[float, typer.Option(min=0, help="Gate: RMSE as a share of the constant predictor's.")] = 0.5,
    max_deviation: Annotated[float, typer.Option(min=0, help="Gate: distance from fp32 on any frame, rad.")] = 0.1,
    training: Annotated[Path | None, typer.Option(help="result.json of the training run, for the manifest.")] = None,
    report: Annotated[Path | None, typer.Option(help="Folder of the gate's report; by default OUT-report.")] = None,
) -> None:
    """Export a steering net: ONNX with parity, INT8, gate, reference vectors, signature.

    A net that the gate refuses is not written; the report says why.

    Example:

      edgeflock export steering --weights runs/fadnet/best.safetensors --data data/val --calib data/train
      --training runs/fadnet/result.json --key fleet.pem --out steering
    """
    try:
        from edgeflock.export.quantize import GateLimits
        from edgeflock.export.steering import export_steering
    except ModuleNotFoundError as error:
        raise MissingExtra.pip("edgeflock export", "export", error) from error
    from rich.console import Console

    from edgeflock.export.datasets import SteeringDataset, concatenate, open_dataset

    def read(paths: list[Path]) -> SteeringDataset:
        return concatenate([open_dataset(path) for path in paths])

    export_steering(
        weights,
        read(data),
        read(calib) if calib else None,
        out,
        key,
        net=net,
        precision=precision,
        method=method,
        calibration_frames=frames,
        limits=GateLimits(max_drop, max_flips, max_ratio, max_deviation),
        training=_result(training) if training else None,
        report=report,
        console=Console(),
    )


def _result(path: Path) -> dict:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected the result.json of a training run ({error}).") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected the result.json of a training run, an object, got a {type(content).__name__}."
        )
    return content
