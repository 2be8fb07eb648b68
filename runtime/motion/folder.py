"""Folders of dances with their music, as AIOZ-GDANCE has them.

motions_smpl/NAME.npz or .pkl    a group's motion (`edgeflock.runtime.motion.files`)
musics/NAME.flac, .wav, ...      its music, or music/
train_split_sequence_names.txt   names of a split, one a line; also val_ and test_
features/NAME.npz                the music's features and beats, kept here once they are computed
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeflock.runtime.audio.features import SIZE, Music, features_of
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.files import replacing
from edgeflock.runtime.motion.files import read_motion
from edgeflock.runtime.motion.group import RATE, Group

MOTIONS, MUSICS, FEATURES = "motions_smpl", "musics", "features"


def split_file(split: str) -> str:
    """Name of the file that lists a split."""
    return f"{split}_split_sequence_names.txt"


@dataclass(frozen=True)
class DanceFolder:
    """The dances of a split of a folder.

    Attributes
    ----------
    path : Path
    names : tuple of str
    """

    path: Path
    names: tuple[str, ...]

    @classmethod
    def open(cls, path: str | Path, split: str | None = None) -> DanceFolder:
        """Dances of a split, or all that have a motion.

        Raises
        ------
        DataError
            No such folder, no such split, or no dance in it.
        """
        path = Path(path)
        found = {file.stem: file for file in sorted((path / MOTIONS).glob("*")) if file.suffix in (".npz", ".pkl")}
        if not found:
            raise DataError(f"{path}: expected dances, {MOTIONS}/NAME.npz or .pkl: `edgeflock dances` makes some.")
        names = list(found)
        if split is not None:
            listed = path / split_file(split)
            if not listed.is_file():
                raise DataError(f"{listed}: no such file; expected the names of the split {split}, one a line.")
            names = listed.read_text("utf-8").split()
            missing = [name for name in names if name not in found]
            if missing or not names:
                what = f"no motion of {missing[0]} in {MOTIONS}" if missing else "no name"
                raise DataError(f"{listed}: {what}.")
        return cls(path, tuple(names))

    def motion(self, name: str) -> Group:
        """A dance at 30 Hz; `DataError` as for `read_motion`."""
        file = self.path / MOTIONS / f"{name}.npz"
        return read_motion(file if file.exists() else file.with_suffix(".pkl")).at_rate(RATE)

    def music(self, name: str) -> Music:
        """Features and beats of a dance's music; computed once.

        Raises
        ------
        DataError
            There is no music, or it cannot be read.
        """
        kept = self.path / FEATURES / f"{name}.npz"
        if kept.exists():
            return read_features(kept)
        sounds = [file for folder in (MUSICS, "music") for file in sorted((self.path / folder).glob(f"{name}.*"))]
        if not sounds:
            raise DataError(f"{self.path}: expected the music of {name}, {MUSICS}/{name}.wav, .flac or .ogg.")
        music = features_of(sounds[0])
        write_features(kept, music)
        return music


def write_features(path: Path, music: Music) -> None:
    """Keep features and beats."""
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, features=music.features, beats=music.beats)


def read_features(path: Path) -> Music:
    """Features and beats that were kept, or those of another extractor in the same form.

    Raises
    ------
    DataError
        The file has no features (T, D) and beats (n,).
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            music = Music(held["features"].astype(np.float32), held["beats"].astype(np.float64))
        if music.features.ndim != 2 or music.beats.ndim != 1 or not np.isfinite(music.features).all():
            raise ValueError(f"features {music.features.shape}, beats {music.beats.shape}")
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: expected features (T, {SIZE}) and beats (n,), ({error}): remove it.") from None
    return music
