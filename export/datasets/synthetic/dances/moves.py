"""Dances of a group that are locked to the beat: loops of key poses, formations, and who does what when.

Every limb rests for a moment on the beat. It is drawn motion: figures of it say that a net works, not how well it
dances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from edgeflock.runtime.motion.formations import FORMATIONS, assigned, eased, formation
from edgeflock.runtime.motion.group import RATE, Group
from edgeflock.runtime.motion.rotations import (
    axis_angle_of_quaternion,
    matrix_of_quaternion,
    quaternion_of_axis_angle,
    slerp,
)
from edgeflock.runtime.motion.skeleton import BODY, forward_kinematics

Mode = Literal["unison", "mirror", "canon", "diverse", "random", "frozen"]
"""All the same; every second one mirrored; each a beat after the one before; each its own on the beat; each its own off
any beat; nobody moves."""
MODES: tuple[Mode, ...] = get_args(Mode)
DANCED = MODES[:4]
"""What a group may do that dances well."""

KEYS = 8
_HOLD, _MOVE = 8, 8  # beats that a formation stands, and that the way to the next takes


@dataclass(frozen=True)
class Style:
    """Bounds of a style's key poses, rad, and how many of them a beat has."""

    arms: float
    torso: float
    legs: float
    crouch: float
    keys: float


STYLES = {
    "sway": Style(arms=0.6, torso=0.25, legs=0.1, crouch=0.25, keys=0.5),
    "groove": Style(arms=0.9, torso=0.2, legs=0.2, crouch=0.45, keys=1),
    "aerobic": Style(arms=1.3, torso=0.15, legs=0.35, crouch=0.35, keys=1),
    "stamp": Style(arms=0.4, torso=0.1, legs=0.5, crouch=0.5, keys=1),
    "quick": Style(arms=0.7, torso=0.15, legs=0.15, crouch=0.25, keys=2),
}

