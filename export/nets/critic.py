"""Critic of flows, the discriminator of "Light-weight Deformable Registration ..." (IEEE TMI 2022); training only."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (16, 32, 64, 128, 256)


class Critic(nn.Module):
    """Five convolutions 4^3 of stride 2: 2,788,848 parameters with 3 channels in, 2,790,896 with 5.

    As the post has it (`literal`) the last one is followed by a sigmoid, and the answer is its mean over space, 256
    numbers. So its slope along a flow is thousands of times smaller than the 1 that the gradient penalty asks for. The
    other form is a critic of a Wasserstein distance: no sigmoid, and a linear layer (257 more parameters) to 1 number.

    Parameters
    ----------
    in_channels : int
        3 for a flow, 5 for a flow, the fixed and the warped image.
    literal : bool
    """

    def __init__(self, in_channels: int = 5, literal: bool = False) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv3d(i, o, 4, stride=2, padding=1) for i, o in pairwise((in_channels, *WIDTHS)))
        self.judge: nn.Module = nn.Identity() if literal else nn.Linear(WIDTHS[-1], 1)
        self.literal = literal

    def forward(self, flow: Tensor, *images: Tensor) -> Tensor:
        """Flow (N, 3, size, size, size), images (N, 1, ...) beside it -> (N, 1), `literal` (N, 256)."""
        x = torch.cat([flow, *images], 1)
        for conv in self.convs[:-1]:
            x = F.relu(conv(x)) if self.literal else F.leaky_relu(conv(x), 0.2)
        x = self.convs[-1](x)
        x = torch.sigmoid(x) if self.literal else F.leaky_relu(x, 0.2)
        return self.judge(x.mean((2, 3, 4)))
