"""`edgeflock tune`: measure what this board has on a bundle, and let the tasks use the fastest that answers right."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from edgeflock.runtime.board import profile
from edgeflock.runtime.bundle.bundle import Bundle, default_bundle
from edgeflock.runtime.engines import ENGINES, PRECISIONS, engine_problems
from edgeflock.runtime.errors import EdgeflockError, EngineError, InputError
from edgeflock.runtime.options import Keys, next_command

if TYPE_CHECKING:
    from edgeflock.runtime.tasks.base import NetTask

ROUNDS = 12
MAX_RUNS = 500
"""Per round, so that no candidate keeps the board to itself for long."""
TIE = 0.05
"""Closer to the fastest than this share of its time, the simpler candidate is taken."""
WINS = 0.75
"""So is one that the fastest beats in fewer rounds than this share."""


@dataclass
class Candidate:
    """One way to run the net."""

    engine: str
    precision: str
    threads: int
    refused: str = ""
    """Why it is out; "" for one that was measured."""
    deviation: float | None = None
    """Largest distance from the bundle's reference answers, in the outputs' unit."""
    times_ms: list[np.ndarray] = field(default_factory=list)
    """Durations of the runs, one array a round."""

    @property
    def p50(self) -> float:
        """Median of all runs, ms."""
        return float(np.percentile(np.concatenate(self.times_ms), 50))

    @property
    def p99(self) -> float:
        """99th percentile of all runs, ms."""
        return float(np.percentile(np.concatenate(self.times_ms), 99))

    @property
    def complexity(self) -> tuple[int, int, int]:
        """Order by which ties are broken: fewer parts, fewer threads, less quantisation."""
        return ENGINES.index(self.engine), self.threads, -PRECISIONS[self.engine].index(self.precision)

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}, {self.threads} thread{'s' * (self.threads > 1)}"


def tune(
    bundle: Bundle,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    threads: Sequence[int] = (),
    seconds: float = 3.0,
    hz: float | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
) -> list[Candidate]:
    """Measure every way to run a bundle here.

    Each candidate opens the bundle's task as a robot would, so it has answered the reference inputs within the
    bundle's tolerances before it is timed. The rounds are interleaved: what disturbs the board disturbs all alike.

    Parameters
    ----------
    bundle : Bundle
    engines, precisions : sequence of str
        Only these; by default all.
    threads : sequence of int
        By default 1, 2, 4 and so on up to the cores of this process.
    seconds : float
        Time for each candidate, warm-up not counted.
    hz : float, optional
        Frames per second at which the runs start; by default back to back. A paced run finds cold caches and is
        slower (docs/benchmark.md).
    on_progress : callable
        Gets the share that is done, 0 to 1.

    Returns
    -------
    list of Candidate
        Measured ones by median, then the refused ones with their reasons.

    Raises
    ------
    InputError
        There is no such engine, precision or number of threads.
    """
    _check(bundle, engines, precisions, threads, seconds, hz)
    candidates = list(_candidates(bundle, engines, precisions, threads or _thread_counts()))
    tasks = [_open(bundle, candidate) for candidate in candidates]
    running = [(candidate, task) for candidate, task in zip(candidates, tasks, strict=True) if task]
    counts = [_runs_a_round(task, seconds / ROUNDS, hz) for _, task in running]
    for n in range(ROUNDS):
        order = np.roll(np.arange(len(running)), n)  # nobody always follows the same neighbour
        for i in order:
            candidate, task = running[i]
            candidate.times_ms.append(_time(task, counts[i], hz))
        on_progress((n + 1) / ROUNDS)
    return sorted(candidates, key=lambda c: c.p50 if c.times_ms else float("inf"))


def choose(candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
    """The fastest, or the simplest of those that cannot be told from it; and why.

    Raises
    ------
    EngineError
        All were refused.
    """
    measured = [candidate for candidate in candidates if candidate.times_ms and not candidate.refused]
    if not measured:
        reasons = "; ".join(f"{candidate}: {candidate.refused}" for candidate in candidates)
        raise EngineError(f"nothing on this board runs the bundle. {reasons or 'No candidate fits the options.'}")
    fastest = min(measured, key=lambda candidate: candidate.p50)
    tied = [candidate for candidate in measured if _tied(candidate, fastest)]
    simplest = min(tied, key=lambda candidate: candidate.complexity)
    if simplest is fastest:
        return fastest, "the fastest that answers right"
    return simplest, f"as fast as {fastest} within noise ({simplest.p50 / fastest.p50:.2f} of its time), and simpler"


def _tied(candidate: Candidate, fastest: Candidate) -> bool:
    ratios = np.array([np.median(a) / np.median(b) for a, b in zip(candidate.times_ms, fastest.times_ms, strict=True)])
    return bool(np.median(ratios) < 1 + TIE or np.mean(ratios > 1) < WINS)


def _check(
    bundle: Bundle,
    engines: Sequence[str],
    precisions: Sequence[str],
    threads: Sequence[int],
    seconds: float,
    hz: float | None,
) -> None:
    if unknown := set(engines) - set(ENGINES):
        raise InputError(f"there is no engine {', '.join(sorted(unknown))}, only {', '.join(ENGINES)}.")
    if unknown := set(precisions) - set(bundle.manifest.artefacts):
        held = ", ".join(bundle.manifest.artefacts)
        raise InputError(f"the bundle has no {', '.join(sorted(unknown))}, only {held}.")
    if any(count < 1 for count in threads) or seconds <= 0 or (hz is not None and hz <= 0):
        raise InputError("threads must be at least 1, seconds and hz more than 0.")


def _thread_counts() -> list[int]:
    cores = len(os.sched_getaffinity(0))
    return sorted({cores, *(2**n for n in range(cores.bit_length()) if 2**n <= cores)})


def _candidates(
    bundle: Bundle, engines: Sequence[str], precisions: Sequence[str], threads: Sequence[int]
) -> Iterator[Candidate]:
    from edgeflock.runtime.engines.onnxruntime import lacks_vnni

    problems = engine_problems()
    for engine in engines or ENGINES:
        for precision in PRECISIONS[engine]:
            if precision not in bundle.manifest.artefacts or precision not in (precisions or PRECISIONS[engine]):
                continue
            refused = problems[engine] or ""
            if precision == "int8" and lacks_vnni():
                refused = "this CPU has no VNNI: its INT8 products saturate, or cost more than they save"
            several = engine in ("onnxruntime-cpu", "openvino") and not refused
            yield from (Candidate(engine, precision, count, refused) for count in (threads if several else [1]))


def _open(bundle: Bundle, candidate: Candidate) -> NetTask | None:
    """The candidate's task, its reference inputs answered; None with the reason noted if that fails."""
    from edgeflock.runtime.tasks import open_task

    if candidate.refused:
        return None
    try:
        task = open_task(bundle, candidate.precision, candidate.threads, candidate.engine)
    except EdgeflockError as error:  # one that cannot run or answers wrongly is a result, not the end
        candidate.refused = str(error)
        return None
    candidate.deviation = task.deviation
    return task


