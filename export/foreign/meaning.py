"""What the inputs of a net from elsewhere mean: told by options or a YAML file, guessed where nothing is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator
from typing_extensions import Self

from edgeflock.runtime.bundle.manifest import (
    AudioInput,
    Color,
    Dtype,
    ImageInput,
    InputSpec,
    Part,
    VectorInput,
    VolumeInput,
)
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.model_options import validated
from edgeflock.runtime.prepare.frame import MIN_SIDE
from edgeflock.runtime.prepare.image import INTERPOLATION

CHANNELS = {"grey": 1, "rgb": 3, "bgr": 3}
CROP = {"stretch": None, "crop": "centre", "letterbox": "letterbox"}
SMALL = 2.5
"""A mean or deviation below it is of pixels in 0..1, as torchvision writes them."""


class Meaning(BaseModel):
    """What one input is; what is left out is guessed from shape and samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["image", "volume", "audio", "vector"] | None = Field(
        None, description="Picture, scan, sound, or numbers as they are; by default from shape and samples."
    )
    size: str = Field("", description="Of a picture, WIDTHxHEIGHT; by default the net's own.", pattern=r"^(\d+x\d+)?$")
    shape: str = Field("", description="Of numbers, as 1x8x20; by default the net's own.", pattern=r"^(\d+(x\d+)*)?$")
    layout: Literal["nchw", "nhwc"] | None = Field(None, description="Of a picture; by default from the net's shape.")
    color: Color | None = Field(None, description="Of a picture; by default rgb, grey where the net takes one channel.")
    scale: float | None = Field(
        None, description="Pixels 0..255 are multiplied by it first; by default 1, or 1/255 beside a --mean below 2.5."
    )
    mean: str = Field("", description="Then subtracted, one number or one per channel, as 0.485,0.456,0.406.")
    std: str = Field("", description="Then divided by, in the same form.")
    fit: Literal["stretch", "crop", "letterbox"] = Field("stretch", description="How a picture gets the net's size.")

    rate: float | None = Field(None, gt=0, description="Of sound, samples per second.")
    unit: str = Field("", description="Of numbers: a single one in m/s is the robot's speed, for --task steering.")

    @field_validator("size", "shape", "mean", "std", mode="before")
    @classmethod
    def _joined(cls, value: Any, info: Any) -> Any:
        """A YAML file may have lists of numbers."""
        if isinstance(value, int | float):
            value = [value]
        joint = "," if info.field_name in ("mean", "std") else "x"
        return joint.join(map(str, value)) if isinstance(value, list) else value

    @field_validator("scale")
    @classmethod
    def _some(cls, value: float | None) -> float | None:
        if value == 0:
            raise ValueError("expected a number other than 0")
        return value

    @field_validator("mean", "std")
    @classmethod
    def _numbers(cls, value: str, info: Any) -> str:
        numbers = [float(word) for word in value.split(",") if word]
        if len(numbers) not in (0, 1, 3) or not np.isfinite(numbers).all():
            raise ValueError("expected one number or three")
        if info.field_name == "std" and 0 in numbers:
            raise ValueError("expected numbers other than 0")
        return value

    @property
    def wanted(self) -> tuple[int, ...] | None:
        """The shape that is told, of a picture as the net has it; None where none is."""
        if self.shape:
            return tuple(int(word) for word in self.shape.split("x"))
        if not self.size:
            return None
        width, height = (int(word) for word in self.size.split("x"))
        channels = CHANNELS[self.color or "rgb"]
        return (1, height, width, channels) if self.layout == "nhwc" else (1, channels, height, width)

    @property
    def affine(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Scale, mean and deviation, the latter two (1,) or (3,)."""
        mean, std = (np.array([float(w) for w in text.split(",") if w]) for text in (self.mean, self.std))
        told = np.concatenate([mean, std])
        scale = self.scale if self.scale is not None else 1 / 255 if len(told) and np.abs(told).max() < SMALL else 1.0
        return scale, mean if len(mean) else np.zeros(1), std if len(std) else np.ones(1)


def told_by_options() -> list[str]:
    """Fields of `Meaning` that the only input is told by; a unit tells inputs apart."""
    return [name for name in Meaning.model_fields if name != "unit"]


def read_meanings(path: Path) -> dict[str, Meaning]:
    """Meanings by input name, from a YAML file.

    Raises
    ------
    InputError
        It is no YAML, or says something of an input that a `Meaning` does not have.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: expected YAML with a mapping by input name ({' '.join(str(error).split())})."
        ) from None
    if not isinstance(content, dict) or not content or not all(isinstance(one, dict) for one in content.values()):
        raise InputError(
            f"{path}: expected each input's name with what it is below it, such as `image: {{size: 200x66}}`."
        )
    flags = {field: f"{path}: {field}" for field in Meaning.model_fields}
    return {str(name): validated(Meaning, said, flags) for name, said in content.items()}


