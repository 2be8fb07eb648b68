"""Ids for faces: who in this frame was who in the last ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeflock.runtime.faces.face import Face


@dataclass
class _Track:
    id: int
    box: tuple[float, float, float, float]
    stamp_ns: int


class FaceTracker:
    """Gives every face the id of the nearest one of the last frames, or a new one.

    Distance is that of the centres plus the difference in size, in widths of the face. The nearest pairs are matched
    first: faces are apart by more than they move from frame to frame, where an optimal assignment is the same.

    Parameters
    ----------
    patience_s : float
        How long a face may be missed and still keep its id.
    reach : float
        Largest distance of a match, in widths of the face.
    """

    def __init__(self, patience_s: float = 1.0, reach: float = 0.75) -> None:
        self._patience_ns, self._reach = round(patience_s * 1e9), reach
        self._tracks: list[_Track] = []
        self._next = 0

    @property
    def ids(self) -> set[int]:
        """Of all faces that may still come back."""
        return {track.id for track in self._tracks}

    def __call__(self, faces: Sequence[Face], stamp_ns: int) -> list[Face]:
        """Give ids to the faces of one frame.

        Parameters
        ----------
        faces : sequence of Face
        stamp_ns : int
            Of the frame. Where time jumps back, as when a recording starts over, everybody is new.

        Returns
        -------
        list of Face
            In the same order. An id is never given to a second face in a run.
        """
        alive = [track for track in self._tracks if 0 <= stamp_ns - track.stamp_ns <= self._patience_ns]
        pairs = sorted(
            (distance, i, j)
            for i, face in enumerate(faces)
            for j, track in enumerate(alive)
            if (distance := _distance(face.box, track.box)) <= self._reach
        )
        matched: dict[int, _Track] = {}
        taken: set[int] = set()
        for _, i, j in pairs:
            if i not in matched and j not in taken:
                matched[i] = alive[j]
                taken.add(j)
        for i, face in enumerate(faces):
            if i not in matched:
                matched[i] = _Track(self._next, face.box, stamp_ns)
                alive.append(matched[i])
                self._next += 1
            matched[i].box, matched[i].stamp_ns = face.box, stamp_ns
        self._tracks = alive
        return [face._replace(id=matched[i].id) for i, face in enumerate(faces)]


def _distance(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    width_a, width_b = a[2] - a[0], b[2] - b[0]
    apart = math.hypot(a[0] + a[2] - b[0] - b[2], a[1] + a[3] - b[1] - b[3]) / 2
    return (apart + abs(width_a - width_b)) / max(width_a, width_b)
