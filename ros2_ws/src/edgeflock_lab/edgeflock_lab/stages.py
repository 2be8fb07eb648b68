"""What commands of several stages share: bars, times that outlive an interruption, work in processes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from edgeflock.runtime.files import check_same_run, write_atomically
from edgeflock_lab.record import start_worker

if TYPE_CHECKING:
    from rich.console import Console


class Clock:
    """Seconds of each stage, over all runs of the command, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside to a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start
            write_atomically(self._path, json.dumps(self.seconds, indent=1) + "\n")


def keep_settings(path: Path, settings: BaseModel) -> None:
    """Write down what a folder is made with; `InputError` where it was begun with something else."""
    if path.exists():
        check_same_run(path, json.loads(path.read_text()), settings.model_dump(mode="json"))
    write_atomically(path, settings.model_dump_json(indent=1) + "\n")


def clear(out: Path, names: Iterable[str]) -> None:
    """Remove what a command writes into its folder, and nothing else."""
    for path in (out / name for name in names):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def bar(title: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """A progress bar, and what sets how much is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn(f"{title:20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def rounds_bar(title: str, total: int, console: Console) -> Iterator[Callable[[str, int], None]]:
    """A progress bar for nets that learn side by side: takes a net's name and the rounds that it has done."""
    done: dict[str, int] = {}
    with bar(title, total, console) as advance:

        def on_round(net: str, rounds: int) -> None:
            done[net] = rounds
            advance(sum(done.values()))

        yield on_round


def in_processes(
    work: Callable[..., Any], arguments: Sequence[tuple], jobs: int, advance: Callable[[int], None]
) -> None:
    """Call a function with each of the arguments, at most `jobs` at the same time; the first error ends it."""
    # A fresh interpreter per worker: neither an OpenGL context nor torch's threads survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=start_worker) as pool:
        waiting = [pool.submit(work, *one) for one in arguments]
        try:
            for done, job in enumerate(as_completed(waiting), 1):
                job.result()
                advance(done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
