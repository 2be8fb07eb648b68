"""The graph of a net from elsewhere as a bundle has it: 0..255 pixels in front, a batch of 1 at every end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeflock.export.foreign.meaning import Taken
from edgeflock.export.graph import finish
from edgeflock.runtime.bundle.manifest import ImageInput, OutputSpec
from edgeflock.runtime.errors import ParityError
from edgeflock.runtime.tasks.steering import STEERING_OUTPUT

_Step = tuple[str, np.ndarray | np.generic | None, dict[str, Any]]
"""Operator, its constant if it has one, its attributes."""

PARITY = 1e-4
"""Largest |bundle's graph - net| / max(1, largest |answer|) that counts as the same net."""


def shapes_of(model: onnx.ModelProto) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of each input."""
    return {value.name: _said(value) for value in model.graph.input}


def outputs_of(model: onnx.ModelProto) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of each output."""
    return {value.name: _said(value) for value in model.graph.output}


def framed(model: onnx.ModelProto, inputs: Sequence[Taken]) -> onnx.ModelProto:
    """Copy of a graph that begins with what its pixels go through and whose ends all have a batch of 1.

    A pixel's norm is a BatchNormalization: one node in float, and in int8-qnn one depthwise convolution
    (`edgeflock.export.quantise.rewrites.norms_to_convolutions`).

    Parameters
    ----------
    model : onnx.ModelProto
        Of `edgeflock.export.foreign.onnx_file.read_onnx` or `edgeflock.export.onnx.export_onnx`.
    inputs : sequence of Taken
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    front = _Front(made)
    for taken in inputs:
        front.add(taken)
    nodes = [*front.nodes, *made.graph.node]
    for name, (shape, dtype) in outputs_of(model).items():
        if shape[:1] != (1,):
            inner = _renamed(made.graph, name)
            value = next(v for v in made.graph.output if v.name == inner)
            value.CopyFrom(_value(name, (1, *shape), dtype))
            nodes.append(helper.make_node("Unsqueeze", [inner, front.axis], [name], f"{name}/batch"))
    return _of_nodes(made, nodes)


def steering_of(model: onnx.ModelProto, scale: float, answer: str, index: int | None = None) -> onnx.ModelProto:
    """Copy of a framed graph whose first output is the angle (1, 1) of a steering net: a number of it, times `scale`.

    Parameters
    ----------
    model : onnx.ModelProto
    scale : float
    answer : str
        Output that has the number.
    index : int, optional
        Of the number among the output's, which then stays an output as well; None: it is the only one, and goes.
    """
    steps: list[_Step] = [("Reshape", np.array([1, -1]), {})]
    if index is not None:
        steps.append(("Gather", np.array([index]), {"axis": 1}))
    return _ended(model, answer, STEERING_OUTPUT, [*steps, ("Mul", np.float32(scale), {})], keep=index is not None)


def emotion_of(model: onnx.ModelProto, output: OutputSpec, softmax: bool) -> onnx.ModelProto:
    """Copy of a framed graph that takes a `face`, and whose one answer is a distribution over the labels of `output`.

    `softmax` makes it one of the net's scores.
    """
    steps: list[_Step] = [("Reshape", np.array(output.shape), {}), *([("Softmax", None, {})] if softmax else [])]
    made = _ended(model, model.graph.output[0].name, output, steps)
    _renamed(made.graph, made.graph.input[0].name, "face")
    return made


def _ended(
    model: onnx.ModelProto, answer: str, output: OutputSpec, steps: Sequence[_Step], keep: bool = False
) -> onnx.ModelProto:
    """Copy of a graph whose first output is made of one of its answers, which may stay an output."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    values = {value.name: value for value in made.graph.output}
    value = _value(output.name, output.shape, output.dtype)
    if keep:
        inner = _renamed(made.graph, answer, f"{answer}_all") if answer == output.name else answer
    else:
        inner = _renamed(made.graph, answer)
        made.graph.output.remove(values[answer])
    others = [type(value).FromString(other.SerializeToString()) for other in made.graph.output]
    del made.graph.output[:]
    made.graph.output.extend([value, *others])
    nodes = list(made.graph.node)
    for i, (operator, constant, attributes) in enumerate(steps):
        name = f"edgeflock/{operator}"
        given = [inner] if constant is None else [inner, f"{name}/constant"]
        if constant is not None:
            made.graph.initializer.append(numpy_helper.from_array(np.asarray(constant), given[1]))
        inner = output.name if i == len(steps) - 1 else f"{name}/output"
        nodes.append(helper.make_node(operator, given, [inner], name, **attributes))
    return _of_nodes(made, nodes)


