"""What a recording of driving may leave open: options of every verb that reads one."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Unit = Literal["rad", "deg"]


class ReadOptions(BaseModel):
    """What a recording may leave open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_topic: str | None = Field(None, description="Topic of the images, where a bag holds several.")
    steering_topic: str | None = Field(None, description="Topic of the steering, where a bag holds several.")
    wheelbase: float | None = Field(None, ge=0.01, description="Of the robot, m: for steering by Twist.")
    unit: Unit | None = Field(None, description="Of the steering angles (default: rad).")
