"""`edgeflock train gcd` and `edgeflock train gdancer`: thin, each calls one function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeflock.export.training.config import DanceConfig, GcdConfig, GdancerConfig
from edgeflock.export.training.folder import check_run_folder
from edgeflock.export.training.options import Fresh, Out, Threads, use_torch
from edgeflock.runtime.model_options import Fields, model_options
from edgeflock.runtime.options import next_command, this_command

Data = Annotated[Path, typer.Option(help="Dances in AIOZ-GDANCE's layout with splits train and val (docs/dance.md).")]


@model_options
def gcd(
    data: Data,
    out: Out,
    config: Annotated[
        GcdConfig,
        Fields("net", "preset", "epochs", "batch", "lr", "seed", "foot", "nce", "negatives", "drop", "bf16"),
    ],
    threads: Threads = None,
    fresh: Fresh = False,
) -> None:
    """Learn to dance as a group, by diffusion with a contrastive encoder (GCD).

    Writes best.safetensors (lowest validation error), method.safetensors (the contrastive encoder), last.pt (to go on),
    result.json and tensorboard/ into --out.

    Example:

      edgeflock dances --out data/dances
      edgeflock train gcd --data data/dances --out runs/gcd
    """
    use_torch(threads)
    from edgeflock.export.training.methods.dance import train_gcd

    _train(train_gcd, config, data, out, fresh, "validation error {error:.4f}")


@model_options
def gdancer(
    data: Data,
    out: Out,
    config: Annotated[GdancerConfig, Fields("net", "epochs", "batch", "lr", "seed", "foot", "forced", "bf16")],
    threads: Threads = None,
    fresh: Fresh = False,
) -> None:
    """Learn to dance as a group, frame by frame (GDanceR).

    Writes best.safetensors (smallest distance from the true dance), last.pt (to go on), result.json and tensorboard/
    into --out.

    Example:

      edgeflock dances --out data/dances
      edgeflock train gdancer --data data/dances --out runs/gdancer
    """
    use_torch(threads)
    from edgeflock.export.training.methods.dance import train_gdancer

    _train(train_gdancer, config, data, out, fresh, "validation distance {distance:.4f} m")


def _train(
    train: Callable[..., dict[str, Any]], config: DanceConfig, data: Path, out: Path, fresh: bool, told: str
) -> None:
    from rich.console import Console

    from edgeflock.export.datasets.dances import open_dances

    check_run_folder(out, [data])
    console = Console(soft_wrap=True, highlight=False)
    training, validation = (open_dances(data, split, console) for split in ("train", "val"))
    figures = train(config, training, validation, out, fresh=fresh, command=this_command())["figures"]
    weights = out / "best.safetensors"
    console.print(
        f"{weights}: {told.format(**figures)} (epoch {figures['best_epoch']}), Constant {figures['constant']:.4f}\n"
        + next_command("dance", "perform", "MUSIC", "--weights", weights, "--out", "dance")
    )
