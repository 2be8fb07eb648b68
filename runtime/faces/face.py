"""What detector and tracker hand on."""

from __future__ import annotations

from typing import NamedTuple


class Face(NamedTuple):
    """One face in one frame."""

    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels, x2 and y2 excluded: the whole head, crown to chin; it may reach beyond the frame. Of a
    head that is tilted by `roll` it has the sides of the upright one, about the same middle."""
    score: float
    """0..1, how sure the detector is; comparable only within one detector."""
    id: int | None = None
    """Of the person, stable from frame to frame; None where nobody tracks."""
    roll: float = 0.0
    """Of the head, rad, positive clockwise in the image, by the line of the eyes; 0 where the detector sees none."""
