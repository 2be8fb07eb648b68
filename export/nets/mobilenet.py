"""MobileNet-V2 (Sandler et al. 2018) with one output, a steering baseline of the FADNet post (2,225,153 parameters).

Tensors are named as in torchvision.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeflock.export.nets.resnet import global_pool

# Expansion, channels, blocks, stride of the first block: table 2 of the paper.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
LAST = 1280


class MobileNetV2(nn.Module):
    """MobileNet-V2, one output: (N, 1, 200, 200) grey 0..255 -> (N, 1) steering angle in rad, left positive.

    The grey image stands in all three channels, scaled to -1..1.
    """

    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = [conv_bn_relu(3, 32, 3, stride=2)]  # 32, 100, 100
        channels = 32
        for expansion, out, blocks, stride in STAGES:  # 16, 100 | 24, 50 | 32, 25 | 64, 13 | 96, 13 | 160, 7 | 320, 7
            for i in range(blocks):
                features.append(InvertedResidual(channels, out, stride if i == 0 else 1, expansion))
                channels = out
        features.append(conv_bn_relu(channels, LAST, 1))  # 1280, 7, 7
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(LAST, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """Steering angle (N, 1) of raw grey images (N, 1, 200, 200)."""
        grey = image / 127.5 - 1
        return self.classifier(global_pool(self.features(torch.cat([grey, grey, grey], 1))))


class InvertedResidual(nn.Module):
    """1x1 to expansion x channels, 3x3 depth-wise, linear 1x1; with a shortcut where the size stays."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.shortcut = stride == 1 and channels == out
        self.conv = nn.Sequential(
            *([conv_bn_relu(channels, wide, 1)] if expansion > 1 else []),
            conv_bn_relu(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        return x + self.conv(x) if self.shortcut else self.conv(x)


def conv_bn_relu(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU6."""
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU6(),
    )
