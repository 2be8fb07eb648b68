"""What of a net is mixed: its state as one flat vector, and the policy for batch-norm statistics.

Running means and variances are buffers, not parameters. Code that mixes `parameters()` alone and puts the mean into a
new net evaluates it with statistics (0, 1) that nobody trained: it answers like a constant, without an error
(docs/fleet-mixing.md). So the policy is named:

- `average`: statistics are mixed like parameters. The default.
- `local`: every silo keeps its own; the mean of the fleet's parameters then belongs to no statistics but a silo's.
- `re-estimate`: as `local`, and before a mixed net is used they are computed anew from the data at hand
  (`edgeflock.export.fleet.learners.flat`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeflock.runtime.errors import InputError

POLICIES = ("average", "local", "re-estimate")
STATISTICS = ("running_mean", "running_var")
LEAST_VARIANCE = 0.1  # of the silo's own: differences of old models and negative weights could bring it below 0


@dataclass(frozen=True)
class FlatLayout:
    """Which entries of a net's state are mixed, in which order.

    Parameters
    ----------
    policy : str
        One of `POLICIES`.
    entries : tuple of (str, tuple of int)
        Name and shape of what is mixed. Counters and other whole numbers never are.
    """

    policy: str
    entries: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, state: Mapping[str, np.ndarray], policy: str = "average", layers: str = "") -> FlatLayout:
        """Layout of a state: parameters and buffers by name, as PyTorch names them (`bn1.running_var`).

        With `layers` only of those whose names begin so, such as the head's; the others stay each silo's own.
        """
        if policy not in POLICIES:
            raise InputError(f"no batch-norm policy '{policy}': expected one of {', '.join(POLICIES)}.")
        entries = tuple(
            (name, value.shape)
            for name, value in state.items()
            if name.startswith(layers)
            and value.dtype.kind == "f"
            and (policy == "average" or not _is(name, *STATISTICS))
        )
        if not entries:
            tops = ", ".join(dict.fromkeys(name.partition(".")[0] for name in state))
            raise InputError(f"no layer's name begins with '{layers}': this net has {tops}.")
        return cls(policy, entries)

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(math.prod(shape) for _, shape in self.entries)

    def flatten(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """Flat float32 vector (size,) of a state; `InputError` when an entry is missing or of another shape."""
        for name, shape in self.entries:
            if name not in state or state[name].shape != shape:
                got = state[name].shape if name in state else "none"
                raise InputError(f"expected '{name}' of shape {shape}, got {got}: all silos train the same net.")
        return np.concatenate([state[name].ravel() for name, _ in self.entries], dtype=np.float32)

    def restore(self, flat: np.ndarray, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """State of a mixed vector: what was mixed from there, the rest from the silo's own state.

        A variance does not fall below a tenth of the silo's own, if that was ever trained.

        Raises
        ------
        InputError
            The vector's length is not `size`; or the policy is `local` and the own statistics were never trained.
        """
        if flat.shape != (self.size,):
            raise InputError(f"expected a flat model of shape ({self.size},), got {flat.shape}: is it the same net?")
        if self.policy == "local":
            check_statistics(state)
        found, start = dict(state), 0
        for name, shape in self.entries:
            value = flat[start : start + math.prod(shape)].reshape(shape).astype(state[name].dtype)
            if _is(name, "running_var") and state.get(name.replace("running_var", "num_batches_tracked"), 1) > 0:
                value = np.maximum(value, LEAST_VARIANCE * state[name])
            found[name] = value
            start += math.prod(shape)
        return found


def check_statistics(state: Mapping[str, np.ndarray]) -> None:
    """Refuse a state with batch-norm statistics that have seen no batch: `InputError`."""
    for name, value in state.items():
        if _is(name, "num_batches_tracked") and value == 0:
            raise InputError(
                f"the statistics of '{name.rpartition('.')[0]}' have seen no batch, and with them the net answers like "
                "a constant: take a trained silo's state, the policy 'average', or re-estimate them from data."
            )


def _is(name: str, *kinds: str) -> bool:
    return name.rpartition(".")[2] in kinds
