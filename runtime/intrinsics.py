"""The pinhole model of a camera: what bundles, calibration and obstacles know of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole model of one image stream, as sensor_msgs/CameraInfo has it (pixels).

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
