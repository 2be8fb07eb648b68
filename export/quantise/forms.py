"""INT8 in the three forms that boards take, each QDQ (opset 17, no foreign operators), and the proof of each form.

QOperator is never made: it gives wrong answers for these nets (docs/decisions/0002). One INT8 file does not suit all:
NVIDIA's parser refuses int32 biases and zero points, which CPUs need to be fast.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgeflock.calibration.foreign import adopted
from edgeflock.calibration.ranges import OUTPUT_MARGIN
from edgeflock.export.graph import finish
from edgeflock.export.quantise.rewrites import constants_of, norms_to_convolutions, strides_to_depth, sums_to_float
from edgeflock.runtime.errors import GateError

if TYPE_CHECKING:
    from onnxruntime.quantization.calibrate import TensorsData

_SHOWN = 5  # problems that an error lists
Q, DQ = "QuantizeLinear", "DequantizeLinear"

MOVERS = ("Concat", "Slice", "Split", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze")
"""Operators that only move values: on integers they move a quarter of the bytes."""


@dataclass(frozen=True)
class Form:
    """What is quantised, and how.

    Attributes
    ----------
    layers : tuple of str
        Operators that are quantised wherever they stand; empty for every operator there is.
    dense : tuple of str
        Operators that are layers in their place in a net without any of those; their outputs stay float.
    followers : tuple of str
        Operators that are quantised where all that they get comes from quantised ones, so that integers are handed on.
    carriers : tuple of str
        Operators that stay float between two quantised ones without breaking the chain: the engine fuses them.
    symmetric : bool
        S8 activations with zero point 0 and float biases, else U8 activations with a zero point and int32 biases.
    output_margin : float
        What `edgeflock.calibration.ranges.activation_ranges` adds to the range of an answer that is quantised.
    rewrites : tuple of callable
        Of `edgeflock.export.quantise.rewrites`: change a float graph, in place, into one that this form suits better.
    """

    layers: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()
    followers: tuple[str, ...] = ()
    carriers: tuple[str, ...] = ()
    symmetric: bool = False
    output_margin: float = 0.0
    rewrites: tuple[Callable[[onnx.ModelProto], None], ...] = ()

    def layers_of(self, graph: onnx.GraphProto) -> tuple[str, ...]:
        """The operators that are layers of this net."""
        return self.layers if any(node.op_type in self.layers for node in graph.node) else self.dense or self.layers


FORMS = {
    # What CPUs have integer kernels for. Dense layers of a net that convolves, global pooling, supports and heads stay
    # float: none of our nets gets faster with them (docs/quantisation.md), all lose SQNR.
    "int8": Form(
        ("Conv", "ConvTranspose"),
        ("Gemm", "MatMul"),
        ("MaxPool", "Relu", "LeakyRelu", "Clip", *MOVERS),
        rewrites=(strides_to_depth, sums_to_float),
    ),
    # A DSP must not see float: everything between the graph's inputs and outputs.
    "int8-qnn": Form(output_margin=OUTPUT_MARGIN, rewrites=(norms_to_convolutions,)),
    # What NVIDIA's parser fuses. The outputs of layers stay float up to where the next one quantises them, so that a
    # layer, its ReLU and the quantisation become one kernel.
    "int8-trt": Form(
        ("Conv", "ConvTranspose", "Gemm", "MatMul"),
        followers=("MaxPool", "Add"),
        carriers=("Relu", "Clip", "LeakyRelu"),
        symmetric=True,
    ),
}


def quantize(
    fp32: onnx.ModelProto, ranges: TensorsData, form: str, keep_float: Collection[str] = ()
) -> onnx.ModelProto:
    """Post-training quantisation to INT8 in QDQ form.

    In `int8` and `int8-trt` the node that gives an output stays float: in 8 bits its answer would end at the largest
    one of the calibration samples.

    Parameters
    ----------
    fp32 : onnx.ModelProto
        From `edgeflock.export.onnx.export_onnx`, or from elsewhere (`edgeflock.calibration.foreign.adopted`).
    ranges : TensorsData
        From `edgeflock.calibration.ranges.activation_ranges`, with samples as the net takes them.
    form : {"int8", "int8-qnn", "int8-trt"}
        Key of `FORMS`.
    keep_float : collection of str
        Operator types, nodes or name prefixes up to a "/" that stay float. `int8-qnn` has none.

    Raises
    ------
    GateError
        The net cannot take this form; names the nodes.
    """
    source = prepare(fp32, form)
    model = finish(insert(source, ranges, form, quantisable(source, form, keep_float)))
    problems = check_form(model, form, keep_float)
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise GateError(
            f"this net has no {form} form that a board should get: {'; '.join(problems[:_SHOWN])}{more}. Way "
            f"out: another form, or these layers in float (keep_float), where the form has any."
        )
    return model


def prepare(fp32: onnx.ModelProto, form: str) -> onnx.ModelProto:
    """Copy with the form's exact rewrites, a name for every node and a type for every tensor.

    `quantisable` and `insert` need them; the answers are those of the original up to the order of summation.
    """
    model = adopted(fp32)
    names: set[str] = set()
    for i, node in enumerate(model.graph.node):
        if not node.name or node.name in names:
            node.name = f"{node.op_type}_{i}"
        names.add(node.name)
    for rewrite in FORMS[form].rewrites:
        rewrite(model)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    # Spares QDQQuantizer a second inference through a file.
    helper.set_model_props(model, {"onnx.infer": "onnxruntime.quant"})
    return model


def quantisable(model: onnx.ModelProto, form: str, keep_float: Collection[str] = ()) -> list[str]:
    """Names of the nodes of a prepared net that a form quantises, in the order of the graph."""
    rules = FORMS[form]
    if not rules.layers:
        return [node.name for node in model.graph.node]
    constants = {i.name for i in model.graph.initializer}
    outputs = {o.name for o in model.graph.output}
    kept, chain, layers = _kept(keep_float), set[str](), rules.layers_of(model.graph)
    nodes = []
    for node in model.graph.node:
        handed_on = all(name in chain for name in node.input if name and name not in constants)
        if _stays_float(node, outputs, kept):
            continue
        if (node.op_type in layers and _has_weights(node, constants)) or (
            node.op_type in rules.followers and handed_on
        ):
            nodes.append(node.name)
            if node.op_type not in rules.dense:
                chain.update(node.output)
        elif node.op_type in rules.carriers and handed_on:
            chain.update(node.output)
    return nodes + (_feeders(model, set(nodes)) if rules.followers and not rules.symmetric else [])


def _feeders(model: onnx.ModelProto, takers: set[str]) -> list[str]:
    """What only joins and cuts the net's inputs for quantised layers."""
    feeders: list[str] = []
    users: dict[str, set[str]] = {}
    for node in reversed(model.graph.node):
        for name in node.input:
            users.setdefault(name, set()).add(node.name)
        if node.op_type in MOVERS and node.name not in takers and users.get(node.output[0], {""}) <= takers:
            takers.add(node.name)
            feeders.append(node.name)
    return feeders


