"""`edgeflock train`: thin, every verb calls one function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgeflock.export.datasets.options import ReadOptions
from edgeflock.export.training.config import (
    EmotionConfig,
    EmotionSource,
    LdlvaConfig,
    RegistrationConfig,
    SteeringConfig,
)
from edgeflock.export.training.folder import check_run_folder, export_command, registration_summary
from edgeflock.export.training.options import Fresh, Out, Threads, seeds_of, use_torch
from edgeflock.runtime.commands.registry import verbs
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import check_outputs, sha256_of, write_atomically
from edgeflock.runtime.model_options import Fields, model_options
from edgeflock.runtime.options import next_command, refuse_unused, this_command

train_app = typer.Typer(
    cls=verbs("edgeflock train", "edgeflock.train"), no_args_is_help=True, help="Train a net on recorded data."
)


@train_app.callback()
def train() -> None:
    """Train a net on recorded data."""


@model_options
def steering(
    data: Annotated[list[Path], typer.Option(help="Training data, any format of docs/data.md; repeat to join.")],
    val: Annotated[list[Path], typer.Option(help="Validation data; repeat to join.")],
    out: Out,
    config: Annotated[SteeringConfig, Fields("net", "epochs", "batch", "lr", "seed", "shift", "augment", "bf16")],
    reading: Annotated[ReadOptions, Fields()],
    init: Annotated[Path | None, typer.Option(help="Start weights: .safetensors or .pth, also the authors'.")] = None,
    threads: Threads = None,
    fresh: Fresh = False,
) -> None:
    """Learn steering angles from recorded frames.

    Writes best.safetensors (lowest validation RMSE), last.pt (to go on), result.json and tensorboard/ into --out.

    Example:

      edgeflock train steering --data data/train --val data/val --out runs/fadnet --net fadnet --epochs 40
    """
    use_torch(threads)
    from rich.console import Console

    from edgeflock.export.datasets import concatenate, open_dataset
    from edgeflock.export.datasets.base import check_each_once, implausible
    from edgeflock.export.training.methods.steering import train_steering

    check_run_folder(out, [*data, *val], init)
    check_each_once(*data, *val)
    training, validation = (
        concatenate([open_dataset(path, options=reading) for path in paths]) for paths in (data, val)
    )
    problem = None if reading.unit else implausible(training) or implausible(validation)
    if problem:
        raise InputError(f"{problem}. Say what they are: --unit deg, or --unit rad if they are right.")
    result = train_steering(config, training, validation, out, init=init, fresh=fresh, command=this_command())
    figures = result["figures"]
    Console().print(
        f"{out / 'best.safetensors'}: validation rmse {figures['rmse']:.4f} rad (epoch {figures['best_epoch']}), "
        f"Constant {figures['constant']:.4f}, Random {figures['random']:.4f}\n"
        + export_command("steering", out, val, data, reading.words()),
        highlight=False,
        soft_wrap=True,
    )


@model_options
def registration(
    data: Annotated[
        list[Path],
        typer.Option(help="Training volumes: the authors' spec (.json) or a folder of NIfTI files; repeat to join."),
    ],
    out: Out,
    config: Annotated[
        RegistrationConfig,
        Fields("net", "epochs", "steps", "batch", "size", "lr", "smoothness", "seed", "bf16"),
    ],
    val: Annotated[
        list[Path] | None,
        typer.Option(help="Validation volumes; by default the validation split of --data; repeat to join."),
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Start weights of the same net.")] = None,
    threads: Threads = None,
    fresh: Fresh = False,
) -> None:
    """Learn to register volumes, without labels. Pairs lie within one --data.

    Writes best.safetensors (highest validation Dice, or correlation without segmentations), last.pt (to go on),
    result.json and tensorboard/ into --out.

    Example:

      edgeflock phantoms --out data/phantoms
      edgeflock train registration --data data/phantoms/phantoms.json --out runs/ldr
    """
    use_torch(threads)
    from rich.console import Console

    from edgeflock.export.datasets.volumes import check_apart, open_places
    from edgeflock.export.training.methods.registration import train_registration

    check_run_folder(out, [*data, *(val or [])], init)
    training, validation = open_places(data, "train"), open_places(val or data, "val")
    check_apart(training, validation)
    result = train_registration(config, training, validation, out, init=init, fresh=fresh, command=this_command())
    Console().print(registration_summary(out, result, data, val), highlight=False, soft_wrap=True)


@model_options
def emotion(
    out: Out,
    source: Annotated[EmotionSource, Fields()],
    config: Annotated[EmotionConfig, Fields("net", "epochs", "batch", "lr", "seed", "size", "mismatch", "bf16")],
    init: Annotated[
        Path | None, typer.Option(help="Start weights: of the same net, also Keras .npz, or a torchvision ResNet.")
    ] = None,
    threads: Threads = None,
    fresh: Fresh = False,
) -> None:
    """Learn to tell emotions apart, from images or from rendered faces and scenes.

    Writes best.safetensors (highest validation accuracy), last.pt (to go on), result.json and tensorboard/ into --out.

    Example:

      edgeflock train emotion --net glamor --out runs/glamor
    """
    use_torch(threads)
    from rich.console import Console

    from edgeflock.export.nets import EMOTION_NETS
    from edgeflock.export.training.methods.emotion import open_both, train_emotion

    if config.net not in EMOTION_NETS:
        raise InputError(f"unknown emotion net {config.net!r}: choose one of {', '.join(EMOTION_NETS)}.")
    check_run_folder(out, [source.data, source.val], init)
    console = Console()
    training, validation = open_both(config.net, source, console)
    result = train_emotion(config, training, validation, out, init=init, fresh=fresh, command=this_command())
    figures = result["figures"]
    console.print(
        f"{out / 'best.safetensors'}: validation accuracy {figures['accuracy']:.3f} on {validation.source} (epoch "
        f"{figures['best_epoch']}), Constant {figures['constant']:.3f}\n"
        + export_command("emotion", out, [source.val], [source.data]),
        highlight=False,
        soft_wrap=True,
    )


@model_options
def ldlva(
    context: typer.Context,
    out: Out,
    source: Annotated[EmotionSource, Fields()],
    config: Annotated[LdlvaConfig, Fields("net", "preset", "epochs", "batch", "lr", "seed", "size", "bf16", "noise")],
    affect: Annotated[
        Path | None,
        typer.Option(help="Net (.onnx) that estimates valence and arousal where --data has none, or its affect.csv."),
    ] = None,
    columns: Annotated[
        tuple[int, int] | None, typer.Option(help="Where valence and arousal stand in what --affect gives.")
    ] = None,
    normalise: Annotated[str, typer.Option(help="Pixels that --affect takes: 0..1, -1..1, 0..255, imagenet.")] = "0..1",
    init: Annotated[
        Path | None, typer.Option(help="Start weights: of the same net, or of a torchvision ResNet for its trunk.")
    ] = None,
    threads: Threads = None,
    fresh: Fresh = False,
) -> None:
    """Learn emotions from labels of which some are wrong, and learn which (LDLVA).

    Writes what `edgeflock train emotion` writes, and uncertainty.csv (every training image with its label and how much
    to doubt it), uncertainty.jpg (some of them), method.safetensors (what LDLVA learnt beside the net) into --out.

    Example:

      edgeflock train ldlva --data RAF-DB --val RAF-DB --affect emonet.onnx --out runs/ldlva
    """
    use_torch(threads)
    from rich.console import Console

    from edgeflock.export.datasets.formats.valence_arousal import with_affect
    from edgeflock.export.training.methods.emotion import open_both
    from edgeflock.export.training.methods.ldlva_emotion import LDLVA_NETS, train_ldlva

    if config.net not in LDLVA_NETS:
        raise InputError(f"LDLVA trains {' or '.join(LDLVA_NETS)}, got {config.net!r}.")
    check_run_folder(out, [source.data, source.val], init)
    console = Console()
    training, validation = open_both(config.net, source, console)
    if affect is None:
        refuse_unused(context, "without --affect", "columns", "normalise")
    else:
        out.mkdir(parents=True, exist_ok=True)
        kept, origin = out / "affect.csv", out / "affect.json"
        made = json.dumps({"sha256": sha256_of(affect), "columns": columns, "normalise": normalise})
        if kept.is_file() and not fresh and origin.is_file() and origin.read_text() == made:
            affect = kept
        training = with_affect(training, affect, console, columns=columns, normalise=normalise, keep=kept)
        write_atomically(origin, made)  # last: what is kept answers for the same estimator alone
    result = train_ldlva(config, training, validation, out, init=init, fresh=fresh, command=this_command())
    figures = result["figures"]
    found = f", flipped labels found with an AUC of {figures['uncertainty_auc']:.3f}" if config.noise else ""
    console.print(
        f"{out / 'best.safetensors'}: validation accuracy {figures['accuracy']:.3f} on {validation.source} (epoch "
        f"{figures['best_epoch']}), Constant {figures['constant']:.3f}{found}\n"
        f"{out / 'uncertainty.csv'}: training labels, the most doubtful first; {out / 'uncertainty.jpg'} shows some\n"
        + export_command("emotion", out, [source.val], [source.data]),
        highlight=False,
        soft_wrap=True,
    )


def ldlva_digits(
    context: typer.Context,
    noise: Annotated[float, typer.Option(min=0, max=0.99, help="Share of training labels to flip.")] = 0.4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of split, flipped labels, start weights and order.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write the figures here.")] = None,
    aux: Annotated[
        Literal["tsne-2", "pca-2", "pca-8"],
        typer.Option(help="Map of the images, made without labels, in place of valence-arousal."),
    ] = "tsne-2",
    epochs: Annotated[int, typer.Option(min=1)] = 40,
    table: Annotated[
        Path | None,
        typer.Option(help="Folder for a table and a picture of 0, 20 and 40 % noise; goes on where it stopped."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the table.")] = "0,1,2",
) -> None:
    """Prove LDLVA on scikit-learn's digits with flipped labels: cross-entropy against LDLVA.

    Writes {"ce_accuracy", "ldlva_accuracy", "uncertainty_auc"} of the last epoch into --json; the AUC says how well the
    learnt uncertainty tells flipped labels from right ones (null without noise).

    Example:

      edgeflock train ldlva-digits --noise 0.4 --seed 0 --json digits.json
      edgeflock train ldlva-digits --table runs/digits
    """
    use_torch(threads=1)  # the net is so small that more are slower
    from rich.console import Console

    from edgeflock.export.training.proofs.ldlva_digits import show_comparison, show_table

    console = Console()
    if table is None:
        refuse_unused(context, "without --table", "seeds")
        check_outputs([json])
        show_comparison(noise, seed, aux, epochs, json, console)
    else:
        refuse_unused(context, "with --table, which has noise, seeds and files of its own", "noise", "seed", "json")
        check_outputs(folders=[table])
        show_table(table, seeds_of(seeds), aux, epochs, console)
    typer.echo(next_command("train", "ldlva", "--data", "RAF-DB", "--val", "RAF-DB", "--out", "runs/ldlva"))
