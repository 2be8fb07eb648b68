"""What a robot's calibration saw, for the rest of its fleet: a signed file of histograms, and no image.

    line of JSON: {"content": {version, run, robot, net, samples, sha256}, "key", "signature"} | safetensors

`net` is the SHA-256 of the float net's ONNX file, so that only ranges of one and the same net are merged. The signature
covers `DOMAIN` and the canonical content, whose `sha256` is that of the rest. Whoever reads such a file checks its size
before it reads, its signature before it parses, and everything that a histogram promises before it is merged: it came
from another machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgeflock.calibration.foreign import adopted
from edgeflock.calibration.histogram import FINEST, HALF, Histogram, exponent_of, from_arrays, to_arrays
from edgeflock.calibration.observe import activations
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import canonical_json, write_atomically

if TYPE_CHECKING:
    from onnx import ModelProto

DOMAIN = b"edgeflock/calibration/histograms/1\0"
MOST_BYTES = 64 << 20
"""Of a file. FADNet's has 2 MB; a tensor takes 66 kB at most, and 8 bytes per sample."""
MOST_SAMPLES = 100_000


class Content(BaseModel):
    """What the signature vouches for."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal[1] = 1
    run: str = Field(max_length=64)
    robot: str = Field(max_length=64)
    net: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the float net's ONNX file")
    samples: int = Field(ge=1, le=MOST_SAMPLES)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the body")


@dataclass(frozen=True)
class Shared:
    """Histograms of one robot, whose signature holds; `check` says whether they are of a net."""

    content: Content
    histograms: dict[str, Histogram]

    def check(self, model: ModelProto) -> None:
        """Refuse what this net cannot have given for so many samples.

        Raises
        ------
        InputError
            Another net; a tensor too many or too few; counts that do not add up to the tensor's values.
        """
        robot, net = self.content.robot, net_hash(model)
        if self.content.net != net:
            raise InputError(
                f"the histograms of {robot} are of the net {self.content.net[:12]}, expected {net[:12]}: share them "
                "anew from the weights that are exported here, with the same versions of torch and onnx."
            )
        values = {name: size // 4 for name, size in activations(adopted(model)).items()}
        if differing := sorted(values.keys() ^ self.histograms.keys()):
            raise InputError(
                f"the histograms of {robot} differ from the net's tensors in {len(differing)}, such as {differing[0]}."
            )
        for name, histogram in self.histograms.items():
            expected, got = self.content.samples * values[name], int(histogram.counts.sum())
            if histogram.samples != self.content.samples or got != expected:
                raise InputError(
                    f"the histogram of {name!r} from {robot} counts {got:,} values of {histogram.samples} samples, "
                    f"expected {expected:,} of {self.content.samples}."
                )


def net_hash(model: ModelProto) -> str:
    """SHA-256 of a float net's ONNX file."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def write_shared(
    path: Path, histograms: dict[str, Histogram], model: ModelProto, run: str, robot: str, key: Ed25519PrivateKey
) -> None:
    """Sign and write what calibration saw of a net."""
    body = save(to_arrays(histograms))
    samples = next(iter(histograms.values())).samples
    content = Content(
        run=run, robot=robot, net=net_hash(model), samples=samples, sha256=hashlib.sha256(body).hexdigest()
    ).model_dump()
    signed = {
        "content": content,
        "key": key.public_key().public_bytes_raw().hex(),
        "signature": key.sign(DOMAIN + canonical_json(content)).hex(),
    }
    write_atomically(path, canonical_json(signed) + b"\n" + body)


def read_shared(path: Path, run: str, keys: Mapping[str, set[bytes]]) -> Shared:
    """Read a robot's file.

    Parameters
    ----------
    path : Path
    run : str
        Of the roster.
    keys : mapping
        Raw public keys (32 bytes) by robot, as the fleet's roster has them.

    Raises
    ------
    DataError
        It is not there, too large, damaged, not signed by that robot's key, of another run, or holds what no
        histogram is.
    """
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise DataError(f"{path} has {size:,} bytes, expected {MOST_BYTES:,} at most: it is not taken.")
        header, body = path.read_bytes().split(b"\n", 1)
        signed = json.loads(header)
        content, public = Content.model_validate(signed["content"]), bytes.fromhex(signed["key"])
        if public not in keys.get(content.robot, set()):
            raise DataError(
                f"{path} says that it is of '{content.robot}', and its key is not that robot's in the roster: it is "
                "not taken. Add the robot with `edgeflock fleet keys add`, or fetch the newest roster.json."
            )
        message = DOMAIN + canonical_json(signed["content"])
        Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(signed["signature"]), message)
        if content.run != run:
            raise DataError(f"{path} is of the run '{content.run}', expected '{run}'.")
        if hashlib.sha256(body).hexdigest() != content.sha256:
            raise DataError(
                f"{path} is damaged or cut, its content is not what {content.robot} signed: fetch it again."
            )
        return Shared(content, _histograms(load(body)))
    except InvalidSignature:
        raise DataError(f"{path} was changed after its robot signed it: it is not taken.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError, ValidationError) as error:
        raise DataError(
            f"{path} holds no histograms of a robot ({type(error).__name__}: {str(error).splitlines()[0]}): expected "
            "a file of `edgeflock calibrate share`."
        ) from error


def _histograms(arrays: dict[str, np.ndarray]) -> dict[str, Histogram]:
    """Histograms of arrays from elsewhere; ValueError for what no histogram is."""
    names = {key.partition("/")[2] for key in arrays}
    if not names or arrays.keys() != {f"{part}/{name}" for name in names for part in ("bins", "counts", "extremes")}:
        raise ValueError("bins, counts and extremes do not belong together")
    for name in names:
        bins, counts, extremes = (arrays[f"{part}/{name}"] for part in ("bins", "counts", "extremes"))
        if bins.dtype != np.int64 or bins.shape != (2,) or counts.dtype != np.int64 or counts.ndim != 1:
            raise ValueError(f"{name!r}: bins {bins.dtype} {bins.shape}, counts {counts.dtype} {counts.shape}")
        exponent, first = map(int, bins)
        if not 0 <= first <= first + counts.size <= 2 * HALF - 1:
            raise ValueError(f"{name!r}: {counts.size} bins from {first} on, expected {2 * HALF - 1} at most")
        if counts.size and (counts.min() < 0 or counts.max() > 1 << 48):
            raise ValueError(f"{name!r}: counts from {counts.min()} to {counts.max()}")
        if extremes.dtype != np.float32 or extremes.ndim != 2 or len(extremes) != 2 or not extremes.size:
            raise ValueError(f"{name!r}: extremes {extremes.dtype} {extremes.shape}")
        if not np.isfinite(extremes).all():
            raise ValueError(f"{name!r}: an extreme is NaN or infinite")
        lows, highs = extremes
        if (np.diff(lows) < 0).any() or (np.diff(highs) < 0).any() or (lows > highs).any():
            raise ValueError(f"{name!r}: extremes that are out of order")
        if not FINEST <= exponent == exponent_of(float(max(-lows[0], highs[-1]))):
            raise ValueError(f"{name!r}: bins of 2^{exponent}, which do not fit the extremes {lows[0]}, {highs[-1]}")
    return from_arrays(arrays)
