"""The motion of robots out of that of dancers: ways over the floor that cannot collide, and joints within their limits.

Robots are slower than bodies, and two of them must never meet. So mobile robots take where the dancers stand at every
bar as formations, spread apart, and walk them as `edgeflock.runtime.motion.formations` has it, whatever the net says. A
formation that is too fast is left out, the swing of a joint that is too fast made smaller. The beat is never moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edgeflock.runtime.audio.score import BAR, Score
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.motion.formations import assigned, eased
from edgeflock.runtime.motion.group import Group
from edgeflock.runtime.motion.rotations import matrix_of_quaternion

_WAY_S = 2.0  # of a way, where no beat is known
_FASTEST, _HARDEST = 15 / 8, 10 / np.sqrt(3)  # peaks of speed and acceleration of `eased`
_ROUNDS = 1000


@dataclass(frozen=True, eq=False)
class Ways:
    """Where robots go on a floor: x, y as REP 103 has them, with the dancers' z, their front, towards -y.

    Attributes
    ----------
    places : ndarray
        (N, T, 2), m.
    headings : ndarray
        (N, T), rad from x to y, without jumps: where the hips of each dancer point.
    rate : float
        Frames a second.
    clearance : float
        m that no two come nearer than; infinite for one robot.
    taken, left_out : int
        Formations.
    """

    places: np.ndarray
    headings: np.ndarray
    rate: float
    clearance: float
    taken: int
    left_out: int

    @property
    def duration(self) -> float:
        """S from the first frame to the last."""
        return (self.places.shape[1] - 1) / self.rate

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places (N, K, 2) and headings (N, K) at times (K,) in s; before and after the dance they stand."""
        return at_times(self.places, self.rate, times), at_times(self.headings[..., None], self.rate, times)[..., 0]


def at_times(values: np.ndarray, rate: float, times: np.ndarray) -> np.ndarray:
    """Values (N, K, D) at times (K,) in s, straight between frames (N, T, D); the first before, the last after them."""
    frame = np.clip(np.asarray(times, np.float64) * rate, 0, values.shape[1] - 1)
    before = np.minimum(frame.astype(int), max(0, values.shape[1] - 2))
    after = np.minimum(before + 1, values.shape[1] - 1)
    part = (frame - before)[:, None]
    return values[:, before] * (1 - part) + values[:, after] * part


def ways_of(
    group: Group, score: Score | None = None, spacing: float = 1.0, speed: float = 0.5, acceleration: float = 1.0
) -> Ways:
    """Ways of mobile robots that dance what a group dances; of any motion, they cannot collide.

    Parameters
    ----------
    group : Group
    score : Score, optional
        Formations are taken on the first beats of bars, without beats every 2 s. One that is too fast is left out.
    spacing : float
        m between the centres of two robots that stand; while they go at least 1/sqrt(2) of it.
    speed, acceleration : float
        m/s and m/s^2 that no robot exceeds.
    """
    frames, times = len(group), np.arange(len(group)) / group.rate
    floor = group.root[..., [0, 2]] * [1, -1]
    wanted = [*_bars(score, times[-1]), times[-1]]
    stops, stood = [0.0], [spread(floor[:, 0], spacing)]
    for stop in wanted:
        # Robots are alike: who takes which place of the next formation is free.
        places = assigned(stood[-1], spread(floor[:, min(round(stop * group.rate), frames - 1)], spacing))
        far, took = np.linalg.norm(places - stood[-1], axis=1).max(), stop - stops[-1]
        if took > 0 and _FASTEST * far / took <= speed and _HARDEST * far / took**2 <= acceleration:
            stops.append(stop)
            stood.append(places)
    kept = len(stops) - 1
    stops.append(max(times[-1], stops[-1]) + 1 / group.rate)  # and where the last one was left out, they stand
    stood.append(stood[-1])
    began, places = np.array(stops), np.array(stood)
    way = np.searchsorted(began, times, "right") - 1
    part = eased((times - began[way]) / (began[way + 1] - began[way]))
    walked = places[way] + (places[way + 1] - places[way]) * part[:, None, None]
    front = matrix_of_quaternion(group.turns[:, :, 0])[..., :, 2]
    headings = np.unwrap(np.arctan2(-front[..., 2], front[..., 0]), axis=1)
    clearance = spacing / np.sqrt(2) if group.dancers > 1 else np.inf
    return Ways(np.moveaxis(walked, 0, 1), headings, group.rate, clearance, kept, len(wanted) - kept)


