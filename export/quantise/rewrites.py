"""Exact rewrites of a float graph, before it is quantised, into operators that integer engines do better.

The answers stay those of the original up to the order of summation. `edgeflock.export.quantise.forms.FORMS` says which
form gets which; what each brought is in docs/quantisation.md.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_PACKED = 4
"""Channels whose bytes an integer product takes at once; of fewer ONNX Runtime copies every byte (im2col)."""


def norms_to_convolutions(model: onnx.ModelProto) -> None:
    """Replace each batch norm that could not be folded by the depthwise 1x1 convolution that it is, in place.

    Every integer engine has that layer, with a scale for each channel; some DSPs have no BatchNormalization
    (Qualcomm's HTA, docs/decisions/0002), and on FADNet it costs 3 dB more.
    """
    held, shapes = constants_of(model), _shapes(model)
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            continue
        scale, bias, mean, variance = (held[name].astype(np.float64) for name in node.input[1:5])
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        scale = scale / np.sqrt(variance + epsilon)
        spatial = [1] * (len(shapes[node.input[0]]) - 2)
        weight = {
            f"{node.name}.weight": scale.reshape(-1, 1, *spatial),
            f"{node.name}.bias": bias - mean * scale,
        }
        model.graph.initializer.extend(numpy_helper.from_array(v.astype(np.float32), n) for n, v in weight.items())
        node.CopyFrom(
            helper.make_node(
                "Conv",
                [node.input[0], *weight],
                [node.output[0]],
                node.name,
                group=len(scale),
                kernel_shape=spatial,
            )
        )
    _drop_unused(model)


def strides_to_depth(model: onnx.ModelProto) -> None:
    """Replace each convolution of stride 2 over fewer than four channels by one of stride 1 over four times as many.

    y[i] = sum_k w[k] x[2 i + k - pad], and with k - pad = 2 a + p this is sum_a,p w[2 a + p + pad] x_p[i + a], where
    x_p are the even and the odd pixels: `SpaceToDepth`. So 5x5 over one channel becomes 3x3 over four. Integers come
    out bit for bit as they did, because all that is new is products with 0.
    """
    held, shapes = constants_of(model), _shapes(model)
    for node in list(model.graph.node):
        if node.op_type != "Conv" or node.input[1] not in held or node.input[0] not in shapes:
            continue
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        weight, (_, channels, *size), out = held[node.input[1]], shapes[node.input[0]], shapes[node.output[0]][2:]
        kept = given.get("group", 1), set(given.get("dilations", [1])), given.get("auto_pad", b"NOTSET")
        halved = given.get("strides") == [2, 2] and not any(n % 2 for n in size)
        if channels >= _PACKED or not halved or kept != (1, {1}, b"NOTSET"):
            continue
        pads = given.get("pads", [0] * 4)
        before = [-(-pad // 2) for pad in pads[:2]]
        # Zeros in front, so that a kernel begins at an even pixel, and behind, so that it ends at an odd one.
        front = [2 * a - pad for a, pad in zip(before, pads[:2], strict=True)]
        filled = np.pad(weight, [(0, 0)] * 2 + [(n, (n + k) % 2) for n, k in zip(front, weight.shape[2:], strict=True)])
        kernel = [k // 2 for k in filled.shape[2:]]
        split = filled.reshape(len(filled), channels, kernel[0], 2, kernel[1], 2).transpose(0, 3, 5, 1, 2, 4)
        split = np.ascontiguousarray(split.reshape(len(filled), 4 * channels, *kernel))
        after = [o + k - 1 - n // 2 - a for o, k, n, a in zip(out, kernel, size, before, strict=True)]
        name, depth = f"{node.name}/weight", f"{node.name}/depth"
        model.graph.initializer.append(numpy_helper.from_array(split, name))
        moved = helper.make_node("SpaceToDepth", [node.input[0]], [depth], depth, blocksize=2)
        convolved = helper.make_node(
            "Conv", [depth, name, *node.input[2:]], node.output, node.name, kernel_shape=kernel, pads=[*before, *after]
        )
        at = list(model.graph.node).index(node)
        node.CopyFrom(convolved)
        model.graph.node.insert(at, moved)
    _drop_unused(model)


def sums_to_float(model: onnx.ModelProto) -> None:
    """Replace each Add of two activations by the Sum that it is, which no engine makes an integer kernel of.

    ONNX Runtime fuses Add between DequantizeLinear and QuantizeLinear into QLinearAdd, whose roundings on Arm and x86
    are not the same (docs/board-checks.md); in float both give the same bits. Adds of whole numbers, such as the places
    in a volume that a warp reads, stay: Sum knows none.
    """
    held = constants_of(model)
    graph = onnx.shape_inference.infer_shapes(model).graph
    whole = {v.name for v in graph.value_info if v.type.tensor_type.elem_type in (TensorProto.INT64, TensorProto.INT32)}
    for node in model.graph.node:
        if node.op_type == "Add" and not held.keys() & set(node.input) and node.output[0] not in whole:
            node.op_type = "Sum"


def constants_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Initializers by name."""
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def _drop_unused(model: onnx.ModelProto) -> None:
    """Remove initializers that no node takes."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [i for i in model.graph.initializer if i.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
