"""3-D convolutions as 2-D ones: the same answers, whatever kernel, stride, padding and dilation."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn
from torch.nn import functional as F

from edgeflock.calibration.ranges import activation_ranges
from edgeflock.export.graph import predict
from edgeflock.export.nets import NETS
from edgeflock.export.onnx import check_parity, export_onnx
from edgeflock.export.quantise.forms import check_form, quantize
from edgeflock.export.quantise.planes import to_2d
from edgeflock.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

VOLUME_OPS = ("ConvTranspose", "Pad", "Resize")


@pytest.fixture(scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def exported(net, *shape, inputs=("volume",)):
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return export_onnx(net, dict.fromkeys(inputs, shape), ["flow"])


def volumes(*shape, count=2, inputs=("volume",)):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((count, *shape[1:]), dtype=np.float32) for name in inputs}


def assert_same(net, *shape, inputs=("volume",)):
    """The rewritten graph answers as torch does, and every convolution in it is 2-D."""
    model = to_2d(exported(net, *shape, inputs=inputs))
    check_parity(net, model, volumes(*shape, inputs=inputs))
    assert_2d(model)
    return model


def assert_2d(model):
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    assert {len(weights[node.input[1]]) for node in model.graph.node if node.op_type == "Conv"} == {4}
    assert not {node.op_type for node in model.graph.node} & set(VOLUME_OPS)


# --- convolutions


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("channels", [1, 2, 9])  # a reshape, planes, voxels
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        (4, 2, 1, 1),  # LDR
        (3, 1, 1, 1),  # VTN, VoxelMorph
        (3, 2, 1, 1),  # VTN
        (2, 1, 0, 1),  # the affine heads
        (1, 1, 0, 1),
        (1, 2, 0, 1),
        (5, 3, 2, 1),
        (2, 3, 0, 1),  # voxels that no tap sees
        (3, 1, 2, 2),
        ((2, 3, 4), (1, 2, 3), (1, 0, 2), (2, 1, 1)),
    ],
)
def test_convolution_is_the_same_in_2d(kernel, stride, padding, dilation, channels, bias):
    net = nn.Conv3d(channels, 3, kernel, stride, padding, dilation, bias=bias)
    assert_same(net, 1, channels, 7, 8, 9)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("channels", [2, 9])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding"),
    [
        (4, 2, 1, 0),  # LDR, VTN
        (2, 2, 0, 0),
        (3, 2, 1, 1),
        (3, 2, 1, 0),
        (3, 1, 1, 0),
        (2, 3, 0, 0),  # gaps between the taps
        (2, 3, 1, 2),
        (5, 2, 4, 1),
        (7, 3, 2, 0),
        ((2, 3, 4), (1, 2, 3), (1, 0, 2), (0, 1, 2)),
    ],
)
def test_transposed_convolution_is_the_same_in_2d(kernel, stride, padding, output_padding, channels, bias):
    net = nn.ConvTranspose3d(channels, 3, kernel, stride, padding, output_padding, bias=bias)
    assert_same(net, 1, channels, 4, 5, 6)


def test_no_product_with_the_zeros_between_voxels():
    """A deconvolution 4^3/2 keeps its 8 products for each voxel that it writes, but for the border."""
    model = assert_same(nn.ConvTranspose3d(8, 3, 4, 2, 1, bias=False), 1, 8, 16, 16, 16)
    shapes = {v.name: v.type.tensor_type.shape for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    products = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            weights = next(t for t in model.graph.initializer if t.name == node.input[1])
            n, _, h, w = (d.dim_value for d in shapes[node.output[0]].dim)
            products += n * h * w * int(np.prod(weights.dims))
    assert products == 32**3 * 8 * 3 * 8 * (17 / 16) ** 3


# --- graphs


class Skips(nn.Module):
    """What registration nets are made of, and something that is none of it: a mean over the volume."""

    def __init__(self):
        super().__init__()
        self.down, self.deep = nn.Conv3d(2, 8, 4, 2, 1), nn.Conv3d(8, 8, 3, 1, 1)
        self.up, self.up_flow = nn.ConvTranspose3d(8, 8, 4, 2, 1), nn.ConvTranspose3d(8, 3, 4, 2, 1)
        self.flow = nn.Conv3d(2 + 8 + 3, 3, 3, 1, 1)

    def forward(self, fixed, moving):
        both = torch.cat([fixed, moving], 1)
        x = F.relu(self.down(both))
        x = F.leaky_relu(self.deep(x), 0.1) + x.mean((2, 3, 4), keepdim=True)
        return self.flow(torch.cat([both, F.leaky_relu(self.up(x), 0.1), self.up_flow(x)], 1))


def test_skips_and_foreign_operators_are_kept():
    model = assert_same(Skips(), 1, 1, 8, 10, 12, inputs=("fixed", "moving"))
    assert "ReduceMean" in {node.op_type for node in model.graph.node}


class Shared(nn.Module):
    """A transposed convolution whose raw and rectified values are both used, and one that is itself an output."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose3d(2, 3, 2, 2)

    def forward(self, volume):
        x = self.up(volume)
        return torch.cat([x, F.relu(x)], 1)


