"""VTN, the volume tweening network (Zhao et al., IEEE J-BHI 2019): the teacher of the LDR post.

Affine stem, then deformable stems, each on what the ones before have left (arXiv 1907.12353). All take fixed and
moving (N, 1, size, size, size) in 0..1 and give the flow (N, 3, size, size, size) in voxels (see `spatial`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.export.nets.spatial import Cascade, FlowDeconv, affine_flow, start_near_identity


class VTN(nn.Module):
    """Deformable stem, 28,252,203 parameters: six halvings, then the flow refined at five sizes and once at the full.

    Any size that is a multiple of 64.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv(2, 16, stride=2)
        self.conv2 = _conv(16, 32, stride=2)
        self.conv3 = nn.ModuleList([_conv(32, 64, stride=2), _conv(64, 64)])
        self.conv4 = nn.ModuleList([_conv(64, 128, stride=2), _conv(128, 128)])
        self.conv5 = nn.ModuleList([_conv(128, 256, stride=2), _conv(256, 256)])
        self.conv6 = nn.ModuleList([_conv(256, 512, stride=2), _conv(512, 512)])
        self.refine5 = Refinement(512, 256)
        self.refine4 = Refinement(256 + 256 + 3, 128)
        self.refine3 = Refinement(128 + 128 + 3, 64)
        self.refine2 = Refinement(64 + 64 + 3, 32)
        self.refine1 = Refinement(32 + 32 + 3, 16)
        self.flow = FlowDeconv(16 + 16 + 3)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Flow (N, 3, 128, 128, 128) in voxels."""
        x1 = _act(self.conv1(torch.cat([fixed, moving], 1)))  # 16, 64^3
        x2 = _act(self.conv2(x1))  # 32, 32^3
        x3 = _chain(self.conv3, x2)  # 64, 16^3
        x4 = _chain(self.conv4, x3)  # 128, 8^3
        x5 = _chain(self.conv5, x4)  # 256, 4^3
        x6 = _chain(self.conv6, x5)  # 512, 2^3
        x = self.refine5(x6, x5)  # 515, 4^3
        x = self.refine4(x, x4)  # 259, 8^3
        x = self.refine3(x, x3)  # 131, 16^3
        x = self.refine2(x, x2)  # 67, 32^3
        x = self.refine1(x, x1)  # 35, 64^3
        return self.flow(x)  # 3, 128^3


class Refinement(nn.Module):
    """One step up: features (N, C, size^3) and skip (N, S, (2 size)^3) -> (N, S + S + 3, (2 size)^3).

    Skip, deconvolved features, and the flow predicted here, deconvolved too.
    """

    def __init__(self, in_channels: int, skip_channels: int) -> None:
        super().__init__()
        self.predict = nn.Conv3d(in_channels, 3, 3, padding=1)
        self.up_flow = nn.ConvTranspose3d(3, 3, 4, stride=2, padding=1, bias=False)
        self.deconv = nn.ConvTranspose3d(in_channels, skip_channels, 4, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Features of the next size."""
        return torch.cat([skip, _act(self.deconv(x)), self.up_flow(self.predict(x))], 1)


class AffineStem(nn.Module):
    """Affine registration, 14,166,288 parameters; its last convolutions fix the size, a multiple of 64.

    The flow is (A - I)(x - centre) + b; A - I and b in voxels are what the two heads give.
    """

    def __init__(self, size: int = 128) -> None:
        super().__init__()
        self.size = size
        widths = (2, 16, 32, 64, 64, 128, 128, 256, 256, 512, 512)
        strides = (2, 2, 2, 1, 2, 1, 2, 1, 2, 1)
        self.convs = nn.ModuleList(
            _conv(i, o, stride) for i, o, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.change = nn.Conv3d(512, 9, size // 64, bias=False)
        self.offset = nn.Conv3d(512, 3, size // 64, bias=False)
        start_near_identity(self.change)
        start_near_identity(self.offset)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Flow (N, 3, 128, 128, 128) in voxels."""
        x = _chain(self.convs, torch.cat([fixed, moving], 1))  # 512, 2^3
        return affine_flow(self.change(x).reshape(-1, 3, 3), self.offset(x).reshape(-1, 3), self.size)


class VTNAffine(Cascade):
    """Affine stem and n deformable stems: 42,418,491 parameters for one cascade, 70,670,694 and 98,922,897 for 2, 3."""

    AFFINE_FIRST = True

    def __init__(self, cascades: int = 1, size: int = 128) -> None:
        super().__init__([AffineStem(size), *(VTN() for _ in range(cascades))])


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1)


def _act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


def _chain(convs: nn.ModuleList, x: Tensor) -> Tensor:
    for conv in convs:
        x = _act(conv(x))
    return x
