"""From a cell to a measured cell: open the net, warm up, offer the load, watch the board.

`measure` does it in this process. `measure_apart` does it in a process of its own, so that the memory of a cell is its
own and an engine that crashes is one missing cell and not the end of the benchmark.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict

from edgeflock.runtime.bench.beside import beside
from edgeflock.runtime.bench.latency import Latency, ms
from edgeflock.runtime.bench.load import Call, Timing, WarmUp, at_rate, back_to_back, max_throughput, warm_up
from edgeflock.runtime.bench.machine import (
    board_state,
    engine_version,
    forget_peak_rss,
    peak_rss_mib,
    throttling_since,
)
from edgeflock.runtime.bench.record import GateFigure, Measured, Missing, Mode, Rail, Scope, TrialRecord, WarmUpRecord
from edgeflock.runtime.bench.sensors import Sampler, Sensors
from edgeflock.runtime.bundle.bundle import Bundle
from edgeflock.runtime.engines import open_engine
from edgeflock.runtime.engines.base import Engine
from edgeflock.runtime.errors import EdgeflockError, EngineError, InputError, MissingExtra, in_our_words
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import sha256_of

# A graph of one Identity node over one float, opset 17: what is left is the harness and the engine's dispatch.
EMPTY_NET = base64.b64decode(
    "CAg6OwoQCgF4EgF5IghJZGVudGl0eRIFZW1wdHlaDwoBeBIKCggIARIECgIIAWIPCgF5EgoKCAgBEgQKAggBQgQKABAR"
)
EMPTY_S = 0.5
CHAIN_SETTLE_S = 2.0  # after every node was heard of
GROUP = "edgeflock.bench.scopes"  # entry points of what needs more than the runtime: chain


class Cell(BaseModel):
    """One cell to measure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: Path | None = None
    net: Path | None = None
    """An ONNX file instead of a bundle, scope net only."""
    engine: str
    precision: str
    threads: int = 1
    scope: Scope = "net"
    mode: Mode = "back-to-back"
    rate_hz: float | None = None
    seconds: float = 10.0
    warm_up_s: float = 30.0
    """At most."""
    keys: list[Path] = []
    """Public keys to trust besides the installed ones."""
    source: str | None = None
    """Scope chain: sim, realsense or a recording; by default a video made of the task's example."""
    beside: str | None = None
    """Scope chain: command that runs meanwhile."""

    def missing(self, reason: str, net: str | None = None) -> Missing:
        """The cell that says why this one was not measured."""
        same = self.model_dump(include={"engine", "precision", "threads", "scope", "mode", "rate_hz", "beside"})
        return Missing(net=net or (self.net.stem if self.net else "?"), reason=reason, **same)


@dataclass(frozen=True)
class Subject:
    """What is called once per frame."""

    call: Call
    net: str
    engine: Engine
    input_sha256: str
    net_sha256: str
    bundle: Bundle | None = None


@dataclass(frozen=True)
class Chain:
    """What a run through the ROS 2 processes gave."""

    latency_ns: np.ndarray
    """(n,) from the stamp of each frame to the arrival of its command."""
    seconds: float
    dropped: int
    cpu_ns: int
    """Of all nodes together."""
    peak_rss_mib: float
    engine: str
    precision: str


class MeasureChain(Protocol):
    """The entry point `chain` of the group `edgeflock.bench`."""

    def __call__(
        self,
        bundle: Path,
        engine: str,
        precision: str,
        source: str,
        rate_hz: float,
        seconds: float,
        settle_s: float,
        keys: Sequence[Path] = (),
    ) -> Chain:
        """Drive the processes and listen."""


def open_subject(cell: Cell) -> Subject:
    """Open net or task and bind what it is fed with.

    A bundle's net is fed with its first reference inputs, an ONNX file with noise in [0, 1) from a fixed seed, a task
    with its own example.

    Raises
    ------
    EdgeflockError
        And its subclasses: the bundle is refused, the engine does not take the net.
    """
    if cell.net is not None:
        feeds = noise(cell.net)
        engine = open_engine(cell.engine, cell.net, cell.precision, cell.threads)
        engine.bind(feeds)
        return Subject(engine.run, cell.net.stem, engine, digest(feeds.values()), sha256_of(cell.net))
    if cell.bundle is None:
        raise InputError("Expected a bundle or an ONNX file to measure, got neither.")
    bundle = Bundle.open(cell.bundle, cell.keys)
    manifest, path = bundle.manifest, bundle.artefact(cell.precision)
    if cell.scope == "task":
        from edgeflock.runtime.tasks import open_task

        task = open_task(bundle, cell.precision, cell.threads, cell.engine)
        arguments = task.example()
        call = functools.partial(task, *arguments)
        return Subject(call, manifest.net, task.engine, digest(arguments), sha256_of(path), bundle)
    engine = open_engine(cell.engine, path, cell.precision, cell.threads)
    vectors = bundle.vectors()
    feeds = {spec.name: np.resize(vectors[spec.name], spec.shape).astype(spec.dtype) for spec in manifest.inputs}
    engine.bind(feeds)
    return Subject(engine.run, manifest.net, engine, digest(feeds.values()), sha256_of(path), bundle)


