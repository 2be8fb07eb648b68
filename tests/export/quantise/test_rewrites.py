"""Exact rewrites: other operators, the same answers."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgeflock.export.graph import predict
from edgeflock.export.onnx import export_onnx
from edgeflock.export.quantise.rewrites import strides_to_depth, sums_to_float


def rewritten(net, channels, size, rewrite):
    """Operators of a net after a rewrite, having held its answers to those before."""
    torch.manual_seed(0)
    feeds = {"x": np.random.default_rng(0).normal(size=(2, channels, *size)).astype(np.float32)}
    before = export_onnx(net.eval(), {"x": (1, channels, *size)}, ["y"])
    after = onnx.ModelProto()
    after.CopyFrom(before)
    rewrite(after)
    onnx.checker.check_model(after, full_check=True)
    np.testing.assert_allclose(predict(after, feeds)["y"], predict(before, feeds)["y"], rtol=0, atol=2e-6)
    return [node.op_type for node in after.graph.node]


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7, (3, 5), (5, 2)])
@pytest.mark.parametrize("padding", [0, 1, (1, 0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_strided_convolution_of_few_channels_becomes_a_dense_one_over_its_pixels_phases(channels, padding, kernel):
    largest = np.max(np.array(kernel)) // 2
    padding = tuple(min(p, largest) for p in np.broadcast_to(padding, 2).tolist())
    net = nn.Conv2d(channels, 8, kernel, 2, padding)
    assert rewritten(net, channels, (20, 26), strides_to_depth) == ["SpaceToDepth", "Conv"]


@pytest.mark.parametrize("pads", [(1, 2, 1, 2), (0, 1, 0, 1), (2, 1, 1, 0)])
def test_uneven_padding_is_kept(pads):
    net = nn.Sequential(nn.ZeroPad2d(pads), nn.Conv2d(1, 8, 5, 2))
    assert rewritten(net, 1, (24, 24), strides_to_depth) == ["SpaceToDepth", "Conv"]


@pytest.mark.parametrize(
    ("net", "channels", "size"),
    [
        (nn.Conv2d(4, 8, 3, 2, 1), 4, (20, 20)),
        (nn.Conv2d(1, 8, 3, 1, 1), 1, (20, 20)),
        (nn.Conv2d(1, 8, 3, (2, 1), 1), 1, (20, 20)),
        (nn.Conv2d(1, 8, 3, 2, 1), 1, (21, 20)),
        (nn.Conv2d(1, 8, 3, 2, 2, dilation=2), 1, (20, 20)),
        (nn.Conv2d(2, 8, 3, 2, 1, groups=2), 2, (20, 20)),
        (nn.Conv3d(1, 8, 3, 2, 1), 1, (8, 8, 8)),
    ],
    ids=["four channels", "stride 1", "stride 2 and 1", "odd size", "dilated", "groups", "volume"],
)
def test_other_convolutions_stay(net, channels, size):
    assert rewritten(net, channels, size, strides_to_depth) == ["Conv"]


class Shared(nn.Module):
    """Two strided convolutions of one weight, and a constant that is added."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 5, 2, 2)

    def forward(self, x):
        return self.conv(x) + self.conv(x * 0.5) + 0.25


def test_weights_that_layers_share_and_sums_with_constants_are_left():
    assert rewritten(Shared(), 1, (20, 20), strides_to_depth).count("SpaceToDepth") == 2
    kinds = rewritten(Shared(), 1, (20, 20), sums_to_float)
    assert (kinds.count("Sum"), kinds.count("Add")) == (1, 1)


class Places(nn.Module):
    """Voxels read at places that are added up, as a warp in a cascade does."""

    def forward(self, x):
        places = x.abs().long()
        return torch.gather(x, 3, (places + places.flip(3)).clamp(0, 3)) + x


def test_sums_of_whole_numbers_stay():
    kinds = rewritten(Places(), 1, (4, 4), sums_to_float)
    assert (kinds.count("Sum"), kinds.count("Add")) == (1, 1)
