"""From a recipe to a signed bundle: ONNX with parity, calibration, quantised forms, gate, targets, vectors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from rich.console import Console
from rich.progress import Progress
from safetensors.numpy import save as save_arrays

from edgeflock.calibration.observe import OnProgress, progress
from edgeflock.calibration.ranges import Method, activation_ranges
from edgeflock.export.graph import IR, OPSET, PARITY, ExportedNet, predict
from edgeflock.export.quantise.forms import FORMS
from edgeflock.export.quantise.fp16 import to_fp16
from edgeflock.export.quantise.search import SearchResult, search
from edgeflock.export.recipe import Answers, Judgement, Recipe, Samples
from edgeflock.export.report import write_report
from edgeflock.export.targets import supported
from edgeflock.runtime.bundle.bundle import Artefact, Manifest, check_bundle_place, sign_bundle, write_bundle
from edgeflock.runtime.bundle.manifest import VECTORS, WEIGHTS, GateReport, ImageInput, VolumeInput
from edgeflock.runtime.bundle.signing import read_private_key
from edgeflock.runtime.bundle.vectors import answer_key, thinned
from edgeflock.runtime.errors import GateError, InputError
from edgeflock.runtime.files import check_outputs
from edgeflock.runtime.options import next_command

PRECISIONS = ("fp32", "fp16", *FORMS)
SENSITIVITY_SAMPLES = 16

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
    report = report or _report_folder(out)
    wanted = list(dict.fromkeys(["fp32", *precisions]))
    if set(wanted) - set(PRECISIONS) or recipe.default_precision not in wanted:
        raise InputError(
            f"precisions are {', '.join(PRECISIONS)}, and {recipe.default_precision}, which the bundle uses by "
            f"default, must be among them; got {', '.join(precisions)}."
        )
    quantised = [precision for precision in wanted if precision in FORMS]
    calibration = recipe.calibration
    if quantised and calibration is None:
        raise InputError(
            f"{', '.join(quantised)} need calibration samples: name the training data with --calib, or ask for "
            f"fp32 and fp16 alone."
        )
    _check_range(recipe, recipe.validation, "validation")
    if calibration is not None:
        _check_held_out(recipe.validation, calibration)
        _check_range(recipe, calibration, "calibration")
    samples = recipe.validation
    data = f"{len(samples)} samples, SHA-256 {samples.digest[:16]}"
    provenance: dict[str, Any] = {"validation": samples.digest}

    batch = recipe.inputs[0].shape[0]
    with _step(console, f"{recipe.net} to ONNX") as done:
        exported = recipe.module
        if not isinstance(exported, ExportedNet):
            from edgeflock.export.onnx import export_net

            exported = export_net(recipe.net, exported, recipe.inputs, recipe.outputs, samples)
        fp32, state = exported.model, exported.state
        provenance["parity"] = {"worst": exported.parity, "samples": exported.samples}
        done(f"parity {exported.parity:.1e} on {exported.samples} samples, at most {PARITY:g}")
    reference = predict(fp32, samples.feeds)

    def judge(model: onnx.ModelProto) -> Judgement:
        return _judge(recipe, reference, reference if model is fp32 else predict(model, samples.feeds))

    quantise = None
    if quantised and calibration is not None:
        methods = [method] if method else [recipe.method, *(m for m in get_args(Method) if m != recipe.method)]
        single = fp32 if batch == 1 else _single(recipe)
        quantise = _quantiser(recipe, calibration, fp32, single, judge, methods, console)
        provenance["calibration"] = {"samples": len(calibration), "data": calibration.digest}

    models: dict[str, onnx.ModelProto] = {}
    gates: dict[str, GateReport] = {}
    for precision in wanted:
        try:
            chosen = None
            if quantise and precision in FORMS:
                found, chosen = quantise(precision)
            else:
                model = fp32 if precision == "fp32" else to_fp16(fp32)
                found = SearchResult(model, [], judge(model), [])
            filled = {"precision": precision, "data": data, "samples": len(samples)}
            verdict = found.judgement.model_copy(update=filled)
            write_report(report, verdict, found)
            if not verdict.passed:
                raise GateError(_refusal(precision, found.judgement))
        except GateError as refusal:
            if precision in ("fp32", recipe.default_precision):
                raise
            provenance.setdefault("left_out", {})[precision] = str(refusal)
            console.print(f"[yellow]left out[/yellow] {precision}: {refusal}", highlight=False, soft_wrap=True)
            continue
        models[precision], gates[precision] = found.model, verdict
        if chosen:
            provenance[precision] = {"calibration": chosen, "kept_in_float": found.kept}
        said = _verdict(verdict, found.kept)
        console.print(f"[green]gate[/green] {precision}: {said}", highlight=False, soft_wrap=True)

    with _step(console, "boards") as done:
        targets = supported(models, recipe.task)
        provenance["not_for"] = {board: reason for board, reason in targets.items() if isinstance(reason, str)}
        targets = {board: support for board, support in targets.items() if not isinstance(support, str)}
        done(f"{', '.join(targets)}" + "".join(f"; not {board}: {why}" for board, why in provenance["not_for"].items()))

    with _step(console, "bundle") as done:
        files = {f"{recipe.net}_{p}.onnx": model.SerializeToString(deterministic=True) for p, model in models.items()}
        manifest = Manifest(
            name=recipe.name,
            net=recipe.net,
            task=recipe.task,
            inputs=list(recipe.inputs),
            outputs=recipe.outputs,
            artefacts={p: Artefact(file=f"{recipe.net}_{p}.onnx", opset=OPSET, ir=IR) for p in models},
            default_precision=recipe.default_precision,
            gates=gates,
            targets=targets,
            training=recipe.training,
            provenance=provenance,
            tool_versions=_tool_versions(),
        )
        files |= {WEIGHTS: save_arrays(state), VECTORS: save_arrays(_vectors(recipe, models))}
        write_bundle(out, manifest, files)
        sign_bundle(out, key)
        done(f"{out}: look at it with `edgeflock bundle show {out}`")
    public = key.with_suffix(".pub")
    then = next_command("tune", out, keys=[public] if public.exists() else [])
    console.print(then, highlight=False, markup=False, soft_wrap=True)
    return out


def _single(recipe: Recipe) -> onnx.ModelProto:
    """Graph of batch 1, which calibration samples pass."""
    if isinstance(recipe.module, ExportedNet):
        raise InputError(f"the {recipe.net} was exported with a batch above 1: export it from its weights, with torch.")
    from edgeflock.export.onnx import export_specs

    return export_specs(recipe.module, recipe.inputs, recipe.outputs, 1)


def _tool_versions() -> dict[str, str]:
    """Of the tools that are installed here: a robot that re-quantises has no torch."""
    found = {}
    for tool in _TOOLS:
        with suppress(PackageNotFoundError):
            found[tool] = version(tool)
    return found


def _quantiser(
    recipe: Recipe,
    calibration: Samples,
    fp32: onnx.ModelProto,
    single: onnx.ModelProto,
    judge: Callable[[onnx.ModelProto], Judgement],
    methods: Sequence[Method],
    console: Console,
) -> Callable[[str], tuple[SearchResult, Method]]:
    """Function that makes the form of a name and says by which calibration method.

    The samples pass `single`, the graph of batch 1, once for all of it; its tensors have the names of `fp32`'s. A form
    that may hold no float has no layers to give back: where the gate refuses it, it is tried with the other methods.
    """
    few = calibration.spread(SENSITIVITY_SAMPLES)
    reference = predict(fp32, few.feeds)

    def quantise(form: str) -> tuple[SearchResult, Method]:
        tried = [attempt(form, methods[0])]
        for method in methods[1:] if not FORMS[form].layers else []:
            if tried[-1][0].judgement.passed:
                break
            tried.append(attempt(form, method))
        return tried[-1] if tried[-1][0].judgement.passed else tried[0]

    def attempt(form: str, method: Method) -> tuple[SearchResult, Method]:
        rewrite = recipe.rewrite if recipe.rewrite and not FORMS[form].symmetric else lambda model: model
        source = rewrite(fp32)
        with progress(console, f"{form} calibration") as on_progress:
            ranges = activation_ranges(
                rewrite(single),
                dict(calibration.feeds),
                method,
                symmetric=FORMS[form].symmetric,
                output_margin=FORMS[form].output_margin,
                on_progress=on_progress,
            )
        with _bar(console, form) as on_progress:
            found = search(
                source,
                ranges,
                form,
                judge,
                few.feeds,
                recipe.keep_float,
                score=lambda answers: recipe.judge(reference, answers, few).value,
                on_progress=on_progress,
            )
        return found, method

    return quantise


def _judge(recipe: Recipe, fp32: Answers, candidate: Answers) -> Judgement:
    """The task's verdict; an answer that is not a number is never judged."""
    for name, array in candidate.items():
        finite = np.isfinite(array.reshape(len(array), -1)).all(1)
        if not finite.all():
            raise GateError(
                f"the gate refuses the net: {name} is not finite for {recipe.validation.names[int(np.argmin(finite))]} "
                f"and {(~finite).sum()} of {len(array)} samples; expected numbers."
            )
    return recipe.judge(fp32, candidate, recipe.validation)


