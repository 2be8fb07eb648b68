"""Dances and music as arrays to learn from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from edgeflock.runtime.audio.features import SIZE
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.motion.folder import DanceFolder
from edgeflock.runtime.motion.group import rows_of

CHUNK = 150
"""Frames of a sample: 5 s."""


@dataclass(frozen=True, eq=False)
class Dances:
    """Groups of equally many dancers, each with its music.

    Attributes
    ----------
    rows : list of ndarray
        Each float32 (N, T, 151), T at least `CHUNK`.
    music : list of ndarray
        Each float32 (T, features).
    beats : list of ndarray
        s.
    source : str
    synthetic : bool
    """

    rows: list[np.ndarray]
    music: list[np.ndarray]
    beats: list[np.ndarray]
    source: str
    synthetic: bool

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dancers(self) -> int:
        """How many dance in each group."""
        return self.rows[0].shape[0]

    @property
    def features(self) -> int:
        """Features of a frame of music."""
        return self.music[0].shape[1]

    def describe(self) -> dict[str, Any]:
        """What a result says of them."""
        sha = hashlib.sha256()
        for arrays in zip(self.rows, self.music, strict=True):
            for array in arrays:
                sha.update(np.ascontiguousarray(array).data)
        frames = sum(rows.shape[1] for rows in self.rows)
        return {
            **{"dances": len(self), "dancers": self.dancers, "seconds": frames / 30},
            **{"source": self.source, "synthetic": self.synthetic, "sha256": sha.hexdigest()},
        }

    def chunk(self, index: int, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (N, 150, 151), whose group stands around the origin as it begins, and music (150, features)."""
        rows = self.rows[index][:, start : start + CHUNK].copy()
        rows[..., [0, 2]] -= rows[:, 0, [0, 2]].mean(0)
        return rows, self.music[index][start : start + CHUNK]


def open_dances(path: Path, split: str, console: Console | None = None) -> Dances:
    """Dances of a split of a folder (`edgeflock.runtime.motion.folder`); those shorter than a chunk are left out.

    Of larger groups the first dancers are taken, as many as the smallest group has.

    Raises
    ------
    DataError
        No dance of that length, or what is wrong with the folder.
    """
    folder = DanceFolder.open(path, split)
    rows, music, beats = [], [], []
    for name in track(folder.names, f"{split} dances", console=console, transient=True):
        group, heard = folder.motion(name), folder.music(name)
        frames = min(len(group), len(heard.features))
        if frames >= CHUNK:
            rows.append(rows_of(group)[:, :frames])
            music.append(heard.features[:frames])
            beats.append(heard.beats)
    if not rows:
        raise DataError(f"{path}: expected dances of at least {CHUNK / 30:g} s in the split {split}, got none.")
    if {array.shape[1] for array in music} != {music[0].shape[1]}:
        raise DataError(f"{path}: the music has features of several sizes ({SIZE} are ours): compute them alike.")
    dancers = min(len(array) for array in rows)
    labels = path / "dances.json"
    synthetic = labels.exists() and bool(json.loads(labels.read_text("utf-8")))
    return Dances([array[:dancers] for array in rows], music, beats, str(path), synthetic)
