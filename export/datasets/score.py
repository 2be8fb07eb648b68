"""How well a steering net fits a recording, before anyone drives with it: beside answers that need no net.

The net answers every frame. Correlation and side do not depend on how hard driver or robot steer; the gain says by
which factor the net's angles fit best. The ridge regression is fitted to this very recording, on its first part, and
judged with the net on its last: what that small model finds, the frames hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edgeflock.export.datasets.base import SteeringDataset
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.tasks.steering import SteeringPolicy

LEARNT, HELD_OUT = 0.70, 0.25
"""Shares of the recording: the first for the ridge regression, the last to judge on; the gap keeps them apart."""
MIN_FRAMES = 40
_SIDE = 28  # px of the ridge regression's frames
_PENALTY = 300.0  # of its squared weights, in units of the squared, standardised pixels


@dataclass(frozen=True)
class Fit:
    """How angles fit the wanted ones.

    Attributes
    ----------
    r : float
        Pearson's correlation; NaN where either never changes.
    side : float
        Share of the same sign on the half of the frames that are steered most.
    rmse : float
        rad.
    """

    r: float
    side: float
    rmse: float


@dataclass(frozen=True)
class Score:
    """A net on a recording.

    Attributes
    ----------
    angles : ndarray
        float64 (N,) rad: what the net says.
    net : Fit
        On all frames.
    constant : float
        RMSE of always answering the mean label, rad.
    gain, bias : float
        The wanted angle is about gain * angle + bias (rad).
    fitted : float
        RMSE with them, rad.
    last_net, last_ridge : Fit
        On the last quarter.
    last_constant : float
        There.
    """

    angles: np.ndarray
    net: Fit
    constant: float
    gain: float
    bias: float
    fitted: float
    last_net: Fit
    last_ridge: Fit
    last_constant: float

    def worst(self, wanted: np.ndarray, count: int) -> np.ndarray:
        """Indices of the frames that are furthest off, worst first; within 1 % of the recording one stands for all."""
        order = np.argsort(-np.abs(self.angles - wanted))
        taken: list[int] = []
        apart = max(1, len(order) // 100)
        for index in order:
            if all(abs(index - other) >= apart for other in taken):
                taken.append(int(index))
            if len(taken) == count:
                break
        return np.array(taken)

    @property
    def fits(self) -> bool:
        """Whether it may be tried on the robot."""
        return self.net.r >= 0.7

    def verdict(self) -> str:
        """What it means for somebody who wants to drive."""
        if not self.net.r >= 0.3:
            return (
                "the net does not fit this recording: check the mount (--mount), the sign and unit of the labels, or "
                "train on frames of this robot"
            )
        if not self.fits:
            return "the net sees something of the way: drive slowly, on a stand first, or train on frames of this robot"
        if not 0.7 <= self.gain <= 1.4:
            return f"the net fits, but this robot steers {self.gain:.2f} times as much: steering_gain of /steering"
        return "the net fits this recording"


def score(data: SteeringDataset, policy: SteeringPolicy) -> Score:
    """Let a policy answer every frame of a recording.

    Parameters
    ----------
    data : SteeringDataset
        Whole frames, (N, 240, 320), in the order of the recording.
    policy : SteeringPolicy
        It may look through a mount (`look_through`, with the lens resized to 320x240).

    Raises
    ------
    InputError
        Too few frames, frames that are cropped already, or labels that never change.
    """
    if len(data) < MIN_FRAMES or data.frames.shape[1:] != (240, 320):
        raise InputError(
            f"expected at least {MIN_FRAMES} whole frames of 240x320, got {len(data)} of "
            f"{'x'.join(map(str, data.frames.shape[1:]))}."
        )
    wanted = data.angles.astype(np.float64)
    if not np.ptp(wanted) > 0:
        raise InputError(f"expected labels that differ, got {wanted[0]:.3f} rad for all {len(wanted)} frames.")
    angles = np.array([policy(frame, "mono8").angle for frame in data.frames])
    gain, bias = np.polyfit(angles, wanted, 1) if np.ptp(angles) > 0 else (0.0, wanted.mean())
    first, last = int(LEARNT * len(wanted)), int((1 - HELD_OUT) * len(wanted))
    guessed = _ridge(data.frames, wanted, first)[last:]
    return Score(
        angles,
        fit(angles, wanted),
        float(wanted.std()),
        float(gain),
        float(bias),
        _rmse(gain * angles + bias, wanted),
        fit(angles[last:], wanted[last:]),
        fit(guessed, wanted[last:]),
        _rmse(np.full(len(guessed), wanted[:first].mean()), wanted[last:]),
    )


def fit(angles: np.ndarray, wanted: np.ndarray) -> Fit:
    """How angles (N,) fit the wanted ones (N,)."""
    most = (np.abs(wanted) >= np.median(np.abs(wanted))) & (wanted != 0)  # straight on has no side
    varied = np.ptp(angles) > 0 and np.ptp(wanted) > 0
    r = float(np.corrcoef(angles, wanted)[0, 1]) if varied else float("nan")
    return Fit(r, float(np.mean(np.sign(angles[most]) == np.sign(wanted[most]))), _rmse(angles, wanted))


def _rmse(angles: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(np.mean((angles - wanted) ** 2)))


def _ridge(frames: np.ndarray, wanted: np.ndarray, first: int) -> np.ndarray:
    """Angles (N,) of a ridge regression on small frames (Hoerl and Kennard 1970), fitted to the first ones."""
    small = np.stack([cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for frame in frames])
    x = small.reshape(len(small), -1).astype(np.float64)
    x = (x - x[:first].mean(0)) / (x[:first].std(0) + 1.0)
    mean, fitted = wanted[:first].mean(), x[:first]
    weights = np.linalg.solve(fitted.T @ fitted + _PENALTY * np.eye(x.shape[1]), fitted.T @ (wanted[:first] - mean))
    return x @ weights + mean
