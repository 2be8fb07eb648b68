"""What every engine does. One engine per file beside this one: onnxruntime, qnn, tensorrt, openvino."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

import numpy as np

from edgeflock.runtime.errors import EngineError, InputError

Progress = Callable[[str], None]
"""Takes a line of text about a long step."""


def say(line: str) -> None:
    """Print a line of progress where it does not mix with a command's output."""
    print(line, file=sys.stderr, flush=True)


class Engine(Protocol):
    """One net on one compute unit, with buffers bound once and nothing allocated per run.

    A constructor that cannot place the whole net where it was asked to raises `EngineError`; it never falls back
    silently. `tests/runtime/engines/test_conformance.py` holds every engine to this protocol.
    """

    @property
    def name(self) -> str:
        """Engine and compute unit, as reports print them, such as "onnxruntime-cpu"."""

    @property
    def precision(self) -> str:
        """Precision of the artefact, the manifest's name for it."""

    def bind(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Bind one C-contiguous array to each input of the net and get the arrays of its outputs.

        The caller writes into the input arrays before each `run` and reads the output arrays after it; both stay
        the same memory until the next `bind`.

        Raises
        ------
        InputError
            Names, dtypes, shapes or memory layout are not the net's.
        """

    def run(self) -> None:
        """Run the net once, from the bound inputs to the bound outputs.

        Raises
        ------
        EngineError
            Nothing is bound, or the engine failed.
        """

    def placement(self) -> dict[str, str]:
        """Compute unit of each node of the graph: node name to provider."""


def check_feeds(wanted: dict[str, tuple[tuple[int, ...], np.dtype]], feeds: dict[str, np.ndarray]) -> None:
    """Refuse arrays that an engine cannot bind; `wanted` maps input names to shape and dtype."""
    if set(feeds) != set(wanted):
        raise InputError(f"the net's inputs are {sorted(wanted)}, got {sorted(feeds)}.")
    for name, (shape, dtype) in wanted.items():
        array = feeds[name]
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
            got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise InputError(f"input '{name}' must be a {dtype} array of shape {shape}, got {got}.")
        if not array.flags.c_contiguous:
            raise InputError(f"input '{name}' must be C-contiguous to be bound: use numpy.ascontiguousarray.")


def check_placement(placement: dict[str, str], provider: str, allow_fallback: bool) -> None:
    """Refuse a graph of which a node runs elsewhere than on `provider`, unless that was asked for."""
    elsewhere = {node: unit for node, unit in placement.items() if unit != provider}
    if elsewhere and not allow_fallback:
        node, unit = next(iter(elsewhere.items()))
        raise EngineError(
            f"{len(elsewhere)} of {len(placement)} nodes would not run on {provider} (first: '{node}' on {unit}). "
            f"Use a net that it supports, or allow the fall-back with allow_fallback=True."
        )
