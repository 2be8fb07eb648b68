"""How much faster LDR is than its teacher on this CPU: every net through the same engines, side by side.

The post claims 15 times against VTN with affine; the multiplications say 1.35 (docs/ldr-speed.md).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from edgeflock.export.bench.figures import write_figures
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import check_record
from edgeflock.runtime.options import next_command

if TYPE_CHECKING:
    import onnx
    from torch import nn

CPU_ENGINES = ("onnxruntime-cpu", "openvino")
STUDENT, TEACHER = "ldr", "vtn + affine"
SUBJECTS = {
    STUDENT: ("ldr",),
    "ldr-cheap-head": ("ldr-cheap-head",),
    TEACHER: ("affine", "vtn"),
    "vtn-affine": ("vtn-affine",),
    "ldr-released": ("ldr-released",),
    "voxelmorph": ("voxelmorph",),
}
"""Rows of the table, and the graphs that each runs. "vtn + affine" is the two nets alone; "vtn-affine" also warps the
image between them and composes the flows."""

FLOAT_ONLY = ("ldr-released", "voxelmorph")
"""Convolutions 3^3 at full size: with their slices stacked, activations would take three times their memory."""


@dataclass(frozen=True)
class Contestant:
    """A row of the table before it is measured.

    Attributes
    ----------
    net : str
        Key of `SUBJECTS`.
    parameters : int
    gmacs : float
        10^9 multiplications in convolutions.
    files : dict
        ONNX files by precision, in the order in which they run.
    """

    net: str
    parameters: int
    gmacs: float
    files: dict[str, list[Path]]


@dataclass(frozen=True)
class RegistrationFigures:
    """One net on one engine.

    Attributes
    ----------
    net, engine, precision : str
    threads, parameters : int
    gmacs : float
    min_ms, median_ms : float
        Of a run from bound inputs to bound outputs.
    cpu_ms : float
        Least CPU time of a run, all threads; what else the machine does counts little.
    ratio : float
        `min_ms` as a multiple of LDR's with the same engine, precision and threads.
    """

    net: str
    engine: str
    precision: str
    threads: int
    parameters: int
    gmacs: float
    min_ms: float
    median_ms: float
    cpu_ms: float
    ratio: float


def ldr_bars(
    out: Annotated[Path | None, typer.Option(help="JSON file; the table is written beside it as .md.")] = None,
    size: Annotated[int, typer.Option(help="Voxels along each side, a multiple of 64.")] = 128,
    threads: Annotated[
        list[int] | None, typer.Option(help="Threads of the engine; repeat. By default 1 and 2.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Runs of each net, in turns.")] = 9,
    net: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(SUBJECTS)}; repeat. By default all.")] = None,
) -> None:
    """Time LDR against VTN with affine and the other registration nets, and print the ratios.

    Weights are random, which time does not depend on. With one engine and number of threads the nets take turns, so
    that what else the machine does strikes all of them; compare the minima.

    Example:

      edgeflock bench registration --out docs/perf/ldr.json
    """
    from rich.console import Console

    from edgeflock.runtime.engines import engine_problems

    chosen = list(dict.fromkeys([STUDENT, *(net or SUBJECTS)]))
    if set(chosen) - set(SUBJECTS) or size < 64 or size % 64:
        raise InputError(
            f"nets are {', '.join(SUBJECTS)}, the size is a multiple of 64; got {', '.join(chosen)} and {size}."
        )
    check_record(out)
    problems = engine_problems()
    console = Console(stderr=True)
    rows: list[RegistrationFigures] = []
    with tempfile.TemporaryDirectory() as folder:
        pair = _pair(size)
        subjects = []
        for name in chosen:
            with console.status(f"{name} to ONNX ..."):
                subjects.append(_export(name, pair, Path(folder)))
        for engine in CPU_ENGINES:
            if problems[engine]:
                console.print(f"without {engine}: {problems[engine]}", highlight=False)
                continue
            for count in threads or [1, 2]:
                with console.status(f"{engine}, threads: {count} ..."):
                    rows += measure(subjects, pair, engine, count, rounds)
    table = markdown(rows)
    print(table)
    if out:
        write_figures(out, table, rows, "edgeflock", "onnxruntime", "openvino", size=size, rounds=rounds)
    line = next_command("train", "registration", "--data", "VOLUMES", "--out", "runs/ldr")
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def measure(
    subjects: Sequence[Contestant], pair: dict[str, np.ndarray], engine: str, threads: int, rounds: int
) -> list[RegistrationFigures]:
    """Time all nets in turns; the first of them is what the others are compared with."""
    from edgeflock.runtime.engines import open_engine

    opened = {}
    for subject in subjects:
        for precision, files in subject.files.items():
            opened[subject.net, precision] = parts = [open_engine(engine, file, precision, threads) for file in files]
            for part in parts:
                part.bind(pair)
                part.run()
    walls: dict[tuple[str, str], list[float]] = {key: [] for key in opened}
    cpus: dict[tuple[str, str], list[float]] = {key: [] for key in opened}
    for _ in range(rounds):
        for key, parts in opened.items():
            wall, cpu = time.perf_counter_ns(), time.process_time_ns()
            for part in parts:
                part.run()
            walls[key].append((time.perf_counter_ns() - wall) / 1e6)
            cpus[key].append((time.process_time_ns() - cpu) / 1e6)
    rows = []
    for precision in subjects[0].files:
        student = min(walls[subjects[0].net, precision])
        for subject in subjects:
            if precision in subject.files:
                taken, cpu_ms = walls[subject.net, precision], min(cpus[subject.net, precision])
                rows.append(
                    RegistrationFigures(
                        subject.net,
                        engine,
                        precision,
                        threads,
                        subject.parameters,
                        subject.gmacs,
                        min(taken),
                        median(taken),
                        cpu_ms,
                        min(taken) / student,
                    )
                )
    return rows


def markdown(rows: Sequence[RegistrationFigures]) -> str:
    """The table, and below it the ratio of the fastest forms for each number of threads."""
    lines = [
        "| engine | precision | threads | net | parameters | GMAC | min ms | median ms | CPU ms | time / LDR |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.engine} | {row.precision} | {row.threads} | {row.net} | {row.parameters:,} | {row.gmacs:.2f} | "
        f"{row.min_ms:.1f} | {row.median_ms:.1f} | {row.cpu_ms:.1f} | {row.ratio:.2f} |"
        for row in rows
    ]
    for threads in dict.fromkeys(row.threads for row in rows):
        fastest: dict[str, RegistrationFigures] = {}
        for row in sorted((row for row in rows if row.threads == threads), key=lambda row: row.min_ms):
            fastest.setdefault(row.net, row)
        student = fastest.pop(STUDENT)
        lines += [
            "",
            f"Fastest forms with threads: {threads}. {_form(student)}; "
            + "; ".join(f"{_form(row)}, {row.min_ms / student.min_ms:.2f} times that" for row in fastest.values())
            + ".",
        ]
    return "\n".join(lines)


def _form(row: RegistrationFigures) -> str:
    return f"{row.net} {row.min_ms:.1f} ms ({row.engine}, {row.precision})"


def multiplications(model: onnx.ModelProto) -> int:
    """Multiplications in the convolutions of a graph; those with the padding count."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.value_info, *graph.output]
    }
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            batch, _, *voxels = shapes[node.output[0] if node.op_type == "Conv" else node.input[0]]
            total += int(np.prod([batch, *voxels, *weights[node.input[1]]], dtype=np.int64))
    return total