def measure(cell: Cell) -> Measured:
    """Measure one cell in this process.

    Raises
    ------
    EdgeflockError
        And its subclasses: it cannot be measured here; the message says why.
    """
    if cell.mode == "paced" and not cell.rate_hz:
        raise InputError("The paced mode needs a rate: --rate 30.")
    if cell.scope == "chain":
        return _measure_chain(cell)
    cv2.setNumThreads(cell.threads)  # or grey conversion takes every core that the net was not given
    subject = open_subject(cell)
    harness = harness_ms(cell)
    before = board_state()
    forget_peak_rss()
    warm = warm_up(subject.call, cell.warm_up_s)
    throttled = Sensors().throttle_events()
    with Sampler() as sampler:
        timing, trials, rate = _offer(subject.call, cell, warm)
    return Measured(
        **_identity(cell, subject.net, subject.bundle),
        rate_hz=cell.rate_hz if cell.mode == "paced" else None,
        net_sha256=subject.net_sha256,
        input_sha256=subject.input_sha256,
        engine=subject.engine.name,
        precision=cell.precision,
        engine_version=engine_version(subject.engine.name),
        gate=_gate(subject.bundle, cell.precision),
        placement=dict(Counter(subject.engine.placement().values())),
        warm_up=WarmUpRecord(runs=warm.runs, seconds=round(warm.seconds, 3), steady=warm.steady),
        duration_s=round(timing.seconds, 3),
        frames=len(timing.begun),
        dropped=timing.dropped,
        late_starts=timing.late,
        fps=round(_fps(cell, timing, rate), 3),
        latency=Latency.of(timing.service),
        response=None if cell.mode == "back-to-back" else Latency.of(timing.response),
        trials=trials,
        harness_ms=harness,
        cpu_ms_per_frame=ms(timing.cpu_ns / len(timing.begun)),
        peak_rss_mib=peak_rss_mib(),
        before=before,
        **_afterwards(sampler, throttled),
    )


def _offer(call: Call, cell: Cell, warm: WarmUp) -> tuple[Timing, list[TrialRecord], float | None]:
    """The measured load, the trials before it and the rate that the search found."""
    if cell.mode == "back-to-back":
        return back_to_back(call, cell.seconds, warm.run_ns), [], None
    if cell.mode == "paced":
        return at_rate(call, cell.seconds, cast("float", cell.rate_hz), queue=False), [], None
    found = max_throughput(call, cell.seconds, warm.run_ns)
    trials = [TrialRecord(rate_hz=t.rate_hz, sustained=t.sustained, grown_ms=t.grown_ms) for t in found.trials]
    return found.timing, trials, found.rate_hz


def _fps(cell: Cell, timing: Timing, found: float | None) -> float:
    if cell.mode == "paced":
        return cast("float", cell.rate_hz) * len(timing.begun) / (len(timing.begun) + timing.dropped)
    return found or len(timing.begun) / timing.seconds


def _measure_chain(cell: Cell) -> Measured:
    if cell.bundle is None or cell.mode != "paced":
        raise InputError("Scope chain needs a bundle and the paced mode: the camera sets the pace.")
    entry = next(iter(entry_points(group=GROUP, name="chain")), None)
    if entry is None:
        raise MissingExtra.pip("Scope chain", "drive")
    with needs("Scope chain", "drive"):
        run_chain = cast("MeasureChain", entry.load())
    bundle, rate = Bundle.open(cell.bundle, cell.keys), cast("float", cell.rate_hz)
    settle = min(CHAIN_SETTLE_S, cell.warm_up_s)
    with tempfile.TemporaryDirectory() as folder:
        if cell.source is None:
            source = str(example_video(bundle, Path(folder), rate, cell.seconds + settle))
            fed = sha256_of(Path(source))
        else:
            source = cell.source
            fed = sha256_of(Path(source)) if Path(source).is_file() else hashlib.sha256(source.encode()).hexdigest()
        before, throttled = board_state(), Sensors().throttle_events()
        with beside(cell.beside), Sampler() as sampler:
            got = run_chain(cell.bundle, cell.engine, cell.precision, source, rate, cell.seconds, settle, cell.keys)
    if not len(got.latency_ns):
        raise EdgeflockError(f"No frame of the chain was answered in {cell.seconds:g} s at {rate:g} Hz.")
    return Measured(
        **_identity(cell, bundle.manifest.net, bundle),
        rate_hz=rate,
        net_sha256=None,
        input_sha256=fed,
        engine=got.engine,
        precision=got.precision,
        engine_version=engine_version(got.engine),
        gate=_gate(bundle, got.precision),
        placement={},
        warm_up=WarmUpRecord(runs=0, seconds=settle, steady=False),
        duration_s=round(got.seconds, 3),
        frames=len(got.latency_ns),
        dropped=got.dropped,
        late_starts=0,
        fps=round(len(got.latency_ns) / got.seconds, 3),
        latency=Latency.of(got.latency_ns),
        response=None,
        harness_ms=None,
        cpu_ms_per_frame=ms(got.cpu_ns / len(got.latency_ns)),
        peak_rss_mib=got.peak_rss_mib,
        before=before,
        **_afterwards(sampler, throttled),
    )


