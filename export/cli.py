"""`edgeflock export`: thin, every verb calls one function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeflock.runtime.errors import InputError, MissingExtra

export_app = typer.Typer(no_args_is_help=True, help="Turn trained weights into a bundle for every board.")

Out = Annotated[Path, typer.Option(help="Folder of the bundle; an older bundle there is replaced.")]
Key = Annotated[Path, typer.Option(help="Private key to sign with (`edgeflock bundle keygen`).")]
Net = Annotated[str | None, typer.Option(help="Net that the weights must belong to; recognised anyway.")]
Precisions = Annotated[
    list[str] | None,
    typer.Option("--precision", help="fp32, fp16, int8, int8-qnn or int8-trt; repeat for more, by default all."),
]
Default = Annotated[str, typer.Option(help="Precision that the bundle is used with unless told otherwise.")]
CalibrationMethod = Annotated[
    str, typer.Option(help="Ranges of INT8: minmax, moving-average, percentile, entropy or mse.")
]
Training = Annotated[Path | None, typer.Option(help="result.json of the training run, for the manifest.")]
Report = Annotated[Path | None, typer.Option(help="Folder of the gate's report; by default OUT-report.")]


@export_app.callback()
def export() -> None:
    """Turn trained weights into a bundle for every board."""


@export_app.command()
def steering(
    weights: Annotated[Path, typer.Option(help="best.safetensors of a training run, or the authors' .pth.")],
    data: Annotated[list[Path], typer.Option(help="Validation data for the gate; repeat to join.")],
    out: Out,
    key: Key,
    calib: Annotated[
        list[Path] | None, typer.Option(help="Training data for INT8 calibration; repeat to join.")
    ] = None,
    net: Net = None,
    precision: Precisions = None,
    default: Default = "int8",
    method: CalibrationMethod = "percentile",
    frames: Annotated[int, typer.Option(min=1, help="Calibration frames.")] = 128,
    max_rise: Annotated[float, typer.Option(min=0, help="Gate: relative rise of the RMSE over fp32.")] = 0.02,
    max_flips: Annotated[float, typer.Option(min=0, help="Gate: share of frames steered to the other side.")] = 0.005,
    max_ratio: Annotated[float, typer.Option(min=0, help="Gate: RMSE as a share of the constant predictor's.")] = 0.5,
    max_deviation: Annotated[float, typer.Option(min=0, help="Gate: distance from fp32 on any frame, rad.")] = 0.1,
    training: Training = None,
    report: Report = None,
) -> None:
    """Export a steering net: ONNX with parity, FP16 and INT8 forms, gate, boards, reference vectors, signature.

    A net that the gate refuses is not written; the report says why.

    Example:

      edgeflock export steering --weights runs/fadnet/best.safetensors --data data/val --calib data/train
      --training runs/fadnet/result.json --key fleet.pem --out steering
    """
    try:
        from edgeflock.export.steering import SteeringLimits, steering_recipe
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    from edgeflock.export.datasets import SteeringDataset, concatenate, open_dataset

    def read(paths: list[Path]) -> SteeringDataset:
        return concatenate([open_dataset(path) for path in paths])

    recipe = steering_recipe(
        weights,
        read(data),
        read(calib) if calib else None,
        net=net,
        calibration_frames=frames,
        limits=SteeringLimits(max_rise, max_flips, max_ratio, max_deviation),
        precision=default,
        training=_result(training),
    )
    _export(recipe, out, key, precision, method, report)


def _export(recipe: Any, out: Path, key: Path, precisions: list[str] | None, method: str, report: Path | None) -> None:
    from rich.console import Console

    from edgeflock.export.pipeline import PRECISIONS, export_bundle

    export_bundle(
        recipe, out, key, precisions=precisions or PRECISIONS, method=method, report=report, console=Console()
    )


def _missing(error: ModuleNotFoundError) -> MissingExtra:
    return MissingExtra.pip("edgeflock export", "export", error)


def _result(path: Path | None) -> dict[str, Any]:
    """Content of a training run's result.json."""
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected the result.json of a training run ({error}).") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected the result.json of a training run, an object, got a {type(content).__name__}."
        )
    return content
