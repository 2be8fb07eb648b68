"""`edgeflock train glamor` and `edgeflock train glamor-scene`: thin, each calls one function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeflock.export.training.config import EmotionSource, GlamorConfig
from edgeflock.export.training.folder import check_run_folder, export_command
from edgeflock.export.training.options import Fresh, Out, Threads, seeds_of, use_torch
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import check_outputs
from edgeflock.runtime.model_options import Fields, model_options
from edgeflock.runtime.options import next_command, this_command


@model_options
def glamor(
    out: Out,
    source: Annotated[EmotionSource, Fields()],
    config: Annotated[GlamorConfig, Fields("net", "preset", "epochs", "batch", "lr", "seed", "size", "bf16")],
    init: Annotated[
        Path | None,
        typer.Option(help="Start weights: of the same net, the authors' .index or .npz, or a torchvision ResNet."),
    ] = None,
    threads: Threads = None,
    fresh: Fresh = False,
) -> None:
    """Learn emotions from a face and what is around it (GLAMOR-Net).

    Writes what `edgeflock train emotion` writes, and attention.jpg: faces, scenes, and where the net looks in them.

    Example:

      edgeflock train glamor --data NCAER-S --val NCAER-S --preset released --out runs/glamor
    """
    use_torch(threads)
    from rich.console import Console

    from edgeflock.export.nets import GLAMOR_NETS
    from edgeflock.export.training.methods.emotion import open_both
    from edgeflock.export.training.methods.glamor import train_glamor

    if config.net not in GLAMOR_NETS:
        raise InputError(f"{config.net!r} is no GLAMOR-Net: choose one of {', '.join(GLAMOR_NETS)}.")
    check_run_folder(out, [source.data, source.val], init)
    console = Console()
    training, validation = open_both(config.net, source, console)
    result = train_glamor(config, training, validation, out, init=init, fresh=fresh, command=this_command())
    figures = result["figures"]
    share = f"; the face has {figures['face_share']:.0%} of the fusion" if figures["face_share"] is not None else ""
    console.print(
        f"{out / 'best.safetensors'}: validation accuracy {figures['accuracy']:.3f} on {validation.source} (epoch "
        f"{figures['best_epoch']}), Constant {figures['constant']:.3f}{share}; {out / 'attention.jpg'}\n"
        + export_command("emotion", out, [source.val], [source.data]),
        highlight=False,
        soft_wrap=True,
    )


def glamor_scene(
    out: Annotated[Path, typer.Option(help="Folder of runs and pictures; goes on where it stopped.")] = Path(
        "runs/glamor-scene"
    ),
    json: Annotated[Path | None, typer.Option(help="Write all figures here.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, with commas between; each has scenes of its own.")] = "0,1,2",
    samples: Annotated[int, typer.Option(min=32, help="Training scenes.")] = 4000,
    epochs: Annotated[int, typer.Option(min=1)] = 8,
    markers: Annotated[int, typer.Option(min=1, max=7, help="Markers around the face, of which one counts.")] = 4,
    threads: Threads = None,
) -> None:
    """Prove the attention on synthetic scenes in which the face says what counts: GLA, context alone, mean pooling.

    Prints accuracies; writes accuracy.png, attention.jpg and a folder per run into --out.

    Example:

      edgeflock train glamor-scene --json scene.json
    """
    use_torch(threads)
    from rich.console import Console

    from edgeflock.export.training.proofs.glamor_scene import Task, show_scene

    check_outputs([json], [out])
    show_scene(out, json, Task(samples, epochs, markers), seeds_of(seeds), Console())
    typer.echo(next_command("train", "glamor", "--data", "NCAER-S", "--val", "NCAER-S", "--out", "runs/glamor"))