def _gate(bundle: Bundle | None, precision: str) -> GateFigure | None:
    gate = bundle.manifest.gates.get(precision) if bundle is not None else None
    return None if gate is None else GateFigure(**gate.model_dump(include=set(GateFigure.model_fields)))


def measure_apart(cell: Cell, net: str) -> Measured | Missing:
    """Measure one cell in a process of its own; what goes wrong there is the reason of a missing cell.

    `net` is its name in the record, should the bundle not even open there.
    """
    done = subprocess.run(
        [sys.executable, "-m", "edgeflock.runtime.bench.measure", cell.model_dump_json()],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(cell.threads)},
    )
    if done.returncode == 0:
        return Measured.model_validate_json(done.stdout.splitlines()[-1])
    if done.returncode < 0:
        return cell.missing(f"the process was killed by signal {-done.returncode}", net)
    return cell.missing((done.stderr.strip().splitlines() or ["no message"])[-1], net)


def _identity(cell: Cell, net: str, bundle: Bundle | None) -> dict[str, Any]:
    return {
        "net": net,
        "threads": cell.threads,
        "scope": cell.scope,
        "mode": cell.mode,
        "beside": cell.beside,
        "bundle": bundle.manifest.name if bundle else None,
        "bundle_sha256": bundle.digest if bundle else None,
    }


def _afterwards(sampler: Sampler, throttled: dict[str, int]) -> dict[str, Any]:
    return {
        "after": board_state(),
        "peak_c": {name: round(max(values), 2) for name, values in sampler.temperatures_c.items()},
        "throttling": throttling_since(throttled),
        "power": {
            name: Rail(mean_w=round(float(np.mean(w)), 3), max_w=round(max(w), 3), samples=len(w))
            for name, w in sampler.power_w.items()
        },
    }


def harness_ms(cell: Cell) -> float | None:
    """Median of the timed loop around a net that does nothing, in this engine; None where it does not take one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.onnx"
        path.write_bytes(EMPTY_NET)
        try:
            engine = open_engine(cell.engine, path, cell.precision, cell.threads)
            engine.bind({"x": np.zeros(1, np.float32)})
            engine.run()
        except EngineError:
            return None
        return ms(float(np.median(back_to_back(engine.run, EMPTY_S, run_ns=2_000).service)))


def noise(net: Path) -> dict[str, np.ndarray]:
    """An array in [0, 1) for each input of an ONNX file, the same ones every time."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(net, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes have no common base
        raise EngineError(f"ONNX Runtime {onnxruntime.__version__} does not load {net}: {error}") from error
    rng, feeds = np.random.default_rng(0), {}
    for node in session.get_inputs():
        if node.type != "tensor(float)" or not all(isinstance(size, int) for size in node.shape):
            raise InputError(
                f"{net}: expected inputs of float32 and a fixed shape, got {node.name}, {node.type} {node.shape}. "
                f"`python -m onnxruntime.tools.make_dynamic_shape_fixed --input_name {node.name} --input_shape 1,3,224,"
                f"224 {net} FIXED.onnx` (with its own sizes) fixes a shape; a net of other types is measured in a "
                f"bundle, whose reference inputs it gets."
            )
        feeds[node.name] = rng.random(node.shape, dtype=np.float32)
    return feeds


def example_video(bundle: Bundle, folder: Path, rate_hz: float, seconds: float) -> Path:
    """A video of the task's example frame, panned a little from frame to frame, at the rate asked for."""
    from edgeflock.runtime.tasks import open_task

    frame = next(
        (part for part in open_task(bundle).example() if isinstance(part, np.ndarray) and part.ndim == 3), None
    )
    if frame is None:
        raise InputError(f"Scope chain feeds camera frames; the task {bundle.manifest.task} takes none.")
    path = folder / "example.avi"
    height, width = frame.shape[:2]
    out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, (width, height))
    frame = cv2.GaussianBlur(frame, (0, 0), 9)  # noise would be a megabyte per frame
    for n in range(round(rate_hz * (seconds + 5))):
        out.write(np.roll(frame, n % 32, axis=1))
    out.release()
    return path


def digest(parts: Iterable[Any]) -> str:
    """SHA-256 of what is fed: shape, type and bytes of arrays, the text of anything else."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype} {part.shape}".encode())
            found.update(np.ascontiguousarray(part).data)
        else:
            found.update(repr(part).encode())
    return found.hexdigest()


def main(text: str) -> int:
    """Measure the cell given as JSON and print the cell as the last line; the reason it cannot be goes to stderr."""
    try:
        print(measure(Cell.model_validate_json(text)).model_dump_json())
    except Exception as error:
        if (told := in_our_words(error)) is None:
            raise
        print(str(told).replace("\n", " "), file=sys.stderr)
        return told.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
