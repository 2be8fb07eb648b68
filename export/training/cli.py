"""`edgeflock train`: thin, every verb calls one function."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgeflock.runtime.errors import MissingExtra

train_app = typer.Typer(no_args_is_help=True, help="Train a net on recorded data.")


@train_app.callback()
def train() -> None:
    """Train a net on recorded data."""


@train_app.command()
def steering(
    data: Annotated[list[Path], typer.Option(help="Training data, any format of docs/data.md; repeat to join.")],
    val: Annotated[list[Path], typer.Option(help="Validation data; repeat to join.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was interrupted goes on by itself.")],
    net: Annotated[str, typer.Option(help="fadnet, fadnet-released, fadnet-plus, dronet or mobilenet-v2.")] = "fadnet",
    epochs: Annotated[int, typer.Option(min=1)] = 40,
    batch: Annotated[int, typer.Option(min=2, help="Images per step.")] = 64,
    lr: Annotated[
        float, typer.Option(min=1e-9, help="Peak learning rate of Adam; it warms up and falls with a cosine.")
    ] = 1e-3,
    seed: Annotated[int, typer.Option(help="Seed of start weights, order, augmentation and dropout.")] = 1204,
    init: Annotated[Path | None, typer.Option(help="Start weights: .safetensors or .pth, also the authors'.")] = None,
    shift: Annotated[int, typer.Option(min=0, max=60, help="Shift images by up to PX, 0.002 rad per pixel.")] = 0,
    augment: Annotated[bool, typer.Option(help="Vary light, blur, noise, occlusion; mirror with the angle.")] = True,
    bf16: Annotated[
        bool, typer.Option(help="bfloat16 convolutions; about twice the speed on CPUs that have it.")
    ] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew although the folder holds a run.")] = False,
) -> None:
    """Learn steering angles from recorded frames.

    Writes best.safetensors (lowest validation RMSE), last.pt (to go on), result.json and tensorboard/ into --out.

    Example:

      edgeflock train steering --data data/train --val data/val --out runs/fadnet --net fadnet --epochs 40
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtra.pip("edgeflock train", "export", error) from error
    from rich.console import Console

    from edgeflock.export.datasets import concatenate, open_dataset
    from edgeflock.export.training.driving import SteeringConfig, train_steering

    if threads is not None:
        torch.set_num_threads(threads)
    config = SteeringConfig(
        net=net, epochs=epochs, batch=batch, lr=lr, seed=seed, shift=shift, augment=augment, bf16=bf16
    )
    training, validation = (concatenate([open_dataset(path) for path in paths]) for paths in (data, val))
    result = train_steering(
        config, training, validation, out, init=init, fresh=fresh, command=shlex.join(["edgeflock", *sys.argv[1:]])
    )
    figures = result["figures"]
    Console().print(
        f"{out / 'best.safetensors'}: validation rmse {figures['rmse']:.4f} rad (epoch {figures['best_epoch']}), "
        f"Constant {figures['constant']:.4f}, Random {figures['random']:.4f}",
        highlight=False,
        soft_wrap=True,
    )