def _runs_a_round(task: NetTask, seconds: float, hz: float | None) -> int:
    warm = min(task.run() for _ in range(5)) / 1e9
    return int(np.clip(seconds / max(warm, 1 / hz if hz else 0), 1, MAX_RUNS))


def _time(task: NetTask, runs: int, hz: float | None) -> np.ndarray:
    """Durations of `runs` runs, ms; one before them brings the caches back from the candidate before."""
    task.run()
    times, due = np.empty(runs), time.perf_counter()
    for i in range(runs):
        if hz:
            due += 1 / hz
            time.sleep(max(0.0, due - time.perf_counter()))
        times[i] = task.run() / 1e6
    return times


def tune_command(
    bundle: Annotated[
        Path | None, typer.Argument(help="Bundle folder; by default the one that ships with edgeflock.")
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help=f"Only this engine: {', '.join(ENGINES)}. Repeatable.")
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="Only this precision. Repeatable.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Only this number of CPU threads. Repeatable.")] = None,
    seconds: Annotated[float, typer.Option(help="Time for each candidate, s.")] = 3.0,
    hz: Annotated[float | None, typer.Option(help="Pace the runs like a camera, frames/s.")] = None,
    key: Keys = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure, but leave the board profile alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Find the engine, precision and threads that run a bundle fastest on this board, and remember them.

    Every candidate must answer the bundle's reference inputs within its tolerances. Tasks, the ROS nodes and
    `edgeflock bench` use the choice until the board or an engine's version changes.

    Example: edgeflock tune my_bundle --hz 30
    """
    opened = Bundle.open(bundle or default_bundle(), key)
    if not dry_run:
        profile.check_writable()
    with _bar(f"Measuring {opened.manifest.name}") as on_progress:
        candidates = tune(opened, engine or (), precision or (), threads or (), seconds, hz, on_progress)
    chosen, why = choose(candidates)
    choice = profile.Choice(
        engine=chosen.engine,
        precision=chosen.precision,
        threads=chosen.threads,
        bundle=opened.manifest.name,
        p50_ms=round(chosen.p50, 4),
        p99_ms=round(chosen.p99, 4),
        why=why,
    )
    written = None if dry_run else profile.save(opened.digest, choice)
    if as_json:
        typer.echo(json.dumps(_as_dict(candidates, choice, written), indent=2))
    else:
        _print(opened, candidates, choice, written)
        typer.echo(next_command("bench", "run", *([bundle] if bundle else []), keys=key))


def _as_dict(candidates: list[Candidate], choice: profile.Choice, written: Path | None) -> dict:
    rows = [
        {
            "engine": c.engine,
            "precision": c.precision,
            "threads": c.threads,
            "p50_ms": c.p50 if c.times_ms else None,
            "p99_ms": c.p99 if c.times_ms else None,
            "runs": sum(map(len, c.times_ms)),
            "deviation": c.deviation,
            "refused": c.refused or None,
        }
        for c in candidates
    ]
    return {"candidates": rows, "choice": choice.model_dump(), "profile": str(written) if written else None}


def _print(bundle: Bundle, candidates: list[Candidate], choice: profile.Choice, written: Path | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    unit = bundle.manifest.outputs[0].unit
    table = Table(box=None, pad_edge=False)
    for column in ("engine", "precision"):
        table.add_column(column, no_wrap=True)
    for column in ("threads", "p50 ms", "p99 ms", "runs", f"deviation ({unit})" if unit else "deviation"):
        table.add_column(column, justify="right")
    table.add_column("")
    for c in (c for c in candidates if c.times_ms):
        best = (c.engine, c.precision, c.threads) == (choice.engine, choice.precision, choice.threads)
        figures = (f"{c.p50:.3f}", f"{c.p99:.3f}", str(sum(map(len, c.times_ms))), f"{c.deviation:.2g}")
        table.add_row(c.engine, c.precision, str(c.threads), *figures, "<- chosen" * best, style="bold" if best else "")
    console = Console()
    console.print(table)
    reasons: dict[str, list[Candidate]] = {}
    for c in candidates:
        if c.refused:
            reasons.setdefault(c.refused, []).append(c)
    if reasons:
        console.print("\nNot measured:")
    for reason, refused in reasons.items():
        who = ", ".join(f"{c.engine} {c.precision}" for c in refused)
        console.print(f"  [bold]{who}[/]: {escape(reason)}", highlight=False)
    console.print(f"\n{choice.engine} {choice.precision}, threads {choice.threads}: {escape(choice.why)}.")
    console.print(f"Written to {written}" if written else "Dry run: nothing was written.", soft_wrap=True)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[float], None]]:
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    with Progress(*Progress.get_default_columns()[:-1], TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=1)
        yield lambda share: bar.update(task, completed=share)
