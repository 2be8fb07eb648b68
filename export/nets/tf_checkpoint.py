"""TensorFlow 2 checkpoints without TensorFlow: `<prefix>.index` and `<prefix>.data-XXXXX-of-YYYYY` to numpy arrays.

The index is a sorted table in LevelDB's format: a footer (handles of two blocks, magic number), blocks with
prefix-compressed keys and a CRC-32C each. Its values are protocol buffers: under the empty key the header
(`BundleHeaderProto`: number of data files, byte order), under every other key where and what a tensor is
(`BundleEntryProto`: type, shape, data file, offset, size). TensorFlow writes the index without compression; checked are
its checksums and all sizes, not the tensors' own checksums, which take minutes in Python.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeflock.runtime.errors import DataError

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TRAILER = 5  # of a block: compression, CRC
_TYPES = {1: "f4", 2: "f8", 3: "i4", 4: "u1", 5: "i2", 6: "i1", 9: "i8", 10: "?", 17: "u2", 19: "f2", 22: "u4"}
"""numpy's names of TensorFlow's `DataType` numbers."""
_STRING = 7
_CRC = [0] * 256
for _i in range(256):
    _value = _i
    for _ in range(8):
        _value = _value >> 1 ^ (0x82F63B78 if _value & 1 else 0)
    _CRC[_i] = _value

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""Key of the one string tensor that every object-based checkpoint has."""


def read_tf_checkpoint(prefix: Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint by their keys, in the keys' alphabetical order.

    Parameters
    ----------
    prefix : Path
        Path of the files without `.index`, as TensorFlow's `save_weights` takes it.

    Returns
    -------
    dict
        Numbers as arrays of the stored type and shape; strings as arrays of bytes objects.

    Raises
    ------
    DataError
        A file is missing, cut off or damaged, or holds what this reader does not know (compressed index, partitioned
        variables, a type that numpy lacks).
    """
    prefix = Path(prefix)
    index = prefix.with_name(prefix.name + ".index")
    if not index.is_file():
        raise DataError(f"{index}: no such file; expected the prefix of a TensorFlow checkpoint, without '.index'.")
    try:
        entries = dict(_table(index.read_bytes(), index))
        header = _message(entries.pop(b"", b""))
        shards = header.get(1, [1])[0]
        if header.get(2, [0])[0]:
            raise DataError(f"{index}: big-endian checkpoints are not read; save it again on a PC.")
        files = [prefix.with_name(f"{prefix.name}.data-{i:05d}-of-{shards:05d}") for i in range(shards)]
        return {key.decode(): _tensor(key.decode(), _message(value), files) for key, value in entries.items()}
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise DataError(f"{index}: cut off or damaged ({error}); copy the checkpoint again.") from error


def variable_names(graph: bytes) -> dict[str, str]:
    """Keys of a checkpoint to the variables' full names, as `conv2d_3/kernel`, from its `OBJECT_GRAPH`.

    Keras numbers layers in the order of their creation, which the keys do not tell.
    """
    names = {}
    for node in _message(graph).get(1, []):  # TrackableObjectGraph.nodes
        for attribute in _message(node).get(2, []):  # TrackableObject.attributes: 1 name, 2 full_name, 3 checkpoint_key
            fields = _message(attribute)
            if 2 in fields and 3 in fields:
                names[fields[3][0].decode()] = fields[2][0].decode()
    return names


def _table(data: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table in LevelDB's format."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise DataError(f"{path}: not the index of a TensorFlow checkpoint, or cut off.")
    _, at = _handle(data, len(data) - _FOOTER)  # of the block of statistics, which is empty
    where, _ = _handle(data, at)
    for _, value in _block(data, where, path):
        yield from _block(data, _handle(value, 0)[0], path)


def _block(data: bytes, where: tuple[int, int], path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Entries of one block; a key is stored as what differs from the one before it."""
    offset, size = where
    content, trailer = data[offset : offset + size], data[offset + size : offset + size + _TRAILER]
    compression, crc = struct.unpack("<BI", trailer)
    if _masked_crc(data[offset : offset + size + 1]) != crc:
        raise DataError(f"{path}: the checksum at byte {offset} is wrong, the file is damaged; copy it again.")
    if compression:
        raise DataError(f"{path}: the index is compressed (kind {compression}), unlike what TensorFlow itself writes.")

    restarts = struct.unpack("<I", content[-4:])[0]
    key, at, end = b"", 0, size - 4 - 4 * restarts
    while at < end:
        shared, at = _varint(content, at)
        fresh, at = _varint(content, at)
        length, at = _varint(content, at)
        key = key[:shared] + content[at : at + fresh]
        yield key, content[at + fresh : at + fresh + length]
        at += fresh + length


def _tensor(key: str, entry: dict[int, list], files: list[Path]) -> np.ndarray:
    """One tensor, as its `BundleEntryProto` says: 1 type, 2 shape, 3 file, 4 offset, 5 size, 7 slices."""
    kind, shard, offset, size = (entry.get(field, [0])[0] for field in (1, 3, 4, 5))
    shape = tuple(_message(axis).get(1, [0])[0] for axis in _message(entry.get(2, [b""])[0]).get(2, []))
    if 7 in entry:
        raise DataError(f"{files[0]}: '{key}' is stored in slices, which is not read: save it as a whole.")
    if kind != _STRING and kind not in _TYPES:
        raise DataError(f"{files[0]}: '{key}' has TensorFlow's type {kind}, which numpy lacks.")
    path = files[shard]
    if not path.is_file():
        raise DataError(f"{path}: no such file; a checkpoint is its .index and all {len(files)} .data files.")
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) < size or (kind != _STRING and size != count * np.dtype(_TYPES[kind]).itemsize):
        raise DataError(f"{path}: '{key}' {shape} does not fit its {len(data)} bytes: cut off, copy it again.")
    if kind != _STRING:
        return np.frombuffer(data, "<" + _TYPES[kind]).reshape(shape)
    at, lengths = 0, []
    for _ in range(count):
        length, at = _varint(data, at)
        lengths.append(length)
    at += 4  # the lengths' own checksum
    strings = np.empty(count, object)
    for i, length in enumerate(lengths):
        strings[i], at = data[at : at + length], at + length
    return strings.reshape(shape)


def _message(data: bytes) -> dict[int, list]:
    """Fields of a protocol buffer by number: integers, or bytes of strings and messages."""
    fields: dict[int, list] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
            value, at = int.from_bytes(data[at : at + length], "little"), at + length
        else:
            raise IndexError(f"wire type {wire} at byte {at} of a message")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and where the next begins."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Integer of seven bits per byte, lowest first, and where the next begins."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _masked_crc(data: bytes) -> int:
    """CRC-32C, turned and shifted as LevelDB stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