def _of_nodes(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    del model.graph.value_info[:]
    return finish(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True))


class _Front:
    """Nodes between the bundle's inputs and the net's own."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph, self.nodes = model.graph, list[onnx.NodeProto]()

    @property
    def axis(self) -> str:
        """Name of the constant [0]."""
        return self.constant("edgeflock/axis", [0], np.int64)

    def constant(self, name: str, value: object, dtype: type = np.float32) -> str:
        """Name of a constant, made where it is not there."""
        if all(tensor.name != name for tensor in self.graph.initializer):
            self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, taken: Taken) -> None:
        """Put in front of an input what makes the net's own of it."""
        name = taken.spec.name
        steps: list[tuple[str, list[str], dict[str, Any]]] = []
        if taken.scaled and isinstance(taken.spec, ImageInput):
            channels = taken.spec.shape[1]
            norm = {
                "scale": np.broadcast_to(np.sign(taken.std * taken.scale), channels),
                "bias": np.zeros(channels),
                "mean": np.broadcast_to(taken.mean / taken.scale, channels),
                "variance": np.broadcast_to((taken.std / taken.scale) ** 2, channels),
            }
            names = [self.constant(f"{name}/{part}", value) for part, value in norm.items()]
            steps.append(("BatchNormalization", names, {"epsilon": 0.0}))
        if taken.last:
            steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
        if len(taken.spec.shape) > len(taken.shape):
            steps.append(("Squeeze", [self.axis], {}))
        if taken.spec.dtype != taken.dtype and not self._uncast(name):
            steps.append(("Cast", [], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(taken.dtype))}))
        inner = _renamed(self.graph, name) if steps else name
        value = next(v for v in self.graph.input if v.name == inner)
        value.CopyFrom(_value(name, taken.spec.shape, taken.spec.dtype))
        last = name
        for i, (operator, more, attributes) in enumerate(steps):
            made = inner if i == len(steps) - 1 else f"{name}/{operator}"
            self.nodes.append(helper.make_node(operator, [last, *more], [made], f"{name}/{operator}", **attributes))
            last = made

    def _uncast(self, name: str) -> bool:
        """Take away the casts to float that an input of integers begins with; False where it goes elsewhere too."""
        users = [node for node in self.graph.node if name in node.input]
        ends = {value.name for value in self.graph.output}
        if not all(
            node.op_type == "Cast" and node.attribute[0].i == onnx.TensorProto.FLOAT and node.output[0] not in ends
            for node in users
        ):
            return False
        for node in users:
            _renamed(self.graph, node.output[0], name)
            self.graph.node.remove(node)
        return True


def deviation(got: np.ndarray, expected: np.ndarray, what: str) -> float:
    """How far answers are from those that the net gives, by their largest or 1; ParityError beyond `PARITY`."""
    if not np.isfinite(expected).all():
        raise ParityError(f"the net itself answers {what} with NaN or infinity: check weights, samples and --scale.")
    worst = float(np.max(np.abs(got - expected), initial=0) / max(1.0, float(np.abs(expected).max(initial=0))))
    if not worst <= PARITY:
        raise ParityError(
            f"the graph for boards answers {what} otherwise than the net: off by {worst:.2g}, expected at most "
            f"{PARITY:g}. Export the net again with operator set 17 and fixed sizes, and report it."
        )
    return worst


def _renamed(graph: onnx.GraphProto, name: str, to: str | None = None) -> str:
    """Give a tensor another name everywhere, branches included; returns it."""
    inner = to or f"{name}/inner"

    def rename(part: onnx.GraphProto) -> None:
        for node in part.node:
            for names in (node.input, node.output):
                for i, one in enumerate(names):
                    if one == name:
                        names[i] = inner
            for attribute in node.attribute:
                for branch in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                    rename(branch)
        for value in (*part.input, *part.output):
            if value.name == name:
                value.name = inner

    rename(graph)
    return inner


def _said(value: onnx.ValueInfoProto) -> tuple[tuple[int, ...], str]:
    tensor = value.type.tensor_type
    return tuple(d.dim_value for d in tensor.shape.dim), helper.tensor_dtype_to_np_dtype(tensor.elem_type).name


def _value(name: str, shape: tuple[int, ...], dtype: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
