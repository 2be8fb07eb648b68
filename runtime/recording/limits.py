"""What a recorder keeps, and how much of it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RecordingLimits(BaseModel):
    """What a recorder keeps, and how much of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rate_hz: float = Field(default=6.0, gt=0.0, le=60.0, description="frames a second; at 30 neighbours are alike")
    min_speed: float = Field(
        default=0.1, ge=0.0, le=10.0, description="slower is standing still, m/s; 0 = also standing, or speed unknown"
    )
    wheelbase: float = Field(default=0.36, gt=0.0, le=5.0, description="rear to front axle, m: for a Twist")
    max_gap: float = Field(
        default=0.1, gt=0.0, le=1.0, description="from a frame to the steering messages before and after it, s"
    )
    deadman_timeout: float = Field(
        default=0.5, gt=0.0, le=10.0, description="a dead-man message holds for so long, s; so does the odometry"
    )
    holdout: int = Field(default=5, ge=0, le=1000, description="of so many minutes one goes to val/; 0 = none")
    max_mb: float = Field(default=2000.0, ge=50.0, description="size of the folder; above it the oldest minutes go, MB")
    free_mb: float = Field(default=500.0, ge=0.0, description="what stays free on the disk, MB")