def insert(source: onnx.ModelProto, ranges: TensorsData, form: str, nodes: Iterable[str]) -> onnx.ModelProto:
    """QDQ around these nodes of a prepared net, for `edgeflock.export.graph.finish` or a run."""
    from onnxruntime.quantization import QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import TensorsData

    rules, chosen = FORMS[form], set(nodes)
    model = onnx.ModelProto()
    model.CopyFrom(source)
    data = dict(ranges.items())  # QDQQuantizer changes the ranges that it is given
    data |= {node.output[0]: data[node.input[0]] for node in model.graph.node if node.op_type == "SpaceToDepth"}
    ends = {name for node in model.graph.node if node.name in chosen for name in (*node.input, *node.output)}
    data = {name: held for name, held in data.items() if name in ends}  # it works out a scale for each one
    options: dict[str, Any] = {"WeightSymmetric": True}
    if rules.dense:
        options |= {"OpTypesToExcludeOutputQuantization": list(rules.dense)}
    if rules.symmetric:
        options |= {"ActivationSymmetric": True, "QuantizeBias": False}
        options |= {"OpTypesToExcludeOutputQuantization": [*rules.layers, "Add"]}
    if not rules.layers:
        options |= {"ForceQuantizeNoInputCheck": True, "MinimumRealRange": 1e-4}  # as ONNX Runtime's QNN configuration
        options |= {"TensorQuantOverrides": _qnn_overrides(model)}
        # Without its Relu a Reshape would change the scale, which QNN does in float.
        options |= {"QDQKeepRemovableActivations": True}
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,  # the engine's exact path serves CPUs without VNNI at no cost in accuracy
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if rules.symmetric else QuantType.QUInt8,
        tensors_range=TensorsData(ranges.calibration_method, data),
        nodes_to_quantize=sorted(chosen),
        nodes_to_exclude=[],
        # An empty list of nodes would mean all of them, an empty list of operators means none.
        op_types_to_quantize=sorted({node.op_type for node in model.graph.node if node.name in chosen}),
        extra_options=options,
    )
    try:
        with _quiet():
            quantizer.quantize_model()
    except Exception as error:  # it raises whatever its code comes upon in a net that it was not written for
        raise GateError(
            f"this net has no {form} form: ONNX Runtime's quantiser ends with {type(error).__name__} "
            f"({' '.join(str(error).split())[:200]}). Way out: another form, or the net exported by "
            f"`edgeflock.export.onnx.export_onnx`."
        ) from error
    quantizer.model.topological_sort()
    del quantizer.model.model.metadata_props[:]
    return quantizer.model.model


