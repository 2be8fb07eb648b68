"""The bundle: a folder with a signed manifest, the ONNX files, the weights and the reference vectors."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class InputSpec(_Spec):
    """One input of the net and how a camera frame becomes it (see `edgeflock.runtime.preprocess`)."""

    name: str = "image"
    shape: tuple[int, ...] = (1, 1, 200, 200)
    dtype: Literal["float32"] = "float32"
    color: str = "grey"
    resize: tuple[int, int] = (320, 240)
    crop: str = "bottom-centre 200x200"
    interpolation: str = "linear_exact"
    range: tuple[float, float] = (0, 255)
