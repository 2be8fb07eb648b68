"""What a recording of driving may leave open: options of every verb that reads one."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Unit = Literal["rad", "deg", "normalised"]

STEEPEST = 1.2
"""rad; no front wheel turns further, so that a larger full lock is in degrees."""


class ReadOptions(BaseModel):
    """What a recording may leave open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_topic: str | None = Field(
        None, description="Topic (bag) or feature (LeRobot) of the images, where there are several."
    )
    steering_topic: str | None = Field(
        None, description="Topic (bag) or feature:component (LeRobot) of the steering, where there are several."
    )
    wheelbase: float | None = Field(None, ge=0.01, description="Of the robot, m: for steering by Twist.")
    unit: Unit | None = Field(
        None, description="Of the steering angles (default: rad); normalised: -1 to 1, with --full-lock."
    )
    full_lock: float | None = Field(
        None,
        description="How far the front wheels turn, rad, where the recording says 1 (donkey, Udacity's simulator, "
        "--unit normalised); negative where it has the other sign.",
    )

    @field_validator("full_lock")
    @classmethod
    def _in_rad(cls, value: float | None) -> float | None:
        if value is not None and not 0 < abs(value) <= STEEPEST:
            hint = f": {value:g} degrees are {math.radians(value):.3f}" if STEEPEST < abs(value) <= 90 else ""
            raise ValueError(f"expected rad, up to {STEEPEST}{hint}")
        return value

    def words(self) -> list[str]:
        """What was given, as words of a command that reads the same recording."""
        given = self.model_dump(exclude_none=True)
        return [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]

    def normalised(self, right_positive: bool = False, default: float | None = None) -> ReadOptions:
        """The same for a format whose angles run from -1 to 1, as `parse_angle` takes it.

        Parameters
        ----------
        right_positive : bool
            Whether 1 is to the right in that format.
        default : float, optional
            Its full lock, rad, where none is given.
        """
        lock = self.full_lock or default
        return self.model_copy(update={"unit": "normalised", "full_lock": -lock if lock and right_positive else lock})
