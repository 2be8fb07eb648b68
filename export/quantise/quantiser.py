"""The quantised forms of a net: calibrate, quantise, and give back to float what the gate asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import onnx
from rich.console import Console
from rich.progress import Progress

from edgeflock.calibration.observe import OnProgress, progress
from edgeflock.calibration.ranges import Method, activation_ranges
from edgeflock.export.graph import predict
from edgeflock.export.quantise.forms import FORMS, prepare, quantize
from edgeflock.export.quantise.search import SearchResult, search
from edgeflock.export.quantise.sensitivity import scores, sqnr_db
from edgeflock.export.recipe import Answers, Judgement, Recipe, Samples
from edgeflock.runtime.errors import GateError

if TYPE_CHECKING:
    from onnxruntime.quantization.calibrate import TensorsData

SENSITIVITY_SAMPLES = 16
RANKED_SAMPLES = 64
"""Calibration samples that tell which method is the best."""


@dataclass
class Quantiser:
    """Makes the forms of a net.

    Attributes
    ----------
    recipe : Recipe
    calibration : Samples
        They pass `single` once for all forms.
    fp32, single : onnx.ModelProto
        The graph, and the same of batch 1; the tensors of both have the same names.
    judge : callable
        The gate.
    methods : sequence of str
        Calibration methods; the first is preferred.
    console : Console
    rank : bool
        Prefer the method whose form of the whole net answers calibration samples best, instead of the first.
    """

    recipe: Recipe
    calibration: Samples
    fp32: onnx.ModelProto
    single: onnx.ModelProto
    judge: Callable[[onnx.ModelProto], Judgement]
    methods: Sequence[Method]
    console: Console
    rank: bool = False

    @property
    def provenance(self) -> dict[str, object]:
        """The samples, as a manifest names them."""
        found: dict[str, object] = {"samples": len(self.calibration), "data": self.calibration.digest}
        if self.recipe.others:
            found["others"] = {other.content.robot: other.content.samples for other in self.recipe.others}
        return found

    def form(self, name: str) -> tuple[SearchResult, Method]:
        """The form of a name, and the calibration method that made it.

        A form that may hold no float has no layers to give back: where the gate refuses it, the other methods are
        tried. Where none helps, the preferred one is the answer.
        """
        preferred, *others = self._ranked(name) if self.rank else self.methods
        if not FORMS[name].layers:
            for method in (preferred, *others):
                found = self._by(method, name, blame=False)
                if found.judgement.passed:
                    return found, method
        return self._by(preferred, name), preferred

    def _ranked(self, name: str) -> list[Method]:
        """The methods by the SQNR of the form that each gives where no layer is left in float."""
        source, samples = self._rewritten(self.fp32, name), self.calibration.spread(RANKED_SAMPLES)
        expected = scores(self.fp32, samples.feeds)

        def quality(method: Method) -> float:
            ranges = self._ranges(method, name, Console(quiet=True))
            return sqnr_db(expected, scores(quantize(source, ranges, name, self.recipe.keep_float), samples.feeds))

        with self.console.status(f"{name}: which calibration method is the best ..."):
            return sorted(self.methods, key=quality, reverse=True)

    def _by(self, method: Method, name: str, blame: bool = True) -> SearchResult:
        source = self._rewritten(self.fp32, name)
        self._check_rewrites(source, name)
        ranges = self._ranges(method, name, self.console)
        with _bar(self.console, name) as on_progress:
            return search(
                source,
                ranges,
                name,
                self.judge,
                self._few.feeds,
                self.recipe.keep_float,
                score=self._score,
                blame=blame,
                on_progress=on_progress,
            )

    def _ranges(self, method: Method, name: str, console: Console) -> TensorsData:
        with progress(console, f"{name} calibration") as on_progress:
            return activation_ranges(
                self._rewritten(self.single, name),
                dict(self.calibration.feeds),
                method,
                symmetric=FORMS[name].symmetric,
                output_margin=FORMS[name].output_margin,
                others=self.recipe.others,
                on_progress=on_progress,
            )

    def _rewritten(self, graph: onnx.ModelProto, name: str) -> onnx.ModelProto:
        rewrite = self.recipe.rewrite
        return graph if rewrite is None or FORMS[name].symmetric else rewrite(graph)

    def _check_rewrites(self, graph: onnx.ModelProto, name: str) -> None:
        """Hold what a form rewrites to the answers of the net that it was."""
        answers = predict(prepare(graph, name), self._few.feeds)
        worst = max(
            float(np.max(np.abs(answers[output] - expected) / np.maximum(1, np.abs(expected))))
            for output, expected in self._reference.items()
        )
        if not worst <= self.recipe.parity:
            raise GateError(
                f"rewritten for {name}, the {self.recipe.net} is another net: off by {worst:.2g}, expected at most "
                f"{self.recipe.parity:g}. Way out: another precision, and report the net."
            )

    @cached_property
    def _few(self) -> Samples:
        return self.calibration.spread(SENSITIVITY_SAMPLES)

    @cached_property
    def _reference(self) -> Answers:
        return predict(self.fp32, self._few.feeds)

    def _score(self, answers: Answers) -> float:
        return self.recipe.judge(self._reference, answers, self._few).value


@contextmanager
def _bar(console: Console, title: str) -> Iterator[OnProgress]:
    """Bar that says what it is at."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(title)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=f"{title}: {text}")
