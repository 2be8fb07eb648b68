"""Boards: what each takes and refuses, and the workstation's part of getting a net there. One file per family."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgeflock.export.targets import cpu, jetson, qualcomm
from edgeflock.export.targets.base import Compilation, Job, Limit, Route, Target, check
from edgeflock.runtime.bundle.manifest import TargetSupport
from edgeflock.runtime.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from edgeflock.runtime.bundle.bundle import Bundle

__all__ = ["TARGETS", "Compilation", "Limit", "Route", "Target", "check", "compile_bundle", "supported"]

TARGETS: dict[str, Target] = {t.name: t for t in (*cpu.TARGETS, *jetson.TARGETS, *qualcomm.TARGETS)}


def supported(models: Mapping[str, onnx.ModelProto], task: str) -> dict[str, TargetSupport | str]:
    """For every target what it runs of a net, or why it runs nothing of it.

    Parameters
    ----------
    models : mapping
        Precision to graph.
    task : str
        For the reasons.
    """
    answers: dict[str, TargetSupport | str] = {}
    for name, target in TARGETS.items():
        try:
            answers[name] = check(target, models)
        except InputError as error:
            answers[name] = f"{task} net: {error}"
    return answers


def compile_bundle(
    target: Target | str,
    bundle: Bundle,
    out: str | Path,
    feeds: Mapping[str, np.ndarray] | None = None,
    python: str = "python3.10",
    console: Console | None = None,
) -> Compilation:
    """Do the workstation's part for a board, outside the bundle, which stays as it was signed.

    Parameters
    ----------
    target : Target or str
    bundle : Bundle
    out : path
        New or empty folder; nothing is left there where it fails.
    feeds : mapping, optional
        Inputs (N, ...) by name for a vendor's quantiser, by default the reference inputs of the bundle.
    python : str
        Interpreter of a vendor's Python tools.
    console : Console, optional
        Shows the progress.

    Raises
    ------
    InputError
        Unknown target, or one that does not take the net, or inputs that are not the net's.
    EngineError
        A vendor's tool refuses the net.
    """
    from rich.console import Console

    if isinstance(target, str):
        if target not in TARGETS:
            raise InputError(f"there is no target {target!r}, only {', '.join(TARGETS)}.")
        target = TARGETS[target]
    out = Path(out).resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not an empty folder: choose another one.")
    if target.compiler is None:
        return Compilation([], [f"nothing to compile: {target.name} takes the bundle as it is"])
    inputs = {spec.name: spec.shape for spec in bundle.manifest.inputs}
    feeds = bundle.vectors() if feeds is None else feeds
    given = {name: feeds[name].shape for name in inputs if name in feeds}
    fits = {name: shape[1:] for name, shape in given.items()} == {name: shape[1:] for name, shape in inputs.items()}
    if not fits or len({shape[0] for shape in given.values()} | {0}) != 2:
        raise InputError(f"inputs must be (N, ...) with the same N >= 1 for each of {inputs}, got {given}.")

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        draft = Path(folder) / out.name
        draft.mkdir()
        job = Job(target, bundle, {n: feeds[n] for n in inputs}, draft, python, console or Console(quiet=True))
        made = target.compiler(job)
        if made.files:
            if out.exists():
                out.rmdir()
            draft.replace(out)
    return Compilation(
        [out / file.relative_to(draft) for file in made.files],
        made.did,
        [command.replace(str(draft), str(out)) for command in made.on_board],
    )
