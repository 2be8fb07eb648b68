"""What of a piece of music a dance is led by: its beats, and how fast and in which part of a bar it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeflock.runtime.audio.features import features_of
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.files import parse_json

BAR = 4
"""Beats of a bar, of which the first beat that is known begins one."""


@dataclass(frozen=True, eq=False)
class Score:
    """Beats of a piece of music.

    Attributes
    ----------
    beats : ndarray
        s, ascending; fewer than two tell no tempo.
    """

    beats: np.ndarray

    @classmethod
    def read(cls, path: str | Path) -> Score:
        """Beats of a sound file, or of JSON with `beats` in s, as `edgeflock dance perform` writes it.

        Raises
        ------
        DataError
            It is neither, or the beats do not ascend.
        MissingExtra
            soundfile is not installed.
        """
        path = Path(path)
        if path.suffix != ".json":
            return cls(features_of(path).beats)
        try:
            beats = np.array(parse_json(path.read_bytes())["beats"], np.float64).reshape(-1)
            if not np.isfinite(beats).all() or (np.diff(beats) <= 0).any():
                raise ValueError("they must be finite and ascend")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected JSON with beats, a list of s ({error}).") from None
        return cls(beats)

    def count(self, position: np.ndarray | float) -> np.ndarray:
        """Beats that are over at a position in s, in parts of a beat; below 0 before the first one."""
        beats = self.beats
        inside = np.interp(position, beats, np.arange(len(beats)))
        before = (position - beats[0]) / (beats[1] - beats[0])
        after = len(beats) - 1 + (position - beats[-1]) / (beats[-1] - beats[-2])
        return np.where(position < beats[0], before, np.where(position > beats[-1], after, inside))

    def at(self, position: float) -> tuple[float, float, float]:
        """Tempo in beats a minute, phase of the beat and of the bar, 0 to 1; all 0 where no tempo is known."""
        if len(self.beats) < 2:
            return 0.0, 0.0, 0.0
        count = float(self.count(position))
        gap = int(np.clip(np.floor(count), 0, len(self.beats) - 2))
        return 60 / float(self.beats[gap + 1] - self.beats[gap]), count % 1, count / BAR % 1
