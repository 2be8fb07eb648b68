"""The same weights in other runtimes, measured side by side: ONNX Runtime, OpenVINO, ncnn, ExecuTorch, LiteRT.

Every peer gets the float32 torch net of the bundle, in the form that our ONNX file is made of, and converts it by its
own tools; each conversion runs in a process of its own, because converters crash (pnnx did). The INT8 forms are
calibrated on the bundle's reference inputs. Then all of them, the engine that the bundle would be used with here and
the whole task take turns in one process on one thread: on a busy machine only figures from one run can be compared.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import random
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict

from edgeflock.export.bench.runtimes import PEERS, Run, onnxruntime_open, openvino_open
from edgeflock.runtime.bench.latency import Latency
from edgeflock.runtime.bench.record import BoardRecord
from edgeflock.runtime.bundle.bundle import Bundle, default_bundle
from edgeflock.runtime.engines.base import Engine
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import check_record, write_atomically
from edgeflock.runtime.options import Keys, next_command, this_command

BLOCK = 25  # runs of one peer before the next has its turn; the first of them, with cold caches, is not counted
WRONG = 10.0  # times the distance of our own INT8 from fp32: beyond it a peer does not compute this net


class PeerRow(BaseModel):
    """What one runtime did."""

    model_config = ConfigDict(extra="forbid")

    name: str
    precision: str
    version: str
    latency: Latency
    max_error: float
    """Largest distance from torch in float64 over the reference inputs, in the output's unit."""
    rmse: float
    answers: bool
    """Whether that distance is one that rounding explains; a row that does not answer right is not compared with."""


