"""BVH, which any 3-D program opens: one file a dancer, lengths in metres, angles in degrees."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.motion.group import Group
from edgeflock.runtime.motion.rotations import matrix_of_quaternion, multiply, quaternion_of_axis_angle
from edgeflock.runtime.motion.skeleton import Skeleton

_AXES = "XYZ"
_CHANNELS = ("Zrotation", "Xrotation", "Yrotation")
_TIP = 0.05  # m from a last joint to its end site, which every program draws as a bone


def write_bvh(path: str | Path, group: Group, dancer: int = 0) -> None:
    """Write one dancer of a group.

    Raises
    ------
    OSError
        It cannot be written.
    """
    skeleton = group.skeleton
    order: list[int] = []
    lines = ["HIERARCHY", *_hierarchy(skeleton, 0, 0, order), "MOTION", f"Frames: {len(group)}"]
    lines.append(f"Frame Time: {1 / group.rate:.9g}")
    m = matrix_of_quaternion(group.turns[dancer][:, order])
    # m = Rz(a) Rx(b) Ry(c)
    b = np.arcsin(np.clip(m[..., 2, 1], -1, 1))
    a = np.arctan2(-m[..., 0, 1], m[..., 1, 1])
    c = np.arctan2(-m[..., 2, 0], m[..., 2, 2])
    upright = np.abs(m[..., 2, 1]) > 1 - 1e-12  # a and c turn about one axis: a takes all
    a = np.where(upright, np.arctan2(m[..., 1, 0], m[..., 0, 0]), a)
    c = np.where(upright, 0, c)
    angles = np.degrees(np.stack([a, b, c], -1)).reshape(len(group), -1)
    rows = np.concatenate([group.root[dancer], angles], 1)
    lines += [" ".join(f"{value:.9g}" for value in row) for row in rows]
    write_atomically(Path(path), "\n".join(lines) + "\n")


def _hierarchy(skeleton: Skeleton, joint: int, depth: int, order: list[int]) -> list[str]:
    """Lines of a joint and all below; `order` gets the joints as they are written."""
    order.append(joint)
    pad = "\t" * depth
    kind = "JOINT" if depth else "ROOT"
    moves = "" if depth else "Xposition Yposition Zposition "
    offset = " ".join(f"{value:.9g}" for value in skeleton.offsets[joint])
    lines = [f"{pad}{kind} {skeleton.names[joint]}", f"{pad}{{", f"{pad}\tOFFSET {offset}"]
    lines.append(f"{pad}\tCHANNELS {3 if depth else 6} {moves}{' '.join(_CHANNELS)}")
    children = [child for child, parent in enumerate(skeleton.parents) if parent == joint]
    for child in children:
        lines += _hierarchy(skeleton, child, depth + 1, order)
    if not children:
        length = np.linalg.norm(skeleton.offsets[joint])
        tip = skeleton.offsets[joint] * (_TIP / length) if length else np.array([0, _TIP, 0])
        tip_text = " ".join(f"{value:.9g}" for value in tip)
        lines += [f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\tOFFSET {tip_text}", f"{pad}\t}}"]
    return [*lines, f"{pad}}}"]


def read_bvh(path: str | Path, scale: float = 1.0) -> Group:
    """Read one dancer with the file's own skeleton; `scale` brings its lengths to metres, 0.01 from centimetres.

    Raises
    ------
    DataError
        It is no BVH file, a part is missing, or its numbers are not finite.
    """
    path = Path(path)
    try:
        words = path.read_text("utf-8").split()
        return _group(words, scale)
    except (OSError, UnicodeDecodeError, ValueError, IndexError, InputError) as error:
        raise DataError(f"{path}: expected a BVH file with HIERARCHY and MOTION ({error}).") from None


def _group(words: list[str], scale: float) -> Group:
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[tuple[int, str]] = []
    stack: list[int] = []
    if words[0] != "HIERARCHY":
        raise ValueError(f"it begins with {words[0]!r}")
    at, end = 1, False
    while words[at] != "MOTION":
        word = words[at]
        if word in ("ROOT", "JOINT"):
            if (word == "ROOT") != (not names):
                raise ValueError("expected one root before all joints")
            parents.append(stack[-1] if stack else -1)
            names.append(words[at + 1])
            offsets.append([0, 0, 0])
            at += 2
        elif word == "End":
            end, at = True, at + 2
        elif word == "{":
            stack.append(len(names) - 1)
            at += 1
        elif word == "}":
            stack.pop()
            end, at = False, at + 1
        elif word == "OFFSET":
            if not end:
                offsets[-1] = [float(value) for value in words[at + 1 : at + 4]]
            at += 4
        elif word == "CHANNELS":
            count = int(words[at + 1])
            channels += [(len(names) - 1, name) for name in words[at + 2 : at + 2 + count]]
            at += 2 + count
        else:
            raise ValueError(f"unknown word {word!r}")
    if [words[at + 1], words[at + 3], words[at + 4]] != ["Frames:", "Frame", "Time:"]:
        raise ValueError("MOTION has no Frames: and Frame Time:")
    frames, seconds = int(words[at + 2]), float(words[at + 5])
    numbers = np.array(words[at + 6 :], np.float64)
    if frames < 1 or not seconds > 0 or numbers.size != frames * len(channels):
        raise ValueError(
            f"{frames} frames of {len(channels)} channels need {frames * len(channels)} numbers, got {numbers.size}"
        )
    skeleton = Skeleton(tuple(names), tuple(parents), np.array(offsets) * scale)
    root = np.tile(skeleton.offsets[0], (frames, 1))
    turns = np.tile(np.array([1.0, 0, 0, 0]), (frames, len(names), 1))
    for (joint, name), values in zip(channels, numbers.reshape(frames, -1).T, strict=True):
        axis = _AXES.index(name[0])
        if name[1:] == "position":
            if joint == 0:
                root[:, axis] = values * scale
        elif name[1:] == "rotation":
            turn = np.zeros((frames, 3))
            turn[:, axis] = np.radians(values)
            turns[:, joint] = multiply(turns[:, joint], quaternion_of_axis_angle(turn))
        else:
            raise ValueError(f"unknown channel {name!r}")
    still = Skeleton(skeleton.names, skeleton.parents, np.vstack([np.zeros(3), skeleton.offsets[1:]]))
    return Group(root[None], turns[None], 1 / seconds, still)