def _qnn_overrides(model: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
    """Dense weights per tensor, sigmoids in 1/256: what QNN takes (onnxruntime's `QnnCompatibilityOverrides`)."""
    from onnxruntime.quantization import QuantType

    constants = {tensor.name for tensor in model.graph.initializer}
    overrides: dict[str, list[dict[str, Any]]] = {}
    for node in model.graph.node:
        if node.op_type in ("Gemm", "MatMul"):
            if node.input[1] in constants:
                overrides[node.input[1]] = [{"quant_type": QuantType.QInt8, "symmetric": True}]
            if node.input[0] in constants:  # QNN takes S8 on the left only where the right is S8 too
                overrides[node.input[0]] = [{"quant_type": QuantType.QUInt8, "symmetric": False}]
        elif node.op_type == "Sigmoid":
            overrides[node.output[0]] = [{"scale": np.array(1 / 256, np.float32), "zero_point": np.array(0, np.uint8)}]
    return overrides


@dataclass
class _Graph:
    """Where the tensors of a QDQ graph come from and go to."""

    model: onnx.ModelProto
    constants: Mapping[str, np.ndarray] = field(init=False)
    made_by: dict[str, onnx.NodeProto] = field(init=False)
    users: dict[str, list[onnx.NodeProto]] = field(init=False)

    def __post_init__(self) -> None:
        self.constants = constants_of(self.model)
        self.made_by = {name: node for node in self.model.graph.node for name in node.output}
        self.users = {}
        for node in self.model.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def dequantised(self, name: str) -> onnx.NodeProto | None:
        """The DequantizeLinear that gives a tensor."""
        node = self.made_by.get(name)
        return node if node is not None and node.op_type == DQ else None

    def has_weights(self, node: onnx.NodeProto) -> bool:
        """Whether the second input is a constant, quantised or not."""
        given = self.dequantised(node.input[1])
        return (node.input[1] if given is None else given.input[0]) in self.constants

    def scale(self, node: onnx.NodeProto) -> np.ndarray:
        """Of a QuantizeLinear or DequantizeLinear whose parameters are constants."""
        return self.constants[node.input[1]]

    def zero_point(self, node: onnx.NodeProto) -> np.ndarray:
        """Of a QuantizeLinear or DequantizeLinear whose parameters are constants."""
        return self.constants[node.input[2]]


def check_form(model: onnx.ModelProto, form: str, keep_float: Collection[str] = ()) -> list[str]:
    """What keeps a net from being in a form, node by node; empty where it is.

    Parameters
    ----------
    model : onnx.ModelProto
    form : {"int8", "int8-qnn", "int8-trt"}
    keep_float : collection of str
        As given to `quantize`: layers that may be float. Any other layer must be quantised.
    """
    rules, graph = FORMS[form], _Graph(model)
    foreign = {
        n.op_type for n in model.graph.node if n.domain or n.op_type.startswith("QLinear") or "Integer" in n.op_type
    }
    if foreign:
        return [f"expected QuantizeLinear and DequantizeLinear only, got {', '.join(sorted(foreign))}"]
    pairs = [n for n in model.graph.node if n.op_type in (Q, DQ)]
    variable = [n.name for n in pairs if len(n.input) < 3 or not {n.input[1], n.input[2]} <= set(graph.constants)]
    if variable:
        return [f"expected scales and zero points as constants, not so in {', '.join(variable)}"]
    outputs, kept = {o.name for o in model.graph.output}, _kept(keep_float if rules.layers else ())
    layers = [
        node
        for node in model.graph.node
        if node.op_type in (rules.layers_of(model.graph) or ("Conv", "ConvTranspose"))
        and not _stays_float(node, outputs if rules.layers else (), kept)
        and (node.op_type in ("Conv", "ConvTranspose") or graph.has_weights(node))
    ]
    problems = [] if layers else ["expected layers in INT8, got none"]
    for node in layers:
        problems += _layer_problems(graph, node, rules.symmetric)
    allowed = {np.dtype(np.int8)} if rules.symmetric else {np.dtype(np.uint8)}
    for node in pairs:
        zero = graph.zero_point(node)
        if node.input[0] not in graph.constants and zero.dtype not in allowed:
            problems.append(
                f"{node.name}: expected activations in {'S8' if rules.symmetric else 'U8'}, got {zero.dtype}"
            )
        if (rules.symmetric or zero.dtype in (np.int8, np.int32)) and zero.any():
            problems.append(f"{node.name}: expected zero point 0, got {zero.ravel()[np.argmax(np.abs(zero))]}")
    return problems + ([] if rules.layers else _float_inside(graph))


def _layer_problems(graph: _Graph, node: onnx.NodeProto, symmetric: bool) -> list[str]:
    """What keeps one layer from integer inputs, weights per channel and the bias of the form."""
    given, weight = (graph.dequantised(name) for name in node.input[:2])
    if given is None or weight is None:
        return [f"{node.name}: expected {node.op_type} in INT8, got float"]
    problems = []
    scales, values = graph.scale(weight), graph.constants.get(weight.input[0])
    if node.op_type in ("Conv", "ConvTranspose"):
        axis = 0 if node.op_type == "Conv" else 1
        given_axis = next((a.i for a in weight.attribute if a.name == "axis"), 1)
        if values is None or values.dtype != np.int8 or scales.shape != values.shape[axis : axis + 1]:
            problems.append(f"{node.name}: expected S8 weights with one scale per channel, got {scales.shape} scales")
        elif given_axis != axis:
            problems.append(f"{node.name}: expected the scales on axis {axis}, got axis {given_axis}")
    if len(node.input) > 2 and node.input[2]:
        bias = graph.dequantised(node.input[2])
        if symmetric and bias is not None:
            problems.append(f"{node.name}: expected a float bias, got a quantised one")
        elif not symmetric and (
            bias is None
            or graph.constants[bias.input[0]].dtype != np.int32
            or not np.allclose(graph.scale(bias), graph.scale(given) * scales, rtol=1e-5, atol=0)
        ):
            problems.append(f"{node.name}: expected an int32 bias with the scale of input times weights")
    return problems


def _float_inside(graph: _Graph) -> list[str]:
    """Nodes that would compute in float although all inputs and outputs of the net's nodes should be 8 bit."""
    typed = onnx.shape_inference.infer_shapes(graph.model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*typed.value_info, *typed.input, *typed.output]}
    problems = []
    for node in graph.model.graph.node:
        if node.op_type in (Q, DQ):
            continue
        got = [n for n in node.input if types.get(n) == TensorProto.FLOAT and graph.dequantised(n) is None]
        given = [n for n in node.output if types.get(n) != TensorProto.FLOAT]
        given += [n for n in set(node.output) - set(given) if {u.op_type for u in graph.users.get(n, [])} != {Q}]
        if got or given:
            problems.append(f"{node.name}: expected {node.op_type} in INT8, got {', '.join([*got, *given])} in float")
    return problems


def _kept(keep_float: Collection[str]) -> set[str]:
    return {kept.rstrip("/") for kept in keep_float}


def _stays_float(node: onnx.NodeProto, outputs: Collection[str], kept: set[str]) -> bool:
    if node.op_type in kept or any(name in outputs for name in node.output):
        return True
    return any(beginning in kept for beginning in accumulate(node.name.split("/"), "{}/{}".format))


def _has_weights(node: onnx.NodeProto, constants: Collection[str]) -> bool:
    """Whether the second input is a constant: a product of two activations is no layer."""
    return len(node.input) > 1 and node.input[1] in constants


@contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime logs a warning for each tensor that it leaves as it is, which is what is wanted."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
