"""`edgeflock train`: thin, every verb calls one function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from edgeflock.export.datasets.options import AngleUnit, ImageTopic, SteeringTopic, Wheelbase
from edgeflock.export.training.folder import check_run_folder, export_command
from edgeflock.runtime.commands.registry import verbs
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.options import this_command

train_app = typer.Typer(cls=verbs("edgeflock train"), no_args_is_help=True, help="Train a net on recorded data.")


@train_app.callback()
def train() -> None:
    """Train a net on recorded data."""


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
    seed: Annotated[int, typer.Option(min=0, help="Seed of start weights, order, augmentation and dropout.")] = 1204,
    init: Annotated[Path | None, typer.Option(help="Start weights: .safetensors or .pth, also the authors'.")] = None,
    shift: Annotated[int, typer.Option(min=0, max=60, help="Shift images by up to PX, 0.002 rad per pixel.")] = 0,
    augment: Annotated[bool, typer.Option(help="Vary light, blur, noise, occlusion; mirror with the angle.")] = True,
    bf16: Annotated[
        bool, typer.Option(help="bfloat16 convolutions; about twice the speed on CPUs that have it.")
    ] = True,
    image_topic: ImageTopic = None,
    steering_topic: SteeringTopic = None,
    wheelbase: Wheelbase = None,
    unit: AngleUnit = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew although the folder holds a run.")] = False,
) -> None:
    """Learn steering angles from recorded frames.

    Writes best.safetensors (lowest validation RMSE), last.pt (to go on), result.json and tensorboard/ into --out.

    Example:

      edgeflock train steering --data data/train --val data/val --out runs/fadnet --net fadnet --epochs 40
    """
    with needs("edgeflock train"):
        import torch
    from rich.console import Console

    from edgeflock.export.datasets import ReadOptions, concatenate, open_dataset
    from edgeflock.export.datasets.base import check_each_once, implausible
    from edgeflock.export.training.methods.steering import SteeringConfig, train_steering

    check_run_folder(out, [*data, *val], init)
    if threads is not None:
        torch.set_num_threads(threads)
    config = SteeringConfig(
        net=net, epochs=epochs, batch=batch, lr=lr, seed=seed, shift=shift, augment=augment, bf16=bf16
    )
    check_each_once(*data, *val)
    options = ReadOptions(image_topic, steering_topic, wheelbase, unit)
    training, validation = (
        concatenate([open_dataset(path, options=options) for path in paths]) for paths in (data, val)
    )
    problem = None if unit else implausible(training) or implausible(validation)
    if problem:
        raise InputError(f"{problem}. Say what they are: --unit deg, or --unit rad if they are right.")
    result = train_steering(config, training, validation, out, init=init, fresh=fresh, command=this_command())
    figures = result["figures"]
    Console().print(
        f"{out / 'best.safetensors'}: validation rmse {figures['rmse']:.4f} rad (epoch {figures['best_epoch']}), "
        f"Constant {figures['constant']:.4f}, Random {figures['random']:.4f}\n"
        + export_command("steering", out, val, data, **vars(options)),
        highlight=False,
        soft_wrap=True,
    )


def registration(
    data: Annotated[Path, typer.Option(help="Training volumes: the authors' spec (.json) or a folder of NIfTI files.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was interrupted goes on by itself.")],
    val: Annotated[
        Path | None, typer.Option(help="Validation volumes; by default the validation split of --data.")
    ] = None,
    net: Annotated[str, typer.Option(help="ldr, ldr-2, ldr-3, ldr-cheap-head, vtn-affine, ... (docs).")] = "ldr",
    epochs: Annotated[int, typer.Option(min=1)] = 40,
    steps: Annotated[int, typer.Option(min=1, help="Steps per epoch.")] = 100,
    batch: Annotated[int, typer.Option(min=1, help="Pairs per step.")] = 1,
    size: Annotated[int, typer.Option(min=16, help="Side that volumes are averaged to.")] = 128,
    lr: Annotated[float, typer.Option(min=1e-9, help="Peak learning rate of Adam.")] = 1e-3,
    smoothness: Annotated[float, typer.Option(min=0, help="Weight of the flow's smoothness.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of start weights, pairs and augmentation.")] = 1204,
    init: Annotated[Path | None, typer.Option(help="Start weights of the same net.")] = None,
    bf16: Annotated[
        bool, typer.Option(help="bfloat16 convolutions: faster, but VTN's gradients were infinite.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew although the folder holds a run.")] = False,
) -> None:
    """Learn to register volumes, without labels.

    Writes best.safetensors (highest validation Dice, or correlation without segmentations), last.pt (to go on),
    result.json and tensorboard/ into --out.

    Example:

      edgeflock phantoms --out data/phantoms
      edgeflock train registration --data data/phantoms/phantoms.json --out runs/ldr
    """
    with needs("edgeflock train"):
        import torch
    from rich.console import Console

    from edgeflock.export.datasets.volumes import check_apart, open_volumes
    from edgeflock.export.training.methods.registration import RegistrationConfig, train_registration

    check_run_folder(out, [data, val], init)
    if threads is not None:
        torch.set_num_threads(threads)
    config = RegistrationConfig(
        net=net, epochs=epochs, steps=steps, batch=batch, size=size, lr=lr, smoothness=smoothness, seed=seed, bf16=bf16
    )
    training, validation = open_volumes(data, "train"), open_volumes(val or data, "val")
    check_apart(training, validation)
    result = train_registration(config, training, validation, out, init=init, fresh=fresh, command=this_command())
    figures = result["figures"]
    metric = "dice" if "dice" in figures else "correlation"
    Console().print(
        f"{out / 'best.safetensors'}: validation {metric} {figures[metric]:.4f} (epoch {figures['best_epoch']}), "
        f"without registration {figures['constant']:.4f}, folded voxels {figures['folded']:.2%}\n"
        + export_command("registration", out, [val or data], [data] if val else []),
        highlight=False,
        soft_wrap=True,
    )


def emotion(
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was interrupted goes on by itself.")],
    net: Annotated[str, typer.Option(help="glamor, glamor-resnet18, fer-resnet18 or fer-resnet50.")] = "glamor",
    data: Annotated[
        Path | None, typer.Option(help="Training images in a folder per emotion; rendered (synthetic) by default.")
    ] = None,
    val: Annotated[Path | None, typer.Option(help="Validation images in the same form; goes with --data.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=7, help="Training images: rendered ones (7000), of --data at most so many (all).")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    batch: Annotated[int, typer.Option(min=2, help="Images per step.")] = 32,
    lr: Annotated[
        float, typer.Option(min=1e-9, help="Peak learning rate of Adam; it warms up and falls with a cosine.")
    ] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of start weights, order, augmentation and dropout.")] = 1204,
    init: Annotated[
        Path | None, typer.Option(help="Start weights: of the same net, also Keras .npz, or a torchvision ResNet.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=32, max=512, help="Side of faces while training; smaller is faster, then --init.")
    ] = None,
    mismatch: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of samples with another one's context, or the scene may do for the face."
        ),
    ] = 0.0,
    bf16: Annotated[bool, typer.Option(help="bfloat16 convolutions, faster on CPUs that have it.")] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew although the folder holds a run.")] = False,
) -> None:
    """Learn to tell emotions apart, from images or from rendered faces and scenes.

    Writes best.safetensors (highest validation accuracy), last.pt (to go on), result.json and tensorboard/ into --out.

    Example:

      edgeflock train emotion --net glamor --out runs/glamor
    """
    with needs("edgeflock train"):
        import torch
    from rich.console import Console

    from edgeflock.export.datasets.emotion import open_emotion
    from edgeflock.export.nets import EMOTION_NETS, NETS
    from edgeflock.export.training.methods.emotion import EmotionConfig, told_apart, train_emotion

    if net not in EMOTION_NETS:
        raise InputError(f"unknown emotion net {net!r}: choose one of {', '.join(EMOTION_NETS)}.")
    if (data is None) != (val is None):
        raise InputError("--data and --val go together: name both folders, or none for rendered images.")
    check_run_folder(out, [data, val], init)
    if threads is not None:
        torch.set_num_threads(threads)
    config = EmotionConfig(
        net=net, epochs=epochs, batch=batch, lr=lr, seed=seed, size=size, mismatch=mismatch, bf16=bf16
    )
    console = Console()
    training = open_emotion(NETS[net](), data, "train", samples, console)
    validation = open_emotion(NETS[net](), val, "val", console=console)
    validation = told_apart(training, validation)
    result = train_emotion(config, training, validation, out, init=init, fresh=fresh, command=this_command())
    figures = result["figures"]
    console.print(
        f"{out / 'best.safetensors'}: validation accuracy {figures['accuracy']:.3f} on {validation.source} (epoch "
        f"{figures['best_epoch']}), Constant {figures['constant']:.3f}\n"
        + export_command("emotion", out, [val], [data]),
        highlight=False,
        soft_wrap=True,
    )


def ldlva(
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was interrupted goes on by itself.")],
    net: Annotated[str, typer.Option(help="fer-resnet18 or fer-resnet50.")] = "fer-resnet18",
    preset: Annotated[
        Literal["post", "released", "released-affectnet"],
        typer.Option(help="What the post says, or what the authors' code does on RAF-DB and on AffectNet."),
    ] = "post",
    data: Annotated[
        Path | None, typer.Option(help="Training data as in docs/emotion-data.md; rendered (synthetic) by default.")
    ] = None,
    val: Annotated[Path | None, typer.Option(help="Validation data; goes with --data.")] = None,
    affect: Annotated[
        Path | None,
        typer.Option(help="Net (.onnx) that estimates valence and arousal where --data has none, or its affect.csv."),
    ] = None,
    columns: Annotated[
        tuple[int, int] | None, typer.Option(help="Where valence and arousal stand in what --affect gives.")
    ] = None,
    normalise: Annotated[str, typer.Option(help="Pixels that --affect takes: 0..1, -1..1, 0..255, imagenet.")] = "0..1",
    noise: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of training labels to flip, for experiments.")
    ] = 0.0,
    samples: Annotated[
        int | None, typer.Option(min=14, help="Training images: rendered ones (7000), of --data at most so many (all).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="10, and 60 of the released presets.")] = None,
    batch: Annotated[int, typer.Option(min=2, help="Images per step, plus 8 neighbours each.")] = 32,
    lr: Annotated[float | None, typer.Option(min=1e-9, help="Peak learning rate; 1e-3, or the preset's.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of start weights, order, augmentation and flipped labels.")
    ] = 1204,
    init: Annotated[
        Path | None, typer.Option(help="Start weights: of the same net, or of a torchvision ResNet for its trunk.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=32, max=512, help="Side of faces while training; smaller is faster, then --init.")
    ] = None,
    bf16: Annotated[bool, typer.Option(help="bfloat16 convolutions, faster on CPUs that have it.")] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew although the folder holds a run.")] = False,
) -> None:
    """Learn emotions from labels of which some are wrong, and learn which (LDLVA).

    Writes what `edgeflock train emotion` writes, and uncertainty.csv (every training image with its label and how much
    to doubt it), uncertainty.jpg (some of them), method.safetensors (what LDLVA learnt beside the net) into --out.

    Example:

      edgeflock train ldlva --data RAF-DB --val RAF-DB --affect emonet.onnx --out runs/ldlva
    """
    with needs("edgeflock train"):
        import torch
    from rich.console import Console

    from edgeflock.export.datasets.emotion import open_emotion
    from edgeflock.export.datasets.formats.valence_arousal import with_affect
    from edgeflock.export.nets import NETS
    from edgeflock.export.training.methods.emotion import told_apart
    from edgeflock.export.training.methods.ldlva_emotion import LDLVA_NETS, LdlvaConfig, train_ldlva

    if net not in LDLVA_NETS:
        raise InputError(f"LDLVA trains {' or '.join(LDLVA_NETS)}, got {net!r}.")
    if (data is None) != (val is None):
        raise InputError("--data and --val go together: name both, or none for rendered images.")
    check_run_folder(out, [data, val], init)
    if threads is not None:
        torch.set_num_threads(threads)
    config = LdlvaConfig.of(
        preset, net, epochs=epochs, batch=batch, lr=lr, seed=seed, size=size, bf16=bf16, noise=noise
    )
    console = Console()
    training = open_emotion(NETS[net](), data, "train", samples, console)
    validation = open_emotion(NETS[net](), val, "val", console=console)
    validation = told_apart(training, validation)
    if affect is not None:
        out.mkdir(parents=True, exist_ok=True)
        kept = out / "affect.csv"
        if kept.is_file() and not fresh:
            affect = kept
        training = with_affect(training, affect, console, columns=columns, normalise=normalise, keep=kept)
    result = train_ldlva(config, training, validation, out, init=init, fresh=fresh, command=this_command())
    figures = result["figures"]
    found = f", flipped labels found with an AUC of {figures['uncertainty_auc']:.3f}" if noise else ""
    console.print(
        f"{out / 'best.safetensors'}: validation accuracy {figures['accuracy']:.3f} on {validation.source} (epoch "
        f"{figures['best_epoch']}), Constant {figures['constant']:.3f}{found}\n"
        f"{out / 'uncertainty.csv'}: training labels, the most doubtful first; {out / 'uncertainty.jpg'} shows some\n"
        + export_command("emotion", out, [val], [data]),
        highlight=False,
        soft_wrap=True,
    )


def ldlva_digits(
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
    with needs("edgeflock train"):
        import torch
    from rich.console import Console

    from edgeflock.export.training.proofs.ldlva_digits import show_comparison, show_table

    torch.set_num_threads(1)  # the net is so small that more are slower
    console = Console()
    if table is None:
        show_comparison(noise, seed, aux, epochs, json, console)
        return
    try:
        chosen = [int(text) for text in seeds.split(",")]
    except ValueError:
        raise InputError(f"--seeds expects numbers with commas between, as 0,1,2, got {seeds!r}.") from None
    show_table(table, chosen, aux, epochs, console)
