"""Half precision: half the weights, float32 at the ends and where float16 would cost the answer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from edgeflock.export.graph import finish, predict
from edgeflock.export.nets.spatial import warp
from edgeflock.export.onnx import export_onnx
from edgeflock.export.quantise.fp16 import to_fp16


class Net(nn.Module):
    """A norm of raw pixels, convolutions, a softmax over cells; the attention is used inside and given out."""

    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(1, 1)
        self.conv = nn.Conv2d(1, 16, 3, 2, 1)
        self.deep = nn.Conv2d(16, 16, 3, 2, 1)
        self.score = nn.Conv2d(16, 1, 1)

    def forward(self, image):
        x = F.relu(self.deep(F.relu(self.conv(self.norm(image)))))
        attention = self.score(x).flatten(1).softmax(1)
        return (x.flatten(2) * attention[:, None]).sum(2), self.score(x)


class Warped(nn.Module):
    """A volume moved by a flow that a convolution gives."""

    def __init__(self):
        super().__init__()
        self.flow = nn.Conv3d(1, 3, 3, padding=1)

    def forward(self, moving):
        return warp(moving, 0.01 * self.flow(moving))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return export_onnx(Net(), {"image": (1, 1, 160, 320)}, ["features", "score"])


def types_of(model):
    """Element type of every tensor."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.input, *graph.output]}
    return types | {i.name: i.data_type for i in graph.initializer}


def test_ends_are_float32_and_the_weights_half_the_size(net):
    half = to_fp16(net)
    assert {v.type.tensor_type.elem_type for v in [*half.graph.input, *half.graph.output]} == {TensorProto.FLOAT}
    assert [o.name for o in half.graph.output] == ["features", "score"]
    assert {i.data_type for i in half.graph.initializer if len(i.dims) == 4} == {TensorProto.FLOAT16}
    assert (half.ir_version, [(o.domain, o.version) for o in half.opset_import]) == (8, [("", 17)])


def test_it_answers_as_before(net):
    rng = np.random.default_rng(0)
    feeds = {"image": rng.integers(0, 256, (4, 1, 160, 320), np.uint8)}
    expected, got = predict(net, feeds), predict(to_fp16(net), feeds)
    for name, answer in expected.items():
        assert np.abs(got[name] - answer).max() < 2e-3 * np.abs(answer).max()


def test_convolutions_are_half_and_norms_and_softmaxes_are_not(net):
    half = to_fp16(net)
    types = types_of(half)
    found = {}
    for node in half.graph.node:
        if node.op_type != "Cast":
            found.setdefault(node.op_type, set()).update(types[name] for name in node.output)
    assert found["Conv"] == {TensorProto.FLOAT16}
    # The sum of the squares of 160 x 320 pixels is 50,000 times what float16 can hold.
    assert found["Sub"] == found["Div"] == found["Sqrt"] == found["ReduceMean"] == {TensorProto.FLOAT}
    assert found["Softmax"] == found["ReduceSum"] == {TensorProto.FLOAT}


def test_what_takes_float_gets_it_unrounded(net):
    """The norm reads the graph's input itself, not a float16 copy of it."""
    half = to_fp16(net)
    readers = {node.op_type for node in half.graph.node if "image" in node.input}
    assert readers == {"ReduceMean", "Sub"}


def test_precision_changes_at_as_few_places_as_can_be(net):
    casts = [node for node in to_fp16(net).graph.node if node.op_type == "Cast"]
    assert len({(node.input[0], node.attribute[0].i) for node in casts}) == len(casts)
    made_by = {name: node.op_type for node in to_fp16(net).graph.node for name in node.output}
    assert not [node.name for node in casts if made_by.get(node.input[0]) == "Cast"]


def test_positions_in_a_volume_are_not_rounded():
    """At 100 voxels float16 knows sixteenths only."""
    torch.manual_seed(0)
    model = export_onnx(Warped(), {"moving": (1, 1, 4, 4, 128)}, ["warped"])
    ramp = np.broadcast_to(np.linspace(0, 1, 128, dtype=np.float32) * 10, (1, 1, 4, 4, 128))
    expected, got = (predict(m, {"moving": ramp})["warped"] for m in (model, to_fp16(model)))
    assert np.abs(got - expected).max() < 1e-3  # a thirty-second of a voxel of this ramp is 2.5e-3


@pytest.mark.parametrize("factor", [1e6, 1e-9])
def test_constants_beyond_float16_stay_float(factor):
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "factor"], ["scaled"], "scale"),
            helper.make_node("Mul", ["scaled", "back"], ["y"], "back"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [
            numpy_helper.from_array(np.full(4, value, np.float32), name)
            for name, value in (("factor", factor), ("back", 1 / factor))
        ],
    )
    model = finish(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    x = np.array([[1, 2, 3, 4]], np.float32)
    np.testing.assert_allclose(predict(to_fp16(model), {"x": x})["y"], x, rtol=1e-3)


def test_more_may_stay_float_by_operator_or_name(net):
    def kinds(keep):
        half = to_fp16(net, keep)
        types = types_of(half)
        return [types[node.output[0]] for node in half.graph.node if node.op_type == "Conv"]

    assert kinds(["Conv"]) == [TensorProto.FLOAT] * len(kinds([]))
    [first, *_] = [node.name for node in net.graph.node if node.op_type == "Conv"]
    assert kinds([first])[:2] == [TensorProto.FLOAT, TensorProto.FLOAT16]


def test_nvidias_parser_and_builder_take_it(net):
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.Severity.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(to_fp16(net).SerializeToString())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    assert builder.build_serialized_network(network, config) is not None
