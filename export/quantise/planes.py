"""3-D nets as 2-D ones: an exact rewrite of an ONNX graph, for engines whose integer kernels are two-dimensional.

ONNX Runtime has no integer 3-D transposed convolution and a slow 3-D convolution, a Hexagon v66 has neither
(docs/decisions/0005), but every engine has a good INT8 `Conv` of images. So a volume becomes a batch of its slices:

* A convolution of depth k becomes a convolution of images that sees k slices stacked as channels.
* A transposed convolution of stride s becomes a convolution that gives, for each voxel it reads, the s^3 voxels that it
  writes as channels, which are then put in place: no product with the zeros between the voxels (sub-pixel convolution,
  Shi et al., CVPR 2016). The nonlinearity that follows is applied before the voxels are moved.

Weights, parameters and multiplications stay the same but for the border. What is moved between convolutions is moved
voxel by voxel with channels last, which is how integer kernels lay out their data, so that no engine has to transpose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from edgeflock.export.graph import finish
from edgeflock.runtime.errors import InputError

VOLUME, PLANES, VOXELS = "(1, C, D, H, W)", "(D, C, H, W)", "(D, H, W, C)"
"""Layouts in which the rewritten graph holds a tensor: as the original has it, and one image per slice of the depth."""

_FEW_CHANNELS = 8
"""Below it planes are moved rather than voxels: one to seven bytes in a row are copied slowly."""

_ELEMENTWISE = ("Relu", "LeakyRelu")


def to_2d(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite all 3-D convolutions and transposed convolutions of a graph into 2-D convolutions.

    Inputs, outputs and the names of the convolutions stay; other operators are kept as they are. The answers are those
    of the original up to the order of summation.

    Parameters
    ----------
    model : onnx.ModelProto
        Static shapes, batch 1, opset 13 or newer; it is left as it is.

    Returns
    -------
    onnx.ModelProto
        Made of Conv, Concat, Slice, Reshape and Transpose where the original had 3-D convolutions; IR 8.

    Raises
    ------
    InputError
        A 3-D convolution has groups, `auto_pad` or computed weights, a transposed one is dilated or
        padded by more than its kernel, or a shape is open or of more than one volume.
    """
    return _Rewrite(model).run()


