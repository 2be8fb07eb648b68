"""The manifest of a bundle: what the net is, what goes in, what comes out, and the SHA-256 of every file."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from edgeflock.runtime.intrinsics import Intrinsics

SCHEMA_VERSION = 2
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
VECTORS, WEIGHTS = "vectors.safetensors", "weights.safetensors"

# No separator, no leading dot: a listed name can only ever mean a file in the bundle's own folder.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class InputSpec(_Strict):
    """One input of the net, and how pixels or voxels become it (`edgeflock.runtime.prepare`)."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32"] = "float32"
    color: Literal["grey", "rgb", "intensity"]
    """"intensity" is a scan, which has no colour."""
    resize: tuple[int, int] | None = None
    """Width and height before the crop."""
    crop: str | None = None
    interpolation: str | None = None
    range: tuple[float, float]
    """What 0 and 255 become."""


class OutputSpec(_Strict):
    """One output of the net, with its unit and sign."""

    name: str
    shape: tuple[int, ...]
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


class Manifest(_Strict):
    """What a bundle holds. `files` and the hashes in `artefacts` stay empty until `write_bundle` fills them in."""

    schema_version: Literal[2] = 2
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
    training: dict[str, JsonValue] = {}
    """Command, seeds, data and figures: enough to train the same weights again."""
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
