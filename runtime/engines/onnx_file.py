"""What an ONNX file says of itself, read without the package onnx, which a robot has not.

Only the wire format of protocol buffers is needed (protobuf.dev/programming-guides/encoding) and the numbers of a few
fields (onnx/onnx.proto).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from edgeflock.runtime.errors import InputError

_QUANTISED = {
    b"DequantizeLinear", b"QuantizeLinear", b"DynamicQuantizeLinear", b"QLinearConv", b"QLinearMatMul", b"QGemm",
    b"ConvInteger", b"MatMulInteger",
}  # fmt: skip
_FLOATS = {1: "fp32", 10: "fp16", 11: "fp64", 16: "bf16"}  # TensorProto.DataType
_Value = int | memoryview


def precision_of(path: Path) -> str:
    """Precision of a net: int8 where it has quantised operators, else the type that most of its weights have.

    Which of the INT8 forms it is (int8, int8-qnn, int8-trt) does not stand in the file.

    Raises
    ------
    InputError
        It is no ONNX file.
    """
    operators: set[bytes] = set()
    weights: Counter[int] = Counter()
    try:
        for number, value in _fields(memoryview(path.read_bytes())):
            if number in (7, 25):  # ModelProto.graph, .functions
                _read_graph(_inner(value), 1 if number == 7 else 7, operators, weights)
    except (ValueError, IndexError):
        raise InputError(f"{path}: expected an ONNX file, got something else or a damaged one.") from None
    if operators & _QUANTISED:
        return "int8"
    return _FLOATS[max(_FLOATS, key=lambda kind: weights[kind])]


def _read_graph(graph: memoryview, nodes: int, operators: set[bytes], weights: Counter[int]) -> None:
    """Operators and number of weights by type of a GraphProto (nodes in field 1) or FunctionProto (7)."""
    for number, value in _fields(graph):
        if number == nodes:
            for inner, part in _fields(_inner(value)):
                if inner == 4:  # NodeProto.op_type
                    operators.add(bytes(_inner(part)))
                elif inner == 5:  # NodeProto.attribute
                    for kind, content in _fields(_inner(part)):
                        if kind == 5:  # AttributeProto.t
                            _count_weights(_inner(content), weights)
                        elif kind == 6:  # AttributeProto.g
                            _read_graph(_inner(content), 1, operators, weights)
        elif number == 5 and nodes == 1:  # GraphProto.initializer
            _count_weights(_inner(value), weights)


def _count_weights(tensor: memoryview, weights: Counter[int]) -> None:
    sizes, kind = [], 0
    for number, value in _fields(tensor):
        if number == 1:  # dims, one by one or packed
            sizes += [value] if isinstance(value, int) else list(_varints(value))
        elif number == 2 and isinstance(value, int):  # data_type
            kind = value
    weights[kind] += math.prod(sizes)


def _fields(message: memoryview) -> Iterator[tuple[int, _Value]]:
    """Number and content of each field."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        size, at = _varint(message, at) if wire == 2 else ({1: 8, 5: 4}.get(wire, -1), at)
        if size < 0 or at + size > len(message):
            raise ValueError(wire)
        yield number, message[at : at + size]
        at += size


def _varints(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError(at)


def _inner(value: _Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError(value)
    return value
