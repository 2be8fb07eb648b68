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
import shlex
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict

from edgeflock.runtime.bench.latency import Latency
from edgeflock.runtime.bench.record import Board
from edgeflock.runtime.bundle import Bundle, default_bundle
from edgeflock.runtime.engines.base import Engine
from edgeflock.runtime.errors import EdgeflockError, InputError, MissingExtra

Run = Callable[[list[np.ndarray]], list[np.ndarray]]
"""Inputs of one sample, in order, to outputs."""

BLOCK = 25  # runs of one peer before the next has its turn; the first of them, with cold caches, is not counted
WRONG = 10.0  # times the distance of our own INT8 from fp32: beyond it a peer does not compute this net


@dataclass(frozen=True)
class Peer:
    """One runtime in one precision.

    `open` gets the converted file and gives a call for one sample that returns the net's outputs.
    """

    package: str
    precision: Literal["fp32", "int8"]
    needs: tuple[str, ...]
    """Modules: of the runtime, then of the converter."""
    install: str
    convert: Callable[[Any, tuple[Any, ...], list[tuple[Any, ...]], Path], None]
    """(torch net in evaluation mode, one sample, all reference samples, folder)."""
    open: Callable[[Path], Run]


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
    board: Board
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


# ---- converters and runtimes


def _ncnn_convert(net: Any, sample: tuple, samples: list, folder: Path) -> None:
    import pnnx

    pnnx.export(net, str(folder / "net.pt"), sample, fp16=False)
    if not (folder / "net.ncnn.param").is_file():
        raise EdgeflockError("pnnx wrote no net.ncnn.param")


def _ncnn_open(folder: Path) -> Run:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads, net.opt.use_vulkan_compute = 1, False
    net.load_param(str(folder / "net.ncnn.param"))
    net.load_model(str(folder / "net.ncnn.bin"))
    inputs, outputs = list(net.input_names()), list(net.output_names())

    def run(feeds: list[np.ndarray]) -> list[np.ndarray]:
        extractor = net.create_extractor()
        for name, feed in zip(inputs, feeds, strict=True):
            extractor.input(name, ncnn.Mat(feed[0]))
        return [np.array(extractor.extract(name)[1]) for name in outputs]

    run.keep = net  # type: ignore[attr-defined]  # the extractor holds a bare pointer
    return run


def _pt2e(net: Any, sample: tuple, samples: list, quantizer: Any, fold: bool) -> Any:
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    prepared = prepare_pt2e(torch.export.export(net, sample).module(), quantizer)
    for one in samples:
        prepared(*one)
    return convert_pt2e(prepared, fold_quantize=fold)


def _executorch_convert(net: Any, sample: tuple, samples: list, folder: Path, int8: bool = False) -> None:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    if int8:
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )

        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        net = _pt2e(net, sample, samples, quantizer, fold=True)
    program = to_edge_transform_and_lower(torch.export.export(net, sample), partitioner=[XnnpackPartitioner()])
    (folder / "net.pte").write_bytes(program.to_executorch().buffer)


def _executorch_open(folder: Path) -> Run:
    import torch
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    _unsafe_reset_threadpool(1)
    method = Runtime.get().load_program(str(folder / "net.pte")).load_method("forward")

    def run(feeds: list[np.ndarray]) -> list[np.ndarray]:
        return [tensor.numpy() for tensor in method.execute([torch.from_numpy(feed) for feed in feeds])]

    return run


def _litert_convert(net: Any, sample: tuple, samples: list, folder: Path, int8: bool = False) -> None:
    import litert_torch

    if int8:
        from litert_torch.quantize import pt2e_quantizer, quant_config

        symmetric = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True)
        quantizer = pt2e_quantizer.PT2EQuantizer().set_global(symmetric)
        net = _pt2e(net, sample, samples, quantizer, fold=False)
        config = quant_config.QuantConfig(pt2e_quantizer=quantizer)
        litert_torch.convert(net, sample, quant_config=config).export(str(folder / "net.tflite"))
    else:
        litert_torch.convert(net, sample).export(str(folder / "net.tflite"))


def _litert_open(folder: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / "net.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    inputs = [detail["index"] for detail in interpreter.get_input_details()]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def run(feeds: list[np.ndarray]) -> list[np.ndarray]:
        for index, feed in zip(inputs, feeds, strict=True):
            interpreter.set_tensor(index, feed)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run


def _onnxruntime_open(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return lambda feeds: session.run(None, dict(zip(names, feeds, strict=True)))


def _openvino_open(path: Path) -> Run:
    import openvino

    # Without the hint OpenVINO computes "fp32" in bf16 on this kind of CPU (facts/checks.md 4).
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1"}
    core = openvino.Core()
    request = core.compile_model(core.read_model(path), "CPU", options).create_infer_request()
    return lambda feeds: list(request.infer(feeds, share_inputs=True, share_outputs=True).values())


_LITERT = 'pip install ai-edge-litert litert-torch "torch<2.14"'
_EXECUTORCH = 'pip install executorch "torch<2.14"'
PEERS = {
    "ncnn fp32": Peer("ncnn", "fp32", ("ncnn", "pnnx"), "pip install ncnn pnnx", _ncnn_convert, _ncnn_open),
    "ExecuTorch XNNPACK fp32": Peer(
        "executorch", "fp32", ("executorch",), _EXECUTORCH, _executorch_convert, _executorch_open
    ),
    "ExecuTorch XNNPACK int8": Peer(
        *("executorch", "int8", ("executorch", "torchao"), _EXECUTORCH),
        *(functools.partial(_executorch_convert, int8=True), _executorch_open),
    ),
    "LiteRT XNNPACK fp32": Peer(
        *("ai-edge-litert", "fp32", ("ai_edge_litert", "litert_torch"), _LITERT, _litert_convert, _litert_open)
    ),
    "LiteRT XNNPACK int8": Peer(
        *("ai-edge-litert", "int8", ("ai_edge_litert", "litert_torch", "torchao"), _LITERT),
        *(functools.partial(_litert_convert, int8=True), _litert_open),
    ),
}


# ---- the comparison


def load_net(bundle: Bundle) -> tuple[Any, list[tuple[Any, ...]]]:
    """Torch net of a bundle in the form that its ONNX file was made of, and its reference inputs as tensors."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtra.pip("edgeflock bench peers", "export", error) from error
    from edgeflock.export.onnx import exact_norms
    from edgeflock.export.training.checkpoint import load_checkpoint

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


def _converted(name: str, bundle: Path, folder: Path) -> str | None:
    """Convert in a process of its own; what went wrong, or None."""
    folder.mkdir()
    command = [sys.executable, "-m", "edgeflock.export.peers", name, str(bundle), str(folder)]
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
    for package, open_ in (("onnxruntime", _onnxruntime_open), ("openvino", _openvino_open)):
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
            if problem := _converted(name, bundle.path, folder):
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
        command=shlex.join(["edgeflock", *sys.argv[1:]]),
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
    key: Annotated[list[Path] | None, typer.Option("--key", help="Trust this .pub file too; repeat for more.")] = None,
) -> None:
    """Measure the same weights in ONNX Runtime, OpenVINO, ncnn, ExecuTorch and LiteRT, in turns, on one thread."""
    from rich.console import Console

    console = Console()
    with console.status("") as status:
        opened = Bundle.open(bundle or default_bundle(), key)
        record = compare(opened, seconds, engine, precision, status.update)
    table = markdown(record)
    console.print(table, highlight=False, soft_wrap=True, markup=False)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        out.with_suffix(".md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    convert(sys.argv[1], Bundle.open(sys.argv[2]), Path(sys.argv[3]))
