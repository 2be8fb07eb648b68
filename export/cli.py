"""`edgeflock export`: thin, every verb calls one function."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edgeflock.export.datasets.options import ReadOptions
from edgeflock.runtime.bundle.manifest import TrainedCamera, Training
from edgeflock.runtime.commands.registry import verbs
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import check_outputs
from edgeflock.runtime.model_options import Fields, model_options
from edgeflock.runtime.options import Keys

export_app = typer.Typer(
    cls=verbs("edgeflock export"), no_args_is_help=True, help="Turn trained weights into a bundle for every board."
)

Out = Annotated[Path, typer.Option(help="Folder of the bundle; an older bundle there is replaced.")]
Key = Annotated[Path, typer.Option(help="Private key to sign with (`edgeflock bundle keygen`).")]
Net = Annotated[str | None, typer.Option(help="Net that the weights must belong to; recognised anyway.")]
Precisions = Annotated[
    list[str] | None,
    typer.Option("--precision", help="fp32, fp16, int8, int8-qnn or int8-trt; repeat for more, by default all."),
]
Default = Annotated[str, typer.Option(help="Precision that the bundle is used with unless told otherwise.")]
CalibrationMethod = Annotated[
    Literal["minmax", "moving-average", "percentile", "entropy", "mse"] | None,
    typer.Option(help="How the ranges of INT8 are found; by default what the task fares best with."),
]
TrainingFile = Annotated[Path | None, typer.Option(help="result.json of the training run, for the manifest.")]
Report = Annotated[Path | None, typer.Option(help="Folder of the gate's report; by default OUT-report.")]


@export_app.callback()
def export() -> None:
    """Turn trained weights into a bundle for every board."""


@model_options
def steering(
    weights: Annotated[Path, typer.Option(help="best.safetensors of a training run, or the authors' .pth.")],
    data: Annotated[list[Path], typer.Option(help="Validation data for the gate; repeat to join.")],
    out: Out,
    key: Key,
    reading: Annotated[ReadOptions, Fields()],
    calib: Annotated[
        list[Path] | None, typer.Option(help="Training data for INT8 calibration; repeat to join.")
    ] = None,
    net: Net = None,
    precision: Precisions = None,
    default: Default = "int8",
    method: CalibrationMethod = None,
    frames: Annotated[int, typer.Option(min=1, help="Calibration frames.")] = 128,
    max_rise: Annotated[float, typer.Option(min=0, help="Gate: relative rise of the RMSE over fp32.")] = 0.02,
    max_flips: Annotated[float, typer.Option(min=0, help="Gate: share of frames steered to the other side.")] = 0.005,
    max_ratio: Annotated[float, typer.Option(min=0, help="Gate: RMSE as a share of the constant predictor's.")] = 0.5,
    max_deviation: Annotated[float, typer.Option(min=0, help="Gate: distance from fp32 on any frame, rad.")] = 0.1,
    trained_camera: Annotated[
        str | None,
        typer.Option(
            help="That the frames came from, HEIGHT,PITCH,FOV in m and degrees down, top to bottom (of "
            "`edgeflock record` 0.4,8.5,86): other cameras are then brought to its view.",
        ),
    ] = None,
    training: TrainingFile = None,
    report: Report = None,
) -> None:
    """Export a steering net: ONNX with parity, FP16 and INT8 forms, gate, boards, reference vectors, signature.

    A net that the gate refuses is not written; the report says why.

    Example:

      edgeflock export steering --weights runs/fadnet/best.safetensors --data data/val --calib data/train
      --training runs/fadnet/result.json --key fleet.pem --out steering
    """
    with needs("edgeflock export", "export"):
        from edgeflock.export.recipes.steering import SteeringLimits, steering_recipe
    from edgeflock.export.datasets import SteeringDataset, concatenate, open_dataset
    from edgeflock.export.pipeline import check_places

    check_places(out, key, report, [weights, training, *data, *(calib or [])])

    def read(paths: list[Path]) -> SteeringDataset:
        return concatenate([open_dataset(path, options=reading) for path in paths])

    recipe = steering_recipe(
        weights,
        read(data),
        read(calib) if calib else None,
        net=net,
        calibration_frames=frames,
        limits=SteeringLimits(max_rise, max_flips, max_ratio, max_deviation),
        precision=default,
        training=_result(training),
        trained_camera=_trained_camera(trained_camera) if trained_camera else None,
    )
    _export(recipe, out, key, precision, method, report)


def _trained_camera(text: str) -> TrainedCamera:
    try:
        height, pitch, fovy = map(float, text.split(","))
        return TrainedCamera(height=height, pitch=math.radians(pitch), fovy=math.radians(fovy))
    except ValueError:  # pydantic's is one
        raise InputError(
            f"expected --trained-camera HEIGHT,PITCH,FOV in m and degrees, such as 0.4,8.5,86, got {text!r}."
        ) from None


def registration(
    weights: Annotated[Path, typer.Option(help="best.safetensors of a training run at 128^3.")],
    data: Annotated[Path, typer.Option(help="The authors' spec (.json) or a folder of NIfTI files.")],
    out: Out,
    key: Key,
    calib: Annotated[
        Path | None, typer.Option(help="Training volumes; by default the training split of --data.")
    ] = None,
    net: Net = None,
    precision: Precisions = None,
    default: Default = "int8",
    method: CalibrationMethod = None,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs that the gate judges, and that INT8 is calibrated on.")] = 8,
    max_drop: Annotated[float, typer.Option(min=0, help="Gate: Dice lost to fp32, absolute.")] = 0.01,
    max_folded: Annotated[float, typer.Option(min=0, help="Gate: share of folded voxels above fp32's.")] = 0.005,
    min_gain: Annotated[float, typer.Option(min=0, help="Gate: Dice above no registration.")] = 0.05,
    training: TrainingFile = None,
    report: Report = None,
) -> None:
    """Export a registration net (LDR, VTN, VoxelMorph, cascades); the gate judges Dice and folds.

    Example:

      edgeflock export registration --weights runs/ldr/best.safetensors --data data/phantoms/phantoms.json
      --training runs/ldr/result.json --key fleet.pem --out ldr
    """
    with needs("edgeflock export", "export"):
        from edgeflock.export.recipes.registration import RegistrationLimits, registration_recipe
    from edgeflock.export.datasets.volumes import open_volumes
    from edgeflock.export.pipeline import check_places

    check_places(out, key, report, [weights, training, data, calib])
    recipe = registration_recipe(
        weights,
        open_volumes(data, "val"),
        open_volumes(calib or data, "train"),
        net=net,
        pairs=pairs,
        limits=RegistrationLimits(drop=max_drop, folded_rise=max_folded, gain=min_gain),
        precision=default,
        training=_result(training),
    )
    _export(recipe, out, key, precision, method, report)


def emotion(
    weights: Annotated[
        Path, typer.Option(help="best.safetensors of a training run, a .pth, or the authors' Keras variables (.npz).")
    ],
    out: Out,
    key: Key,
    data: Annotated[
        Path | None, typer.Option(help="Validation images in a folder per emotion; rendered (synthetic) by default.")
    ] = None,
    calib: Annotated[Path | None, typer.Option(help="Training images in the same form; goes with --data.")] = None,
    net: Net = None,
    precision: Precisions = None,
    default: Default = "int8",
    method: CalibrationMethod = None,
    samples: Annotated[
        int | None,
        typer.Option(min=2, help="Images for the gate: rendered ones (504), of --data at most so many (all)."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Calibration images.")] = 128,
    max_drop: Annotated[float, typer.Option(min=0, help="Gate: accuracy lost to fp32, absolute.")] = 0.01,
    min_agreement: Annotated[float, typer.Option(min=0, help="Gate: share of fp32's clear labels that stay.")] = 0.99,
    max_distance: Annotated[
        float, typer.Option(min=0, help="Gate: mean total variation distance from fp32's distribution.")
    ] = 0.02,
    batch: Annotated[int, typer.Option(min=1, help="Faces that the net reads at once; see docs/emotion.md.")] = 1,
    training: TrainingFile = None,
    report: Report = None,
) -> None:
    """Export an emotion net (GLAMOR-Net, LDLVA's ResNets); the gate judges accuracy and agreement.

    Example:

      edgeflock export emotion --weights runs/glamor/best.safetensors --training runs/glamor/result.json
      --key fleet.pem --out glamor
    """
    with needs("edgeflock export", "export"):
        from edgeflock.export.recipes.emotion import EmotionLimits, emotion_recipe
    from rich.console import Console

    from edgeflock.export.pipeline import check_places

    check_places(out, key, report, [weights, training, data, calib])
    if (data is None) != (calib is None):
        raise InputError("--data and --calib go together: name both folders, or none for rendered images.")
    recipe = emotion_recipe(
        weights,
        data,
        calib,
        net=net,
        samples=samples,
        calibration_samples=frames,
        limits=EmotionLimits(accuracy_drop=max_drop, agreement=min_agreement, distance=max_distance),
        precision=default,
        batch=batch,
        training=_result(training),
        console=Console(),
    )
    _export(recipe, out, key, precision, method, report)


@export_app.command()
def targets(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the section of docs/targets.md.")] = False,
) -> None:
    """Show what every board takes: engines, precisions, operator sets, refused operators, known-bad versions.

    Example:

      edgeflock export targets --markdown
    """
    with needs("edgeflock export", "export"):
        from edgeflock.export.targets import table
    from rich.console import Console

    if markdown:
        typer.echo(table.markdown())
    else:
        Console().print(table.terminal())


@export_app.command("compile")
def compile_for(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    target: Annotated[str, typer.Option(help="Board, see `edgeflock export targets`.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for the board's files.")],
    inputs: Annotated[
        Path | None, typer.Option(help="safetensors with calibration inputs (N, ...) by name; else the bundle's own.")
    ] = None,
    sdk_python: Annotated[str, typer.Option(help="Python that the vendor's tools run in.")] = "python3.10",
    key: Keys = None,
) -> None:
    """Prepare a bundle for a vendor's tools: QAIRT for the RB5 ($QNN_SDK_ROOT), operator set 13 for the Jetson Nano.

    Example:

      QNN_SDK_ROOT=~/qairt/2.45.0.260326 edgeflock export compile steering --target rb5 --out rb5
    """
    with needs("edgeflock export", "export"):
        from edgeflock.export.targets import compile_bundle
    from rich.console import Console

    from edgeflock.runtime.bundle.bundle import Bundle

    feeds = None
    if inputs is not None:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            feeds = load_file(inputs)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{inputs} is not a safetensors file with inputs: {error}.") from None
    console = Console()
    check_outputs(folders=[out], inputs=[inputs], whole=[bundle])
    made = compile_bundle(target, Bundle.open(bundle, key), out, feeds, sdk_python, console)
    for line in (*made.did, *(f"wrote {path}" for path in made.files), *(["then:"] if made.on_board else [])):
        console.print(line, highlight=False, soft_wrap=True)
    for command in made.on_board:
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)


def _export(recipe: Any, out: Path, key: Path, precisions: list[str] | None, method: Any, report: Path | None) -> None:
    from rich.console import Console

    from edgeflock.export.pipeline import PRECISIONS, export_bundle

    export_bundle(
        recipe, out, key, precisions=precisions or PRECISIONS, method=method, report=report, console=Console()
    )


def _result(path: Path | None) -> Training | None:
    from edgeflock.export.training.loop.result import TrainingResult

    return TrainingResult.read(path).for_manifest() if path else None
