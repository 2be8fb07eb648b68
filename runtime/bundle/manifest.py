"""The manifest of a bundle: what the net is, what goes in, what comes out, and the SHA-256 of every file."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator
from typing_extensions import Self

from edgeflock.runtime.intrinsics import Intrinsics

OLDEST_SCHEMA, SCHEMA_VERSION = 2, 3
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
VECTORS, WEIGHTS = "vectors.safetensors", "weights.safetensors"

# No separator, no leading dot: a listed name can only ever mean a file in the bundle's own folder.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


Dtype = Literal["float32", "float16", "int64", "int32", "int8", "uint8", "bool"]
"""Of a tensor, by numpy's name."""

Color = Literal["grey", "rgb", "bgr"]
"""Of a picture as a net takes it."""


class _Input(_Strict):
    name: str
    shape: tuple[int, ...]
    """The batch first."""
    dtype: Dtype = "float32"

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


class ImageInput(_Input):
    """Pixels of a camera, and how they become this input (`edgeflock.runtime.prepare`)."""

    kind: Literal["image"] = "image"
    color: Color
    resize: tuple[int, int] | None = None
    """Width and height before the crop."""
    crop: str | None = None
    interpolation: str | None = None
    range: tuple[float, float]
    """What 0 and 255 become."""

    def __str__(self) -> str:
        size = f", resized to {self.resize[0]}x{self.resize[1]} ({self.interpolation})" if self.resize else ""
        crop = f", cropped {self.crop}" if self.crop else ""
        return f"{super().__str__()}, {self.color} {self.range[0]:g}..{self.range[1]:g}{size}{crop}"


class VolumeInput(_Input):
    """Voxels of a scan, resampled to the grid of `shape`."""

    kind: Literal["volume"] = "volume"
    interpolation: str | None = None
    range: tuple[float, float]
    """What black and white become."""

    def __str__(self) -> str:
        return f"{super().__str__()}, scan {self.range[0]:g}..{self.range[1]:g}"


class Part(_Strict):
    """Neighbouring values of a frame that mean one thing, such as 3 of the root's position."""

    name: str
    size: int = Field(ge=1)


class _Frames(_Input):
    """A row a frame, in even time; `parts` names the values of a row in their order, so that nobody has to guess."""

    rate_hz: float = Field(gt=0)
    parts: list[Part] = Field(min_length=1)

    @model_validator(mode="after")
    def _parts_make_the_row(self) -> Self:
        size = sum(part.size for part in self.parts)
        if self.shape[-1:] != (size,):
            raise ValueError(f"the parts of input '{self.name}' make rows of {size}, its shape is {list(self.shape)}")
        return self

    def __str__(self) -> str:
        return f"{super().__str__()} at {self.rate_hz:g} Hz: {', '.join(f'{p.size} {p.name}' for p in self.parts)}"


class AudioInput(_Frames):
    """Features of sound or music, such as log-mel, chroma, beat."""

    kind: Literal["audio"] = "audio"


class MotionInput(_Frames):
    """Poses of a body, such as root, rotations of the joints, contacts of the feet; lengths in metres."""

    kind: Literal["motion"] = "motion"
    rotation: Literal["axis-angle", "rot6d", "quaternion"]
    """How a joint's rotation is written."""
    up: Literal["x", "y", "z"]
    """Axis that points away from the floor."""

    def __str__(self) -> str:
        return f"{super().__str__()}; rotations as {self.rotation}, {self.up} up"


class VectorInput(_Input):
    """Plain numbers, such as the step of a diffusion, the number of dancers, a speed."""

    kind: Literal["vector"] = "vector"
    unit: str = ""
    labels: list[str] | None = None
    """Names of the values, in the order of the last axis."""

    def __str__(self) -> str:
        labels = f": {', '.join(self.labels)}" if self.labels else ""
        return f"{super().__str__()} {self.unit}".rstrip() + labels


InputSpec = Annotated[ImageInput | VolumeInput | AudioInput | MotionInput | VectorInput, Field(discriminator="kind")]
"""One input of the net: its `kind` says which fields there are."""


class OutputSpec(_Strict):
    """One output of the net, with its unit and sign."""

    name: str
    shape: tuple[int, ...]
    dtype: Dtype = "float32"
    unit: str
    positive: str | None = None
    """Direction of positive values."""
    labels: list[str] | None = None
    """Names of the classes, in the order of the last axis."""
    tolerance: float
    """How far a quantised net may be from its reference answers on another engine, in `unit`."""
    vector_stride: int = Field(1, ge=1)
    """The reference answers keep every n-th entry of each axis after the second: whole flows would fill the bundle."""


class Artefact(_Strict):
    """The net in one precision. `write_bundle` fills in hash and size."""

    file: str
    sha256: str = ""
    size: int = 0
    opset: int
    ir: int


