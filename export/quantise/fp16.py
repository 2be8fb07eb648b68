"""Half precision for GPUs: weights and compute in float16, inputs and outputs in float32."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeflock.calibration.foreign import adopted
from edgeflock.export.graph import finish

SENSITIVE = {
    # Sums over many values leave the range of float16 (65504) or its 11 bits, above all sums of squares.
    *("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", "ReduceProd", "GlobalAveragePool", "CumSum"),
    *("InstanceNormalization", "LayerNormalization", "GroupNormalization"),
    *("Softmax", "LogSoftmax", "Exp", "Log", "Pow", "Sqrt", "Reciprocal", "Erf"),
    # Angles of up to 999 rad of a diffusion's step.
    *("Sin", "Cos"),
    # Positions in an image or volume: at 128 voxels float16 has steps of 1/8.
    *("Floor", "Ceil", "Round", "Cast", "Gather", "GatherND", "GatherElements", "GridSample", "Range"),
}
"""Operators that stay in float32."""

_MOVED = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Expand", "Concat"}
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Neg", "Abs", "Min", "Max", "Clip"}
_FLOAT_INPUTS = {"Resize": (2,)}  # that the standard wants in float32
_LARGEST, _SMALLEST = 65504.0, 2.0**-24  # of float16, the smallest one subnormal


def to_fp16(fp32: onnx.ModelProto, keep_float: Collection[str] = ()) -> onnx.ModelProto:
    """The same net in float16, with float32 where that would cost the answer.

    In float32 stay `SENSITIVE` operators, the arithmetic that prepares what they get or goes on with nothing but what
    they gave (a norm's centring and squares, a warp's coordinates), and nodes with a constant that float16 cannot hold.

    Parameters
    ----------
    fp32 : onnx.ModelProto
        From `edgeflock.export.onnx.export_onnx`, or from elsewhere (`edgeflock.calibration.foreign.adopted`).
    keep_float : collection of str
        Operator types or names of nodes that stay in float32 as well.
    """
    model = adopted(fp32)
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{i}"
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    dtypes = {v.name: v.type.tensor_type.elem_type for v in [*typed.value_info, *typed.input, *typed.output]}
    writer = _Writer(model, {name for name, dtype in dtypes.items() if dtype == TensorProto.FLOAT})
    kept = _in_float(model, keep_float)
    for node in model.graph.node:
        writer.add(node, half=node.name not in kept)
    return finish(writer.finished())


class _Writer:
    """Writes the nodes of a graph anew, each in its precision, with one cast wherever that changes.

    ONNX Runtime's own converter rounds every graph input to float16 first, also for those who take float32.
    """

    def __init__(self, model: onnx.ModelProto, floats: set[str]) -> None:
        self._model = model
        self._floats = floats
        self._outputs = {o.name for o in model.graph.output} & floats
        self._constants = {i.name: i for i in model.graph.initializer if i.data_type == TensorProto.FLOAT}
        self._halves: set[str] = set()  # tensors that are made in float16
        self._made: dict[str, str] = {}  # by its name, the tensor in the other precision
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[TensorProto] = []

    def add(self, node: onnx.NodeProto, half: bool) -> None:
        """Write one node."""
        inputs = [
            self._as(name, half) if i not in _FLOAT_INPUTS.get(node.op_type, ()) else name
            for i, name in enumerate(node.input)
        ]
        written = onnx.NodeProto()
        written.CopyFrom(node)
        del written.input[:]
        written.input.extend(inputs)
        self._nodes.append(written)
        if not half:
            return
        for i, name in enumerate(node.output):
            if name in self._outputs:
                written.output[i] = self._made[name] = f"{name}_fp16"
                self._nodes.append(_cast(written.output[i], name, half=False))
            elif name in self._floats:
                self._halves.add(name)

    def _as(self, name: str, half: bool) -> str:
        """Name of a float tensor in the precision asked for."""
        if (name in self._halves) == half or name not in self._floats | set(self._constants):
            return name
        if name not in self._made:
            self._made[name] = other = f"{name}_{'fp16' if half else 'fp32'}"
            if name in self._constants:
                value = numpy_helper.to_array(self._constants[name]).astype(np.float16)
                self._initializers.append(numpy_helper.from_array(value, other))
            else:
                self._nodes.append(_cast(name, other, half))
        return self._made[name]

    def finished(self) -> onnx.ModelProto:
        """The model, written."""
        graph = self._model.graph
        used = {name for node in self._nodes for name in node.input}
        initializers = [i for i in [*graph.initializer, *self._initializers] if i.name in used]
        for part, content in ((graph.node, self._nodes), (graph.initializer, initializers), (graph.value_info, [])):
            del part[:]
            part.extend(content)
        return self._model


def _cast(name: str, to: str, half: bool) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [to], f"{to}_cast", to=TensorProto.FLOAT16 if half else TensorProto.FLOAT)


def _in_float(model: onnx.ModelProto, keep_float: Collection[str]) -> set[str]:
    """Names of the nodes that stay in float32."""
    nodes = list(model.graph.node)
    huge = {i.name for i in model.graph.initializer if not _fits(numpy_helper.to_array(i))}
    kept = {
        n.name
        for n in nodes
        if n.op_type in SENSITIVE or {n.op_type, n.name} & set(keep_float) or huge.intersection(n.input)
    }
    made_by = {name: node for node in nodes for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            users.setdefault(name, []).append(node)
    while True:
        more = set()
        for node in nodes:
            if node.op_type not in _ELEMENTWISE | _MOVED or node.name in kept:
                continue
            sources = [made_by[name].name for name in node.input if name in made_by]
            targets = [user.name for name in node.output for user in users.get(name, [])]
            if node.op_type in _ELEMENTWISE:
                prepares = bool(kept.intersection(targets))
            else:
                prepares = bool(targets) and kept.issuperset(targets)
            if prepares or (sources and kept.issuperset(sources)):
                more.add(node.name)
        if not more:
            return kept
        kept |= more


def _fits(constant: np.ndarray) -> bool:
    """Whether float16 holds a constant: nothing too large, and no tensor that would vanish."""
    if constant.dtype != np.float32:
        return True
    magnitude = np.abs(constant)
    return bool((magnitude <= _LARGEST).all() and (not magnitude.any() or magnitude.max() >= _SMALLEST))
