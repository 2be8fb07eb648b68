"""`edgeflock calibrate share` and `worth`: INT8 ranges from a whole fleet's frames, of which none leaves its robot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import typer

from edgeflock.calibration.histogram import merged
from edgeflock.calibration.observe import OnProgress, observe, progress
from edgeflock.calibration.ranges import Method, ranges_of
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import check_outputs, write_atomically
from edgeflock.runtime.options import Keys, next_command

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from onnx import ModelProto

    from edgeflock.export.datasets import SteeringDataset

Feeds = Mapping[str, np.ndarray]


def share(
    weights: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Weights that will be exported.")],
    calib: Annotated[list[Path], typer.Option(help="This robot's own frames; repeat to join.")],
    robot: Annotated[str, typer.Option(help="Name of this robot in the roster.")],
    roster: Annotated[Path, typer.Option(help="The fleet's roster.json.")],
    key: Annotated[Path, typer.Option(help="This robot's private key.")],
    out: Annotated[Path, typer.Option(help="File for the others' `edgeflock fleet promote --shared`.")],
    frames: Annotated[int, typer.Option(min=1, help="How many frames, chosen by angle and brightness.")] = 128,
) -> None:
    """Sign histograms of a steering net's activations on this robot's frames, for the INT8 ranges of its whole fleet.

    The frames stay here. Every robot shares the histograms of the same weights.

    Example:

      edgeflock calibrate share --weights model.safetensors --calib data/r1/train --robot r1 --roster roster.json
      --key r1.pem --out r1.hist
    """
    from rich.console import Console

    from edgeflock.runtime.bundle.signing import read_private_key
    from edgeflock.runtime.fleet.peer.roster import read_roster

    check_outputs([out], inputs=[weights, roster, key], whole=calib)
    members, secret = read_roster(roster).roster, read_private_key(key)
    if secret.public_key().public_bytes_raw() not in members.public_keys().get(robot, set()):
        raise InputError(f"{key} is not the key of '{robot}' in {roster}: name the right robot or key.")
    console = Console()
    with progress(console) as on_progress:
        share_histograms(weights, _read(calib), members.run, robot, secret, out, frames, on_progress=on_progress)
    console.print(f"{out}: {out.stat().st_size:,} bytes for the other robots", highlight=False, soft_wrap=True)
    line = next_command(
        "fleet", "promote", "driving", "--weights", weights, "--data", "VAL", "--calib", calib[0], "--key", key,
        "--roster", roster, "--shared", "OTHER.hist",
    )  # fmt: skip
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def share_histograms(
    weights: Path,
    data: SteeringDataset,
    run: str,
    robot: str,
    key: Ed25519PrivateKey,
    out: Path,
    frames: int,
    *,
    on_progress: OnProgress | None = None,
) -> None:
    """Observe a steering net on a robot's frames, as its export does, and write what was seen, signed.

    Parameters
    ----------
    weights : Path
    data : SteeringDataset
        The robot's own frames; `frames` of them are taken, by coverage of angle and brightness.
    run, robot : str
        As the roster names them.
    key : Ed25519PrivateKey
    out : Path
    frames : int
    on_progress : callable, optional
        See `edgeflock.calibration.observe.OnProgress`.
    """
    from edgeflock.calibration.frames import representative_frames
    from edgeflock.calibration.shared import write_shared
    from edgeflock.export.graph import ExportedNet
    from edgeflock.export.recipes.steering import samples
    from edgeflock.runtime.prepare.frame import STEERING_INPUT
    from edgeflock.runtime.tasks.steering import STEERING_OUTPUT

    chosen = data.take(representative_frames(data.frames, data.angles, frames))
    if exported := ExportedNet.beside(weights):
        net = exported.model
    else:
        from edgeflock.export.onnx import export_specs
        from edgeflock.export.training.loop.checkpoint import load_checkpoint

        net = export_specs(load_checkpoint(weights)[1], [STEERING_INPUT], [STEERING_OUTPUT])
    seen = observe(net, dict(samples(chosen).feeds), on_progress=on_progress)
    write_shared(out, seen, net, run, robot, key)


def worth(
    folders: Annotated[list[Path], typer.Argument(help="Data of two robots or more, each with train/ and val/.")],
    bundle: Annotated[Path | None, typer.Option(help="Steering bundle; by default the one that ships.")] = None,
    form: Annotated[Literal["int8", "int8-qnn", "int8-trt"], typer.Option(help="Quantised form.")] = "int8",
    method: Annotated[Method, typer.Option(help="How ranges are found.")] = "entropy",
    frames: Annotated[int, typer.Option(min=1, help="Calibration frames of each robot.")] = 128,
    key: Keys = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the figures too.")] = None,
) -> None:
    """Show what merging the ranges of a fleet is worth: INT8 error on each robot's own frames, by whose ranges.

    Example:

      edgeflock calibrate worth data/r1 data/r2 data/r3
    """
    with needs("edgeflock calibrate worth"):
        import onnx
    from rich.console import Console
    from rich.table import Table

    from edgeflock.calibration.frames import representative_frames
    from edgeflock.export.recipes.steering import samples
    from edgeflock.runtime.bundle.bundle import Bundle, default_bundle

    if len(folders) < 2:
        raise InputError(f"expected the data of two robots or more, got {len(folders)} folder.")
    check_outputs([as_json], whole=folders)
    net = onnx.load(Bundle.open(bundle or default_bundle(), key).artefact("fp32"))
    calibration: dict[str, Feeds] = {}
    validation: dict[str, tuple[Feeds, np.ndarray]] = {}
    for folder in folders:
        train, val = _read([folder / "train"]), _read([folder / "val"])
        train = train.take(representative_frames(train.frames, train.angles, frames))
        calibration[folder.name] = samples(train).feeds
        validation[folder.name] = samples(val).feeds, val.angles
    if len(calibration) < len(folders):
        raise InputError("two of these folders have one name: a robot is named after its folder.")
    console = Console()
    with progress(console, "comparing") as update:
        rows, exact = compare_ranges(net, calibration, validation, form, method, on_progress=update)
    title = f"{form}, {method}, {frames} frames of each robot: RMS distance from fp32 on its own held-out frames, mrad"
    table = Table("robot", "own", "merged", "centralised", "worst other's", "fp32 RMSE to labels", title=title)
    for row in rows:
        figures = (row.own, row.merged, row.centralised, row.worst_other, row.fp32_rmse)
        table.add_row(row.robot, *(f"{1000 * figure:.2f}" for figure in figures))
    console.print(table)
    same = "the same" if exact else "other ones"
    console.print(f"merged and centralised ranges are {same}, bit for bit", highlight=False)
    if as_json:
        write_atomically(as_json, json.dumps([asdict(row) for row in rows], indent=1) + "\n")


@dataclass(frozen=True)
class Row:
    """RMS distance from fp32 on a robot's own held-out frames, rad, by whose frames the ranges come from."""

    robot: str
    own: float
    merged: float
    centralised: float
    worst_other: float
    """With the ranges of that other robot that do worst here."""
    fp32_rmse: float
    """Of fp32, to the labels."""


