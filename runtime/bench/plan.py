"""Which cells a benchmark measures: every engine, precision, scope, mode and rate that go together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

from edgeflock.runtime.bench.measure import Cell, noise
from edgeflock.runtime.bench.record import Missing, Mode, Scope
from edgeflock.runtime.bundle.bundle import Bundle, default_bundle
from edgeflock.runtime.engines import ENGINES, PRECISIONS, engine_problems
from edgeflock.runtime.engines.onnx_file import precision_of
from edgeflock.runtime.errors import InputError


def plans(
    *,
    bundle: Path | None,
    net: Path | None,
    engines: Sequence[str] | None,
    precisions: Sequence[str] | None,
    scopes: Sequence[str],
    modes: Sequence[str],
    rates: Sequence[float],
    keys: list[Path],
    beside: str | None = None,
    **same: Any,
) -> tuple[str, list[Cell | Missing]]:
    """Name of the net, and the cells: to measure, or missing for a reason that is known beforehand.

    Parameters
    ----------
    bundle, net
        One of them; neither: edgeflock's own bundle.
    engines : sequence of str, optional
        None: those usable here. "all": every one, with the reason of those that are not usable.
    precisions : sequence of str, optional
        None: all of the bundle; what an ONNX file is.
    scopes, modes, rates
        Combined; scope chain is paced, whatever the modes are, and runs what is named, else the bundle's default.
    keys, **same
        Fields of `Cell`.
    beside : str, optional
        Command: scope chain is measured without it and then while it runs.

    Raises
    ------
    InputError
        There is no such engine, scope or mode, nothing goes together, or an ONNX file is of another precision.
    BundleError
        The bundle is refused.
    """
    for what, given, known in (("scope", scopes, get_args(Scope)), ("mode", modes, get_args(Mode))):
        if unknown := set(given) - set(known):
            raise InputError(f"There is no {what} {', '.join(sorted(unknown))}, only {', '.join(known)}.")
    if bundle and net:
        raise InputError("Expected a bundle or --net, got both.")
    if net:
        if not net.is_file():
            raise InputError(f"There is no file {net}.")
        noise(net)  # refused before anything is measured
        found_in = precision_of(net)
        if wrong := [precision for precision in precisions or [] if precision.partition("-")[0] != found_in]:
            raise InputError(f"{net} is a net in {found_in}, not {', '.join(wrong)}: leave --precision out.")
        name, held, scopes = net.stem, list(precisions or [found_in]), ["net"]
    else:
        bundle = bundle or default_bundle()
        manifest = Bundle.open(bundle, keys).manifest
        name, held = manifest.net, list(precisions or manifest.artefacts)
        if unknown := set(held) - set(manifest.artefacts):
            raise InputError(f"The bundle holds {', '.join(manifest.artefacts)}, not {', '.join(sorted(unknown))}.")
    problems = engine_problems()
    usable = [engine for engine in ENGINES if problems[engine] is None]
    chosen = list(ENGINES) if engines and "all" in engines else list(engines or usable)
    if unknown := set(chosen) - set(ENGINES):
        raise InputError(f"There is no engine {', '.join(sorted(unknown))}, only {', '.join(ENGINES)}, or 'all'.")
    found: list[Cell | Missing] = []
    for engine in chosen:
        taken = [precision for precision in held if precision in PRECISIONS[engine]]
        for precision, scope, mode in product(taken, [s for s in scopes if s != "chain"], modes):
            for rate in rates if mode == "paced" else [None]:
                cell = Cell(
                    bundle=bundle,
                    net=net,
                    engine=engine,
                    precision=precision,
                    scope=scope,
                    mode=mode,
                    rate_hz=rate,
                    keys=keys,
                    **same,
                )
                found.append(cell.missing(problem, name) if (problem := problems[engine]) else cell)
    if "chain" in scopes:
        named = chosen if engines else ["onnxruntime-cpu"]
        commands = [None] if beside is None else [None, beside]
        for engine, precision, rate, command in product(
            named, precisions or [manifest.default_precision], rates, commands
        ):
            cell = Cell(
                bundle=bundle,
                engine=engine,
                precision=precision,
                scope="chain",
                mode="paced",
                rate_hz=rate,
                keys=keys,
                beside=command,
                **same,
            )
            found.append(cell.missing(problem, name) if (problem := problems[engine]) else cell)
    if not found:
        takes = "; ".join(f"{engine} takes {', '.join(PRECISIONS[engine])}" for engine in chosen)
        raise InputError(f"Nothing to measure: the net is there in {', '.join(held)}, and {takes}.")
    return name, found
