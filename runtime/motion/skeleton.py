"""A skeleton as data, and where its joints are: forward kinematics and the feet that stand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import parse_json

STANDS = 0.3
"""Speed in m/s below which a foot stands: the 0.01 m a frame at 30 Hz of EDGE and GCD."""


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Joints, each with its parent and its place in the parent's frame while nothing is turned.

    Attributes
    ----------
    names : tuple of str
    parents : tuple of int
        Index of each joint's parent; -1 for the root, which is the first joint.
    offsets : ndarray
        float64 (J, 3), m, the axis y up.
    feet : tuple of int
        Joints that stand on the floor: left ankle, right ankle, left toes, right toes.

    Raises
    ------
    InputError
        Not one root at the start, a joint that hangs on itself through others, or shapes that do not fit.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    feet: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.parents)
        if len(self.names) != count or np.shape(self.offsets) != (count, 3) or not np.isfinite(self.offsets).all():
            raise InputError(
                f"a skeleton of {count} parents needs {count} names and finite offsets ({count}, 3), got "
                f"{len(self.names)} names and offsets {np.shape(self.offsets)}."
            )
        if not count or [joint for joint, parent in enumerate(self.parents) if parent == -1] != [0]:
            raise InputError(f"a skeleton has one root, its first joint, with the parent -1; got {self.parents}.")
        if any(not 0 <= joint < count for joint in (*self.parents[1:], *self.feet)):
            raise InputError(f"parents and feet are indices of {count} joints, got {self.parents} and {self.feet}.")
        if len(self.order) < count:
            left = [self.names[joint] for joint in range(count) if joint not in self.order]
            raise InputError(f"joints of a skeleton hang on the root, these hang on themselves: {', '.join(left)}.")

    @cached_property
    def order(self) -> list[int]:
        """Joints with every parent before its children."""
        found = [0]
        for joint in found:  # grows while it is walked through
            found.extend(child for child, parent in enumerate(self.parents) if parent == joint)
        return found

    @classmethod
    def read(cls, path: str | Path) -> Skeleton:
        """Skeleton of a JSON file with names, parents, offsets (m, y up) and, where feet are judged, feet.

        Raises
        ------
        DataError
            It cannot be read or is no skeleton.
        """
        try:
            content = parse_json(Path(path).read_bytes())
            return cls(
                tuple(map(str, content["names"])),
                tuple(map(int, content["parents"])),
                np.array(content["offsets"], np.float64),
                tuple(map(int, content.get("feet", ()))),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise DataError(
                f"{path}: expected a skeleton as JSON, with names, parents (-1 first) and offsets in m ({error})."
            ) from None

    def to_json(self) -> str:
        """What `read` reads."""
        return json.dumps(
            {"names": self.names, "parents": self.parents, "offsets": self.offsets.tolist(), "feet": self.feet}
        )


BODY = Skeleton(
    names=(
        *("pelvis", "left_hip", "right_hip", "belly", "left_knee", "right_knee", "spine", "left_ankle", "right_ankle"),
        *("chest", "left_toes", "right_toes", "neck", "left_collar", "right_collar", "head", "left_shoulder"),
        *("right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand"),
    ),
    parents=(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
    offsets=np.array(
        [
            *((0, 0, 0), (0.09, -0.08, 0), (-0.09, -0.08, 0), (0, 0.10, -0.02), (0, -0.42, 0), (0, -0.42, 0)),
            *((0, 0.12, 0), (0, -0.41, -0.02), (0, -0.41, -0.02), (0, 0.08, 0.01), (0, -0.06, 0.13), (0, -0.06, 0.13)),
            *((0, 0.21, -0.02), (0.08, 0.12, -0.02), (-0.08, 0.12, -0.02), (0, 0.09, 0.03), (0.11, 0.03, 0)),
            *((-0.11, 0.03, 0), (0.27, 0, 0), (-0.27, 0, 0), (0.25, 0, 0), (-0.25, 0, 0), (0.08, 0, 0), (-0.08, 0, 0)),
        ]
    ),
    feet=(7, 8, 10, 11),
)
"""A body of about 1.7 m with the 24 joints of SMPL in their order and lengths of our own: SMPL's are licensed."""


def forward_kinematics(skeleton: Skeleton, root: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Places of all joints.

    Parameters
    ----------
    skeleton : Skeleton
    root : ndarray
        (..., 3), m: where the first joint is.
    rotations : ndarray
        (..., J, 3, 3): each joint's in its parent's frame, the root's in the world.

    Returns
    -------
    ndarray
        (..., J, 3), m.
    """
    turned, places = np.empty_like(rotations), np.empty(rotations.shape[:-1], rotations.dtype)
    turned[..., 0, :, :], places[..., 0, :] = rotations[..., 0, :, :], root
    for joint in skeleton.order[1:]:
        parent = skeleton.parents[joint]
        turned[..., joint, :, :] = turned[..., parent, :, :] @ rotations[..., joint, :, :]
        arm = turned[..., parent, :, :] @ skeleton.offsets[joint].astype(rotations.dtype)
        places[..., joint, :] = places[..., parent, :] + arm
    return places


def foot_contacts(skeleton: Skeleton, places: np.ndarray, rate: float) -> np.ndarray:
    """1 where a foot stands, else 0: float32 (..., T, feet) of places (..., T, J, 3) at `rate` frames a second.

    A foot's speed is that to the next frame; in the last frame all feet stand (as in EDGE and GCD).
    """
    feet = places[..., skeleton.feet, :]
    speed = np.linalg.norm(np.diff(feet, axis=-3), axis=-1) * rate
    return np.concatenate([speed < STANDS, np.ones_like(speed[..., :1, :], bool)], -2).astype(np.float32)