def compare_ranges(
    net: ModelProto,
    calibration: Mapping[str, Feeds],
    validation: Mapping[str, tuple[Feeds, np.ndarray]],
    form: str,
    method: Method,
    *,
    cache: Path | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[list[Row], bool]:
    """Quantise a net by each robot's ranges, by the merged ones and by those of all frames in one place.

    Parameters
    ----------
    net : onnx.ModelProto
        Float, of one output.
    calibration, validation : mapping
        By robot: calibration samples by input; held-out samples and their labels (N,).
    form, method
        See `edgeflock.export.quantise.forms.FORMS` and `edgeflock.calibration.ranges.range_of`.
    cache, on_progress
        See `edgeflock.calibration.observe.observe`.

    Returns
    -------
    list of Row
    bool
        Whether merged and centralised ranges are the same, bit for bit.
    """
    from edgeflock.export.onnx import predict
    from edgeflock.export.quantise.forms import FORMS, quantize

    seen = {robot: observe(net, dict(feeds), cache=cache) for robot, feeds in calibration.items()}
    pooled = {name: np.concatenate([feeds[name] for feeds in calibration.values()]) for name in _inputs(calibration)}
    sources = dict(seen) | {"merged": merged(list(seen.values())), "centralised": observe(net, pooled, cache=cache)}
    answers: dict[str, dict[str, np.ndarray]] = {}
    reference = {robot: _answer(predict(net, feeds)) for robot, (feeds, _) in validation.items()}
    ranges = {
        source: ranges_of(
            net, histograms, method, symmetric=FORMS[form].symmetric, output_margin=FORMS[form].output_margin
        )
        for source, histograms in sources.items()
    }
    for i, source in enumerate(sources):
        quantised = quantize(net, ranges[source], form)
        answers[source] = {robot: _answer(predict(quantised, feeds)) for robot, (feeds, _) in validation.items()}
        if on_progress:
            on_progress(i + 1, len(sources), "")

    def error(source: str, robot: str) -> float:
        return _rms(answers[source][robot] - reference[robot])

    rows = [
        Row(
            robot,
            error(robot, robot),
            error("merged", robot),
            error("centralised", robot),
            max(error(other, robot) for other in seen if other != robot),
            _rms(reference[robot] - validation[robot][1]),
        )
        for robot in seen
    ]
    ours, theirs = (dict(ranges[source].items()) for source in ("merged", "centralised"))
    return rows, all(ours[name].range_value == theirs[name].range_value for name in ours)


def _inputs(calibration: Mapping[str, Feeds]) -> Sequence[str]:
    return list(next(iter(calibration.values())))


def _answer(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    (answer,) = outputs.values()
    return answer[:, 0].astype(np.float64)


def _rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(error))))


def _read(paths: list[Path]) -> SteeringDataset:
    from edgeflock.export.datasets import concatenate, open_dataset

    return concatenate([open_dataset(path) for path in paths])
