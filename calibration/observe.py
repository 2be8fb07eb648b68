"""Runs the float net over calibration samples and keeps a histogram of every activation."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeflock.calibration.cache import Entry, default_folder, key_of
from edgeflock.calibration.foreign import adopted
from edgeflock.calibration.histogram import Histogram
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto
    from rich.console import Console

OnProgress = Callable[[int, int, str], None]
"""Gets how much is done, of how much, and a line to show where there is something to say, else ""."""

BUDGET = 512 << 20
"""Bytes of activations held at once. On top come weights and working memory of the net for one sample."""

SAVE_EVERY_S = 5.0


def observe(
    model: ModelProto,
    feeds: dict[str, np.ndarray],
    *,
    cache: Path | None = None,
    budget: int = BUDGET,
    on_progress: OnProgress | None = None,
) -> dict[str, Histogram]:
    """Histogram of every float activation of the graph, inputs and outputs included.

    What was seen is cached by the content of net and samples and saved every few seconds: a process that was killed
    goes on where it stopped, to the same result.

    Parameters
    ----------
    model : onnx.ModelProto
        Float net with static shapes and batch 1, ours or another's (`edgeflock.calibration.foreign.adopted`).
    feeds : dict
        By input, (N, ...): what the net will get in service, prepared the same way (docs/calibration.md). Any dtype
        that casts to that of the input, such as uint8 pixels.
    cache : Path, optional
        Folder, by default `edgeflock.calibration.cache.default_folder()`.
    budget : int
        Bytes of activations held at once, but at least the largest one. Where all together are larger, the samples pass
        the net several times, once for each group of tensors; the result does not depend on it.
    on_progress : callable, optional
        See `OnProgress`, and `progress` for a bar.

    Returns
    -------
    dict
        By tensor name, in the order of the graph.

    Raises
    ------
    InputError
        The feeds do not fit the net's inputs, or an activation is not finite; the message names tensor and sample.
    MissingExtra
        The onnx package is not installed.
    """
    with needs("Calibration"):
        import onnx
    given, model = model, adopted(model)
    samples = _check(model, feeds)
    key = key_of(given.SerializeToString(deterministic=True), feeds)
    dtypes = {v.name: onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in model.graph.input}
    sizes = activations(model)
    total = samples * len(sizes)
    say = on_progress or (lambda done, total, text: None)

    entry = Entry(cache or default_folder(), key, lambda text: say(0, total, text))
    kept = entry.load()
    seen = {name: kept.get(name) or Histogram() for name in sizes}
    done = sum(histogram.samples for histogram in seen.values())
    if done:
        say(done, total, "all seen before" if done == total else f"going on at {done / total:.0%}, where it stopped")

    saved = time.monotonic()
    dtypes = {value.name: input_dtype(value) for value in model.graph.input}
    for group in _groups(sizes, seen, samples, budget):
        run = _session(model, [name for name in group if name not in feeds])
        for sample in range(seen[group[0]].samples, samples):
            fed = {name: array[sample : sample + 1].astype(dtypes[name]) for name, array in feeds.items()}
            values = fed | run(fed)
            for name in group:
                try:
                    seen[name].add(values[name])
                except InputError as error:
                    raise InputError(f"tensor {name!r} of sample {sample}: {error}") from None
            del values  # before the next ones come
            done += len(group)
            say(done, total, "")
            if time.monotonic() - saved > SAVE_EVERY_S:
                entry.save(seen)
                saved = time.monotonic()
        entry.save(seen)
    return seen


def _check(model: ModelProto, feeds: dict[str, np.ndarray]) -> int:
    """Number of samples, if the feeds are what the net takes."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: _shape(value) for value in model.graph.input if value.name not in weights}
    if not isinstance(feeds, dict) or set(feeds) != set(inputs):
        got = sorted(feeds) if isinstance(feeds, dict) else type(feeds).__name__
        raise InputError(f"expected samples for the inputs {sorted(inputs)} of the net, got {got}.")
    for name, shape in inputs.items():
        if feeds[name].shape[1:] != shape[1:] or shape[0] != 1:
            wanted = "1 for a batch" if shape[0] != 1 else ("N", *shape[1:])
            raise InputError(f"input {name!r} is {shape}: expected samples {wanted}, got {feeds[name].shape}.")
    counts = {name: len(array) for name, array in feeds.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise InputError(f"expected the same number of samples for each input, at least one, got {counts}.")
    return next(iter(counts.values()))


def activations(model: ModelProto) -> dict[str, int]:
    """Bytes of each float activation, in the order of the graph."""
    from onnx import TensorProto

    graph = model.graph
    known = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    weights = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in weights]
    names += [name for node in graph.node if node.op_type != "Constant" for name in node.output]
    return {
        name: 4 * math.prod(_shape(known[name]))
        for name in names
        if name in known and known[name].type.tensor_type.elem_type == TensorProto.FLOAT
    }


def input_dtype(value: ValueInfoProto) -> np.dtype:
    """Of an input of a graph, as numpy has it."""
    from onnx.helper import tensor_dtype_to_np_dtype

    return tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


def _shape(value: ValueInfoProto) -> tuple[int, ...]:
    """Dimensions; one that is not static is an error, since sizes decide what is held in memory."""
    dims = value.type.tensor_type.shape.dim
    if any(not dim.HasField("dim_value") for dim in dims):
        raise InputError(
            f"tensor {value.name!r} has no static shape: export the net with fixed sizes and batch 1; "
            "`onnxslim IN.onnx OUT.onnx` folds what is computed from them."
        )
    return tuple(dim.dim_value for dim in dims)


def _groups(sizes: dict[str, int], seen: dict[str, Histogram], samples: int, budget: int) -> Iterator[list[str]]:
    """Neighbouring tensors that lack the same samples and fit into the budget together."""
    group: list[str] = []
    for name in [name for name in sizes if seen[name].samples < samples]:
        full = sum(sizes[member] for member in group) + sizes[name] > budget
        if group and (full or seen[name].samples != seen[group[0]].samples):
            yield group
            group = []
        group.append(name)
    if group:
        yield group


def _session(model: ModelProto, names: list[str]) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Function that answers a feed with the values of these tensors; the net ends where the last of them is."""
    if not names:
        return lambda fed: {}
    import onnxruntime as ort
    from onnx.utils import Extractor

    options = ort.SessionOptions()
    # Fusing would depend on which tensors are outputs, and the last bits with it: the same answer for any budget.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False  # it would round what is held up to powers of two, and keep it
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    part = Extractor(model).extract_model([value.name for value in model.graph.input], names)
    session = ort.InferenceSession(part.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda fed: dict(zip(names, session.run(names, fed), strict=True))


@contextmanager
def progress(console: Console, title: str = "calibration") -> Iterator[OnProgress]:
    """Bar for `on_progress`; lines with something to say stay above it."""
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(title)

        def update(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total)
            if text:
                bar.console.print(f"{title}: {text}", highlight=False, soft_wrap=True, markup=False)

        yield update
