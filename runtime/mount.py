"""Where a robot wears its camera: one file of ROS parameters for guard, steering and every tool.

    /**:
      ros__parameters:
        camera_height: 0.25
        camera_pitch: 0.35

`edgeflock calibrate mount` writes it, `--params-file` and the launch argument `mount` hand it to the nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import write_atomically

OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Columns: right, down and ahead of an optical frame, in x ahead, y left, z up (REP 103)."""


class Mount(BaseModel):
    """Height and direction of a camera on its robot, by REP 103: yaw, then pitch, then roll."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    height: float = Field(ge=0.0, le=4.0)
    """Ground to camera, m."""
    pitch: float = Field(ge=-1.5, le=1.5)
    """rad, positive looks down."""
    yaw: float = Field(default=0.0, ge=-1.5, le=1.5)
    """rad, positive looks to the left."""
    roll: float = Field(default=0.0, ge=-1.5, le=1.5)
    """rad, positive tilts the camera's left side up."""

    @classmethod
    def of(cls, parameters: Any) -> Mount:
        """Of an object with ROS's names, `camera_height` and so on."""
        return cls(**{field: getattr(parameters, f"camera_{field}") for field in cls.model_fields})

    @classmethod
    def of_axes(cls, height: float, axes: np.ndarray) -> Mount:
        """From the height (m) of an optical frame over the ground and its `axes`.

        Raises
        ------
        InputError
            No robot wears a camera so: below the ground, or looking back.
        """
        link = axes @ OPTICAL.T
        pitch = math.asin(min(max(-float(link[2, 0]), -1.0), 1.0))
        yaw, roll = math.atan2(link[1, 0], link[0, 0]), math.atan2(link[2, 1], link[2, 2])
        try:
            return cls(height=height, pitch=pitch, yaw=yaw, roll=roll)
        except ValidationError as error:
            said = "; ".join(f"{e['loc'][0]}: {e['msg']}, got {e['input']:.3f}" for e in error.errors())
            raise InputError(f"expected a camera that looks ahead from over the ground: {said}.") from None

    @property
    def parameters(self) -> dict[str, float]:
        """By ROS's names."""
        return {f"camera_{field}": value for field, value in self}

    @property
    def axes(self) -> np.ndarray:
        """float64 (3, 3): the optical frame's right, down and ahead as columns, in the base's ahead, left, up."""
        cy, sy = math.cos(self.yaw), math.sin(self.yaw)
        cp, sp = math.cos(self.pitch), math.sin(self.pitch)
        cr, sr = math.cos(self.roll), math.sin(self.roll)
        yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        pitch = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        return yaw @ pitch @ roll @ OPTICAL

    def __str__(self) -> str:
        parts = [f"{self.height:.3f} m high", f"{math.degrees(self.pitch):.1f} degrees down"]
        parts += [f"{name} {math.degrees(v):.1f} degrees" for name, v in (("yaw", self.yaw), ("roll", self.roll)) if v]
        return ", ".join(parts)


def read_mount(path: Path) -> Mount:
    """Mount from a file of ROS parameters, whichever sections hold it: a mount file, or a robot's whole one.

    Raises
    ------
    InputError
        It cannot be read, holds no mount, or two that differ.
    """
    wanted = f"expected ROS parameters with camera_height (m) and camera_pitch (rad) in {path}"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{wanted}, it cannot be read: {error}. `edgeflock calibrate mount` writes one.") from None
    found: dict[str, Any] = {}
    names = {f"camera_{field}": field for field in Mount.model_fields}
    for name, value in _leaves(content):
        field = names.get(name)
        if field in found and found[field] != value:
            raise InputError(f"{wanted}, got {name} as {found[field]} and as {value}: keep one, under `/**:`.")
        if field:
            found[field] = value
    if not {"height", "pitch"} <= found.keys():
        raise InputError(f"{wanted}, got {sorted(found) or 'none of them'}: `edgeflock calibrate mount` writes one.")
    try:
        return Mount(**found)
    except ValidationError as error:
        said = "; ".join(f"camera_{e['loc'][0]}: {e['msg']}, got {e['input']!r}" for e in error.errors())
        raise InputError(f"{wanted}: {said}.") from None


def _leaves(content: Any) -> Iterator[tuple[str, Any]]:
    for name, value in content.items() if isinstance(content, dict) else ():
        yield from _leaves(value) if isinstance(value, dict) else [(name, value)]


def write_mount(path: Path, mount: Mount) -> None:
    """Write a mount as ROS parameters that hold for every node."""
    lines = [f"    {name}: {value:.5f}" for name, value in mount.parameters.items()]
    write_atomically(path, "\n".join(["/**:", "  ros__parameters:", *lines]) + "\n")
