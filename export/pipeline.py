"""From a recipe to a signed bundle: ONNX with parity, calibration, quantised forms, gate, targets, vectors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from rich.console import Console
from safetensors.numpy import save as save_arrays

from edgeflock.calibration.ranges import Method
from edgeflock.export.gate import Gate, summary
from edgeflock.export.graph import ExportedNet, predict
from edgeflock.export.quantise.forms import FORMS
from edgeflock.export.quantise.fp16 import to_fp16
from edgeflock.export.quantise.quantiser import Quantiser
from edgeflock.export.quantise.search import SearchResult
from edgeflock.export.recipe import Judgement, Recipe, Samples
from edgeflock.export.targets import supported
from edgeflock.export.targets.base import opset_of
from edgeflock.runtime.bundle.bundle import Artefact, Manifest, check_bundle_place, sign_bundle, write_bundle
from edgeflock.runtime.bundle.manifest import VECTORS, WEIGHTS, ImageInput, TargetSupport, VolumeInput
from edgeflock.runtime.bundle.signing import read_private_key
from edgeflock.runtime.bundle.vectors import answer_key, thinned
from edgeflock.runtime.errors import GateError, InputError
from edgeflock.runtime.files import check_outputs
from edgeflock.runtime.options import next_command

PRECISIONS = ("fp32", "fp16", *FORMS)

_TOOLS = ("edgeflock", "torch", "onnx", "onnxslim", "onnxruntime", "numpy")


def export_bundle(
    recipe: Recipe,
    out: Path,
    key: Path,
    *,
    precisions: Sequence[str] = PRECISIONS,
    method: Method | None = None,
    report: Path | None = None,
    console: Console | None = None,
) -> Path:
    """Export a net to a signed bundle for every board that takes it, or say why not and write only the report.

    A form that the gate refuses even after `search` has kept in float what may stay there is left out with its reason;
    without the default precision there is no bundle.

    Parameters
    ----------
    recipe : Recipe
    out : Path
        Folder of the bundle; an older bundle there is replaced.
    key : Path
        Private key to sign with.
    precisions : sequence of str
        Of `PRECISIONS`; fp32 is always among them.
    method : str, optional
        How the ranges of the quantised forms are found, see `edgeflock.calibration.ranges`; by default the recipe's.
    report : Path, optional
        Folder for verdicts, sensitivity and picture; by default `out` with `-report`.
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
        What is wrong with samples, precisions or key.
    """
    console = console or Console(quiet=True)
    check_places(out, key, report)  # what is wrong with them shall not show up after minutes of work
    wanted = _wanted(recipe, precisions)
    _check_samples(recipe)
    net = _to_onnx(recipe, console)
    gate = Gate(recipe, net.model, report or _report_folder(out))
    quantiser = _quantiser(gate, method, console) if FORMS.keys() & set(wanted) else None
    forms, left_out = _forms(wanted, gate, quantiser, console)
    targets, not_for = _boards(recipe, forms, console)
    parity = {"worst": net.parity, "samples": net.samples}
    provenance: dict[str, Any] = {"validation": recipe.validation.digest, "parity": parity, "not_for": not_for}
    provenance |= {precision: form.provenance for precision, form in forms.items() if form.provenance}
    if quantiser:
        provenance["calibration"] = quantiser.provenance
    if left_out:
        provenance["left_out"] = left_out
    with _step(console, "bundle") as done:
        manifest = _manifest(recipe, forms, targets, provenance)
        write_bundle(out, manifest, _files(recipe, forms, net.state))
        sign_bundle(out, key)
        used = manifest.default_precision
        done(f"{out}, used in {used} unless told otherwise: look at it with `edgeflock bundle show {out}`")
    public = key.with_suffix(".pub")
    then = next_command("tune", out, keys=[public] if public.exists() else [])
    console.print(then, highlight=False, markup=False, soft_wrap=True)
    return out


def _wanted(recipe: Recipe, precisions: Sequence[str]) -> list[str]:
    """Precisions to make, fp32 first; refused where they lack the default, or samples to calibrate on."""
    wanted = list(dict.fromkeys(["fp32", *precisions]))
    if set(wanted) - set(PRECISIONS) or recipe.default_precision not in (None, *wanted):
        default = f", and {recipe.default_precision}, which the bundle uses by default, must be among them"
        raise InputError(
            f"precisions are {', '.join(PRECISIONS)}{default if recipe.default_precision else ''}; got "
            f"{', '.join(precisions)}."
        )
    quantised = [precision for precision in wanted if precision in FORMS]
    if quantised and recipe.calibration is None:
        raise InputError(
            f"{', '.join(quantised)} need calibration samples: name the training data with --calib, or ask for "
            f"fp32 and fp16 alone."
        )
    return wanted


def _check_samples(recipe: Recipe) -> None:
    _check_range(recipe, recipe.validation, "validation")
    if recipe.calibration is not None:
        _check_held_out(recipe.validation, recipe.calibration)
        _check_range(recipe, recipe.calibration, "calibration")


def _to_onnx(recipe: Recipe, console: Console) -> ExportedNet:
    """The net as ONNX in fp32, and how near its answers are to torch's; as it is, where that was done before."""
    with _step(console, f"{recipe.net} to ONNX") as done:
        net = recipe.module
        if not isinstance(net, ExportedNet):
            from edgeflock.export.onnx import export_net

            net = export_net(recipe.net, net, recipe.inputs, recipe.outputs, recipe.validation)
        done(f"parity {net.parity:.1e} on {net.samples} samples")
    return net


