"""What drives a mobile robot along a trajectory: plain functions, no ROS."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Track:
    """A piece of a way: times (K,) in ns ascending, poses (K, 3) as x, y in m and heading in rad, rates (K, 3)."""

    times: np.ndarray
    poses: np.ndarray
    rates: np.ndarray

    def at(self, time_ns: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Pose (3,) and its rate (3,) at a time; None outside."""
        if not self.times[0] <= time_ns <= self.times[-1]:
            return None
        before = max(0, min(int(np.searchsorted(self.times, time_ns, "right")) - 1, len(self.times) - 2))
        after = min(before + 1, len(self.times) - 1)
        part = (time_ns - int(self.times[before])) / max(1, int(self.times[after] - self.times[before]))
        start, turn = self.poses[before], self.poses[after] - self.poses[before]
        turn[2] = math.remainder(turn[2], math.tau)
        return start + part * turn, self.rates[before] + part * (self.rates[after] - self.rates[before])


@dataclass(frozen=True)
class Limits:
    """Of a base: m/s and rad/s."""

    speed: float
    yaw_rate: float


def command(
    pose: np.ndarray, goal: np.ndarray, rate: np.ndarray, ahead: float, gain: float, limits: Limits
) -> tuple[float, float, float]:
    """Speed ahead and to the left in m/s and yaw rate in rad/s that bring a base to where it should be.

    Parameters
    ----------
    pose, goal : ndarray
        (3,): where the base is and should be, x, y, heading.
    rate : ndarray
        (3,): rate of the goal.
    ahead : float
        m from the axle of a differential base to the point that keeps to the way, since the axle cannot go sideways
        (input-output linearisation; Siciliano et al., "Robotics", 2009, section 11.6.2); 0: the base goes anywhere, and
        turns as the goal does.
    gain : float
        1/s: an error falls to 1/e in 1/gain s.
    limits : Limits
        Where a command exceeds one, all of it is made smaller, so that its direction stays.
    """
    x, y, heading = map(float, pose)
    c, s = math.cos(heading), math.sin(heading)
    u = rate[:2] + gain * (goal[:2] - np.array([x + ahead * c, y + ahead * s]))
    along, left = c * float(u[0]) + s * float(u[1]), -s * float(u[0]) + c * float(u[1])
    if ahead:
        left, yaw_rate = 0.0, left / ahead
    else:
        yaw_rate = float(rate[2]) + gain * math.remainder(float(goal[2]) - heading, math.tau)
    share = min(1.0, limits.speed / max(math.hypot(along, left), 1e-9), limits.yaw_rate / max(abs(yaw_rate), 1e-9))
    return along * share, left * share, yaw_rate * share
