"""A steering bundle in the shadow of the one that drives: both answer the same frames, only one is obeyed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from edgeflock.runtime.tasks.steering import Steering  # cv2 and an engine: the limits alone go without

Answer = Callable[[np.ndarray], "Steering"]
"""A frame to the answer of a policy."""


class ShadowLimits(BaseModel):
    """What a candidate may cost, compared with what drives now."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    worse: float = Field(0.05, ge=0, description="Shadow: share by which the RMSE may rise.")
    slower: float = Field(1.5, ge=1, description="Shadow: times the median inference time.")


@dataclass(frozen=True)
class Shadow:
    """What came of a shadow run over frames with known angles."""

    frames: int
    not_finite: int
    driving_rmse: float
    candidate_rmse: float
    driving_ms: float
    candidate_ms: float
    apart: float
    """Largest distance of the two answers, rad."""

    def problems(self, limits: ShadowLimits) -> list[str]:
        """Why the candidate must not drive; empty: it may."""
        found = []
        if self.not_finite:
            found.append(f"{self.not_finite} of {self.frames} answers are not finite")
        if not self.candidate_rmse <= self.driving_rmse * (1 + limits.worse):
            found.append(
                f"its RMSE is {self.candidate_rmse:.4g} rad, {self.driving_rmse:.4g} of what drives now, at most "
                f"{100 * limits.worse:g} % more are allowed"
            )
        if not self.candidate_ms <= self.driving_ms * limits.slower:
            found.append(
                f"it takes {self.candidate_ms:.3g} ms a frame, {self.driving_ms:.3g} what drives now, at most "
                f"{limits.slower:g} times are allowed"
            )
        return found


def shadow(driving: Answer, candidate: Answer, frames: Iterable[np.ndarray], angles: Iterable[float]) -> Shadow:
    """Let both answer the same frames, in turns.

    Parameters
    ----------
    driving, candidate : callable
        Take a frame, uint8 (H, W) or (H, W, 3).
    frames : iterable of ndarray
    angles : iterable of float
        What a person steered, rad.
    """
    answers = np.array([(*driving(frame), *candidate(frame)) for frame in frames], dtype=np.float64).reshape(-1, 4)
    target = np.asarray(list(angles), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        error = answers[:, (0, 2)] - target[:, None]
        driving_rmse, candidate_rmse = np.sqrt((error**2).mean(axis=0))
        apart = np.abs(answers[:, 0] - answers[:, 2]).max()
    driving_ns, candidate_ns = np.median(answers[:, (1, 3)], axis=0)
    return Shadow(
        frames=len(answers),
        not_finite=int((~np.isfinite(answers[:, 2])).sum()),
        driving_rmse=float(driving_rmse),
        candidate_rmse=float(candidate_rmse),
        driving_ms=float(driving_ns / 1e6),
        candidate_ms=float(candidate_ns / 1e6),
        apart=float(apart),
    )
