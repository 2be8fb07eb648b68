"""The task beside ANTs' SyN on the same labelled pairs: Dice, folds and time in one table.

SyN (Avants et al., 2008, https://doi.org/10.1016/j.media.2007.06.004) searches each pair anew, after an affine map.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from edgeflock.export.bench.figures import write_figures
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import check_record
from edgeflock.runtime.options import Keys, next_command

if TYPE_CHECKING:
    from edgeflock.export.datasets.volumes import Volume
    from edgeflock.runtime.tasks.registration import Registration

NOT, SYN = "not registered", "ANTs SyN"
SEED = 1


@dataclass(frozen=True)
class Answer:
    """What one way makes of a pair: moving and its labels on fixed, and as in `Figures`."""

    warped: np.ndarray
    labels: np.ndarray
    folded: float
    jacobian_std: float
    cpu_s: float


@dataclass(frozen=True)
class Figures:
    """One way on one pair.

    Attributes
    ----------
    way, pair : str
    dice, correlation : float
        Mean Dice over the labels of both; correlation of the intensities.
    folded, jacobian_std : float
        Share of the voxels whose Jacobian determinant is not positive, and its standard deviation. SyN's without its
        affine map.
    cpu_s : float
        CPU time from two volumes to field and warped volume, all threads.
    """

    way: str
    pair: str
    dice: float
    correlation: float
    folded: float
    jacobian_std: float
    cpu_s: float


def syn_bars(
    data: Annotated[
        list[Path], typer.Option(help="Labelled volumes, as for `edgeflock train registration`; repeat to join.")
    ],
    bundle: Annotated[Path | None, typer.Option(help="Registration bundle; by default the one that ships.")] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Validation pairs, spread over all.")] = 4,
    out: Annotated[Path | None, typer.Option(help="JSON file; the table is written beside it as .md.")] = None,
    key: Keys = None,
) -> None:
    """Compare a registration bundle with ANTs' SyN on validation pairs.

    Example:

      edgeflock bench syn --data data/phantoms/phantoms.json --pairs 2
    """
    from rich.progress import track

    from edgeflock.export.datasets.volumes import open_places
    from edgeflock.runtime.tasks.registration import Registration

    check_record(out)
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")  # as the task; read at the import
    with needs("The comparison with SyN"):
        import ants
    volumes = open_places(data, "val")
    task = Registration(bundle, threads=1, keys=key)
    ours = f"{task.bundle.manifest.net} {task.precision}"
    rows: list[Figures] = []
    for fixed, moving in track(volumes.some_pairs(pairs), "pairs"):
        name = f"{volumes.names[moving]} onto {volumes.names[fixed]}"
        still, moved = volumes[fixed], volumes[moving]
        if still.labels is None or moved.labels is None:
            raise InputError(f"{name}: expected segmentations of both, which the Dice is taken of.")
        rows += [
            _row(NOT, name, still, Answer(moved.image, moved.labels, 0.0, 0.0, 0.0)),
            _row(ours, name, still, by_task(task, still, moved)),
            _row(SYN, name, still, by_syn(ants, still, moved)),
        ]
    table = markdown(rows)
    print(table)
    if out:
        write_figures(out, table, rows, "edgeflock", "onnxruntime", "antspyx", size=volumes.size, pairs=pairs)
    typer.echo(next_command("register", "fixed.nii.gz", "moving.nii.gz"), err=True)


def by_task(task: Registration, fixed: Volume, moving: Volume) -> Answer:
    """The bundle's net."""
    from edgeflock.runtime.prepare.volume import warp

    assert moving.labels is not None
    begun = time.process_time()
    result = task(fixed.image, moving.image)
    spent = time.process_time() - begun
    labels = warp(moving.labels, result.flow, nearest=True)
    return Answer(result.warped, labels, result.jacobian.folded, result.jacobian.std, spent)


def by_syn(ants: Any, fixed: Volume, moving: Volume) -> Answer:
    """`ants.registration` as it comes: an affine map by mutual information, then SyN."""
    assert moving.labels is not None
    still, moved, organs = (
        ants.from_numpy(volume.astype(np.float32)) for volume in (fixed.image, moving.image, moving.labels)
    )
    begun = time.process_time()
    found = ants.registration(still, moved, type_of_transform="SyN", random_seed=SEED)
    spent = time.process_time() - begun
    field, *_ = found["fwdtransforms"]
    labels = ants.apply_transforms(still, organs, found["fwdtransforms"], interpolator="nearestNeighbor").numpy()
    determinant = ants.create_jacobian_determinant_image(still, field).numpy()
    for file in {*found["fwdtransforms"], *found["invtransforms"]}:
        Path(file).unlink(missing_ok=True)
    folded = float((determinant <= 0).mean())
    return Answer(found["warpedmovout"].numpy(), labels, folded, float(determinant.std()), spent)


def _row(way: str, pair: str, fixed: Volume, answer: Answer) -> Figures:
    from edgeflock.runtime.prepare.volume import dice

    assert fixed.labels is not None
    classes = tuple(value for value in np.unique(fixed.labels).tolist() if value)
    return Figures(
        way,
        pair,
        dice(answer.labels, fixed.labels, classes),
        float(np.corrcoef(fixed.image.ravel(), answer.warped.ravel())[0, 1]),
        answer.folded,
        answer.jacobian_std,
        answer.cpu_s,
    )


def markdown(rows: Sequence[Figures]) -> str:
    """Means over the pairs, a line for each way."""
    lines = [
        "| | pairs | Dice | correlation | folded voxels | std of the Jacobian | CPU s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for way in dict.fromkeys(row.way for row in rows):
        own = [row for row in rows if row.way == way]
        values = np.array([[r.dice, r.correlation, r.folded, r.jacobian_std, r.cpu_s] for r in own]).mean(0)
        score, correlation, folded, std, seconds = values
        lines.append(
            f"| {way} | {len(own)} | {score:.3f} | {correlation:.3f} | {folded:.3%} | {std:.3f} | {seconds:.2f} |"
        )
    return "\n".join(lines)