class _Rewrite:
    """One pass over a graph; `layouts` holds under each original tensor the new tensors that carry its values."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = shape_inference.infer_shapes(model, data_prop=True)
        graph = self.model.graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.shapes = {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in [*graph.input, *graph.value_info, *graph.output]
        }
        uses = Counter(name for node in graph.node for name in node.input) + Counter(o.name for o in graph.output)
        self.activations = {
            node.input[0]: node for node in graph.node if node.op_type in _ELEMENTWISE and uses[node.input[0]] == 1
        }
        self.layouts: dict[str, dict[str, str]] = {}
        self.padded: dict[tuple[str, int, int], str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.new_constants: list[onnx.TensorProto] = []

    def run(self) -> onnx.ModelProto:
        graph = self.model.graph
        for node in graph.node:
            if node.output[0] in self.layouts:  # an activation that went with its transposed convolution
                continue
            if node.op_type in ("Conv", "ConvTranspose") and len(self._shape(node.output[0])) == 5:
                (self._conv if node.op_type == "Conv" else self._transposed)(node)
            elif node.op_type in _ELEMENTWISE and node.input[0] in self.layouts:
                layout, tensor = next(iter(self.layouts[node.input[0]].items()))
                self.layouts[node.output[0]] = {layout: self._add(node, [tensor])}
            elif node.op_type == "Concat" and len(self._shape(node.output[0])) == 5 and _attributes(node)["axis"] == 1:
                layout = self._moved_as(node.output[0])
                parts = [self._in(layout, name) for name in node.input]
                self.layouts[node.output[0]] = {layout: self._add(node, parts, axis=1 if layout == PLANES else 3)}
            else:
                kept = onnx.NodeProto()
                kept.CopyFrom(node)
                kept.input[:] = [self._in(VOLUME, name) if name in self.layouts else name for name in node.input]
                self.nodes.append(kept)
        names = {self._in(VOLUME, out.name): out.name for out in graph.output if out.name in self.layouts}
        for node in self.nodes:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        used = {name for node in self.nodes for name in node.input}
        constants = [tensor for tensor in graph.initializer if tensor.name in used] + self.new_constants
        new = helper.make_graph(self.nodes, graph.name, graph.input, graph.output, constants)
        return finish(helper.make_model(new, opset_imports=self.model.opset_import))

    # --- convolutions

    def _conv(self, node: onnx.NodeProto) -> None:
        weights, bias, attributes = self._read(node)
        rank = weights.ndim - 2
        pads = attributes.get("pads", [0] * 2 * rank)
        strides = attributes.get("strides", [1] * rank)
        dilations = attributes.get("dilations", [1] * rank)
        depth = self._shape(node.output[0])[2]
        tensor = self._convolve(node, weights, bias, pads[:rank], pads[rank:], strides, dilations, depth)
        self.layouts[node.output[0]] = {PLANES: tensor}

    def _transposed(self, node: onnx.NodeProto) -> None:
        """y[s i + r - p] = sum_t x[i - t] w[s t + r]: slot i of the convolution gives the s outputs r = 0 .. s - 1."""
        weights, bias, attributes = self._read(node)
        inputs, channels, *kernel = weights.shape
        strides, pads = attributes.get("strides", [1] * 3), attributes.get("pads", [0] * 6)
        sizes, wanted = self._shape(node.input[0])[2:], self._shape(node.output[0])[2:]
        if any(d != 1 for d in attributes.get("dilations", [])):
            raise InputError(f"'{node.name}' is a dilated transposed convolution; only dilation 1 is rewritten.")
        if any(p >= k for p, k in zip(pads, kernel * 2, strict=True)):
            raise InputError(f"'{node.name}' is padded by {pads}, its kernel {kernel} allows less than its size.")

        taps = [-(-k // s) for k, s in zip(kernel, strides, strict=True)]
        first = [p // s for p, s in zip(pads, strides, strict=False)]
        last = [(p + w - 1) // s for p, w, s in zip(pads, wanted, strides, strict=False)]
        slots = [b - a + 1 for a, b in zip(first, last, strict=True)]
        before = [t - 1 - a for t, a in zip(taps, first, strict=True)]
        after = [b + 1 - size for b, size in zip(last, sizes, strict=True)]

        filled = np.pad(weights, [(0, 0)] * 2 + [(0, t * s - k) for t, s, k in zip(taps, strides, kernel, strict=True)])
        split = filled.reshape(inputs, channels, *(n for pair in zip(taps, strides, strict=True) for n in pair))
        split = split[:, :, ::-1, :, ::-1, :, ::-1].transpose(3, 5, 7, 1, 0, 2, 4, 6)  # r, r, r, C', C, t, t, t
        phases = int(np.prod(strides))
        subpixel = split.reshape(phases * channels, inputs, *taps)
        ones = [1, 1, 1]
        bias = None if bias is None else np.tile(bias, phases)
        tensor = self._convolve(node, subpixel, bias, before, after, ones, ones, slots[0])

        output = node.output[0]
        if activation := self.activations.get(output):
            tensor, output = self._add(activation, [tensor]), activation.output[0]
        # (D, H, W, r r r C) -> (D r, H r, W r, C), with what lies side by side in a row moved as one.
        tensor = self._new("Transpose", node, [tensor], perm=[0, 2, 3, 1])
        tensor = self._reshape(node, tensor, [*slots, strides[0], strides[1], strides[2] * channels])
        tensor = self._new("Transpose", node, [tensor], perm=[0, 3, 1, 4, 2, 5])
        tensor = self._reshape(node, tensor, [*(n * s for n, s in zip(slots, strides, strict=True)), channels])
        crop = [p - a * s for p, a, s in zip(pads, first, strides, strict=False)]
        if crop != [0, 0, 0] or any(n * s != w for n, s, w in zip(slots, strides, wanted, strict=True)):
            tensor = self._slice(node, tensor, crop, [c + w for c, w in zip(crop, wanted, strict=True)], [0, 1, 2])
        self.layouts[output] = {VOXELS: tensor}

    def _read(self, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
        """Weights, bias and attributes of a 3-D convolution that can be rewritten."""
        attributes = _attributes(node)
        problems = []
        if missing := [name for name in node.input[1:] if name and name not in self.constants]:
            problems.append(f"computed weights ({', '.join(missing)})")
        if attributes.get("group", 1) != 1:
            problems.append(f"{attributes['group']} groups")
        if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
            problems.append(f"auto_pad {attributes['auto_pad'].decode()}")
        for name in (node.input[0], node.output[0]):
            if self._shape(name)[0] != 1:
                problems.append(f"a batch of {self._shape(name)[0]}")
        if problems:
            raise InputError(
                f"'{node.name}' has {' and '.join(dict.fromkeys(problems))}; a 3-D convolution can be made 2-D only "
                "with constant weights, one group, explicit padding and batch 1. Export it so, or keep the net 3-D."
            )
        weights, *bias = (numpy_helper.to_array(self.constants[name]) for name in node.input[1:] if name)
        return weights, bias[0] if bias else None, attributes

    def _convolve(
        self,
        node: onnx.NodeProto,
        weights: np.ndarray,
        bias: np.ndarray | None,
        before: Sequence[int],
        after: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int],
        depth: int,
    ) -> str:
        """3-D convolution of the input of `node` to `depth` slices, as a 2-D one; weights (C', C, k, k, k)."""
        stack = self._stack(node, weights.shape[2], strides[0], dilations[0], before[0], after[0], depth)
        weights = weights.transpose(0, 2, 1, 3, 4).reshape(len(weights), -1, *weights.shape[3:])
        inputs = [stack, self._constant(node, weights), *([] if bias is None else [self._constant(node, bias)])]
        pads = [*before[1:], *after[1:]]
        size = weights.shape[2:]
        return self._add(node, inputs, kernel_shape=size, pads=pads, strides=strides[1:], dilations=dilations[1:])

    def _stack(
        self, node: onnx.NodeProto, taps: int, stride: int, dilation: int, before: int, after: int, depth: int
    ) -> str:
        """Planes (depth, taps * C, H, W): for each output slice the slices that it sees."""
        name = node.input[0]
        if (taps, stride, before, after) == (1, 1, 0, 0):
            return self._in(PLANES, name)
        layout = self._moved_as(name)
        tensor = self._in(layout, name)
        if (before or after) and (name, before, after) not in self.padded:
            _, channels, _, *plane = self._shape(name)
            shape = (channels, *plane) if layout == PLANES else (*plane, channels)
            # Not Pad: ONNX Runtime would pad in float and quantise again.
            zeros = [[self._constant(node, np.zeros((n, *shape), np.float32))] if n else [] for n in (before, after)]
            parts = [*zeros[0], tensor, *zeros[1]]
            self.padded[name, before, after] = self._new("Concat", node, parts, axis=0)
        tensor = self.padded.get((name, before, after), tensor)
        reach = (depth - 1) * stride + 1
        slices = [self._slice(node, tensor, [t * dilation], [t * dilation + reach], [0], [stride]) for t in range(taps)]
        if layout == PLANES:
            return self._new("Concat", node, slices, axis=1)
        return self._new("Transpose", node, [self._new("Concat", node, slices, axis=3)], perm=[0, 3, 1, 2])

    # --- layouts

    def _moved_as(self, name: str) -> str:
        return PLANES if self._shape(name)[1] < _FEW_CHANNELS else VOXELS

    def _in(self, layout: str, name: str) -> str:
        """The original tensor `name` in a layout, made by a transpose where the graph does not have it yet."""
        have = self.layouts.setdefault(name, {VOLUME: name})
        if layout in have:
            return have[layout]
        batch, channels, *size = self._shape(name)
        if batch != 1:
            raise InputError(f"'{name}' is a batch of {batch} volumes; 3-D nets are rewritten for batch 1.")
        if layout == VOXELS:
            tensor = self._new("Transpose", name, [self._in(PLANES, name)], perm=[0, 2, 3, 1])
        elif layout == PLANES and VOXELS in have:
            tensor = self._new("Transpose", name, [have[VOXELS]], perm=[0, 3, 1, 2])
        elif layout == PLANES:
            swapped = have[VOLUME]
            if channels != 1:
                swapped = self._new("Transpose", name, [swapped], perm=[0, 2, 1, 3, 4])
            tensor = self._reshape(name, swapped, [size[0], channels, *size[1:]])
        else:
            perm = [3, 0, 1, 2] if VOXELS in have else [1, 0, 2, 3]
            tensor = self._new("Transpose", name, [have.get(VOXELS) or have[PLANES]], perm=perm)
            tensor = self._reshape(name, tensor, [1, channels, *size])
        have[layout] = tensor
        return tensor

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = self.shapes.get(name, ())
        if not shape or min(shape) < 1:
            raise InputError(f"'{name}' has the open shape {shape or '?'}: export the net with fixed sizes.")
        return shape

    # --- nodes

    def _add(self, node: onnx.NodeProto, inputs: Sequence[str], **attributes: Any) -> str:
        """The node under its own name, with new inputs; a convolution of either kind becomes a `Conv`."""
        kind = "Conv" if node.op_type == "ConvTranspose" else node.op_type
        name = node.name or node.output[0]
        output = f"{node.output[0]}/2d"
        self.nodes.append(helper.make_node(kind, inputs, [output], name, **(attributes or _attributes(node))))
        return output

    def _new(self, kind: str, origin: onnx.NodeProto | str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{origin if isinstance(origin, str) else origin.name or origin.output[0]}/{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def _reshape(self, origin: onnx.NodeProto | str, tensor: str, shape: Sequence[int]) -> str:
        return self._new("Reshape", origin, [tensor, self._constant(origin, np.array(shape, np.int64))])

    def _slice(self, origin: onnx.NodeProto, tensor: str, *begin_end_axes_steps: Sequence[int]) -> str:
        bounds = [self._constant(origin, np.array(values, np.int64)) for values in begin_end_axes_steps]
        return self._new("Slice", origin, [tensor, *bounds])

    def _constant(self, origin: onnx.NodeProto | str, values: np.ndarray) -> str:
        name = f"{origin if isinstance(origin, str) else origin.name or origin.output[0]}/{len(self.new_constants)}"
        self.new_constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
