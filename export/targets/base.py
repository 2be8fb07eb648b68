"""What a board takes: engines of its stock image, precisions, operator set, IR version, operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgeflock.runtime.board.known_bad import KNOWN_BAD, KnownBad, known_bad_here
from edgeflock.runtime.bundle.manifest import TargetSupport
from edgeflock.runtime.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from edgeflock.runtime.bundle.bundle import Bundle


OWN_PYTHON = "edgeflock needs Python >= 3.10: take a standalone one (pyenv, uv) beside the image's own."


@dataclass(frozen=True)
class Operator:
    """One node, as far as boards care."""

    type: str
    rank: int
    """Of its first input; 5 is a volume with batch and channels."""
    quantised: bool
    """Its first input comes out of a DequantizeLinear."""


@dataclass(frozen=True)
class Limit:
    """Operators that an engine does not take."""

    operator: str
    why: str
    rank: int | None = None
    quantised: bool | None = None

    def hits(self, operator: Operator) -> bool:
        """Whether the operator is one of these."""
        return (
            operator.type == self.operator
            and self.rank in (None, operator.rank)
            and self.quantised in (None, operator.quantised)
        )

    def __str__(self) -> str:
        int8 = {None: "", True: "INT8 ", False: "float "}[self.quantised]
        return f"{int8}{f'{self.rank - 2}-D ' if self.rank else ''}{self.operator}"


@dataclass(frozen=True)
class Route:
    """One way to run a net on a board.

    Attributes
    ----------
    engine : str
        Name in `edgeflock.runtime.engines.ENGINES`; for a vendor's route its tool.
    package, version : str
        What the engine comes from and the version on the stock image, as the known-bad table names them.
    precisions : tuple of str
        Artefacts that it takes, best first.
    opset, ir : int
        Newest operator set and IR version that it takes.
    source : str
        Where these come from.
    limits : tuple of Limit
    note : str
        Printed with the answer.
    """

    engine: str
    package: str
    version: str
    precisions: tuple[str, ...]
    opset: int
    ir: int
    source: str
    limits: tuple[Limit, ...] = ()
    note: str = ""

    def problems(self, model: onnx.ModelProto) -> list[str]:
        """Why the route does not take a graph; empty where it does."""
        found = []
        for domain in (opset for opset in model.opset_import if opset.domain not in ("", "ai.onnx")):
            found.append(f"operators of the domain {domain.domain}, standard ones are expected")
        if (opset := opset_of(model)) > self.opset:
            found.append(f"operator set {opset}, it takes up to {self.opset}")
        if model.ir_version > self.ir:
            found.append(f"IR version {model.ir_version}, it takes up to {self.ir}")
        held = operators(model) if self.limits else []
        for limit in self.limits:
            if count := sum(map(limit.hits, held)):
                found.append(f"{count} {limit}: {limit.why}")
        return found


@dataclass(frozen=True)
class Compilation:
    """What `compile` made on the workstation, and what is left for the board."""

    files: list[Path]
    did: list[str]
    on_board: list[str] = field(default_factory=list)
    """Commands."""


@dataclass(frozen=True)
class Job:
    """What a compiler gets: a verified bundle, calibration inputs (N, ...) by name, and a folder to write to."""

    target: Target
    bundle: Bundle
    feeds: Mapping[str, np.ndarray]
    out: Path
    python: str
    console: Console


@dataclass(frozen=True)
class Target:
    """One board with its stock image.

    Attributes
    ----------
    name : str
    board : str
        As the device tree names it, or near it: the known-bad table looks for parts of it.
    chip, image : str
        System on chip with its accelerator; operating system, Python and libraries of the stock image.
    routes : tuple of Route
        How edgeflock runs a net there, best first.
    vendor : Route, optional
        A vendor's tool that runs nets there outside edgeflock, from files that `compile` prepares.
    compiler : callable, optional
        Does the workstation's part; None where there is none.
    notes : tuple of str
        What to know before work starts, each with its source.
    """

    name: str
    board: str
    chip: str
    image: str
    routes: tuple[Route, ...]
    vendor: Route | None = None
    compiler: Callable[[Job], Compilation] | None = None
    notes: tuple[str, ...] = ()

    @property
    def known_bad(self) -> list[KnownBad]:
        """Entries of the known-bad table that hold for the stock image, or for this board whatever is installed."""
        stock = {route.package: route.version for route in (*self.routes, *([self.vendor] if self.vendor else []))}
        here = [entry for entry, _ in known_bad_here(stock.get, self.board)]
        own = [e for e in KNOWN_BAD if e.board and e.board.lower() in self.board.lower() and e.package not in stock]
        return here + own

    def problems(self, route: Route, precision: str, model: onnx.ModelProto) -> list[str]:
        """Why a route does not run this precision of a net: the graph, or a version known to fail."""
        stopped = [e for e in self.known_bad if e.package == route.package and precision in e.stops]
        return route.problems(model) + [f"{e.reason.strip()}; {e.way_out}" for e in stopped]


def check(target: Target, models: Mapping[str, onnx.ModelProto]) -> TargetSupport:
    """Best precision and engine for a net on a board.

    Parameters
    ----------
    target : Target
    models : mapping
        Precision to graph, as a bundle holds them.

    Raises
    ------
    InputError
        The board runs none of them; the message has every route's reason and the way out.
    """
    refused = []
    for route in target.routes:
        for precision in route.precisions:
            if precision not in models:
                refused.append(f"{route.engine} would take {precision}, which is not there")
            elif problems := target.problems(route, precision, models[precision]):
                refused.append(f"{route.engine} {route.version} refuses {precision} ({'; '.join(problems)})")
            else:
                return TargetSupport(precision=precision, engine=route.engine, note=route.note)
    raise InputError(
        f"{target.name} ({target.board}) runs none of {', '.join(models)}: {'. '.join(refused)}. Way out: export with "
        f"edgeflock's own operator set (17, IR 8) and all precisions; see docs/targets.md."
    )


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operators that a graph uses."""
    return next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))


def operators(model: onnx.ModelProto) -> list[Operator]:
    """Every node of a graph with the rank of its first input."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in (*graph.input, *graph.value_info, *graph.output)}
    ranks |= {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return [
        Operator(node.op_type, ranks.get(node.input[0], 0), node.input[0] in dequantised)
        for node in graph.node
        if node.input
    ]