class Criterion(_Strict):
    """One thing that the gate demands."""

    name: str
    value: float
    at: Literal["most", "least"] = "most"
    limit: float
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value keeps the limit; NaN does not."""
        return self.value <= self.limit if self.at == "most" else self.value >= self.limit

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name}: expected at {self.at} {self.limit:.4g}{unit}, got {self.value:.4g}{unit}"


class GateReport(_Strict):
    """What a precision costs on held-out samples, and whether the gate let it pass."""

    precision: str
    data: str
    """Which samples these were."""
    samples: int
    metric: str
    """Task metric, such as "RMSE" or "Dice"."""
    unit: str = ""
    value: float
    """The metric of this precision."""
    fp32: float
    """The metric of the float32 net."""
    constant: float
    """The metric of the best answer that ignores the input."""
    criteria: list[Criterion] = Field(min_length=1)

    @property
    def passed(self) -> bool:
        """Whether every criterion is kept."""
        return all(criterion.passed for criterion in self.criteria)


class TargetSupport(_Strict):
    """What a board runs of this bundle."""

    precision: str
    engine: str
    note: str = ""


class Training(BaseModel):
    """How the weights came about, enough to train the same again: what `result.json` says, except its history.

    Besides these fields a method keeps what it needs: configuration, data with their SHA-256, figures, versions.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)

    command: str = ""
    """Command line that trained the net."""
    synthetic: bool | None = None
    """Whether all training data were synthetic; None where the data do not say."""


class TrainedCamera(_Strict):
    """The camera through which a steering net saw its training, in a 4:3 picture; frames are brought to its view."""

    model_config = ConfigDict(frozen=True)

    height: float = Field(gt=0.0, le=4.0)
    """Ground to camera, m."""
    pitch: float = Field(ge=-1.5, le=1.5)
    """rad, positive looks down."""
    fovy: float = Field(gt=0.0, lt=3.1)
    """From top to bottom, rad."""

    def __str__(self) -> str:
        pitch, fovy = math.degrees(self.pitch), math.degrees(self.fovy)
        return f"{self.height:g} m high, {pitch:.1f} degrees down, {fovy:.1f} degrees from top to bottom"


class Manifest(_Strict):
    """What a bundle holds. `files` and the hashes in `artefacts` stay empty until `write_bundle` fills them in."""

    schema_version: Literal[3] = 3
    name: str
    net: str
    task: str
    inputs: list[InputSpec] = Field(min_length=1)
    outputs: list[OutputSpec] = Field(min_length=1)
    artefacts: dict[str, Artefact] = Field(min_length=1)
    default_precision: str
    files: dict[str, str] = {}
    gates: dict[str, GateReport] = {}
    """By precision."""
    targets: dict[str, TargetSupport] = {}
    """By target; a board that is not listed cannot run the net, the export said why."""
    camera: Intrinsics | None = None
    """Of the camera that the net is used with."""
    trained_camera: TrainedCamera | None = None
    """None: frames are taken as they are."""
    training: Training = Training()
    provenance: dict[str, JsonValue] = {}
    tool_versions: dict[str, str] = {}
    key_id: str | None = None
    created: str = Field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))

    @field_validator("files")
    @classmethod
    def _names_stay_in_the_folder(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            if not _FILE_NAME.match(name) or name in (MANIFEST, SIGNATURE):
                raise ValueError(f"file name {name!r} is not allowed: plain names inside the bundle folder only")
        return files

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Manifest:
        if self.default_precision not in self.artefacts:
            raise ValueError(
                f"default_precision {self.default_precision!r} is not among artefacts {sorted(self.artefacts)}"
            )
        for precision, gate in self.gates.items():
            if precision not in self.artefacts or gate.precision != precision:
                raise ValueError(f"gates.{precision} judges {gate.precision!r}, artefacts are {sorted(self.artefacts)}")
        if self.files:
            for precision, artefact in self.artefacts.items():
                if self.files.get(artefact.file) != artefact.sha256:
                    raise ValueError(f"artefacts.{precision} names {artefact.file!r} with another SHA-256 than files")
            if VECTORS not in self.files:
                raise ValueError(f"files lacks {VECTORS}")
        return self


def upgraded(document: dict[str, Any]) -> dict[str, Any]:
    """Manifest of schema 2 as schema 3 writes it; what is wrong with it stays so, for the validation to tell.

    Schema 2 knew images and scans, which it told apart by the colour "intensity". That a training saw nothing but
    synthetic data stood in the text of its sources alone.
    """
    if document["schema_version"] != 2:
        return document
    document = document | {"schema_version": 3}
    inputs = document.get("inputs")
    if isinstance(inputs, list):
        document["inputs"] = [_input_of_schema_2(spec) if isinstance(spec, dict) else spec for spec in inputs]
    training = document.get("training")
    if isinstance(training, dict) and isinstance(training.get("data"), dict):
        sources = [str(split.get("source")) for split in training["data"].values() if isinstance(split, dict)]
        if sources and all("synthetic" in source for source in sources):
            document["training"] = training | {"synthetic": True}
    return document


def _input_of_schema_2(spec: dict[str, Any]) -> dict[str, Any]:
    if spec.get("color") != "intensity":
        return spec | {"kind": "image"}
    gone = {"color", *(field for field in ("resize", "crop") if spec.get(field) is None)}
    return {field: value for field, value in spec.items() if field not in gone} | {"kind": "volume"}