class PeersRecord(BaseModel):
    """A comparison in one run."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    edgeflock: str
    commit: str | None
    command: str
    board: BoardRecord
    net: str
    bundle_sha256: str
    threads: int
    unit: str
    chosen: str
    """Engine and precision that the task uses here."""
    rows: list[PeerRow]
    """Fastest first, by the fastest run."""
    task: Latency
    missing: dict[str, str]

    @property
    def ours(self) -> PeerRow:
        """The row of the engine that the task uses."""
        return next(row for row in self.rows if row.name == self.chosen)

    @property
    def best_peer(self) -> PeerRow | None:
        """The fastest right row of another runtime, through its own interface."""
        return next((row for row in self.rows if row.answers and not row.name.startswith("edgeflock ")), None)

    @property
    def task_overhead(self) -> float:
        """Time of the task over that of its net, less 1, of the fastest runs."""
        return self.task.min_ms / self.ours.latency.min_ms - 1


def load_net(bundle: Bundle) -> tuple[Any, list[tuple[Any, ...]]]:
    """Torch net of a bundle in the form that its ONNX file was made of, and its reference inputs as tensors."""
    with needs("edgeflock bench peers"):
        import torch
    from edgeflock.export.onnx import exact_norms
    from edgeflock.export.training.loop.checkpoint import load_checkpoint

    torch.set_num_threads(1)
    _, module = load_checkpoint(bundle.path / "weights.safetensors")
    vectors = bundle.vectors()
    feeds = [vectors[spec.name].astype(np.float32) for spec in bundle.manifest.inputs]
    samples = [tuple(torch.from_numpy(np.ascontiguousarray(f[i : i + 1])) for f in feeds) for i in range(len(feeds[0]))]
    return exact_norms(module).requires_grad_(False), samples


def convert(name: str, bundle: Bundle, folder: Path) -> None:
    """Convert the net of a bundle for one of `PEERS`; the files are left in `folder`."""
    net, samples = load_net(bundle)
    PEERS[name].convert(net, samples[0], samples, folder)


def _converted(name: str, bundle: Path, folder: Path, keys: Sequence[Path]) -> str | None:
    """Convert in a process of its own; what went wrong, or None."""
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "edgeflock.export.bench.other_runtimes",
        name,
        str(bundle),
        str(folder),
        *(str(key.absolute()) for key in keys),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"its converter was killed by signal {-done.returncode}"
    return "its converter failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1]


def compare(
    bundle: Bundle,
    seconds: float,
    engine: str | None = None,
    precision: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
    keys: Sequence[Path] = (),
) -> PeersRecord:
    """Convert, check and measure; see the module.

    Parameters
    ----------
    bundle : Bundle
        With the weights of its net.
    seconds : float
        Of measurement, all rows together.
    engine, precision : str, optional
        Of the task, by default what it would use here: `edgeflock tune`'s choice where there is one.
    progress : callable
        Told what happens.
    keys : sequence of Path
        `.pub` files that the bundle was opened with: the converters open it again.

    Raises
    ------
    InputError
        The bundle carries no weights.
    """
    from edgeflock.runtime.bench.machine import commit, this_board
    from edgeflock.runtime.engines import PRECISIONS, engine_problems, open_engine
    from edgeflock.runtime.tasks import open_task

    if not (bundle.path / "weights.safetensors").is_file():
        raise InputError(f"The bundle {bundle.path} carries no weights.safetensors to convert: export it again.")
    import cv2

    cv2.setNumThreads(1)
    manifest = bundle.manifest
    net, samples = load_net(bundle)
    feeds = [[tensor.numpy() for tensor in sample] for sample in samples]
    net = net.double()
    expected = [_flat([y.numpy() for y in _tuple(net(*(x.double() for x in sample)))]) for sample in samples]
    task = open_task(bundle, precision, 1, engine)
    chosen = f"edgeflock {task.engine.name} {task.precision}"
    calls: dict[str, Callable[[], object]] = {}
    facts: dict[str, tuple[str, str, float, float]] = {}  # precision, version, max error, rmse
    missing: dict[str, str] = {}

    def add(name: str, precision: str, package: str, run: Run) -> None:
        error = np.concatenate([_flat(run(feed)) - y for feed, y in zip(feeds, expected, strict=True)])
        rmse = math.sqrt(float(np.mean(np.square(error))))
        facts[name] = precision, version(package), float(np.abs(error).max()), rmse
        calls[name] = functools.partial(run, feeds[0])

    for name, problem in engine_problems().items():
        for form in PRECISIONS[name]:
            if problem is None and form in manifest.artefacts:
                opened = open_engine(name, bundle.artefact(form), form, 1)
                bound = {spec.name: feed.copy() for spec, feed in zip(manifest.inputs, feeds[0], strict=True)}
                package = "onnxruntime" if name.startswith("onnxruntime") else name
                add(
                    f"edgeflock {name} {form}",
                    form,
                    package,
                    _bound_run(opened, bound, [o.name for o in manifest.outputs]),
                )
                calls[f"edgeflock {name} {form}"] = opened.run
    for package, open_ in (("onnxruntime", onnxruntime_open), ("openvino", openvino_open)):
        for form in ("fp32", "int8"):
            if not importlib.util.find_spec(package):
                missing[f"{package} {form}"] = f"{package} not installed: pip install {package}"
            elif form in manifest.artefacts:
                add(f"{package} {form}", form, package, open_(bundle.artefact(form)))
    with tempfile.TemporaryDirectory() as scratch:
        for name, peer in PEERS.items():
            if lacking := [module for module in peer.needs if importlib.util.find_spec(module) is None]:
                missing[name] = f"{', '.join(lacking)} not installed: {peer.install}"
                continue
            progress(f"converting for {name}")
            folder = Path(scratch) / name.replace(" ", "-").lower()
            if problem := _converted(name, bundle.path, folder, keys):
                missing[name] = problem
                continue
            try:
                add(name, peer.precision, peer.package, peer.open(folder))
            except Exception as error:  # runtimes raise what they like; one that fails must not end the comparison
                missing[name] = f"it does not run its own conversion: {error}"
        calls["task"] = functools.partial(task, *task.example())
        progress("measuring, in turns")
        times = take_turns(calls, seconds)
    allowed = WRONG * max(error for name, (_, _, error, _) in facts.items() if name.startswith("edgeflock "))
    rows = [
        PeerRow(
            name=name,
            precision=form,
            version=number,
            latency=Latency.of(times[name]),
            max_error=error,
            rmse=rmse,
            answers=error <= allowed,
        )
        for name, (form, number, error, rmse) in facts.items()
    ]
    return PeersRecord(
        edgeflock=version("edgeflock"),
        commit=commit(),
        command=this_command(),
        board=this_board(),
        net=manifest.net,
        bundle_sha256=bundle.digest,
        threads=1,
        unit=manifest.outputs[0].unit,
        chosen=chosen,
        rows=sorted(rows, key=lambda row: row.latency.min_ms),
        task=Latency.of(times["task"]),
        missing=missing,
    )


def _bound_run(engine: Engine, bound: dict[str, np.ndarray], names: list[str]) -> Run:
    outputs = engine.bind(bound)

    def run(feeds: list[np.ndarray]) -> list[np.ndarray]:
        for array_, feed in zip(bound.values(), feeds, strict=True):
            array_[:] = feed
        engine.run()
        return [outputs[name] for name in names]

    return run


def take_turns(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, np.ndarray]:
    """Times of each call in ns, blocks of them in an order that changes from round to round."""
    clock, found = time.perf_counter_ns, {name: array("q") for name in calls}
    order, rng, end = list(calls), random.Random(0), time.monotonic() + seconds
    block = array("q", bytes(8 * BLOCK))
    while True:
        rng.shuffle(order)
        for name in order:
            call = calls[name]
            for i in range(BLOCK):
                start = clock()
                call()
                block[i] = clock() - start
            found[name].extend(block[1:])
        if time.monotonic() >= end:
            return {name: np.array(values) for name, values in found.items()}


def _tuple(answer: Any) -> tuple[Any, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def _flat(outputs: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(output, np.float64).ravel() for output in outputs])


def markdown(record: PeersRecord) -> str:
    """Table of the comparison and what follows from it."""
    lines = [
        "| runtime | version | min ms | p50 ms | p99 ms | max error | RMSE |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in record.rows:
        p50, p99 = (row.latency.percentiles[name].ms for name in ("p50", "p99"))
        mark = "" if row.answers else " **wrong answers**"
        lines.append(
            f"| {row.name}{mark} | {row.version} | {row.latency.min_ms:.3f} | {_ms(p50)} | {_ms(p99)} | "
            f"{row.max_error:.2g} {record.unit} | {row.rmse:.2g} {record.unit} |"
        )
    ours, best = record.ours, record.best_peer
    lines += ["", f"{record.net}, 1 thread, {record.board.processor}, {ours.latency.samples} runs each, in turns."]
    if best is not None:
        ratio = best.latency.min_ms / ours.latency.min_ms
        lines.append(
            f"The task's engine, {ours.name}: {ratio:.2f} times as fast as the fastest peer, {best.name} (min)."
        )
    lines.append(
        f"Task over net: {100 * record.task_overhead:.0f} % more ({record.task.min_ms:.3f} against "
        f"{ours.latency.min_ms:.3f} ms, min)."
    )
    lines += [f"Not measured: {name}: {reason}." for name, reason in record.missing.items()]
    return "\n".join(lines) + "\n"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def peers(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder (default: the one of edgeflock).")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of measurement, all runtimes together.")] = 60.0,
    engine: Annotated[str | None, typer.Option(help="Of the task (default: what it uses here).")] = None,
    precision: Annotated[str | None, typer.Option(help="Of the task (default: what it uses here).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the record (JSON) here, the table beside it as .md.")] = None,
    key: Keys = None,
) -> None:
    """Measure the same weights in ONNX Runtime, OpenVINO, ncnn, ExecuTorch and LiteRT, in turns, on one thread."""
    from rich.console import Console

    console = Console()
    check_record(out, bundle)
    with console.status("") as status:
        opened = Bundle.open(bundle or default_bundle(), key)
        record = compare(opened, seconds, engine, precision, status.update, key or ())
    table = markdown(record)
    console.print(table, highlight=False, soft_wrap=True, markup=False)
    if out:
        write_atomically(out, record.model_dump_json(indent=1) + "\n")
        write_atomically(out.with_suffix(".md"), table)
    console.print(next_command("tune", opened.path, keys=key), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    convert(sys.argv[1], Bundle.open(sys.argv[2], sys.argv[4:]), Path(sys.argv[3]))
