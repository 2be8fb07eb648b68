"""A writer of TensorFlow checkpoints, after the format's description."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def write_tf_checkpoint() -> Callable[..., Path]:
    """``write_tf_checkpoint(prefix, tensors, per_block=3, compression=0, extra=b"")``, see `write`."""
    return write


@pytest.fixture
def proto_field() -> Callable[[int, int | bytes], bytes]:
    """``proto_field(number, value)``: one field of a protocol buffer."""
    return field


def crc32c(data: bytes) -> int:
    """Bit by bit, as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    return crc ^ 0xFFFFFFFF


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def write(
    prefix: Path, tensors: dict[str, np.ndarray], *, per_block: int = 3, compression: int = 0, extra: bytes = b""
) -> Path:
    """Two data files, index blocks of `per_block` entries, keys sharing prefixes."""
    types = {"float32": 1, "int64": 9, "float16": 19, "object": 7}
    files, entries = [b"", b""], [(b"", field(1, 2))]
    for n, (key, array) in enumerate(sorted(tensors.items())):
        if array.dtype == object:
            lengths = b"".join(varint(len(text)) for text in array.ravel())
            raw = lengths + struct.pack("<I", crc32c(lengths)) + b"".join(array.ravel())
        else:
            raw = array.tobytes()
        shape = b"".join(field(2, field(1, axis)) for axis in array.shape)
        entry = field(1, types[array.dtype.name]) + field(2, shape) + field(3, n % 2) + field(4, len(files[n % 2]))
        entry += field(5, len(raw)) + varint(6 << 3 | 5) + bytes(4) + extra  # its CRC is not read
        files[n % 2] += raw
        entries.append((key.encode(), entry))
    table, handles = b"", []

    def block(rows: list[tuple[bytes, bytes]]) -> bytes:
        nonlocal table
        content, last = b"", b""
        for key, value in rows:
            shared = next(
                (i for i, (a, b) in enumerate(zip(last, key, strict=False)) if a != b), min(len(last), len(key))
            )
            content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
            last = key
        content += struct.pack("<II", 0, 1) + bytes([compression])
        crc = crc32c(content)
        handle = varint(len(table)) + varint(len(content) - 1)
        table += content + struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
        return handle

    for start in range(0, len(entries), per_block):
        rows = entries[start : start + per_block]
        handles.append((rows[-1][0], block(rows)))
    statistics, index = block([]), block(handles)
    table += (statistics + index).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    prefix.with_name(prefix.name + ".index").write_bytes(table)
    for i, content in enumerate(files):
        prefix.with_name(f"{prefix.name}.data-{i:05d}-of-00002").write_bytes(content)
    return prefix
