"""`edgeflock data`: look at a recording, and see how well a net fits it, before anyone trains or drives."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from edgeflock.export.datasets import ReadOptions, SteeringDataset, Writable, open_dataset, write_dataset
from edgeflock.export.datasets.base import implausible
from edgeflock.export.datasets.clocks import course
from edgeflock.export.datasets.score import Score
from edgeflock.export.datasets.score import score as scored
from edgeflock.runtime.cameras.camera_info import read_camera
from edgeflock.runtime.commands.registry import verbs
from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.files import check_outputs, write_atomically
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.model_options import Fields, model_options
from edgeflock.runtime.mount import read_mount
from edgeflock.runtime.options import Keys, next_command
from edgeflock.runtime.tasks.steering import SteeringPolicy

data_app = typer.Typer(cls=verbs("edgeflock data"), no_args_is_help=True, help="Look at recordings of driving.")

SHOWN = 12
FRAME = 320, 240


@data_app.callback()
def data() -> None:
    """Look at recordings of driving, and see which net fits them."""


@data_app.command()
@model_options
def show(
    folder: Annotated[Path, typer.Argument(help="Recording, any format of docs/data.md.")],
    reading: Annotated[ReadOptions, Fields()],
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("recording.png"),
) -> None:
    """Draw what a recording holds: frames with their angles, the spread of the angles, their course.

    Example: edgeflock data show data/drive/val/indoor_500 --out recording.png
    """
    from edgeflock.export.datasets.pictures import draw_recording

    check_outputs([out], whole=[folder])
    found, console = open_dataset(folder, options=reading), Console(highlight=False, soft_wrap=True)
    angles = found.angles.astype(np.float64)
    if not len(angles):
        raise InputError(f"expected frames in {folder}, got none.")
    chosen = np.unique(np.linspace(0, len(angles) - 1, SHOWN).astype(int))
    draw_recording(out, found.frames, angles, found.names, chosen)
    console.print(
        f"{len(angles)} frames in {len(found.group_names)} sequences; angles from {angles.min():+.3f} to "
        f"{angles.max():+.3f} rad, mean {angles.mean():+.3f}, standard deviation {angles.std():.3f}, "
        f"{np.mean(np.abs(angles) < 0.02):.0%} within 0.02 rad of straight"
    )
    for problem in (implausible(found), _one_sided(angles), *_clock(found)):
        if problem:
            console.print(f"note: {problem}")
    console.print(f"picture: {out}")
    console.print(next_command("data", "score", folder, *reading.words()))


def _clock(data: SteeringDataset) -> Iterator[str]:
    """How often frames came, and where none came for long; `open_dataset` tells of times that go back."""
    if data.stamps is None:
        return
    step, _, gaps = course(data.stamps, data.groups)
    if math.isfinite(step):
        yield f"frames come every {step * 1000:.0f} ms ({1 / step:.1f} Hz)"
    if len(gaps):
        lengths = data.stamps[gaps] - data.stamps[gaps - 1]
        longest = int(lengths.argmax())
        yield f"{len(gaps)} gaps, the longest of {lengths[longest]:.1f} s before {data.names[gaps[longest]]}"


@data_app.command()
@model_options
def convert(
    folder: Annotated[Path, typer.Argument(help="Recording, any format of docs/data.md.")],
    to: Annotated[Writable, typer.Option(help="Format to write.")],
    out: Annotated[Path, typer.Option(help="New folder.")],
    reading: Annotated[ReadOptions, Fields()],
    fps: Annotated[
        float | None, typer.Option(min=0.1, help="Frames per second (default: by the times of the recording).")
    ] = None,
    holdout: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share at the end of every sequence that becomes val/, beside train/.")
    ] = 0,
) -> None:
    """Write a recording in another format, for tools that read that: grey frames of 320x240, and their angles.

    Example:

      edgeflock data convert data/drive/val/indoor_500 --to donkey --full-lock 0.4 --out tub
      edgeflock data convert tub --full-lock 0.4 --to dronet --holdout 0.2 --out data/mine
    """
    check_outputs(folders=[out], whole=[folder])
    found, console = open_dataset(folder, options=reading), Console(highlight=False, soft_wrap=True)
    if fps:
        found = replace(found, stamps=np.arange(len(found)) / fps)
    held = _at_the_end(found, holdout)
    parts = {out / "train": found.take(~held), out / "val": found.take(held)} if holdout else {out: found}
    for place, part in parts.items():
        write_dataset(part, place, to, reading)
        console.print(f"{place}: {len(part)} frames in {len(np.unique(part.groups))} sequences")
    rest = [f"--full-lock={reading.full_lock}"] if to == "donkey" else []
    if holdout:
        used = [word for option, place in zip(("--data", "--val"), parts, strict=True) for word in (option, place)]
        console.print(next_command("train", "steering", *used, *rest, "--out", "runs/mine"))
    else:
        console.print(next_command("data", "show", out, *rest))


def _at_the_end(data: SteeringDataset, share: float) -> np.ndarray:
    """Bool (N,): the last share of every sequence."""
    held = np.zeros(len(data), bool)
    for group in np.unique(data.groups):
        of_group = np.flatnonzero(data.groups == group)
        held[of_group[len(of_group) - int(share * len(of_group)) :]] = True
    return held


def _one_sided(angles: np.ndarray) -> str | None:
    """Why a net that learns from these labels would pull to one side, or None."""
    if abs(angles.mean()) <= 0.5 * angles.std():
        return None
    side = "left" if angles.mean() > 0 else "right"
    return f"the mean angle is {angles.mean():+.3f} rad: the way bends to the {side} only, or the wheels' middle is off"


@data_app.command()
@model_options
def score(
    folder: Annotated[Path, typer.Argument(help="Recording, any format of docs/data.md.")],
    reading: Annotated[ReadOptions, Fields()],
    bundle: Annotated[Path | None, typer.Option(help="Steering bundle (default: the one of edgeflock).")] = None,
    precision: Annotated[str | None, typer.Option(help="Of the net (default: the bundle's).")] = None,
    mount: Annotated[
        Path | None, typer.Option(help="Of the camera that recorded: what `edgeflock calibrate mount` wrote.")
    ] = None,
    camera: Annotated[Path | None, typer.Option(help="Its lens: what `edgeflock calibrate camera` wrote.")] = None,
    camera_fov: Annotated[
        float | None, typer.Option(min=10, max=150, help="Or its lens, degrees from top to bottom.")
    ] = None,
    key: Keys = None,
    out: Annotated[Path, typer.Option(help="Folder for score.json and score.png.")] = Path("score"),
) -> None:
    """Tell in a minute whether a net fits a robot: its angles against those of a recording.

    Beside it stand the constant answer and a ridge regression that is fitted to the first 70 % of the recording; the
    last 25 % judge both. The picture has the frames that are furthest off.

    Example: edgeflock data score data/drive/val/indoor_500 --mount mount.yaml --camera-fov 58
    """
    if (mount is None) != (camera is None and camera_fov is None) or (camera and camera_fov):
        raise InputError("expected --mount together with one of --camera and --camera-fov, or none of the three.")
    check_outputs([out / "score.json", out / "score.png"], [out], [mount, camera], whole=[folder, bundle])
    found, console = open_dataset(folder, options=reading), Console(highlight=False, soft_wrap=True)
    policy = SteeringPolicy(bundle, precision, keys=key)
    if mount:
        lens = Intrinsics.of_lens(*FRAME, math.radians(camera_fov)) if camera_fov else read_camera(camera or Path())
        seen = policy.look_through(lens.resized(*FRAME), read_mount(mount)).coverage
        console.print(f"frames are brought to the view of the trained camera; this one sees {seen:.0%} of it")
    result = scored(found, policy)
    _print(result, console)
    plain = {name: value for name, value in asdict(result).items() if name != "angles"}
    about = {"frames": len(found), "bundle_sha256": policy.bundle.digest, "precision": policy.precision}
    write_atomically(out / "score.json", json.dumps({**about, **plain, "verdict": result.verdict()}, indent=2) + "\n")
    _draw(out / "score.png", found, result, console)
    console.print(f"{result.verdict()}; report: {out}")
    if result.fits:
        console.print(next_command("drive", "--source", "realsense", *(("--mount", mount) if mount else ())))
    else:
        console.print(next_command("train", "steering", "--help"))


def _print(result: Score, console: Console) -> None:
    from rich.table import Table

    table = Table("", "r", "side", "RMSE, rad", "of Constant's")
    for name, fit, constant in (
        ("the net", result.net, result.constant),
        ("the net, last quarter", result.last_net, result.last_constant),
        ("ridge regression, last quarter", result.last_ridge, result.last_constant),
    ):
        table.add_row(name, f"{fit.r:.2f}", f"{fit.side:.2f}", f"{fit.rmse:.3f}", f"{fit.rmse / constant:.2f}")
    console.print(table)
    console.print(
        f"Constant: {result.constant:.3f} rad. Best gain {result.gain:.2f} and bias {result.bias:+.3f} rad: RMSE "
        f"{result.fitted:.3f} rad."
    )


def _draw(file: Path, data: SteeringDataset, result: Score, console: Console) -> None:
    from edgeflock.export.datasets.pictures import draw_answers

    wanted = data.angles.astype(np.float64)
    try:
        draw_answers(file, data.frames, wanted, result.angles, data.names, result.worst(wanted, 8))
    except MissingExtra as missing:
        console.print(f"No picture: {missing}")
