"""ResNet trunks and LDLVA's expression nets: counts, torchvision's tensor names, features, trunks from elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from edgeflock.export.nets import NETS
from edgeflock.export.nets.glamor import GlamorResNet18
from edgeflock.export.nets.resnet import (
    BasicBlock,
    Bottleneck,
    FerResNet18,
    FerResNet50,
    load_trunk,
    resnet18,
    resnet50,
)
from edgeflock.runtime.errors import DataError

torch.set_num_threads(1)


def count(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_trunk_counts_are_exact() -> None:
    with torch.device("meta"):
        assert (count(resnet18()), count(resnet50())) == (11_176_512, 23_508_032)


def test_expression_nets_are_trunk_and_head() -> None:
    with torch.device("meta"):
        assert count(NETS["fer-resnet18"]()) == 11_176_512 + 512 * 7 + 7
        assert count(NETS["fer-resnet50"]()) == 23_508_032 + 2048 * 512 + 512 + 512 * 7 + 7


def test_tensors_are_named_as_in_torchvision() -> None:
    with torch.device("meta"):
        small, large = (net().state_dict() for net in (resnet18, resnet50))
    assert small["conv1.weight"].shape == (64, 3, 7, 7) and small["bn1.running_var"].shape == (64,)
    assert small["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert "layer1.0.downsample.0.weight" not in small and "layer1.0.downsample.1.bias" in large
    assert large["layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)
    assert (len(small), len(large)) == (120, 318)  # torchvision's 122 and 320 less fc.weight and fc.bias


@pytest.mark.parametrize(("size", "cells"), [(224, 7), (112, 4), (96, 3)])
def test_trunk_reduces_by_32_rounded_up(size: int, cells: int) -> None:
    with torch.device("meta"):
        assert resnet18()(torch.zeros(2, 3, size, size)).shape == (2, 512, cells, cells)


def test_blocks_equal_their_formulas() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 64, 8, 8)
    block = BasicBlock(64, 64, 1).eval()
    branch = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
    torch.testing.assert_close(block(x), F.relu(branch + x))

    wide = Bottleneck(64, 32, 2).eval()
    assert (wide.conv1.stride, wide.conv2.stride, wide.downsample[0].stride) == ((1, 1), (2, 2), (2, 2))
    branch = wide.bn3(wide.conv3(F.relu(wide.bn2(wide.conv2(F.relu(wide.bn1(wide.conv1(x))))))))
    torch.testing.assert_close(wide(x), F.relu(branch + wide.downsample(x)))


def test_features_are_512_and_probabilities_sum_to_one() -> None:
    torch.manual_seed(0)
    net, face = FerResNet18().eval(), torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(net(face), net.fc(net.features(face)).softmax(1))
        torch.testing.assert_close(net(face).sum(1), torch.ones(2))
    with torch.device("meta"):
        assert FerResNet50().features(torch.zeros(2, 3, 112, 112)).shape == (2, 512)


def test_torchvision_weights_load_into_every_trunk() -> None:
    torch.manual_seed(0)
    given = {**resnet18().state_dict(), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    net = GlamorResNet18()
    load_trunk(net, given)
    for trunk in (net.face, net.context):
        assert all(torch.equal(tensor, given[name]) for name, tensor in trunk.state_dict().items())


def test_other_weights_are_refused() -> None:
    with torch.device("meta"):
        state = resnet18().state_dict()
    with pytest.raises(DataError, match=r"torchvision.*layer1\.0\.conv3\.weight"):
        load_trunk(FerResNet50(), state)
    with pytest.raises(DataError, match="Glamor has no ResNet trunk"):
        load_trunk(NETS["glamor"](), state)
