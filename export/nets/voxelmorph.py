"""VoxelMorph as it stands beside LDR in the authors' repository, 300,547 parameters (`aioz-ai/LDR_ALDK`)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.export.nets.spatial import FlowConv


class VoxelMorph(nn.Module):
    """U-net with nearest up-sampling: fixed and moving (N, 1, size^3) in 0..1 -> flow (N, 3, size^3) in voxels.

    All convolutions are 3^3 with LeakyReLU; any size that is a multiple of 16.
    """

    ENCODER: ClassVar[tuple[int, ...]] = (16, 32, 32, 32)
    DECODER: ClassVar[tuple[int, ...]] = (32, 32, 32, 32, 32, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        e, d = self.ENCODER, self.DECODER
        self.encoder = nn.ModuleList(_conv(i, o, stride=2) for i, o in zip((2, *e), e, strict=False))
        inputs = (e[3], d[0] + e[2], d[1] + e[1], d[2] + e[0], d[3], d[4] + 2, d[5])
        self.decoder = nn.ModuleList(_conv(i, o) for i, o in zip(inputs, d, strict=True))
        self.flow = FlowConv(d[6])

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Flow (N, 3, 128, 128, 128) in voxels."""
        x0 = torch.cat([fixed, moving], 1)  # 2, 128^3
        skips = [x0]
        for conv in self.encoder:
            skips.append(_act(conv(skips[-1])))  # 64^3, 32^3, 16^3, 8^3
        x = skips.pop()
        for conv in self.decoder[:3]:
            x = torch.cat([_twice(_act(conv(x))), skips.pop()], 1)  # 16^3, 32^3, 64^3
        for conv in self.decoder[3:5]:
            x = _act(conv(x))  # 64^3
        x = torch.cat([_twice(x), x0], 1)  # 128^3
        for conv in self.decoder[5:]:
            x = _act(conv(x))
        return self.flow(x)  # 3, 128^3


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1)


def _act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
