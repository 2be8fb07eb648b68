"""TensorFlow checkpoints, written here byte by byte as the format is described: TensorFlow is no dependency.

The authors' released index and string file of GLAMOR-Net were read with this reader once by hand: 81 entries, all
checksums right; they are not in this repository.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from edgeflock.export.nets.tf_checkpoint import OBJECT_GRAPH, read_tf_checkpoint, variable_names
from edgeflock.runtime.errors import DataError

KEY = "layer/{}/kernel/.ATTRIBUTES/VARIABLE_VALUE"


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
        entry += field(5, len(raw)) + varint(6 << 3 | 5) + struct.pack("<I", crc32c(raw)) + extra
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


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {KEY.format(i): rng.normal(size=(3, 3, i + 1, 2)).astype(np.float32) for i in range(12)}
    graph = field(1, field(2, field(1, b"VALUE") + field(2, b"conv2d_3/kernel") + field(3, KEY.format(0).encode())))
    return found | {
        "step": np.array(300, np.int64),
        "half": np.zeros((0, 4), np.float16),
        OBJECT_GRAPH: np.array(graph, object),
        "words": np.array([b"", b"x" * 200], object),
    }


def test_every_tensor_comes_back(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    got = read_tf_checkpoint(write(tmp_path / "Model", tensors))
    assert list(got) == sorted(tensors)
    for key, array in tensors.items():
        assert got[key].dtype == array.dtype and got[key].shape == array.shape and np.array_equal(got[key], array)


def test_the_object_graph_tells_the_variables_names(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    got = read_tf_checkpoint(write(tmp_path / "Model", tensors))
    assert variable_names(got[OBJECT_GRAPH].item()) == {KEY.format(0): "conv2d_3/kernel"}


def test_a_missing_file_is_named(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    with pytest.raises(DataError, match=r"Model\.index: no such file; expected the prefix"):
        read_tf_checkpoint(tmp_path / "Model")
    prefix = write(tmp_path / "Model", tensors)
    (tmp_path / "Model.data-00001-of-00002").unlink()
    with pytest.raises(DataError, match=r"data-00001-of-00002: no such file; .* all 2 \.data"):
        read_tf_checkpoint(prefix)


def test_damage_is_noticed(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    prefix = write(tmp_path / "Model", tensors)
    index, data = tmp_path / "Model.index", tmp_path / "Model.data-00000-of-00002"
    whole = index.read_bytes()
    index.write_bytes(whole[:30] + bytes([whole[30] ^ 1]) + whole[31:])
    with pytest.raises(DataError, match="checksum at byte 0 is wrong"):
        read_tf_checkpoint(prefix)
    for cut in (0, 20, len(whole) - 60):
        index.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="not the index of a TensorFlow checkpoint, or cut off"):
            read_tf_checkpoint(prefix)
    index.write_bytes(whole[100:])  # blocks are not where the footer says
    with pytest.raises(DataError, match=r"checksum|damaged"):
        read_tf_checkpoint(prefix)
    index.write_bytes(whole)
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"does not fit its .* bytes: cut off"):
        read_tf_checkpoint(prefix)


def test_what_it_does_not_read_is_said(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    with pytest.raises(DataError, match=r"the index is compressed \(kind 1\)"):
        read_tf_checkpoint(write(tmp_path / "a", tensors, compression=1))
    with pytest.raises(DataError, match="is stored in slices"):
        read_tf_checkpoint(write(tmp_path / "b", tensors, extra=field(7, b"")))
