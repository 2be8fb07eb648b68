"""A net and its frames, brought together: what each tells of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from edgeflock.export.datasets.options import ReadOptions
from edgeflock.export.foreign.frames import open_frames
from edgeflock.export.foreign.graph import outputs_of, shapes_of
from edgeflock.export.foreign.meaning import Meaning, Taken, meanings, read_meanings, taken_of
from edgeflock.export.foreign.source import Source, open_source
from edgeflock.export.recipe import Samples


@dataclass(frozen=True)
class Opened:
    """A net with what goes into it."""

    source: Source
    inputs: list[Taken]
    validation: Samples
    calibration: Samples | None


def open_net(
    source: str,
    weights: Path | None,
    meaning: Meaning,
    file: Path | None,
    val: Path,
    calib: Path | None,
    counts: tuple[int, int],
    reading: ReadOptions,
    labels: Sequence[str],
    console: Console,
) -> Opened:
    """Read a net and its frames, and say what its inputs were taken for.

    Parameters
    ----------
    source, weights
        See `edgeflock.export.foreign.source.open_source`.
    meaning, file
        What the only input is, or a YAML file with what each is.
    val, calib : Path
        Frames, see `edgeflock.export.foreign.frames.open_frames`.
    counts : (int, int)
        Of validation and calibration samples, at most.
    reading : ReadOptions
    labels : sequence of str
        Names of the classes that the net tells apart, where they are told.
    console : Console

    Raises
    ------
    InputError, DataError
        What is wrong with net, frames or what is told of them.
    """
    told = read_meanings(file) if file else {"": meaning}
    shapes = {name: one.wanted for name, one in told.items() if one.wanted}
    judged, seen = open_frames(val, reading, labels), open_frames(calib, reading, labels) if calib else None
    given = {name: (1, *shape[1:]) for name, (shape, dtype) in judged.arrays.items() if dtype.kind == "f"}
    with console.status(f"reading {source} ..."):
        opened = open_source(source, weights, shapes, given)
    ends = shapes_of(opened.model)
    judged, seen = judged.of(list(ends)), seen.of(list(ends)) if seen else None
    dtypes = {name: dtype for name, (_, dtype) in judged.arrays.items()}
    inputs = taken_of(ends, meanings(meaning, file, list(ends)), dtypes)
    for taken in inputs:
        console.print(f"[green]input[/green] {taken}", highlight=False, soft_wrap=True)
    for name, (shape, dtype) in outputs_of(opened.model).items():
        console.print(
            f"[green]output[/green] {name}: {dtype} {list(shape)}", highlight=False, soft_wrap=True, markup=True
        )
    with console.status("reading frames ..."):
        return Opened(
            opened, inputs, judged.samples(inputs, counts[0]), seen.samples(inputs, counts[1]) if seen else None
        )