def _single(recipe: Recipe) -> onnx.ModelProto:
    """Graph of batch 1, which calibration samples pass."""
    if isinstance(recipe.module, ExportedNet):
        raise InputError(f"the {recipe.net} was exported with a batch above 1: export it from its weights, with torch.")
    from edgeflock.export.onnx import export_specs

    return export_specs(recipe.module, recipe.inputs, recipe.outputs, 1)


def _quantiser(gate: Gate, method: Method | None, console: Console) -> Quantiser:
    """What makes the quantised forms, by `method` or else first by the recipe's."""
    recipe = gate.recipe
    assert recipe.calibration is not None  # _wanted saw to it
    methods = [method] if method else sorted(get_args(Method), key=lambda one: one != recipe.method)
    single = gate.fp32 if recipe.inputs[0].shape[0] == 1 else _single(recipe)
    rank = method is None and recipe.method is None
    return Quantiser(recipe, recipe.calibration, gate.fp32, single, gate.judge, methods, console, rank)


@dataclass(frozen=True)
class _Form:
    """A form that the gate let through."""

    model: onnx.ModelProto
    verdict: Judgement
    provenance: dict[str, Any]
    """Of a quantised one."""


def _forms(
    wanted: Sequence[str], gate: Gate, quantiser: Quantiser | None, console: Console
) -> tuple[dict[str, _Form], dict[str, str]]:
    """The forms that pass, and why the others are left out; fp32 and the default precision must pass."""
    passed, left_out = {}, {}
    for precision in wanted:
        try:
            passed[precision] = _form(precision, gate, quantiser, console)
        except GateError as refusal:
            if precision in ("fp32", gate.recipe.default_precision):
                raise
            left_out[precision] = str(refusal)
            console.print(f"[yellow]left out[/yellow] {precision}: {refusal}", highlight=False, soft_wrap=True)
    return passed, left_out


def _form(precision: str, gate: Gate, quantiser: Quantiser | None, console: Console) -> _Form:
    provenance = {}
    if precision in FORMS and quantiser is not None:
        found, method = quantiser.form(precision)
        provenance = {"calibration": method, "kept_in_float": found.kept}
    else:
        model = gate.fp32 if precision == "fp32" else to_fp16(gate.fp32)
        found = SearchResult(model, [], gate.judge(model), [])
    verdict = gate.let_through(precision, found)
    said = summary(verdict, found.kept)
    console.print(f"[green]gate[/green] {precision}: {said}", highlight=False, soft_wrap=True)
    return _Form(found.model, verdict, provenance)


def _boards(
    recipe: Recipe, forms: Mapping[str, _Form], console: Console
) -> tuple[dict[str, TargetSupport], dict[str, str]]:
    """How each board takes the bundle, and why others do not."""
    with _step(console, "boards") as done:
        found = supported({precision: form.model for precision, form in forms.items()}, recipe.task)
        not_for = {board: reason for board, reason in found.items() if isinstance(reason, str)}
        targets = {board: support for board, support in found.items() if not isinstance(support, str)}
        done(f"{', '.join(targets)}" + "".join(f"; not {board}: {why}" for board, why in not_for.items()))
    return targets, not_for


def _manifest(
    recipe: Recipe, forms: Mapping[str, _Form], targets: dict[str, TargetSupport], provenance: dict[str, Any]
) -> Manifest:
    return Manifest(
        name=recipe.name,
        net=recipe.net,
        task=recipe.task,
        inputs=list(recipe.inputs),
        outputs=recipe.outputs,
        artefacts={
            p: Artefact(file=_file(recipe, p), opset=opset_of(form.model), ir=form.model.ir_version)
            for p, form in forms.items()
        },
        default_precision=recipe.default_precision or ("int8" if "int8" in forms else "fp32"),
        gates={precision: form.verdict for precision, form in forms.items()},
        targets=targets,
        training=recipe.training,
        trained_camera=recipe.trained_camera,
        provenance=provenance,
        tool_versions=_tool_versions(),
    )