def _vectors(recipe: Recipe, models: Mapping[str, onnx.ModelProto]) -> dict[str, np.ndarray]:
    """Reference inputs, as small as they are held, and what each precision answers to them."""
    references = recipe.validation.take(recipe.references)
    vectors = {name: np.ascontiguousarray(feed) for name, feed in references.feeds.items()}
    for precision, model in models.items():
        answers = predict(model, references.feeds)
        for spec in recipe.outputs:
            vectors[answer_key(spec.name, precision)] = np.ascontiguousarray(answers[spec.name][thinned(spec)])
    return vectors


def _verdict(gate: GateReport, kept: Sequence[str]) -> str:
    figures = f"{gate.metric} {gate.value:.4f} {gate.unit}".rstrip()
    against = f"fp32 {gate.fp32:.4f}, constant {gate.constant:.4f}"
    return f"{figures} ({against})" + (f", kept in float: {', '.join(kept)}" if kept else "")


def _refusal(precision: str, judgement: Judgement) -> str:
    failed = [i for i, criterion in enumerate(judgement.criteria) if not criterion.passed]
    limits = [judgement.options[i] for i in failed if i < len(judgement.options) and judgement.options[i]]
    ways = ["train longer"]
    if precision in FORMS:
        ways += ["calibrate with other samples (--calib) or another --method"]
    if precision != "fp32":
        ways += ["ship another --precision (--default names the one that is used)"]
    if limits:
        ways += [f"set {' and '.join(limits)} to what your data allows"]
    return (
        f"the gate refuses the {precision} net. {'. '.join(str(judgement.criteria[i]) for i in failed)}. "
        f"Worst samples: {'; '.join(judgement.worst)}. "
        f"{judgement.metric} {judgement.value:.4f} {judgement.unit}, fp32 {judgement.fp32:.4f}, constant predictor "
        f"{judgement.constant:.4f}. Way out: {', or '.join(ways)}."
    )


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
def _bar(console: Console, title: str) -> Iterator[OnProgress]:
    """Bar that says what it is at."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(title)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=f"{title}: {text}")


@contextmanager
def _step(console: Console, title: str) -> Iterator[Callable[[str], None]]:
    """Spinner while a step runs, then one line with what came out of it."""
    said: list[str] = []
    with console.status(f"{title} ..."):
        yield said.append
    console.print(f"[green]done[/green] {title}: {said[0]}", highlight=False, soft_wrap=True)
