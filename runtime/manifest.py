"""The manifest of a bundle: what the net is, what goes in, what comes out, and the SHA-256 of every file."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

SCHEMA_VERSION = 1
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
VECTORS, WEIGHTS = "vectors.safetensors", "weights.safetensors"

# No separator, no leading dot: a listed name can only ever mean a file in the bundle's own folder.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class InputSpec(_Strict):
    """One input of the net and how a camera frame becomes it (see `edgeflock.runtime.preprocess`)."""

    name: str = "image"
    shape: tuple[int, ...] = (1, 1, 200, 200)
    dtype: Literal["float32"] = "float32"
    color: str = "grey"
    resize: tuple[int, int] = (320, 240)
    crop: str = "bottom-centre 200x200"
    interpolation: str = "linear_exact"
    range: tuple[float, float] = (0, 255)


class OutputSpec(_Strict):
    """One output of the net, with its unit and sign."""

    name: str = "steering"
    shape: tuple[int, ...] = (1, 1)
    unit: str = "rad"
    positive: str = "left"


class Artefact(_Strict):
    """The net in one precision. `write_bundle` fills in hash and size."""

    file: str
    sha256: str = ""
    size: int = 0
    opset: int
    ir: int


class GateReport(_Strict):
    """What quantisation cost, measured on held-out frames, and whether the gate let it pass. RMSE in rad."""

    passed: bool
    precision: str
    data: str
    frames: int
    rmse: float
    rmse_fp32: float
    rmse_constant: float
    """RMSE of the constant predictor on the same frames."""
    rmse_drop: float
    """(rmse - rmse_fp32) / rmse_fp32."""
    rmse_drop_limit: float
    sign_flips: float
    """Of the frames that fp32 steers by more than 0.02 rad, the share not steered to the same side."""
    sign_flips_limit: float
    constant_ratio: float
    """rmse / rmse_constant; near 1 means that the net learnt nothing."""
    constant_ratio_limit: float
    max_deviation: float
    """Largest distance from fp32 on one frame, rad."""
    max_deviation_limit: float
    mean_deviation: float
    """Mean distance from fp32, rad."""


class Manifest(_Strict):
    """What a bundle holds. `files` and the hashes in `artefacts` stay empty until `write_bundle` fills them in."""

    schema_version: Literal[1] = 1
    name: str
    net: str
    task: str = "steering"
    inputs: list[InputSpec] = Field(default_factory=lambda: [InputSpec()], min_length=1)
    outputs: list[OutputSpec] = Field(default_factory=lambda: [OutputSpec()], min_length=1)
    artefacts: dict[str, Artefact] = Field(min_length=1)
    default_precision: str
    files: dict[str, str] = {}
    gate: GateReport | None = None
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
        if self.files:
            for precision, artefact in self.artefacts.items():
                if self.files.get(artefact.file) != artefact.sha256:
                    raise ValueError(f"artefacts.{precision} names {artefact.file!r} with another SHA-256 than files")
            if VECTORS not in self.files:
                raise ValueError(f"files lacks {VECTORS}")
        return self
