"""ONNX nets from elsewhere, brought into the form that calibration and quantising read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeflock.runtime.errors import InputError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

OLDEST, RAISED = 13, 17
"""Operator set from which on weights can be quantised by channel, and the one that older nets are raised to."""


def adopted(model: ModelProto) -> ModelProto:
    """Copy in the form that `edgeflock.export.onnx.export_onnx` gives a net; the same for the same bytes.

    * Constant nodes, and Identity nodes of constants, become initializers, as ONNX Runtime's quantiser wants weights.
    * Initializers are no longer inputs, as they were before IR 4.
    * A bias (1, N) of a Gemm becomes (N,): ONNX Runtime's quantiser ends with an error at any other.
    * A bias that several layers share gets a copy for each: in INT8 its scale is the layer's.
    * An operator set before 13 becomes 17.
    * Shapes that follow from constants are filled in.

    Raises
    ------
    InputError
        The net's operator set is too old to be raised, or its graph makes no sense.
    """
    import onnx
    import onnx.version_converter

    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        tensor = _constant(node, constants)
        if tensor is None or node.output[0] in outputs:
            nodes.append(node)
        else:
            constants[node.output[0]] = tensor
    biases: set[str] = set()
    for node in nodes:
        if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2] in constants:
            bias = constants[node.input[2]]
            if len(bias.dims) == 2 and bias.dims[0] == 1:
                row = onnx.TensorProto()
                row.CopyFrom(bias)
                row.name = f"{bias.name}_row"
                del row.dims[:1]
                constants[row.name], node.input[2] = row, row.name
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and len(node.input) > 2 and node.input[2] in constants:
            if node.input[2] in biases:
                copy = onnx.TensorProto()
                copy.CopyFrom(constants[node.input[2]])
                copy.name = f"{node.input[2]}_of_{node.output[0]}"
                constants[copy.name], node.input[2] = copy, copy.name
            biases.add(node.input[2])
    inputs = [value for value in graph.input if value.name not in constants]
    tensors = list(constants.values())
    for part, content in ((graph.node, nodes), (graph.input, inputs), (graph.initializer, tensors)):
        kept = [type(item).FromString(item.SerializeToString()) for item in content]
        del part[:]
        part.extend(kept)
    try:
        made.ir_version = max(made.ir_version, 4)  # the first whose initializers are no inputs
        version = next((opset.version for opset in made.opset_import if opset.domain in ("", "ai.onnx")), RAISED)
        if version < OLDEST:
            made = onnx.version_converter.convert_version(made, RAISED)
        return onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)
    except Exception as error:  # onnx's own classes have no common base
        raise InputError(
            f"expected an ONNX net of operator set {OLDEST} or newer whose shapes fit, got one of operator set "
            f"{version}, which onnx {onnx.__version__} does not take ({' '.join(str(error).split())[:200]}): export it "
            f"again with opset_version={RAISED}, fixed sizes, batch 1 and no branches (If)."
        ) from None


def _constant(node: NodeProto, known: dict[str, TensorProto]) -> TensorProto | None:
    """The tensor that a node gives, named after its output, where that is a constant."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    if node.op_type == "Identity" and node.input[0] in known:
        tensor = TensorProto()
        tensor.CopyFrom(known[node.input[0]])
    elif node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    else:
        attribute = node.attribute[0]
        if attribute.name == "value":
            tensor = TensorProto()
            tensor.CopyFrom(attribute.t)
        elif attribute.name in ("value_float", "value_floats"):
            value = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            tensor = numpy_helper.from_array(np.asarray(value, np.float32))
        elif attribute.name in ("value_int", "value_ints"):
            value = attribute.i if attribute.name == "value_int" else list(attribute.ints)
            tensor = numpy_helper.from_array(np.asarray(value, np.int64))
        else:
            return None
    tensor.name = node.output[0]
    return tensor