def _bars(score: Score | None, end: float) -> np.ndarray:
    """Times at which a formation may stand, each at least half a way from the start and the end."""
    if score is None or len(score.beats) < 2:
        times, way = np.arange(_WAY_S, end, _WAY_S), _WAY_S
    else:
        times, way = score.beats[::BAR], BAR * float(np.diff(score.beats).mean())
    return times[(times >= way / 2) & (times <= end - way / 2)]


def spread(places: np.ndarray, spacing: float) -> np.ndarray:
    """Places (N, 2) pushed apart until any two are at least `spacing` apart."""
    count = len(places)
    if count < 2:
        return places
    first, second = np.triu_indices(count, 1)
    # Two at one place have no direction to part in: a hair, another for each, gives them one.
    places = places + 1e-6 * spacing * np.stack([np.cos(np.arange(count)), np.sin(np.arange(count))], 1)
    for _ in range(_ROUNDS):
        apart = places[first] - places[second]
        far = np.linalg.norm(apart, axis=1)
        if far.min() >= spacing:
            return places
        push = apart / far[:, None] * (np.maximum(0, 1.001 * spacing - far) / 2)[:, None]
        places = places.copy()
        np.add.at(places, first, push)
        np.add.at(places, second, -push)
    far = np.linalg.norm(places[first] - places[second], axis=1)
    return places.mean(0) + (places - places.mean(0)) * spacing / far.min()  # crowds that push for ever just grow


class RobotJoint(BaseModel):
    """Which turn of a dancer's joint one joint of a robot does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    follows: str
    axis: Literal["x", "y", "z"]
    scale: float = 1.0
    offset: float = 0.0
    lower: float
    upper: float
    speed: float = Field(gt=0)


def read_joints(path: str | Path) -> list[RobotJoint]:
    """Joints of a robot out of a YAML file: a list of `RobotJoint`, angles in rad and rad/s.

    Raises
    ------
    DataError
        It cannot be read, or is no such list.
    """
    try:
        return TypeAdapter(list[RobotJoint]).validate_python(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise DataError(
            f"{path}: expected a list of joints with name, follows, axis, lower, upper and speed ({error})."
        ) from None


def joint_angles(group: Group, joints: list[RobotJoint]) -> np.ndarray:
    """Angles (N, T, J) of the joints of a robot that does what each dancer does.

    An angle is the turn of the dancer's joint around one axis, the twist of its swing-twist form, times `scale` plus
    `offset`, cut at `lower` and `upper`. Where the joint is too slow, its swing around its middle is made smaller.

    Raises
    ------
    InputError
        The skeleton has no such joint.
    """
    names = group.skeleton.names
    angles = np.empty((*group.root.shape[:2], len(joints)))
    for index, joint in enumerate(joints):
        if joint.follows not in names:
            raise InputError(f"{joint.name} follows {joint.follows!r}, expected one of {', '.join(names)}.")
        turns = group.turns[:, :, names.index(joint.follows)]
        twist = np.unwrap(2 * np.arctan2(turns[..., 1 + "xyz".index(joint.axis)], turns[..., 0]), axis=1)
        twist -= 2 * np.pi * np.round(twist[:, :1] / (2 * np.pi))  # a quaternion and its negative are one rotation
        angle = np.clip(joint.scale * twist + joint.offset, joint.lower, joint.upper)
        if len(group) > 1:
            fastest = np.abs(np.diff(angle, axis=1)).max() * group.rate
            middle = (angle.min(1, keepdims=True) + angle.max(1, keepdims=True)) / 2
            angle = middle + (angle - middle) * min(1.0, joint.speed / max(fastest, 1e-9))
        angles[..., index] = angle
    return angles
