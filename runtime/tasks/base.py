"""What every task does with its bundle: verify it, choose an engine, bind buffers, replay the reference vectors."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgeflock.runtime.board.profile import choice
from edgeflock.runtime.bundle.bundle import Bundle
from edgeflock.runtime.bundle.manifest import VECTORS, InputSpec, Manifest, OutputSpec
from edgeflock.runtime.bundle.vectors import answer_key, thinned
from edgeflock.runtime.engines import REFERENCE, open_engine
from edgeflock.runtime.errors import BundleError, InputError, ParityError

FP32_TOLERANCE = 1e-5
"""Of the reference engine in fp32, relative to max(1, |y|); x86 and ARM CPUs differ by up to 4.8e-7
(docs/decisions/0007). Everything else, quantised or on an accelerator, is held to `OutputSpec.tolerance`."""


class NetTask(ABC):
    """A bundle on the engine that runs it best here, ready to answer; the base of every task.

    A subclass names its `task`, says in `check` which manifests it can serve, and prepares `inputs` and reads
    `outputs` around `run` in its `__call__`.

    Parameters
    ----------
    bundle : Bundle or path
    precision, engine : str, optional
        By default what `edgeflock tune` found best for this bundle on this board; without that the manifest's
        precision on ONNX Runtime's CPU.
    threads : int, optional
        CPU threads of the engine; by default what `edgeflock tune` found, else 1.
    keys : iterable of path, optional
        `.pub` files to trust besides the package's and the user's, where `bundle` is a path.

    Attributes
    ----------
    bundle : Bundle
    precision : str
    engine : Engine
    inputs, outputs : dict of ndarray
        Buffers by name: written before `run`, overwritten by it.
    deviation : float
        Largest distance of this board's answers from the bundle's reference answers, in the outputs' unit.

    Raises
    ------
    BundleError
        And its subclasses: the bundle is refused, or it is not one for this task.
    InputError
        The bundle has no such precision, or there is no such engine.
    EngineError
        The engine does not take the net.
    ParityError
        This board answers the reference inputs differently.
    """

    task: ClassVar[str]

    def __init__(
        self,
        bundle: Bundle | str | Path,
        precision: str | None = None,
        threads: int | None = None,
        engine: str | None = None,
        keys: Iterable[str | Path] | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, keys)
        manifest = self.bundle.manifest
        if manifest.task != self.task:
            raise BundleError(f"the bundle {manifest.name} is for task '{manifest.task}', not for '{self.task}'.")
        self.check(manifest)
        tuned = None if precision or engine else choice(self.bundle.digest)
        if tuned is not None:
            precision, engine, threads = tuned.precision, tuned.engine, threads or tuned.threads
        self.precision = precision or manifest.default_precision
        self.engine = open_engine(
            engine or REFERENCE, self.bundle.artefact(self.precision), self.precision, threads or 1
        )
        self.inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in manifest.inputs}
        self.outputs = self.engine.bind(self.inputs)
        got = {name: (array.shape, array.dtype.name) for name, array in self.outputs.items()}
        if got != {output.name: (output.shape, output.dtype) for output in manifest.outputs}:
            raise BundleError(f"{self.bundle.artefact(self.precision)} has other outputs than its manifest says.")
        self.deviation = self._replay()

    @abstractmethod
    def check(self, manifest: Manifest) -> None:
        """Refuse a manifest whose inputs or outputs this task does not know, with a BundleError or InputError."""

    @abstractmethod
    def example(self) -> tuple[Any, ...]:
        """Arguments for `__call__` as they would come in service, for benchmarks."""

    @abstractmethod
    def __call__(self, *args: Any) -> Any:
        """Prepare the inputs, run the net, read the answer."""

    def write(self, spec: InputSpec, given: np.ndarray) -> None:
        """Put an array into an input as it is; InputError where it is not of its shape, with or without the batch."""
        if given.shape not in (spec.shape, spec.shape[1:]) or not np.can_cast(given.dtype, spec.dtype, "same_kind"):
            raise InputError(f"input '{spec.name}': expected {spec}, got {given.dtype} {list(given.shape)}.")
        self.inputs[spec.name][...] = given

    def run(self) -> int:
        """Run the net once on `inputs`; returns how long it took in ns."""
        start = time.perf_counter_ns()
        self.engine.run()
        return time.perf_counter_ns() - start

    def _replay(self) -> float:
        """Answer the reference inputs and compare; this warms the engine up as well."""
        vectors, outputs = self.bundle.vectors(), self.bundle.manifest.outputs
        keys = {name: name for name in self.inputs} | {o.name: answer_key(o.name, self.precision) for o in outputs}
        wanted = {name: array.shape[1:] for name, array in self.inputs.items()}
        wanted |= {o.name: self.outputs[o.name][thinned(o)].shape[1:] for o in outputs}
        held = {name: vectors[key] for name, key in keys.items() if key in vectors}
        count = {len(array) for array in held.values()}
        if {name: a.shape[1:] for name, a in held.items()} != wanted or len(count) != 1 or 0 in count:
            raise BundleError(
                f"{VECTORS} of the bundle {self.bundle.manifest.name} needs N >= 1 of each of {wanted} for precision "
                f"{self.precision}, it holds { {name: array.shape for name, array in vectors.items()} }: export the "
                f"bundle again."
            )
        worst, total, batch = 0.0, count.pop(), len(next(iter(self.inputs.values())))
        for start in range(0, total, batch):
            part = range(start, min(start + batch, total))
            for name, array in self.inputs.items():
                array[: len(part)] = held[name][part.start : part.stop]
            self.engine.run()
            for slot, i in enumerate(part):
                for spec in outputs:
                    worst = max(worst, self._compare(i, spec, held[spec.name][i], slot))
        return worst

    def _compare(self, index: int, spec: OutputSpec, expected: np.ndarray, slot: int) -> float:
        got = self.outputs[spec.name][thinned(spec)][slot]
        limit = np.full(expected.shape, spec.tolerance)
        if self.precision == "fp32" and self.engine.name == REFERENCE:
            limit = FP32_TOLERANCE * np.maximum(1, np.abs(expected))
        deviation = np.abs(got.astype(np.float64) - expected)
        if not np.all(deviation <= limit):  # this way round, NaN fails
            at = np.unravel_index(np.argmax(np.where(np.isnan(deviation), np.inf, deviation / limit)), expected.shape)
            raise ParityError(
                f"{self.engine.name} {self.precision} answers reference input {index} of the bundle "
                f"{self.bundle.manifest.name} with {spec.name} {got[at]:.6g} {spec.unit}, the bundle says "
                f"{expected[at]:.6g} (limit {limit[at]:.1g}): this board computes the net differently. Use another "
                f"precision ({', '.join(self.bundle.manifest.artefacts)}), engine or engine version."
            )
        return float(deviation.max())