def _pair(size: int) -> dict[str, np.ndarray]:
    from edgeflock.runtime.prepare.phantom import draw_phantom

    images = (draw_phantom(seed, size)[0][None, None] for seed in (1, 2))
    return {name: image / np.float32(255) for name, image in zip(("fixed", "moving"), images, strict=True)}


def _export(name: str, pair: dict[str, np.ndarray], folder: Path) -> Contestant:
    import onnx

    from edgeflock.calibration.ranges import activation_ranges
    from edgeflock.export.onnx import export_onnx
    from edgeflock.export.quantise.forms import quantize
    from edgeflock.export.quantise.planes import to_2d
    from edgeflock.export.recipes.registration import SAMPLING

    files: dict[str, list[Path]] = {"fp32": []} if name in FLOAT_ONLY else {"fp32": [], "int8": []}
    parameters = products = 0
    for part in SUBJECTS[name]:
        module = _module(part, pair["fixed"].shape[-1])
        model = export_onnx(module, {image: array.shape for image, array in pair.items()}, ["flow"])
        parameters += sum(p.numel() for p in module.parameters())
        products += multiplications(model)
        for precision, paths in files.items():
            if precision == "int8":
                flat = to_2d(model)
                model = quantize(flat, activation_ranges(flat, pair, "minmax"), "int8", SAMPLING)
            paths.append(folder / f"{name}_{part}_{precision}.onnx")
            onnx.save(model, paths[-1])
    return Contestant(name, parameters, products / 1e9, files)


def _module(part: str, size: int) -> nn.Module:
    import torch

    from edgeflock.export.nets import NETS
    from edgeflock.export.nets.vtn import AffineStem, VTNAffine

    torch.manual_seed(0)
    sized: dict[str, Callable[[], nn.Module]] = {
        "affine": lambda: AffineStem(size),
        "vtn-affine": lambda: VTNAffine(1, size),
    }
    return (NETS | sized)[part]()