@dataclass(frozen=True)
class Taken:
    """An input of the net, and of the bundle.

    Attributes
    ----------
    spec : InputSpec
        Of the bundle: pictures are (1, C, H, W) of 0..255, the batch is 1 and comes first.
    shape, dtype : tuple, str
        Of the net itself.
    scale, mean, std : float, ndarray, ndarray
        What the net's own pixels are made by; the latter two (1,) or (C,).
    """

    spec: InputSpec
    shape: tuple[int, ...]
    dtype: str
    scale: float = 1.0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(1))
    std: np.ndarray = field(default_factory=lambda: np.ones(1))

    @classmethod
    def of(cls, name: str, shape: tuple[int, ...], dtype: Dtype, told: Meaning, given: np.dtype | None) -> Self:
        """Decide what an input is.

        Parameters
        ----------
        name, shape, dtype
            Of the net's input.
        told : Meaning
        given : dtype, optional
            Of its samples where they are arrays and no picture files.

        Raises
        ------
        InputError
            What is told does not fit the net.
        """
        seen = [layout for layout in ("nchw", "nhwc") if _is_picture(shape, layout) and told.layout in (None, layout)]
        guessed = "image" if seen and dtype in ("float32", "uint8") and given in (None, np.dtype("uint8")) else "vector"
        if (told.kind or guessed) != "image":
            return cls(_numbers(name, shape if shape[:1] == (1,) else (1, *shape), dtype, told), shape, dtype)
        layout = seen[0] if seen else None
        color = told.color or ("grey" if layout and _channels(shape, layout) == 1 else "rgb")
        if layout is None or _channels(shape, layout) != CHANNELS[color]:
            raise InputError(
                f"input '{name}' of the net is {dtype} {list(shape)}: expected a picture (1, C, H, W) or (1, H, W, C) "
                f"of {CHANNELS[color]} channels in {color}. Say --color, --layout, or --kind vector for plain numbers."
            )
        scale, mean, std = told.affine
        if max(len(mean), len(std)) > CHANNELS[color]:
            raise InputError(f"input '{name}' has one channel: expected one number as mean and std, got three.")
        height, width = shape[2:] if layout == "nchw" else shape[1:3]
        spec = ImageInput(
            name=name,
            shape=(1, CHANNELS[color], height, width),
            color=color,
            resize=(width, height),
            crop=CROP[told.fit],
            interpolation=INTERPOLATION,
            range=(0, 255),
        )
        return cls(spec, shape, dtype, scale, mean, std)

    @property
    def last(self) -> bool:
        """Whether the net has the channels last."""
        return isinstance(self.spec, ImageInput) and self.spec.shape != self.shape

    @property
    def scaled(self) -> bool:
        """Whether the net takes other values than pixels."""
        return self.scale != 1 or bool(self.mean.any()) or bool((self.std != 1).any())

    def for_net(self, feed: np.ndarray) -> np.ndarray:
        """One sample of the bundle, (...) without its batch, as the net itself takes it."""
        if self.scaled:
            mean, std = (values[:, None, None] for values in (self.mean, self.std))
            feed = (feed.astype(np.float64) * self.scale - mean) / std
        if self.last:
            feed = feed.transpose(1, 2, 0)
        return np.ascontiguousarray(feed, self.dtype).reshape(self.shape)

    def __str__(self) -> str:
        if not isinstance(self.spec, ImageInput):
            what = {"volume": "scan, 0..1", "audio": "sound"}.get(self.spec.kind, "numbers as they are")
            return f"{self.spec.name}: {what}, {self.dtype} {list(self.shape)}"
        width, height = self.spec.resize or (0, 0)
        how = {None: "stretched", "centre": "cut around the centre", "letterbox": "letterboxed"}[self.spec.crop]
        values = "as they are, 0..255"
        if self.scaled:
            mean, std = (",".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
            values = f"times {self.scale:.6g}, minus {mean}, over {std}"
        layout = "nhwc" if self.last else "nchw"
        return f"{self.spec.name}: {self.spec.color} picture, {width}x{height} ({how}), {layout}, pixels {values}"


def taken_of(
    shapes: Mapping[str, tuple[tuple[int, ...], str]], told: Mapping[str, Meaning], given: Mapping[str, np.dtype]
) -> list[Taken]:
    """What all inputs are, in the net's order; `shapes` has shape and type of each."""
    return [
        Taken.of(name, shape, dtype, told.get(name, Meaning()), given.get(name))  # type: ignore[arg-type]  # checked
        for name, (shape, dtype) in shapes.items()
    ]


def meanings(one: Meaning, file: Path | None, names: list[str]) -> dict[str, Meaning]:
    """What is told of each input, by the options for a single one or by a file.

    Raises
    ------
    InputError
        Both are given, the options although there are several pictures, or an input that the net does not have.
    """
    if file is None:
        if one == Meaning() or len(names) == 1:
            return dict.fromkeys(names, one)
        raise InputError(f"the net has the inputs {', '.join(names)}: say what each is in a file, --inputs FILE.")
    if one != Meaning():
        raise InputError("what the inputs mean stands in --inputs or in options, not in both: choose one.")
    found = read_meanings(file)
    if unknown := found.keys() - set(names):
        raise InputError(f"{file}: the net has no input {', '.join(sorted(unknown))}, only {', '.join(names)}.")
    return found


def _numbers(name: str, shape: tuple[int, ...], dtype: Dtype, told: Meaning) -> InputSpec:
    """An input that is no picture; `shape` has its batch."""
    if told.kind == "volume":
        if len(shape) != 5 or shape[1] != 1 or dtype != "float32":
            raise InputError(f"input '{name}' is {dtype} {list(shape)}: expected a scan, float32 (1, 1, D, H, W).")
        return VolumeInput(name=name, shape=shape, range=(0, 1))
    if told.kind == "audio":
        if told.rate is None or dtype != "float32":
            raise InputError(f"input '{name}' is {dtype}: expected float32 sound, and its samples a second by --rate.")
        part = Part(name="sample", size=shape[-1])
        return AudioInput(name=name, shape=shape, rate_hz=told.rate / shape[-1], parts=[part])
    return VectorInput(name=name, shape=shape, dtype=dtype, unit=told.unit)


def _is_picture(shape: tuple[int, ...], layout: str) -> bool:
    if len(shape) != 4 or shape[0] != 1:
        return False
    height, width = shape[2:] if layout == "nchw" else shape[1:3]
    return _channels(shape, layout) in (1, 3) and min(height, width) >= MIN_SIDE


def _channels(shape: tuple[int, ...], layout: str) -> int:
    return shape[1] if layout == "nchw" else shape[3]