def test_an_activation_stays_where_its_input_is_used_twice():
    assert_same(Shared(), 1, 2, 3, 3, 3)


def ldr(size):
    torch.manual_seed(0)
    net = NETS["ldr"]()
    nn.init.normal_(net.flow.weight, std=0.01)  # it starts with no flow at all
    return export_onnx(net, dict.fromkeys(("fixed", "moving"), (1, 1, size, size, size)), ["flow"])


def test_ldr_is_the_same_in_2d_and_its_layers_keep_their_names():
    model = ldr(32)
    flat = to_2d(model)
    feeds = volumes(1, 1, 32, 32, 32, inputs=("fixed", "moving"))
    expected = predict(model, feeds)["flow"]
    error = np.abs(predict(flat, feeds)["flow"] - expected) / np.maximum(1, np.abs(expected))
    assert error.max() < 1e-5
    assert_2d(flat)
    names = [[node.name for node in m.graph.node if node.op_type in ("Conv", "ConvTranspose")] for m in (model, flat)]
    assert names[0] == names[1], "settings that name layers must fit both forms"
    assert flat.graph.input == model.graph.input
    assert flat.graph.output == model.graph.output


def test_every_layer_of_the_2d_form_runs_in_int8():
    flat, feeds = to_2d(ldr(16)), volumes(1, 1, 16, 16, 16, inputs=("fixed", "moving"))
    quantised = quantize(flat, activation_ranges(flat, feeds, "minmax"), "int8")
    assert check_form(quantised, "int8") == []
    expected, got = predict(flat, feeds)["flow"], predict(quantised, feeds)["flow"]
    assert 10 * np.log10(np.mean(expected**2) / np.mean((got - expected) ** 2)) > 20  # dB


def test_the_original_is_left_as_it_is():
    model = exported(nn.Conv3d(2, 3, 3), 1, 2, 5, 5, 5)
    before = model.SerializeToString()
    to_2d(model)
    assert model.SerializeToString() == before


def test_2d_nets_pass_unchanged():
    model = exported(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()), 1, 2, 5, 5)
    flat = to_2d(model)
    assert [node.op_type for node in flat.graph.node] == ["Conv", "Relu"]


# --- what is refused


def single(kind="Conv", shape=(1, 2, 6, 6, 6), weights=(2, 2, 3, 3, 3), computed=False, **attributes):
    """A graph of one convolution, for what torch does not export."""
    values = np.ones(weights, np.float32)
    start = [] if computed else [onnx.numpy_helper.from_array(values, "w")]
    inputs = [helper.make_tensor_value_info("x", 1, shape)]
    inputs += [helper.make_tensor_value_info("w", 1, weights)] if computed else []
    node = helper.make_node(kind, ["x", "w"], ["y"], "layer", **attributes)
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, None)], start)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (single(group=2, weights=(2, 1, 3, 3, 3)), "2 groups"),
        (single(auto_pad="SAME_UPPER"), "auto_pad SAME_UPPER"),
        (single(computed=True), "computed weights"),
        (single(shape=(2, 2, 6, 6, 6)), "a batch of 2"),
        (single(shape=("N", 2, 6, 6, 6)), "open shape"),
        (single("ConvTranspose", dilations=[2, 2, 2]), "dilated"),
        (single("ConvTranspose", pads=[3, 0, 0, 0, 0, 0]), "padded by"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_what_cannot_be_rewritten_is_refused_with_the_reason(model, reason):
    with pytest.raises(InputError, match=reason):
        to_2d(model)
