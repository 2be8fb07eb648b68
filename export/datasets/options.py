"""Options of the verbs that read driving data: what a recording may leave open, see `ReadOptions`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

ImageTopic = Annotated[
    str | None, typer.Option("--image-topic", help="Topic of the images, where a bag holds several.")
]
SteeringTopic = Annotated[
    str | None, typer.Option("--steering-topic", help="Topic of the steering, where a bag holds several.")
]
Wheelbase = Annotated[
    float | None, typer.Option("--wheelbase", min=0.01, help="Of the robot, m: for steering by Twist.")
]
AngleUnit = Annotated[
    Literal["rad", "deg"] | None, typer.Option("--unit", help="Of the steering angles (default: rad).")
]
