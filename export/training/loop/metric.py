"""The validation figure of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """The validation figure that decides which weights are best."""

    name: str
    best: Literal["lowest", "highest"]
    baselines: Mapping[str, float]
    """The same figure of answers that need no net; "constant" is the one that is shown while training."""
    unit: str = ""

    def of(self, history: list[dict[str, float]]) -> dict[str, float]:
        """The best epoch so far; the first of equals."""
        sign = 1 if self.best == "lowest" else -1
        return min(history, key=lambda past: sign * past[self.name])
