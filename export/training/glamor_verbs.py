"""`edgeflock train glamor` and `edgeflock train glamor-scene`: thin, each calls one function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from edgeflock.export.training.folder import check_run_folder, export_command
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.options import this_command


def glamor(
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was interrupted goes on by itself.")],
    net: Annotated[
        Literal["glamor", "glamor-resnet18", "glamor-context", "glamor-mean", "glamor-concat"],
        typer.Option(help="The net, or what the paper compares it with (docs/glamor.md)."),
    ] = "glamor",
    preset: Annotated[
        Literal["post", "released"],
        typer.Option(help="released: the authors' code, SGD in three steps, batches of 4, 60 epochs."),
    ] = "post",
    data: Annotated[
        Path | None, typer.Option(help="Training data as in docs/emotion-data.md; rendered (synthetic) by default.")
    ] = None,
    val: Annotated[Path | None, typer.Option(help="Validation data; goes with --data.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=7, help="Training images: rendered ones (7000), of --data at most so many (all).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="10, or the preset's.")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Images per step; 32, or the preset's.")] = None,
    lr: Annotated[float | None, typer.Option(min=1e-9, help="Peak learning rate; 1e-3, or the preset's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of start weights, order, augmentation and dropout.")] = 1204,
    init: Annotated[
        Path | None,
        typer.Option(help="Start weights: of the same net, the authors' .index or .npz, or a torchvision ResNet."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=32, max=512, help="Side of faces while training; smaller is faster, then --init.")
    ] = None,
    bf16: Annotated[bool, typer.Option(help="bfloat16 convolutions, faster on CPUs that have it.")] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew although the folder holds a run.")] = False,
) -> None:
    """Learn emotions from a face and what is around it (GLAMOR-Net).

    Writes what `edgeflock train emotion` writes, and attention.jpg: faces, scenes, and where the net looks in them.

    Example:

      edgeflock train glamor --data NCAER-S --val NCAER-S --preset released --out runs/glamor
    """
    with needs("edgeflock train"):
        import torch
    from rich.console import Console

    from edgeflock.export.datasets.emotion import open_emotion
    from edgeflock.export.nets import NETS
    from edgeflock.export.training.methods.emotion import told_apart
    from edgeflock.export.training.methods.glamor import GlamorConfig, train_glamor

    if (data is None) != (val is None):
        raise InputError("--data and --val go together: name both, or none for rendered images.")
    check_run_folder(out, [data, val], init)
    if threads is not None:
        torch.set_num_threads(threads)
    config = GlamorConfig.of(preset, net=net, epochs=epochs, batch=batch, lr=lr, seed=seed, size=size, bf16=bf16)
    console = Console()
    training = open_emotion(NETS[net](), data, "train", samples, console)
    validation = open_emotion(NETS[net](), val, "val", console=console)
    validation = told_apart(training, validation)
    result = train_glamor(config, training, validation, out, init=init, fresh=fresh, command=this_command())
    figures = result["figures"]
    share = f"; the face has {figures['face_share']:.0%} of the fusion" if figures["face_share"] is not None else ""
    console.print(
        f"{out / 'best.safetensors'}: validation accuracy {figures['accuracy']:.3f} on {validation.source} (epoch "
        f"{figures['best_epoch']}), Constant {figures['constant']:.3f}{share}; {out / 'attention.jpg'}\n"
        + export_command("emotion", out, [val], [data]),
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
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default.")] = None,
) -> None:
    """Prove the attention on synthetic scenes in which the face says what counts: GLA, context alone, mean pooling.

    Prints accuracies; writes accuracy.png, attention.jpg and a folder per run into --out.

    Example:

      edgeflock train glamor-scene --json scene.json
    """
    with needs("edgeflock train"):
        import torch
    from rich.console import Console

    from edgeflock.export.training.proofs.glamor_scene import Task, show_scene

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        chosen = [int(text) for text in seeds.split(",")]
    except ValueError:
        raise InputError(f"--seeds expects numbers with commas between, as 0,1,2, got {seeds!r}.") from None
    show_scene(out, json, Task(samples, epochs, markers), chosen, Console())
