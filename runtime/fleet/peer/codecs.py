"""Codecs: a flat model as bytes, and what the other side makes of them.

A body is a safetensors file of named tensors, compressed by Zstandard; never pickle. Every codec says what the receiver
reconstructs, and both ends compute it with the same float32 arithmetic, so that its SHA-256 must agree.

`topk` sends only where the model is farthest from what this neighbour last acknowledged (its base), as CHOCO-SGD does
(Koloskova et al. 2019, arXiv 1902.00340, algorithm 1). What is left out stays in the difference to the base and
comes with a later round: that difference is the error feedback.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Literal, get_args

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs

Codec = Literal["fp32", "fp16", "int8", "topk"]
CODECS: tuple[Codec, ...] = get_args(Codec)
BLOCK = 256
"""Weights that share a scale in `int8`."""
HEADER_BYTES = 4096
"""More than the header of any codec's safetensors file has."""
LEVEL = 3
FP16_MAX = float(np.finfo(np.float16).max)


def encode(codec: Codec, model: np.ndarray, base: np.ndarray | None = None, keep: float = 0.1) -> bytes:
    """Tensors of a model as a safetensors file.

    Parameters
    ----------
    codec : str
        One of `CODECS`.
    model : ndarray, float32 (d,)
        Finite.
    base : ndarray, float32 (d,), optional
        Of `topk`: what the receiver has already.
    keep : float
        Of `topk`: share of the weights that is sent.

    Raises
    ------
    InputError
        A weight is beyond the range of fp16, or `topk` has no base.
    """
    if codec == "fp32":
        tensors = {"w": model.astype("<f4")}
    elif codec == "fp16":
        if np.abs(model).max(initial=0) > FP16_MAX:
            raise InputError(f"a weight is beyond fp16's {FP16_MAX:g}: send this model as fp32 or int8.")
        tensors = {"w": model.astype("<f2")}
    elif codec == "int8":
        blocks = np.zeros((math.ceil(len(model) / BLOCK), BLOCK), np.float32)
        blocks.ravel()[: len(model)] = model
        scale = np.abs(blocks).max(axis=1) / np.float32(127)
        scale[scale < np.finfo(np.float32).tiny] = 0  # a subnormal step has too few digits to divide by
        whole = np.rint(blocks / np.where(scale == 0, 1, scale)[:, None]) * (scale > 0)[:, None]
        tensors = {"q": whole.astype(np.int8).ravel()[: len(model)], "scale": scale.astype("<f4")}
    else:
        if base is None:
            raise InputError("topk sends a difference and needs the model that the receiver has: send fp32 first.")
        count = min(len(model), max(1, math.ceil(keep * len(model))))
        with np.errstate(over="ignore"):
            apart = np.abs(model - base)
        at = np.sort(np.argpartition(apart, len(model) - count)[len(model) - count :])
        steps = np.diff(at, prepend=0).astype("<u4")
        tensors = {"step": steps, "w": model[at].astype("<f4")}
    return save(tensors)


def decode(codec: Codec, raw: bytes, size: int, base: np.ndarray | None = None) -> np.ndarray:
    """Model that the receiver reconstructs, float32 (size,); it may still hold NaN or infinity.

    Raises
    ------
    InputError
        The bytes are no safetensors file (offsets that do not tile the buffer are refused), or its tensors are not
        those of this codec for this size.
    """
    try:
        tensors = load(raw)
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise InputError(f"the body is no safetensors file ({error}): send the model again.") from error
    if codec == "fp32":
        return _taken(tensors, w=("float32", size))["w"]
    if codec == "fp16":
        return _taken(tensors, w=("float16", size))["w"].astype(np.float32)
    if codec == "int8":
        found = _taken(tensors, q=("int8", size), scale=("float32", math.ceil(size / BLOCK)))
        with np.errstate(over="ignore", invalid="ignore"):
            return found["q"].astype(np.float32) * np.repeat(found["scale"], BLOCK)[:size]
    if base is None or len(base) != size:
        raise InputError("topk sends a difference to a model that is not here: ask for a full one.")
    count = len(tensors["w"]) if "w" in tensors and tensors["w"].ndim == 1 else 0
    found = _taken(tensors, w=("float32", count), step=("uint32", count))
    at = np.cumsum(found["step"].astype(np.int64))
    if not 0 < count <= size or at[-1] >= size or (found["step"][1:] == 0).any():
        raise InputError("topk names places that are not in the model, or none: send the model again.")
    model = base.copy()
    model[at] = found["w"]
    return model


def _taken(tensors: dict[str, np.ndarray], **expected: tuple[str, int]) -> dict[str, np.ndarray]:
    got = {name: (value.dtype.name, value.shape) for name, value in tensors.items()}
    wanted = {name: (dtype, (length,)) for name, (dtype, length) in expected.items()}
    if got != wanted:
        raise InputError(f"the body holds the tensors {got}, expected {wanted}: do all robots train the same net?")
    return tensors


def largest_raw(size: int) -> int:
    """Most bytes that any codec's safetensors file has for a model of `size` weights."""
    return HEADER_BYTES + 8 * size


def largest_body(size: int) -> int:
    """Most bytes that such a file has after compression (zstd's bound, `ZSTD_compressBound`, rounded up)."""
    raw = largest_raw(size)
    return raw + raw // 128 + 512


def compress(raw: bytes) -> bytes:
    """One Zstandard frame that states its content's size."""
    return _zstandard().ZstdCompressor(level=LEVEL).compress(raw)


def decompress(body: bytes, raw_bytes: int) -> bytes:
    """Content of one frame; nothing is allocated unless the frame states exactly `raw_bytes`.

    Raises
    ------
    InputError
        The frame is damaged, is followed by something, or states another size.
    """
    zstd = _zstandard()
    try:
        facts = zstd.get_frame_parameters(body)
        if facts.content_size != raw_bytes or facts.window_size > max(raw_bytes, 1 << 10) or facts.dict_id:
            raise InputError(f"the body unpacks to {facts.content_size} bytes, expected {raw_bytes}: send it again.")
        return zstd.ZstdDecompressor().decompress(body, max_output_size=raw_bytes, allow_extra_data=False)
    except zstd.ZstdError as error:
        raise InputError(f"the body is not one Zstandard frame ({error}): send the model again.") from error


def digest(model: np.ndarray) -> str:
    """SHA-256 of a model's float32 bytes, little-endian."""
    return hashlib.sha256(model.astype("<f4", copy=False).tobytes()).hexdigest()


def _zstandard() -> Any:
    with needs("exchanging models"):
        import zstandard
    return zstandard
