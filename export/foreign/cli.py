"""`edgeflock export net`: a net of one's own, from an ONNX file or from torch, to a signed bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edgeflock.export.datasets.options import ReadOptions
from edgeflock.export.foreign.meaning import Meaning, told_by_options
from edgeflock.export.options import ExportOptions
from edgeflock.export.recipes.limits import NetLimits
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.model_options import Fields, model_options


@model_options
def net(
    source: Annotated[str, typer.Argument(help="ONNX file, .pt2 of torch.export, or package.module:factory.")],
    val: Annotated[
        Path, typer.Option(help="Frames that the gate judges: pictures, sounds, scans, an npz, a bag, or a data set.")
    ],
    bundle: Annotated[ExportOptions, Fields("out", "key", "precision", "method", "report")],
    meaning: Annotated[Meaning, Fields(*told_by_options())],
    limits: Annotated[NetLimits, Fields()],
    reading: Annotated[ReadOptions, Fields()],
    calib: Annotated[Path | None, typer.Option(help="Other frames, for the ranges of INT8, in the same forms.")] = None,
    metric: Annotated[
        str, typer.Option(help="agreement (with fp32, no labels), accuracy, rmse, miou, or module:function.")
    ] = "agreement",
    weights: Annotated[Path | None, typer.Option(help="State dict for package.module:factory.")] = None,
    inputs: Annotated[
        Path | None, typer.Option(help="YAML with what each input is, by its name, in the words of the options.")
    ] = None,
    task: Annotated[
        Literal["generic", "steering", "emotion"],
        typer.Option(help="steering: a robot drives by the one number that comes out; emotion: it reads faces."),
    ] = "generic",
    angle_scale: Annotated[
        float, typer.Option(help="Of --task steering: rad, left positive, where the net says 1; of degrees 0.0174533.")
    ] = 1.0,
    angle: Annotated[
        str,
        typer.Option(help="Of --task steering: OUTPUT or OUTPUT:INDEX that is the angle (default: the only number)."),
    ] = "",
    labels: Annotated[
        str, typer.Option(help="Names of the classes, in the order of the first output: a,b,c or a file, one a line.")
    ] = "",
    default: Annotated[
        str | None,
        typer.Option(help="Precision that the bundle is used with (default: int8 where it passes, else fp32)."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the net (default: the file's or factory's).")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Calibration frames.")] = 128,
    samples: Annotated[int, typer.Option(min=2, help="Validation frames, at most.")] = 512,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and write nothing.")] = False,
) -> None:
    """Export any net: ONNX or torch, with the gate, boards, reference vectors and signature of our own nets.

    What is not told of the inputs is guessed from the net's shapes and the samples, and shown.

    Example:

      edgeflock export net signs.onnx --calib pictures/train --val pictures/val --mean 0.485,0.456,0.406
      --std 0.229,0.224,0.225 --key fleet.pem --out bundles/signs
    """
    with needs("edgeflock export", "export"):
        from edgeflock.export.foreign.door import open_net
    from rich.console import Console

    from edgeflock.export.foreign.preview import preview
    from edgeflock.export.pipeline import PRECISIONS, check_places, export_bundle
    from edgeflock.export.recipes.generic import generic_recipe
    from edgeflock.export.recipes.roles import as_classes, as_emotion, as_steering

    read = [path for path in (Path(source), weights, val, calib, inputs) if path is not None and path.exists()]
    check_places(bundle.out, bundle.key, bundle.report, read)
    console = Console()
    classes = _labels(labels)
    opened = open_net(source, weights, meaning, inputs, val, calib, (samples, frames), reading, classes, console)
    recipe = generic_recipe(
        opened.source,
        opened.inputs,
        opened.validation,
        opened.calibration,
        name=name,
        metric=metric,
        limits=limits,
        precision=default,
    )
    if task == "steering":
        recipe = as_steering(recipe, angle_scale, metric, limits, angle)
    elif angle_scale != 1 or angle:
        raise InputError("--angle-scale and --angle go with --task steering: add that, or leave them out.")
    elif task == "emotion":
        recipe = as_emotion(recipe, classes)
    elif classes:
        recipe = as_classes(recipe, classes)
    if dry_run:
        preview(recipe, console)
        return
    # Without other frames nothing can be calibrated: what needs none is made.
    precisions = bundle.precision or (PRECISIONS if calib else ("fp32", "fp16"))
    how: dict[str, Any] = {"method": bundle.method, "report": bundle.report, "console": console}
    export_bundle(recipe, bundle.out, bundle.key, precisions=precisions, **how)


def _labels(text: str) -> list[str]:
    """Names from a file or a list; InputError where one stands twice."""
    path = Path(text)
    lines = (
        path.read_text(encoding="utf-8", errors="replace").splitlines() if text and path.is_file() else text.split(",")
    )
    labels = [line.strip() for line in lines if line.strip()]
    if len({label.lower() for label in labels}) < len(labels):
        raise InputError(f"--labels {text}: expected each name once, got {', '.join(labels)}.")
    return labels