_LIMBS = {
    "arms": ("left_collar", "right_collar", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
    "torso": ("belly", "spine", "chest", "neck"),
    "legs": ("left_hip", "right_hip"),
}
_MIRRORED = [
    BODY.names.index(name.replace("left_", "?").replace("right_", "left_").replace("?", "right_"))
    for name in BODY.names
]


@dataclass(frozen=True, eq=False)
class Loop:
    """Key poses: axis-angle (KEYS, 24, 3), steps aside (KEYS, 2) in m."""

    poses: np.ndarray
    steps: np.ndarray


def draw_loop(style: Style, rng: np.random.Generator) -> Loop:
    """A loop of a style."""
    poses = np.zeros((KEYS, 24, 3))
    for part, names in _LIMBS.items():
        for name in names:
            bound = getattr(style, part) * (0.3 if "collar" in name else 1)
            poses[:, BODY.names.index(name)] = rng.uniform(-bound, bound, (KEYS, 3))
    for side, sign in (("left", -1), ("right", 1)):  # arms hang, elbows bend one way only
        poses[:, BODY.names.index(f"{side}_shoulder"), 2] += sign * 0.9
        elbow = BODY.names.index(f"{side}_elbow")
        poses[:, elbow] = 0
        poses[:, elbow, 1] = sign * rng.uniform(0, 1.2 * style.arms, KEYS)
    crouch = rng.uniform(0, style.crouch, KEYS)
    for side in ("left", "right"):
        poses[:, BODY.names.index(f"{side}_hip"), 0] -= crouch
        poses[:, BODY.names.index(f"{side}_knee"), 0] += 2 * crouch
        poses[:, BODY.names.index(f"{side}_ankle"), 0] -= crouch
    poses[:, 0, 1] = rng.uniform(-0.4, 0.4, KEYS)
    return Loop(poses, rng.uniform(-0.12, 0.12, (KEYS, 2)))


def mirrored(loop: Loop) -> Loop:
    """The same loop with left and right exchanged."""
    poses = loop.poses[:, _MIRRORED] * [1, -1, -1]
    return Loop(poses, loop.steps * [-1, 1])


def perform(loop: Loop, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns (T, 24, 4) and steps aside (T, 2) at counts of key poses (T,); nothing moves at whole counts."""
    key, part = np.divmod(count, 1)
    key = key.astype(int)
    part = part - np.sin(2 * np.pi * part) / (2 * np.pi)
    turns = quaternion_of_axis_angle(loop.poses)
    now, then = key % KEYS, (key + 1) % KEYS
    steps = loop.steps[now] + (loop.steps[then] - loop.steps[now]) * part[:, None]
    return slerp(turns[now], turns[then], part[:, None]), steps


def choreograph(
    beats: np.ndarray, frames: int, dancers: int, mode: Mode, style: str, seed: int
) -> tuple[Group, list[str]]:
    """A group's dance to beats (s), at 30 Hz, and the formations it takes.

    Parameters
    ----------
    beats : ndarray
        At least two, ascending.
    frames, dancers : int
    mode : Mode
    style : str
        Key of `STYLES`.
    seed : int
        Decides the loops and formations.
    """
    rng = np.random.default_rng([seed, 32])
    look = STYLES[style]
    times = np.arange(frames) / RATE
    count = _beat_count(times, beats)
    shared = draw_loop(look, rng)
    turns = np.empty((dancers, frames, 24, 4))
    root = np.zeros((dancers, frames, 3))
    for dancer in range(dancers):
        loop, own = shared, count
        if mode in ("diverse", "random"):
            loop = draw_loop(look, rng)
        if mode == "mirror" and dancer % 2:
            loop = mirrored(shared)
        if mode == "canon":
            own = count - dancer
        if mode == "random":  # another tempo and another start than any beat
            own = times / np.diff(beats).mean() * rng.uniform(0.55, 1.45) + rng.uniform(0, 8)
        if mode == "frozen":
            own = np.zeros(frames)
        turns[dancer], steps = perform(loop, own * look.keys + KEYS)
        root[dancer, :, 0::2] = steps
    walks, names = _walks(count if mode != "frozen" else np.zeros(frames), dancers, rng)
    root[..., 0::2] += walks
    places = forward_kinematics(BODY, root, matrix_of_quaternion(turns))
    root[..., 1] = -places[..., BODY.feet, 1].min(-1)  # the lower foot is on the floor
    return Group(root, turns, RATE), names


def noisy(group: Group, amount: float, seed: int) -> Group:
    """The same dance with every joint shaken by so many rad."""
    rng = np.random.default_rng([seed, 33])
    poses = axis_angle_of_quaternion(group.turns)
    return Group(group.root, quaternion_of_axis_angle(poses + rng.normal(0, amount, poses.shape)), group.rate)


def _beat_count(times: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Beats that are over at each time, in parts of a beat, also before the first and after the last."""
    inside = np.interp(times, beats, np.arange(len(beats)))
    before = (times - beats[0]) / (beats[1] - beats[0])
    after = len(beats) - 1 + (times - beats[-1]) / (beats[-1] - beats[-2])
    return np.where(times < beats[0], before, np.where(times > beats[-1], after, inside))


def _walks(count: np.ndarray, dancers: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """Places (N, T, 2) of formations that change, at beat counts (T,)."""
    cycle = _HOLD + _MOVE
    names = [str(rng.choice(FORMATIONS)) for _ in range(max(1, int(max(count.max(), 0) // cycle) + 2))]
    stops = [formation(names[0], dancers)]
    for name in names[1:]:
        stops.append(assigned(stops[-1], formation(name, dancers)))
    stand = np.clip(count // cycle, 0, len(stops) - 2).astype(int)
    part = eased((count - stand * cycle - _HOLD) / _MOVE)
    places = np.array(stops)
    walks = places[stand] + (places[stand + 1] - places[stand]) * part[:, None, None]
    return np.moveaxis(walks, 0, 1), names
