"""Motion in the layouts of SMPL's users: AIOZ-GDANCE, GCD's results, AIST++, EDGE; .npz and .pkl.

A pickle can hold code that runs while it is read. These are read by an unpickler that knows arrays, numbers, text and
plain containers, and refuses everything else before it is made.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import replacing
from edgeflock.runtime.motion.bvh import read_bvh
from edgeflock.runtime.motion.group import Group
from edgeflock.runtime.motion.rotations import axis_angle_of_quaternion, multiply
from edgeflock.runtime.motion.skeleton import BODY, Skeleton

LAYOUTS: dict[str, tuple[tuple[str, ...], str, float]] = {
    "aioz": (("smpl_poses",), "root_trans", 30),
    "aioz with the root apart": (("smpl_orients", "smpl_poses"), "root_trans", 30),
    "gcd result": (("global_orient", "body_pose"), "transl", 30),
    "aist++": (("smpl_poses",), "smpl_trans", 60),
    "edge": (("q",), "pos", 60),
}
"""Of each layout: the entries that make the pose, the root's entry, and the frames a second."""

_HARMLESS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}
"""What pickled arrays are made of."""


class _OnlyArrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it would call {module}.{name}")
        return super().find_class(module, name)


def read_motion(path: str | Path, rate: float | None = None, up: str = "y", skeleton: Skeleton = BODY) -> Group:
    """Motion of a group out of a file.

    Parameters
    ----------
    path : str or Path
        `.npz` or `.pkl` in one of `LAYOUTS`, of one dancer (T, ...) or many (N, T, ...); or `.bvh`, of one dancer with
        its own skeleton, in metres.
    rate : float, optional
        Frames a second; by default the file's own, else the layout's.
    up : {"y", "z"}
        Axis that points away from the floor in the file.
    skeleton : Skeleton
        Of what is not `.bvh`.

    Raises
    ------
    DataError
        No such file, in no such layout, with code in it, or with numbers that are not finite.
    """
    path = Path(path)
    if path.suffix == ".bvh":
        return read_bvh(path)
    content = _content(path)
    found = [
        (names, root, usual)
        for names, root, usual in LAYOUTS.values()
        if {*names, root} <= content.keys() and ("smpl_orients" in names or "smpl_orients" not in content)
    ]
    if not found:
        raise DataError(f"{path}: expected {_expected()}; got {', '.join(sorted(map(str, content))) or 'nothing'}.")
    names, root_name, usual = found[0]
    try:
        parts = [_with_dancers(content[name]) for name in names]
        poses, root = np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], -1), content[root_name]
        joints = 3 * len(skeleton.parents)
        if poses.shape[2] < joints:  # hands that the file leaves out are not turned
            poses = np.concatenate([poses, np.zeros((*poses.shape[:2], joints - poses.shape[2]))], -1)
        root = _with_dancers(root) / float(np.ravel(content.get("smpl_scaling", 1))[0])
        given = rate or float(np.ravel(content.get("rate", usual))[0])
        group = Group.from_axis_angle(root, poses[..., :joints], given, skeleton)
    except (ValueError, TypeError, IndexError, InputError) as error:
        raise DataError(f"{path}: expected poses (N, T, 72) and roots (N, T, 3) ({error}).") from None
    return group if up == "y" else _stood_up(group)


def write_motion(path: str | Path, group: Group) -> None:
    """Write a group as AIOZ-GDANCE has it: .npz with smpl_poses (N, T, 72), root_trans (N, T, 3), and rate.

    Raises
    ------
    OSError
        It cannot be written.
    """
    poses = axis_angle_of_quaternion(group.turns).reshape(*group.root.shape[:2], -1)
    with replacing(Path(path)) as draft, draft.open("wb") as file:
        np.savez_compressed(
            file,
            smpl_poses=poses.astype(np.float32),
            root_trans=group.root.astype(np.float32),
            rate=np.float64(group.rate),
        )


def _content(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        if path.suffix in (".pkl", ".pickle"):
            content = _OnlyArrays(io.BytesIO(path.read_bytes()), encoding="latin1").load()
            if isinstance(content, Mapping):
                return content
            raise ValueError(f"it holds a {type(content).__name__}")
        raise ValueError(f"the suffix {path.suffix!r} is not known")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected motion as .npz, .pkl or .bvh.") from None
    except (
        *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, OSError, EOFError, ValueError, LookupError),
        *(TypeError, AttributeError, ImportError, MemoryError, OverflowError),
    ) as error:
        raise DataError(f"{path}: expected {_expected()}; it is refused: {error}.") from None


def _expected() -> str:
    return "motion (.npz, .pkl) with " + ", or ".join(
        f"{' + '.join((*names, root))} ({layout})" for layout, (names, root, _) in LAYOUTS.items()
    )


def _with_dancers(values: Any) -> np.ndarray:
    array = np.asarray(values, np.float64)
    return array[None] if array.ndim == 2 else array


def _stood_up(group: Group) -> Group:
    """The same motion with y up, where z was."""
    root = np.stack([group.root[..., 0], group.root[..., 2], -group.root[..., 1]], -1)
    turns = group.turns.copy()
    turns[:, :, 0] = multiply(np.array([np.sqrt(0.5), -np.sqrt(0.5), 0, 0]), turns[:, :, 0])
    return Group(root, turns, group.rate, group.skeleton)
