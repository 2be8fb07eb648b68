"""GCD's contrastive encoder: how well a dance belongs to the embedding of its group; 11,117,569 weights."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from edgeflock.export.nets.gcd.blocks import EncoderLayer, mlp, sinusoid, with_a_frame
from edgeflock.export.nets.gcd.denoiser import ROW

MOTION = ROW - 4
"""Numbers of a frame without the contacts."""


class ContrastiveEncoder(nn.Module):
    """log f(x, w) of the paper's contrastive diffusion; aware of the step of every dancer.

    Parameters
    ----------
    width, layers, hidden, heads, dancers, dropout
        As for `GCD`.
    pooling : {"mean", "first"}
        The paper's mean over all frames of all dancers, or the first frame of the first dancer as in the released code,
        which depends on the dancers' order.
    """

    def __init__(
        self,
        width: int = 512,
        layers: int = 2,
        hidden: int = 1024,
        heads: int = 8,
        dancers: int = 5,
        dropout: float = 0.1,
        pooling: Literal["mean", "first"] = "mean",
    ) -> None:
        super().__init__()
        self.width, self.pooling = width, pooling
        self.motion_in = nn.Linear(MOTION, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.Mish(), nn.Linear(width, width))
        self.group = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU())
        self.group_own, self.group_everyone = (nn.Linear(2 * width, width) for _ in range(2))
        self.count = nn.Parameter(torch.randn(dancers, width))
        self.count_out = mlp(width)
        self.local = nn.ModuleList(EncoderLayer(width, heads, hidden, dropout) for _ in range(layers))
        self.everyone = nn.ModuleList(EncoderLayer(width, heads, hidden, dropout, places=False) for _ in range(layers))
        self.out = nn.Linear(width, 1)

    def forward(self, motion: Tensor, group: Tensor, steps: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores log f (B,) of dances (B, N, T, 147), embeddings (B, width), steps (B, N), and a mask as for `GCD`."""
        batch, dancers, frames, _ = motion.shape
        mask = motion.new_ones(motion.shape[:3], dtype=torch.bool) if mask is None else mask
        hidden = self.group(group)
        context = self.time(sinusoid(steps, self.width)) + self.group_own(hidden)[:, None]
        context = context.reshape(batch * dancers, 1, -1)
        counted = mask.any(-1).sum(-1).clamp(1, len(self.count))
        tokens = torch.stack([self.group_everyone(hidden), self.count_out(self.count[counted - 1])], 1)
        own = torch.cat([with_a_frame(mask), torch.ones_like(mask[..., :1])], -1).flatten(0, 1)
        whole = mask.flatten(1)
        everyone = torch.cat([whole, whole.new_ones(batch, 2)], 1)

        x = self.motion_in(motion).flatten(0, 1)
        for local, attend in zip(self.local, self.everyone, strict=True):
            x = local(torch.cat([x, context], 1), own)
            x, context = x[:, :-1], x[:, -1:]
            x = attend(torch.cat([x.reshape(batch, dancers * frames, -1), tokens], 1), everyone)
            x, tokens = x[:, :-2].reshape(batch * dancers, frames, -1), x[:, -2:]
        x = x.reshape(batch, dancers * frames, -1)
        if self.pooling == "first":
            pooled = x[:, 0]
        else:
            weight = whole[..., None].to(x.dtype)
            pooled = (x * weight).sum(1) / weight.sum(1)
        return self.out(pooled)[:, 0]
