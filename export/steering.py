"""A checkpoint of a steering net, and real frames, to a signed bundle: parity, calibration, INT8, gate, vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save as save_arrays
from safetensors.torch import save as save_tensors

from edgeflock.calibration.frames import representative_frames
from edgeflock.calibration.ranges import Method, activation_ranges
from edgeflock.export.datasets import SteeringDataset
from edgeflock.export.onnx import IR, OPSET, PARITY, STEERING, check_parity, export_onnx, predict
from edgeflock.export.quantize import INTEGER, SHIPPED, GateLimits, Sensitivity, quantize, run_gate, sensitivity
from edgeflock.export.training.checkpoint import load_checkpoint
from edgeflock.runtime.bundle import Artefact, GateReport, Manifest, sign_bundle, write_bundle
from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.manifest import VECTORS, WEIGHTS
from edgeflock.runtime.preprocess import crop_200
from edgeflock.runtime.signing import read_private_key

PARITY_FRAMES = 256
VECTOR_FRAMES = 16

_TOOLS = ("edgeflock", "torch", "onnx", "onnxslim", "onnxruntime", "numpy")


def export_steering(
    weights: Path,
    validation: SteeringDataset,
    calibration: SteeringDataset | None,
    out: Path,
    key: Path,
    *,
    net: str | None = None,
    precision: str = "int8",
    method: Method = "percentile",
    calibration_frames: int = 128,
    limits: GateLimits | None = None,
    training: dict[str, Any] | None = None,
    report: Path | None = None,
    console: Console | None = None,
) -> Path:
    """Export weights to a signed bundle, or say why not and write only the report.

    Parameters
    ----------
    weights : Path
        `.safetensors` or torch file, ours or the authors'; the net is recognised by its tensors.
    validation, calibration : SteeringDataset
        Frames that training did not see, which the gate judges, and training frames, from which INT8 gets its ranges
        (None for fp32).
    out : Path
        Folder of the bundle.
    key : Path
        Private key to sign with.
    net : str, optional
        Key of `NETS` that the weights must belong to.
    precision : {"int8", "fp32"}
        What the bundle drives with. An "int8" bundle holds fp32 as well, an "fp32" bundle nothing else.
    method : {"minmax", "percentile", "entropy"}
        See `edgeflock.calibration.ranges`.
    calibration_frames : int
        How many of `calibration` are used; chosen by coverage of angle and brightness.
    limits : GateLimits, optional
    training : dict, optional
        Command, seeds, data and figures of the training run (`result.json`), for the manifest.
    report : Path, optional
        Folder for the gate's verdict, the sensitivity table and the picture; by default `out` with `-report`.
    console : Console, optional
        Shows the progress.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ParityError, GateError
        Nothing is written to `out`.
    InputError, DataError, BundleError
        What is wrong with weights, frames or key.
    """
    console = console or Console(quiet=True)
    report = report or out.with_name(f"{out.name}-report")
    read_private_key(key)  # a wrong key shall not show up after minutes of work
    name, module = load_checkpoint(weights)
    if net not in (None, name):
        raise InputError(f"{weights} holds a {name}, --net asks for {net}.")
    if precision not in ("int8", "fp32"):
        raise InputError(f"precision must be int8 or fp32, got {precision!r}.")
    chosen = None
    if precision == "int8":
        if calibration is None:
            raise InputError("int8 needs calibration frames: name the training data with --calib.")
        chosen = _held_out(validation, calibration, calibration_frames)
    images = _crops(validation)

    with _step(console, f"{name} to ONNX") as done:
        models = {"fp32": export_onnx(module)}
        some = representative_frames(images, validation.angles, PARITY_FRAMES)
        worst = check_parity(module, models["fp32"], images[some], [validation.names[i] for i in some])
        done(f"parity {worst:.1e} on {len(some)} frames, at most {PARITY:g}")

    provenance: dict[str, Any] = {"parity": {"worst": worst, "frames": len(some)}, "validation": validation.digest()}
    table: list[Sensitivity] = []
    if chosen is not None:
        with _step(console, "INT8 from calibration frames") as done:
            calibration_images = _crops(chosen)
            ranges = activation_ranges(models["fp32"], calibration_images[:, None], method)
            models["int8"] = quantize(models["fp32"], ranges)
            table = sensitivity(models["fp32"], ranges, calibration_images, chosen.angles)
            sqnr = next(row.sqnr_db for row in table if row.quantised == SHIPPED)
            done(f"{', '.join(INTEGER)} of {len(chosen)} frames, SQNR {sqnr:.1f} dB")
        provenance["calibration"] = {"method": method, "frames": len(chosen), "data": chosen.digest()}
        provenance["int8"] = {"operators": list(INTEGER), "sqnr_db": round(sqnr, 2)}
        console.print(_sensitivity_table(table))

    with _step(console, f"gate on {len(images)} frames") as done:

        def observe(verdict: GateReport, fp32: np.ndarray, answers: np.ndarray) -> None:
            report.mkdir(parents=True, exist_ok=True)
            _write_report(report, verdict, table)
            try:
                draw_gate(report / "gate.png", verdict, validation.angles, fp32, answers)
            except MissingExtra as missing:
                console.print(f"No picture: {missing}")

        gate = run_gate(
            models["fp32"],
            models[precision],
            images,
            validation.angles,
            precision=precision,
            names=validation.names,
            data=f"{len(images)} frames of {len(validation.group_names)} sequences, SHA-256 {validation.digest()[:16]}",
            limits=limits,
            observe=observe,
        )
        done(
            f"RMSE {gate.rmse:.4f} rad, fp32 {gate.rmse_fp32:.4f} ({gate.rmse_drop:+.1%}), constant "
            f"{gate.rmse_constant:.4f}; {report}"
        )

    with _step(console, "bundle") as done:
        references = images[representative_frames(images, validation.angles, VECTOR_FRAMES, brightness_bins=1)]
        vectors = {"image": np.ascontiguousarray(references[:, None])}  # uint8, a quarter of the bytes
        vectors |= {f"{STEERING}_{kind}": predict(model, references)[:, None] for kind, model in models.items()}
        files = {f"fadnet_{kind}.onnx": model.SerializeToString(deterministic=True) for kind, model in models.items()}
        manifest = Manifest(
            name=f"steering-{name}",
            net=name,
            artefacts={kind: Artefact(file=f"fadnet_{kind}.onnx", opset=OPSET, ir=IR) for kind in models},
            default_precision=precision,
            gate=gate,
            training={field: value for field, value in (training or {}).items() if field != "history"},
            provenance=provenance,
            tool_versions={tool: version(tool) for tool in _TOOLS},
        )
        state = {tensor: value.contiguous() for tensor, value in module.state_dict().items()}
        write_bundle(out, manifest, files | {WEIGHTS: save_tensors(state), VECTORS: save_arrays(vectors)})
        sign_bundle(out, key)
        done(f"{out}: look at it with `edgeflock bundle show {out}`")
    return out


def _crops(data: SteeringDataset) -> np.ndarray:
    """uint8 (N, 200, 200), as the net takes them."""
    return np.stack([crop_200(frame) for frame in data.frames])


def _held_out(validation: SteeringDataset, calibration: SteeringDataset, count: int) -> SteeringDataset:
    """Calibration frames by coverage; none of them may be among those that the gate judges."""
    chosen = calibration.take(representative_frames(calibration.frames, calibration.angles, count))
    judged = {_digest(frame) for frame in validation.frames}
    shared = [name for name, frame in zip(chosen.names, chosen.frames, strict=True) if _digest(frame) in judged]
    if shared:
        raise InputError(
            f"{len(shared)} calibration frames are validation frames as well (first: {shared[0]}): the gate must judge "
            f"frames that quantisation did not see."
        )
    return chosen


def _digest(frame: np.ndarray) -> bytes:
    return hashlib.sha256(crop_200(frame).tobytes()).digest()


@contextmanager
def _step(console: Console, title: str) -> Iterator[Any]:
    """Spinner while a step runs, then one line with what came out of it."""
    said: list[str] = []
    with console.status(f"{title} ..."):
        yield said.append
    console.print(f"[green]done[/green] {title}: {said[0]}", highlight=False, soft_wrap=True)


def _sensitivity_table(rows: list[Sensitivity]) -> Table:
    table = Table("in INT8", "SQNR dB", "RMSE rad", title="sensitivity on the calibration frames", title_justify="left")
    for row in rows:
        table.add_row(
            row.quantised, f"{row.sqnr_db:.1f}", f"{row.rmse:.4f}", style="bold" if row.quantised == SHIPPED else ""
        )
    return table


def _write_report(folder: Path, verdict: GateReport, table: list[Sensitivity]) -> None:
    content = {"gate": verdict.model_dump(), "sensitivity": [asdict(row) for row in table]}
    (folder / "gate.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def draw_gate(path: Path, verdict: GateReport, angles: np.ndarray, fp32: np.ndarray, answers: np.ndarray) -> None:
    """Draw both nets over the labels, and one net over the other, to a picture file.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtra.pip("The gate's picture", "report", error) from None
    figure = Figure(figsize=(10, 5), layout="constrained")
    labelled, paired = figure.subplots(1, 2)
    ends = [float(f(f(a) for a in (angles, fp32, answers))) for f in (min, max)]
    for axes in (labelled, paired):
        axes.plot(ends, ends, color="0.7", linewidth=1)
        axes.set_aspect("equal")
    labelled.scatter(angles, fp32, s=6, label=f"fp32, RMSE {verdict.rmse_fp32:.4f} rad")
    labelled.scatter(angles, answers, s=6, label=f"{verdict.precision}, RMSE {verdict.rmse:.4f} rad")
    labelled.set(xlabel="label, rad", ylabel="answer, rad")
    labelled.legend()
    paired.scatter(fp32, answers, s=6)
    paired.set(
        xlabel="fp32, rad", ylabel=f"{verdict.precision}, rad", title=f"largest distance {verdict.max_deviation:.4f}"
    )
    figure.suptitle(f"gate {'passed' if verdict.passed else 'FAILED'} on {verdict.frames} frames")
    figure.savefig(path, dpi=120)
