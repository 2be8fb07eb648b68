"""The pinhole model of a camera: what bundles, calibration, obstacles and the canonical view know of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole model of one image stream, as sensor_msgs/CameraInfo has it (pixels; centres at whole numbers).

    ``fx == 0`` means uncalibrated, the convention of CameraInfo: a plain video carries no calibration.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: str = "plumb_bob"
    coeffs: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)

    @classmethod
    def uncalibrated(cls, width: int, height: int) -> Intrinsics:
        """Size only."""
        return cls(width, height, 0.0, 0.0, 0.0, 0.0)

    @classmethod
    def of_lens(cls, width: int, height: int, fovy: float) -> Intrinsics:
        """A lens without distortion that sees `fovy` rad from top to bottom."""
        f = height / 2 / math.tan(fovy / 2)
        return cls(width, height, f, f, (width - 1) / 2, (height - 1) / 2)

    def resized(self, width: int, height: int) -> Intrinsics:
        """Of the same picture, resized."""
        x, y = width / self.width, height / self.height
        cx, cy = (self.cx + 0.5) * x - 0.5, (self.cy + 0.5) * y - 0.5
        return replace(self, width=width, height=height, fx=self.fx * x, fy=self.fy * y, cx=cx, cy=cy)
