"""`edgeflock export`: thin, every verb calls one function."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from edgeflock.export.datasets.options import ReadOptions
from edgeflock.export.options import ExportOptions
from edgeflock.export.recipes.limits import EmotionLimits, RegistrationLimits, SteeringLimits
from edgeflock.runtime.bundle.manifest import TrainedCamera
from edgeflock.runtime.commands.registry import verbs
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import check_outputs
from edgeflock.runtime.model_options import Fields, model_options
from edgeflock.runtime.options import Keys

export_app = typer.Typer(
    cls=verbs("edgeflock export"), no_args_is_help=True, help="Turn trained weights into a bundle for every board."
)


@export_app.callback()
def export() -> None:
    """Turn trained weights into a bundle for every board."""


@model_options
def steering(
    weights: Annotated[Path, typer.Option(help="best.safetensors of a training run, or the authors' .pth.")],
    data: Annotated[list[Path], typer.Option(help="Validation data for the gate; repeat to join.")],
    bundle: Annotated[ExportOptions, Fields()],
    limits: Annotated[SteeringLimits, Fields()],
    reading: Annotated[ReadOptions, Fields()],
    calib: Annotated[
        list[Path] | None, typer.Option(help="Training data for INT8 calibration; repeat to join.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Calibration frames.")] = 128,
    trained_camera: Annotated[
        str | None,
        typer.Option(
            help="That the frames came from, HEIGHT,PITCH,FOV in m and degrees down, top to bottom (of "
            "`edgeflock record` 0.4,8.5,86): other cameras are then brought to its view.",
        ),
    ] = None,
) -> None:
    """Export a steering net: ONNX with parity, FP16 and INT8 forms, gate, boards, reference vectors, signature.

    A net that the gate refuses is not written; the report says why.

    Example:

      edgeflock export steering --weights runs/fadnet/best.safetensors --data data/val --calib data/train
      --training runs/fadnet/result.json --key fleet.pem --out steering
    """
    with needs("edgeflock export", "export"):
        from edgeflock.export.recipes.steering import steering_recipe
    from edgeflock.export.datasets import SteeringDataset, concatenate, open_dataset
    from edgeflock.export.pipeline import check_places

    check_places(bundle.out, bundle.key, bundle.report, [weights, bundle.training, *data, *(calib or [])])

    def read(paths: list[Path]) -> SteeringDataset:
        return concatenate([open_dataset(path, options=reading) for path in paths])

    recipe = steering_recipe(
        weights,
        read(data),
        read(calib) if calib else None,
        net=bundle.net,
        calibration_frames=frames,
        limits=limits,
        precision=bundle.default,
        training=bundle.result,
        trained_camera=_trained_camera(trained_camera) if trained_camera else None,
    )
    bundle.export(recipe)


def _trained_camera(text: str) -> TrainedCamera:
    try:
        height, pitch, fovy = map(float, text.split(","))
        return TrainedCamera(height=height, pitch=math.radians(pitch), fovy=math.radians(fovy))
    except ValueError:  # pydantic's is one
        raise InputError(
            f"expected --trained-camera HEIGHT,PITCH,FOV in m and degrees, such as 0.4,8.5,86, got {text!r}."
        ) from None


@model_options
def registration(
    weights: Annotated[Path, typer.Option(help="best.safetensors of a training run at --size.")],
    data: Annotated[
        list[Path], typer.Option(help="The authors' spec (.json) or a folder of NIfTI files; repeat to join.")
    ],
    bundle: Annotated[ExportOptions, Fields()],
    limits: Annotated[RegistrationLimits, Fields("max_drop", "max_folded", "min_gain")],
    calib: Annotated[
        list[Path] | None,
        typer.Option(help="Training volumes; by default the training split of --data; repeat to join."),
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs that the gate judges, and that INT8 is calibrated on.")] = 8,
    size: Annotated[int, typer.Option(min=16, help="Side of the grid that the net sees scans on.")] = 128,
) -> None:
    """Export a registration net (LDR, VTN, VoxelMorph, cascades); the gate judges Dice and folds.

    Example:

      edgeflock export registration --weights runs/ldr/best.safetensors --data data/phantoms/phantoms.json
      --training runs/ldr/result.json --key fleet.pem --out ldr
    """
    with needs("edgeflock export", "export"):
        from edgeflock.export.recipes.registration import registration_recipe
    from edgeflock.export.datasets.volumes import open_places
    from edgeflock.export.pipeline import check_places

    check_places(bundle.out, bundle.key, bundle.report, [weights, bundle.training, *data, *(calib or [])])
    recipe = registration_recipe(
        weights,
        open_places(data, "val"),
        open_places(calib or data, "train"),
        net=bundle.net,
        size=size,
        pairs=pairs,
        limits=limits,
        precision=bundle.default,
        training=bundle.result,
    )
    bundle.export(recipe)


@model_options
def emotion(
    weights: Annotated[
        Path, typer.Option(help="best.safetensors of a training run, a .pth, or the authors' Keras variables (.npz).")
    ],
    bundle: Annotated[ExportOptions, Fields()],
    limits: Annotated[EmotionLimits, Fields("max_drop", "min_agreement", "max_distance")],
    data: Annotated[
        Path | None, typer.Option(help="Validation images in a folder per emotion; rendered (synthetic) by default.")
    ] = None,
    calib: Annotated[Path | None, typer.Option(help="Training images in the same form; goes with --data.")] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=2, help="Images for the gate: rendered ones (504), of --data at most so many (all)."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Calibration images.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Faces that the net reads at once; see docs/emotion.md.")] = 1,
) -> None:
    """Export an emotion net (GLAMOR-Net, LDLVA's ResNets); the gate judges accuracy and agreement.

    Example:

      edgeflock export emotion --weights runs/glamor/best.safetensors --training runs/glamor/result.json
      --key fleet.pem --out glamor
    """
    with needs("edgeflock export", "export"):
        from edgeflock.export.recipes.emotion import emotion_recipe
    from rich.console import Console

    from edgeflock.export.pipeline import check_places

    check_places(bundle.out, bundle.key, bundle.report, [weights, bundle.training, data, calib])
    if (data is None) != (calib is None):
        raise InputError("--data and --calib go together: name both folders, or none for rendered images.")
    recipe = emotion_recipe(
        weights,
        data,
        calib,
        net=bundle.net,
        samples=samples,
        calibration_samples=frames,
        limits=limits,
        precision=bundle.default,
        batch=batch,
        training=bundle.result,
        console=Console(),
    )
    bundle.export(recipe)


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
