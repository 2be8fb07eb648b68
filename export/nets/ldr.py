"""LDR, the light-weight registration net of "Light-weight Deformable Registration ..." (IEEE TMI 2022).

`LDR` follows the post, `LDRReleased` the authors' repository, which is another net (docs/nets.md). Both take fixed
and moving (N, 1, size, size, size) in 0..1 and give the flow (N, 3, size, size, size) in voxels (see `spatial`).

A transposed convolution 4^3 of stride 2 writes odd and even voxels with different weights, which stripes a flow and so
folds it. Two heads that predict at half the size and interpolate have no such weights at the full size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.export.nets.spatial import Cascade, FlowConv, FlowDeconv, integrate, start_without_stripes
from edgeflock.export.nets.voxelmorph import VoxelMorph


class LDR(nn.Module):
    """The student of the post: 4 convolutions, 3 deconvolutions, skips; 1,548,528 parameters.

    The post's three deconvolutions bring 8^3 only to 64^3 and it does not say what follows. `head` is that step:
    "deconv" is a fourth deconvolution, which gives the flow; "trilinear" predicts the flow at half the size and
    interpolates it, 1,544,979 parameters and 12 % fewer multiplications; "diffeomorphic" predicts a velocity there,
    integrates it, and interpolates. Deconvolutions have no bias, as in VTN.

    Being a convolution all through, it takes any size that is a multiple of 16. Where the head interpolates, `coarse`
    leaves that last step to whoever uses the flow.
    """

    def __init__(self, head: Literal["deconv", "trilinear", "diffeomorphic"] = "deconv") -> None:
        super().__init__()
        self.conv1 = _down(2, 16)
        self.conv2 = _down(16, 32)
        self.conv3 = _down(32, 64)
        self.conv4 = _down(64, 128)
        self.deconv3 = _up(128, 64)
        self.deconv2 = _up(64 + 64, 32)
        self.deconv1 = _up(32 + 32, 16)
        self.flow: nn.Module = HEADS[head](16 + 16)
        self.coarse = False

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Flow (N, 3, 128, 128, 128) in voxels; `coarse` (N, 3, 64, 64, 64) in voxels of that size."""
        x1 = F.relu(self.conv1(torch.cat([fixed, moving], 1)))  # 16, 64^3
        x2 = F.relu(self.conv2(x1))  # 32, 32^3
        x3 = F.relu(self.conv3(x2))  # 64, 16^3
        x4 = F.relu(self.conv4(x3))  # 128, 8^3
        x = F.relu(self.deconv3(x4))  # 64, 16^3
        x = F.relu(self.deconv2(torch.cat([x3, x], 1)))  # 32, 32^3
        x = F.relu(self.deconv1(torch.cat([x2, x], 1)))  # 16, 64^3
        x = torch.cat([x1, x], 1)
        if self.coarse:
            assert isinstance(self.flow, HalfSizeFlow)
            return self.flow.at_half_size(x) / 2
        return self.flow(x)  # 3, 128^3


class HalfSizeFlow(nn.Module):
    """Flow by a 3^3 convolution, then trilinear to twice the size."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = FlowConv(in_channels)

    def at_half_size(self, x: Tensor) -> Tensor:
        """(N, C, size^3) -> (N, 3, size^3), voxels of twice the size."""
        return self.conv(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, size^3) -> (N, 3, (2 size)^3), voxels of the larger size."""
        return F.interpolate(self.at_half_size(x), scale_factor=2, mode="trilinear", align_corners=False)


class HalfSizeVelocity(HalfSizeFlow):
    """A stationary velocity instead of a flow, integrated at half the size: the map has an inverse, so nothing folds.

    Dalca et al., MICCAI 2018 (arXiv 1805.04605).
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.velocity = self.conv  # a name of its own, by which its weights are told from those of a flow
        del self.conv

    def at_half_size(self, x: Tensor) -> Tensor:
        """(N, C, size^3) -> (N, 3, size^3), voxels of twice the size."""
        return 2 * integrate(self.velocity(x) / 2)


HEADS: dict[str, type[nn.Module]] = {
    "deconv": FlowDeconv,
    "trilinear": HalfSizeFlow,
    "diffeomorphic": HalfSizeVelocity,
}


class LDRReleased(VoxelMorph):
    """LDR as in the authors' repository: a VoxelMorph with other widths, 280,659 parameters.

    Its convolutions at full size make it slower than its teacher (docs/ldr-speed.md).
    """

    ENCODER = (32, 32, 32, 16)
    DECODER = (32, 32, 32, 32, 16, 16, 16)


def cascaded_ldr(cascades: int) -> Cascade:
    """LDR of the post, several one after the other, without an affine stem."""
    return Cascade([LDR() for _ in range(cascades)])


def _down(in_channels: int, out_channels: int) -> nn.Conv3d:
    return nn.Conv3d(in_channels, out_channels, 4, stride=2, padding=1)


def _up(in_channels: int, out_channels: int) -> nn.ConvTranspose3d:
    deconv = nn.ConvTranspose3d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
    start_without_stripes(deconv)
    return deconv
