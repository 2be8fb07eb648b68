"""The expert that gives the labels: pure pursuit on the reference path."""

from __future__ import annotations

import math

from .path import ReferencePath

WHEELBASE = 0.36  # m
MAX_STEERING = 0.6  # rad

LOOKAHEAD, NEAREST = 1.2, 0.7  # m: of a wide way, of a narrow one; the camera sees the floor from 0.67 m on


class PurePursuit:
    """Pure pursuit (Coulter, CMU-RI-TR-92-01): steer the arc that meets the path one look-ahead distance on.

    Calling it maps the pose of the rear axle (x m, y m, yaw rad) to the front wheel angle (rad, left positive, within
    +-0.6). It needs no state, so it also tells the way back after a push. The look-ahead does not depend on the speed,
    which a single frame does not show: it is far enough that the goal lies in what the camera sees.

    Parameters
    ----------
    path : ReferencePath
        The path to follow.
    lookahead : float
        m.
    """

    def __init__(self, path: ReferencePath, lookahead: float = LOOKAHEAD) -> None:
        self.path, self.lookahead = path, lookahead

    def __call__(self, x: float, y: float, yaw: float) -> float:
        """Front wheel angle, rad."""
        s, lateral = self.path.project(x, y)
        # Far from the path the goal point must lie ahead of the robot, not beside it.
        (gx, gy), _, _ = self.path.at(s + math.sqrt(max(self.lookahead**2 - lateral**2, 0.25 * self.lookahead**2)))
        bearing = math.atan2(gy - y, gx - x) - yaw
        distance = math.hypot(gx - x, gy - y)
        angle = math.atan2(2 * WHEELBASE * math.sin(bearing), distance)
        return min(max(angle, -MAX_STEERING), MAX_STEERING)
