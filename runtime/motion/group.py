"""The motion of a group, and the rows of numbers that nets take and give for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.motion.rotations import (
    matrix_of_6d,
    matrix_of_quaternion,
    quaternion_of_axis_angle,
    quaternion_of_matrix,
    six_of_matrix,
    slerp,
)
from edgeflock.runtime.motion.skeleton import BODY, Skeleton, foot_contacts, forward_kinematics

RATE = 30.0
"""Frames a second of the nets' motion."""


@dataclass(frozen=True, eq=False)
class Group:
    """What every dancer of a group does, frame by frame.

    Attributes
    ----------
    root : ndarray
        (N, T, 3), m, y up: where the skeleton's first joint is.
    turns : ndarray
        (N, T, J, 4): unit quaternions (w, x, y, z), each joint's in its parent's frame.
    rate : float
        Frames a second.
    skeleton : Skeleton
        Of all dancers.

    Raises
    ------
    InputError
        Shapes that do not fit, no dancer, no frame, or numbers that are not finite.
    """

    root: np.ndarray
    turns: np.ndarray
    rate: float = RATE
    skeleton: Skeleton = BODY

    def __post_init__(self) -> None:
        shape, joints = np.shape(self.root), len(self.skeleton.parents)
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or np.shape(self.turns) != (*shape[:2], joints, 4):
            raise InputError(
                f"a group of N dancers and T frames needs root (N, T, 3) and turns (N, T, {joints}, 4), N and T at "
                f"least 1; got {shape} and {np.shape(self.turns)}."
            )
        if not np.isfinite(self.root).all() or not np.isfinite(self.turns).all() or not self.rate > 0:
            raise InputError("a group's motion must be finite and have frames a second, got NaN, infinity or no rate.")

    def __len__(self) -> int:
        return self.root.shape[1]

    @property
    def dancers(self) -> int:
        """How many dance."""
        return self.root.shape[0]

    @classmethod
    def from_axis_angle(
        cls, root: np.ndarray, poses: np.ndarray, rate: float = RATE, skeleton: Skeleton = BODY
    ) -> Group:
        """Group of axis-angle poses (N, T, 3 J), as SMPL's files have them, and places (N, T, 3)."""
        poses = np.asarray(poses, np.float64)
        return cls(
            np.asarray(root, np.float64),
            quaternion_of_axis_angle(poses.reshape(*poses.shape[:2], -1, 3)),
            rate,
            skeleton,
        )

    def joints(self) -> np.ndarray:
        """Places of all joints (N, T, J, 3), m."""
        return forward_kinematics(self.skeleton, self.root, matrix_of_quaternion(self.turns))

    def frames(self, start: int, stop: int) -> Group:
        """The frames from `start` to before `stop`."""
        return Group(self.root[:, start:stop], self.turns[:, start:stop], self.rate, self.skeleton)

    def at_rate(self, rate: float) -> Group:
        """The same motion with other frames a second: straight between roots, by slerp between turns."""
        if rate == self.rate:
            return self
        count = max(1, int(np.floor((len(self) - 1) * rate / self.rate + 1e-9)) + 1)
        place = np.arange(count) * self.rate / rate
        before = np.minimum(place.astype(int), len(self) - 1)
        after = np.minimum(before + 1, len(self) - 1)
        part = place - before
        root = self.root[:, before] * (1 - part[:, None]) + self.root[:, after] * part[:, None]
        turns = slerp(self.turns[:, before], self.turns[:, after], part[None, :, None])
        return Group(root, turns, rate, self.skeleton)


def in_a_row(pieces: Iterable[Group]) -> Group:
    """Pieces of a dance, at least one, as one."""
    every = list(pieces)
    root, turns = (np.concatenate([getattr(piece, name) for piece in every], 1) for name in ("root", "turns"))
    return Group(root, turns, every[0].rate, every[0].skeleton)


def row_size(skeleton: Skeleton = BODY) -> int:
    """Numbers of a frame: 3 of the root, 6 of each joint, one of each foot; 151 of SMPL's 24 joints and 4 feet."""
    return 3 + 6 * len(skeleton.parents) + len(skeleton.feet)


def rows_of(group: Group) -> np.ndarray:
    """Rows float32 (N, T, 151) of a group: root, 6-D rotations, contacts of the feet, in GCD's order."""
    matrices = matrix_of_quaternion(group.turns)
    contacts = foot_contacts(group.skeleton, forward_kinematics(group.skeleton, group.root, matrices), group.rate)
    six = six_of_matrix(matrices).reshape(*group.root.shape[:2], -1)
    return np.concatenate([group.root, six, contacts], -1).astype(np.float32)


def group_of_rows(rows: np.ndarray, rate: float = RATE, skeleton: Skeleton = BODY) -> Group:
    """Group of rows (N, T, 151); the contacts are left out, any numbers of the rotations give rotations."""
    if rows.ndim != 3 or rows.shape[2] != row_size(skeleton):
        raise InputError(f"expected rows (dancers, frames, {row_size(skeleton)}), got {rows.shape}.")
    rows = rows.astype(np.float64)
    six = rows[..., 3 : 3 + 6 * len(skeleton.parents)].reshape(*rows.shape[:2], -1, 6)
    return Group(rows[..., :3], quaternion_of_matrix(matrix_of_6d(six)), rate, skeleton)
