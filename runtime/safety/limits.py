"""What a robot may do, and its shape."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GuardLimits(BaseModel):
    """What this robot may do, and its shape. The defaults are those of the simulated robot."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    speed: float = Field(default=1.0, ge=0.0, le=10.0, description="cruising speed, m/s")
    max_steering: float = Field(default=0.6, gt=0.0, le=1.2, description="largest front wheel angle, rad")
    steering_rate: float = Field(default=3.0, gt=0.0, le=50.0, description="fastest turn of the wheels, rad/s")
    acceleration: float = Field(default=1.0, gt=0.0, le=20.0, description="fastest gain of speed, m/s^2")
    deceleration: float = Field(default=2.0, gt=0.0, le=20.0, description="braking that is sure, m/s^2")
    frame_timeout: float = Field(default=0.15, gt=0.0, le=2.0, description="oldest frame to drive on, s")
    wheelbase: float = Field(default=0.36, gt=0.0, le=5.0, description="rear to front axle, m")
    front: float = Field(default=0.43, gt=0.0, le=6.0, description="rear axle to front bumper, m")
    robot_width: float = Field(default=0.36, gt=0.0, le=3.0, description="over the wheels, m")
    robot_height: float = Field(default=0.45, gt=0.0, le=4.0, description="highest point, m")
    margin: float = Field(default=0.1, ge=0.0, le=2.0, description="air ahead and above, half of it at each side, m")
    camera_forward: float = Field(default=0.35, ge=-5.0, le=5.0, description="rear axle to camera, m ahead")
    camera_height: float = Field(default=0.4, ge=0.0, le=4.0, description="ground to camera, m")
    camera_pitch: float = Field(default=0.15, ge=-1.5, le=1.5, description="camera pitch, rad, positive looks down")
    camera_yaw: float = Field(default=0.0, ge=-1.5, le=1.5, description="camera yaw, rad, positive looks to the left")
    camera_roll: float = Field(default=0.0, ge=-1.5, le=1.5, description="camera roll, rad, positive: left side up")
    require_depth: bool = Field(default=True, description="stop without fresh depth images")

    def reaction_distance(self, speed: float) -> float:
        """D(v) in m, see the module."""
        return speed * self.frame_timeout + speed**2 / (2 * self.deceleration) + self.margin
