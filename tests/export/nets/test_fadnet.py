"""FADNet in its three variants: counts, SAME padding, pooling, aggregation, released weights, ONNX export."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from edgeflock.export.nets import NETS, STEERING_NETS
from edgeflock.export.nets.blocks import SameConv2d
from edgeflock.export.nets.fadnet import Accumulation, AdaptivePool, FADNet, FADNetReleased, aggregate, mean_of_pairs

REFERENCE = Path(__file__).parents[3] / "../shared/reference/fadnet_released.safetensors"

torch.set_num_threads(1)


def images(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, 1, 200, 200), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("fadnet", 308_445),
        ("fadnet-released", 341_980),
        ("fadnet-plus", 336_709),
        ("dronet", 314_657),
        ("mobilenet-v2", 2_225_153),
    ],
)
def test_parameter_count_is_exact(name: str, count: int) -> None:
    assert sum(p.numel() for p in NETS[name]().parameters()) == count


@pytest.mark.parametrize("name", STEERING_NETS)
def test_takes_raw_images_and_gives_one_angle_each(name: str) -> None:
    assert NETS[name]().eval()(images(3)).shape == (3, 1)


@pytest.mark.parametrize("name", STEERING_NETS)
def test_frames_of_a_batch_do_not_mix(name: str) -> None:
    torch.manual_seed(0)
    net, batch = NETS[name]().eval(), images(3)
    with torch.no_grad():
        alone = torch.cat([net(image[None]) for image in batch])
        torch.testing.assert_close(net(batch), alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [5, 6, 13, 14, 25])
@pytest.mark.parametrize(("kernel", "stride"), [(5, 2), (3, 2), (3, 1), (1, 2), (1, 7), (2, 1)])
def test_same_padding_equals_index_arithmetic(size: int, kernel: int, stride: int) -> None:
    torch.manual_seed(size)
    conv = SameConv2d(2, 3, kernel, stride, size=size).double()
    x = torch.randn(1, 2, size, size, dtype=torch.float64)
    out = -(-size // stride)
    before = max((out - 1) * stride + kernel - size, 0) // 2
    expected = np.zeros((3, out, out))
    image, weight, bias = x[0].numpy(), conv.weight.detach().numpy(), conv.bias.detach().numpy()
    for row in range(out):
        for column in range(out):
            value = bias.copy()
            for i in range(kernel):
                for j in range(kernel):
                    y, z = row * stride + i - before, column * stride + j - before
                    if 0 <= y < size and 0 <= z < size:
                        value = value + weight[:, :, i, j] @ image[:, y, z]
            expected[:, row, column] = value
    np.testing.assert_allclose(conv(x)[0].detach().numpy(), expected, atol=1e-12)


def test_conv1_has_its_extra_zero_right_and_below() -> None:
    conv = FADNetReleased().conv1
    with torch.no_grad():
        conv.weight.zero_()[:, :, 1, 1] = 1  # kernel cell (1, 1) reads pixel (2r, 2c) if one zero stands before
        conv.bias.zero_()
        x = images(1)
        assert torch.equal(conv(x)[0, 0], x[0, 0, ::2, ::2])


@pytest.mark.parametrize(("size", "output"), [(49, (14, 14)), (25, (14, 14)), (13, (7, 14))])
def test_exported_pooling_equals_torch_adaptive_pooling(
    size: int, output: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, pool = torch.randn(2, 4, size, size), AdaptivePool(size, output)
    expected = F.adaptive_avg_pool2d(x, output).flatten(1)
    assert torch.equal(pool(x), expected)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    torch.testing.assert_close(pool(x), expected, atol=1e-6, rtol=1e-5)


def test_support_features_have_the_size_of_the_block_feature() -> None:
    net = FADNet()
    for pool, channels, size in [(net.gap1, 32, 49), (net.gap2, 32, 25), (net.gap3, 64, 13)]:
        assert pool(torch.zeros(1, channels, size, size)).shape == (1, 6272)


def test_pooling_matrices_are_not_part_of_the_weights() -> None:
    assert not [key for key in FADNet().state_dict() if "gap" in key]


def test_layer_norm_makes_brightness_and_contrast_irrelevant() -> None:
    torch.manual_seed(0)
    net, x = FADNet().eval(), images(1)
    with torch.no_grad():
        torch.testing.assert_close(net(0.5 * x + 60), net(x), rtol=1e-3, atol=1e-6)


def test_aggregation_is_a_scaled_dot_product() -> None:
    f_s, f_c = torch.randn(2, 6272), torch.randn(2, 6272)
    expected = torch.stack([f_s[i] @ f_c[i] for i in range(2)])[:, None] / 6272
    torch.testing.assert_close(aggregate(f_s, f_c), expected, atol=1e-6, rtol=1e-4)


def test_gradient_of_accumulation_is_the_aggregate_of_its_inputs() -> None:
    f_s, supports = torch.randn(1, 6272), [torch.randn(1, 6272) for _ in range(3)]
    accumulation = Accumulation(3)
    aggregate(f_s, accumulation(supports)).sum().backward()
    expected = torch.stack([(f_s * f).mean() for f in supports])
    torch.testing.assert_close(accumulation.weight.grad, expected, atol=1e-6, rtol=1e-4)


def test_pairs_are_neighbours_in_memory_order() -> None:
    x = torch.arange(256 * 49.0).reshape(1, 256, 7, 7)
    expected = torch.arange(6272.0)[None] * 2 + 0.5
    assert torch.equal(mean_of_pairs(x), expected)
    assert torch.equal(mean_of_pairs(x.to(memory_format=torch.channels_last)), expected)


@pytest.mark.skipif(not REFERENCE.is_file(), reason="needs ../shared/reference")
def test_released_net_equals_the_authors_outputs() -> None:
    reference = load_file(REFERENCE)
    net = FADNetReleased().eval()
    state = {k.removeprefix("param."): v for k, v in reference.items() if k.startswith("param.")}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert unexpected == [] and all(key.endswith("num_batches_tracked") for key in missing)
    with torch.no_grad():
        torch.testing.assert_close(net(reference["x"].float()), reference["y"], rtol=1e-5, atol=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", STEERING_NETS)
def test_onnx_opset_17_agrees_with_torch(name: str) -> None:
    torch.manual_seed(0)
    net, x, file = NETS[name]().eval(), images(1, seed=1), io.BytesIO()
    torch.onnx.export(net, (x,), file, opset_version=17, dynamo=False, input_names=["image"])
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"image": x.numpy()})
    np.testing.assert_allclose(y, net(x).detach().numpy(), rtol=1e-5, atol=1e-6)
