"""How far the robot can go along a curve before it touches what the depth camera sees.

Frames as in REP 103 and 105: base_link is the middle of the rear axle on the ground, x ahead, y left, z up. A robot
that holds its front wheels at angle d drives a circle about (0, R), R = wheelbase / tan(d), and sweeps the annulus from
|R| - w/2 (inner side at the rear axle) to hypot(|R| + w/2, front) (outer front corner).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount

if TYPE_CHECKING:
    from edgeflock.runtime.safety.limits import GuardLimits

POINTS = 4800  # pixels looked at per depth image: 160x120 by 2, 640x480 by 8
MIN_POINTS = 8  # fewer than this many are noise
GROUND_M = 0.05  # lower than this is ground ...
GROUND_SLOPE = 0.04  # ... plus this per metre: pitch of body and mount, uneven floor
STRAIGHT_PER_M = 1e-3  # flatter curves count as this one: 5 mm off after 3 m


class Obstacles:
    """Obstacles in a depth image, and the free way along a curved path.

    What is not seen: steps down, things lower than 5 cm + 4 % of their distance, and things nearer than the camera's
    shortest range (D435 at 480 lines: 0.2 m), which it reports as holes. So the robot must come to rest with more than
    that between camera and obstacle: camera_forward + shortest range < front + margin.
    """

    def __init__(self, limits: GuardLimits) -> None:
        self.limits = limits
        self._count = 0
        self.valid = 0.0  # fraction of the pixels with a measurement

    @property
    def limits(self) -> GuardLimits:
        """Shape of the robot and mount of the camera; may be replaced at any time."""
        return self._limits

    @limits.setter
    def limits(self, limits: GuardLimits) -> None:
        self._limits = limits
        self._intrinsics: Intrinsics | None = None  # the next image prepares anew

    def update(self, depth: np.ndarray, intrinsics: Intrinsics) -> None:
        """Take a new depth image.

        Parameters
        ----------
        depth : ndarray
            uint16 (h, w) millimetres along the optical axis, 0 = no measurement.
        intrinsics : Intrinsics
            Of the depth image.

        Raises
        ------
        InputError
            Wrong dtype or shape, or uncalibrated intrinsics.
        """
        if intrinsics != self._intrinsics:
            self._prepare(intrinsics)
        if depth.dtype != np.uint16 or depth.shape != (intrinsics.height, intrinsics.width):
            raise InputError(
                f"expected depth as uint16 ({intrinsics.height}, {intrinsics.width}), got {depth.dtype} {depth.shape}: "
                "image and camera_info must be of one stream."
            )
        np.multiply(depth[:: self._stride, :: self._stride], np.float32(1e-3), out=self._range)
        metres = self._range.reshape(-1)
        self.valid = np.count_nonzero(metres) / metres.size
        for axis, (points, offset) in enumerate(zip(self._points, self._offset, strict=True)):
            np.multiply(metres, self._rays[axis], out=points)
            points += offset
        x, y, z = self._points
        np.multiply(x, GROUND_SLOPE, out=self._scratch)
        self._scratch += GROUND_M
        np.greater(z, self._scratch, out=self._keep)
        self._keep &= z < self._limits.robot_height + self._limits.margin
        self._keep &= metres > 0
        self._count = n = int(np.count_nonzero(self._keep))
        np.compress(self._keep, x, out=self._x[:n])
        np.compress(self._keep, y, out=self._y[:n])

    def _prepare(self, i: Intrinsics) -> None:
        """Directions of the pixels in the base frame, per metre of depth, and the buffers."""
        if not (i.fx > 0 and i.fy > 0):
            raise InputError(
                "expected a calibrated depth camera (fx > 0), got fx = 0: the obstacle check needs camera_info."
            )
        self._stride = s = max(1, round(math.sqrt(i.width * i.height / POINTS)))
        v, u = np.mgrid[0 : i.height : s, 0 : i.width : s]
        right, down = (u.ravel() - i.cx) / i.fx, (v.ravel() - i.cy) / i.fy
        axes = Mount.of(self._limits).axes
        self._rays = (axes @ np.stack([right, down, np.ones_like(right)])).astype(np.float32)
        self._offset = (np.float32(self._limits.camera_forward), np.float32(0), np.float32(self._limits.camera_height))
        self._range = np.empty(u.shape, np.float32)
        self._points = np.empty((3, u.size), np.float32)
        self._scratch, self._x, self._y = (np.empty(u.size, np.float32) for _ in range(3))
        self._keep = np.empty(u.size, bool)
        self._intrinsics = i

    def distance(self, steering: float) -> float:
        """Way in m until the body touches something if the wheels stay at `steering` rad; inf when the path is free.

        The body meets a point with its front (`front` ahead of the rear axle) or with its inner side, whichever comes
        first.
        """
        if self._count < MIN_POINTS:
            return math.inf
        limits = self._limits
        curvature = math.tan(steering) / limits.wheelbase
        radius = 1.0 / max(abs(curvature), STRAIGHT_PER_M)
        half = limits.robot_width / 2 + limits.margin / 2
        inner, outer = max(radius - half, 0.0), math.hypot(radius + half, limits.front)
        x = self._x[: self._count]
        lateral = radius - (self._y[: self._count] if curvature >= 0 else -self._y[: self._count])
        rho = np.hypot(x, lateral)
        hit = (rho >= inner) & (rho <= outer) & (rho > 0)
        rho, x, lateral = rho[hit], x[hit], lateral[hit]
        reach = np.minimum(limits.front, np.sqrt((rho - inner) * (rho + inner)))
        way = radius * (np.arctan2(x, lateral) - np.arcsin(reach / rho))
        way = way[way > -limits.margin]  # what lies deeper is the robot itself, or behind it
        return float(np.partition(way, MIN_POINTS - 1)[MIN_POINTS - 1]) if way.size >= MIN_POINTS else math.inf