def _tool_versions() -> dict[str, str]:
    """Of the tools that are installed here: a robot that re-quantises has no torch."""
    found = {}
    for tool in _TOOLS:
        with suppress(PackageNotFoundError):
            found[tool] = version(tool)
    return found


def _files(recipe: Recipe, forms: Mapping[str, _Form], state: Mapping[str, np.ndarray]) -> dict[str, bytes | Path]:
    """Files of the bundle by name: nets, weights and reference vectors."""
    models = {precision: form.model for precision, form in forms.items()}
    files: dict[str, bytes | Path] = {
        _file(recipe, p): model.SerializeToString(deterministic=True) for p, model in models.items()
    }
    vectors = save_arrays(_vectors(recipe, models))
    return {**files, **recipe.files, WEIGHTS: save_arrays(dict(state)), VECTORS: vectors}


def _file(recipe: Recipe, precision: str) -> str:
    return f"{recipe.net}_{precision}.onnx"


def _vectors(recipe: Recipe, models: Mapping[str, onnx.ModelProto]) -> dict[str, np.ndarray]:
    """Reference inputs, as small as they are held, and what each precision answers to them."""
    references = recipe.validation.take(recipe.references)
    vectors = {name: np.ascontiguousarray(feed) for name, feed in references.feeds.items()}
    for precision, model in models.items():
        answers = predict(model, references.feeds)
        for spec in recipe.outputs:
            vectors[answer_key(spec.name, precision)] = np.ascontiguousarray(answers[spec.name][thinned(spec)])
    return {**vectors, **recipe.vectors}


def check_places(out: Path, key: Path, report: Path | None, inputs: Iterable[Path | None] = ()) -> None:
    """Refuse places that a bundle and its report cannot be written to, and a key that does not sign, before long work.

    Parameters
    ----------
    out, key, report
        See `export_bundle`.
    inputs : iterable of Path
        Files and folders that are read.

    Raises
    ------
    InputError, FileError, BundleError
    """
    check_bundle_place(out)
    report = report or _report_folder(out)
    read = [key, *inputs]
    check_outputs(folders=[out, report], whole=read)
    for path in (*read, report):
        if path is not None and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(out)):
            raise InputError(f"{path} lies in {out}, which is replaced by the new bundle: choose another --out.")
    read_private_key(key)


def _report_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}-report")


def _check_held_out(validation: Samples, calibration: Samples) -> None:
    """The gate must judge samples that quantisation did not see."""
    judged = set(_digests(validation))
    digests = zip(calibration.names, _digests(calibration), strict=True)
    shared = [name for name, digest in digests if digest in judged]
    if shared:
        raise InputError(
            f"{len(shared)} calibration samples are validation samples as well (first: {shared[0]}): the gate must "
            f"judge samples that quantisation did not see."
        )


def _check_range(recipe: Recipe, samples: Samples, what: str) -> None:
    """Samples that the net cannot get in service: outside of the range that the manifest promises, or a part of it."""
    for spec in recipe.inputs:
        if not isinstance(spec, ImageInput | VolumeInput):
            continue
        low, high = spec.range
        feed = samples.feeds[spec.name]
        least, most = float(feed.min(initial=high)), float(feed.max(initial=low))
        if least < low or most > high:
            got = f"{least:g}..{most:g}"
        elif high > 1 and low < most <= 1:
            got = f"nothing above {most:g}, as if divided by {high:g}"
        else:
            continue
        raise InputError(
            f"{what} samples of input {spec.name!r}: expected values {low:g}..{high:g} as in service, got {got}: "
            "prepare them as the task does."
        )


def _digests(samples: Samples) -> list[bytes]:
    """SHA-256 of each sample's inputs."""
    feeds = [np.ascontiguousarray(feed) for feed in samples.feeds.values()]
    return [hashlib.sha256(b"".join(feed[i].data for feed in feeds)).digest() for i in range(len(samples))]


@contextmanager
def _step(console: Console, title: str) -> Iterator[Callable[[str], None]]:
    """Spinner while a step runs, then one line with what came out of it."""
    said: list[str] = []
    with console.status(f"{title} ..."):
        yield said.append
    console.print(f"[green]done[/green] {title}: {said[0]}", highlight=False, soft_wrap=True)
