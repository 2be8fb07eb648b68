"""What every reader returns: grey frames, their steering angles, and the sequence each frame belongs to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeflock.export.datasets.options import ReadOptions
from edgeflock.runtime.errors import DataError, InputError

FRAME_SHAPES = ((240, 320), (200, 200))

PLAUSIBLE_RMS = 0.6
"""rad; no front wheel is turned that far on average, so that angles beyond are in another unit, or something else."""


def check_each_once(*paths: Path) -> None:
    """Refuse recordings that are named twice: as training data they count double, for validation they prove nothing."""
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise InputError(f"{path} is named twice among training and validation data: name every recording once.")
        seen.add(path.resolve())


@dataclass(eq=False)
class SteeringDataset:
    """Frames with the steering angle that belongs to each.

    Attributes
    ----------
    frames : numpy.ndarray
        uint8, (N, 240, 320) grey as the camera saw it, or (N, 200, 200) where the source is already cropped
        (the authors' "driving" npz); `edgeflock.runtime.prepare.frame.crop_200` takes both.
    angles : numpy.ndarray
        float32, (N,) rad, positive = left.
    groups : numpy.ndarray
        int32, (N,) index into `group_names`: the sequence, silo or world of each frame.
    group_names : list of str
        One name per group.
    names : list of str
        One name per frame, to find it again on disk.
    synthetic : bool or None
        Whether all frames come from a simulator; None where the data do not say.
    stamps : numpy.ndarray or None
        float64, (N,) s by the recording's clock, NaN where it has none; None: nowhere.

    Raises
    ------
    InputError
        If shapes or dtypes do not agree, or an angle is not finite or outside [-pi, pi].
    """

    frames: np.ndarray
    angles: np.ndarray
    groups: np.ndarray
    group_names: list[str]
    names: list[str]
    synthetic: bool | None = None
    stamps: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        count = len(self.frames)
        if self.frames.dtype != np.uint8 or self.frames.shape[1:] not in FRAME_SHAPES:
            raise InputError(
                f"frames: expected uint8 (N, 240, 320) or (N, 200, 200), got {self.frames.dtype} {self.frames.shape}"
            )
        for field, dtype in (("angles", np.float32), ("groups", np.int32)):
            array = getattr(self, field)
            if array.dtype != dtype or array.shape != (count,):
                raise InputError(f"{field}: expected {np.dtype(dtype)} ({count},), got {array.dtype} {array.shape}")
        if self.stamps is not None and (self.stamps.dtype != np.float64 or self.stamps.shape != (count,)):
            raise InputError(f"stamps: expected float64 ({count},), got {self.stamps.dtype} {self.stamps.shape}")
        if len(self.names) != count:
            raise InputError(f"names: expected {count}, one per frame, got {len(self.names)}")
        if count and not (self.groups.min() >= 0 and self.groups.max() < len(self.group_names)):
            raise InputError(
                f"groups: expected indices into {len(self.group_names)} group names, got {self.groups.max()}"
            )
        bad = np.flatnonzero(~(np.abs(self.angles) <= math.pi))
        if bad.size:
            raise InputError(f"angles: expected rad in [-pi, pi], got {self.angles[bad[0]]} for {self.names[bad[0]]}")

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, index: np.ndarray) -> SteeringDataset:
        """Frames chosen by integer index or boolean mask, in that order; group numbers stay."""
        index = np.arange(len(self))[index]
        return replace(
            self,
            frames=self.frames[index],
            angles=self.angles[index],
            groups=self.groups[index],
            names=[self.names[i] for i in index],
            stamps=None if self.stamps is None else self.stamps[index],
        )

    def digest(self) -> str:
        """SHA-256 (hex) of frames, angles and groups; frame names do not count, so a moved folder keeps its digest."""
        sha = hashlib.sha256(repr((self.frames.shape, self.group_names)).encode())
        for array in (self.frames, self.angles, self.groups):
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


def concatenate(parts: Sequence[SteeringDataset]) -> SteeringDataset:
    """Join data sets one after the other; every part keeps its groups apart from the others'.

    Raises
    ------
    InputError
        If there is nothing to join or the frame sizes differ.
    """
    sizes = {part.frames.shape[1:] for part in parts}
    if len(sizes) != 1:
        raise InputError(f"expected data sets of one frame size, got {sorted(sizes) or 'none'}")
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0] + [len(part.group_names) for part in parts[:-1]])
    groups = [part.groups + offset for part, offset in zip(parts, offsets, strict=True)]
    stamps = [np.full(len(part), np.nan) if part.stamps is None else part.stamps for part in parts]
    return SteeringDataset(
        frames=np.concatenate([part.frames for part in parts]),
        angles=np.concatenate([part.angles for part in parts]),
        groups=np.concatenate(groups).astype(np.int32),
        group_names=[name for part in parts for name in part.group_names],
        names=[name for part in parts for name in part.names],
        synthetic=True if all(part.synthetic for part in parts) else None,
        stamps=np.concatenate(stamps) if any(part.stamps is not None for part in parts) else None,
    )


def parse_angle(text: str, where: str, options: ReadOptions | None = None) -> float:
    """Read one steering angle, in rad; `where` names file and row in the error, `options` have the unit of the text.

    Raises
    ------
    InputError
        If it needs the full lock, and that is not given.
    DataError
        If it is not a number, not finite or outside [-pi, pi] rad, or [-1, 1] where it is normalised.
    """
    options = options or ReadOptions()
    unit = options.unit or "rad"
    try:
        angle = float(text)
    except ValueError:
        what = "steering from -1 to 1" if unit == "normalised" else f"a steering angle in {unit}"
        raise DataError(f"{where}: expected {what}, got {text!r}") from None
    if unit == "normalised":
        if not abs(angle) <= 1 + 1e-6:  # stored as float32, 1 can be more
            raise DataError(f"{where}: expected steering from -1 to 1, got {text.strip()}")
        return angle * full_lock(options, where)
    if unit == "deg":
        angle = math.radians(angle)
    if not abs(angle) <= math.pi:
        looks = unit != "deg" and math.pi < abs(angle) <= 720
        hint = "; it looks like degrees: `edgeflock train steering --unit deg` reads them" if looks else ""
        raise DataError(f"{where}: expected a steering angle in [-pi, pi] rad, got {text.strip()}{hint}")
    return angle


def full_lock(options: ReadOptions, where: str) -> float:
    """How far the front wheels turn, rad, at a steering of 1.

    Raises
    ------
    InputError
        It is not given; the message says how to find it.
    """
    if options.full_lock is None:
        raise InputError(
            f"{where}: steering runs from -1 to 1 here; say how far the front wheels turn at 1, in rad: --full-lock "
            "(in Python ReadOptions(full_lock=...)). Measure it, or drive a circle at full lock: atan(wheelbase / "
            "radius). For a verb without that option `edgeflock data convert --to dronet` makes a folder in rad"
        )
    return options.full_lock


def implausible(data: SteeringDataset) -> str | None:
    """Why the angles cannot be those of a front wheel in rad, or None."""
    if not len(data):
        return None
    rms = float(np.sqrt(np.mean(np.square(data.angles, dtype=np.float64))))
    if rms <= PLAUSIBLE_RMS:
        return None
    return (
        f"expected steering angles of a front wheel in rad, got a root mean square of {rms:.2f} rad (the largest is "
        f"{np.abs(data.angles).max():.2f} rad): they look like degrees, or a steering wheel's angle"
    )
