"""GCD's denoiser: a noisy dance of a group, the step and the music in, the dance out; 51,044,503 weights.

With the contrastive encoder GCD has 62,162,072. Where paper and released code differ (docs/nets.md), this follows what
those counts need: rotary places, two tokens of time, the music's summary from a learnt token, `e_n` as a token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgeflock.export.nets.gcd.blocks import (
    DecoderLayer,
    EncoderLayer,
    GroupModulation,
    Mapping,
    mlp,
    rotary,
    sinusoid,
    with_a_frame,
)
from edgeflock.runtime.errors import InputError

ROW = 151
"""Numbers of a frame: 3 of the root, 144 of the rotations, 4 contacts."""


class Music(NamedTuple):
    """Music as the denoiser needs it at every step; encoded once."""

    tokens: Tensor
    """(B, T, width)."""
    summary: Tensor
    """(B, width)."""


class GCD(nn.Module):
    """The Group Diffusion Denoising Network.

    Parameters
    ----------
    width, layers, hidden, heads : int
        Of the attention blocks; the paper's values by default.
    music : int
        Features of a frame of music; 4800 are Jukebox's.
    frames : int
        The longest chunk, at 30 Hz.
    dancers : int
        Rows of the table of group sizes; a larger group uses the last.
    """

    def __init__(
        self,
        width: int = 512,
        layers: int = 5,
        hidden: int = 1024,
        heads: int = 8,
        music: int = 4800,
        frames: int = 150,
        dancers: int = 5,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.width, self.hidden, self.heads, self.frames, self.features = width, hidden, heads, frames, music
        self.dropout = dropout
        self.music_in = nn.Linear(music, width)
        self.summary_token = nn.Parameter(torch.randn(width) * 0.02)
        self.music_encoder = nn.ModuleList(EncoderLayer(width, heads, hidden, dropout) for _ in range(2))
        self.summary_out = mlp(width)
        self.no_tokens = nn.Parameter(torch.randn(frames, width))
        self.no_summary = nn.Parameter(torch.randn(width))

        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish())
        self.time_context = nn.Linear(4 * width, width)
        self.time_tokens = nn.Linear(4 * width, 2 * width)
        self.memory_norm = nn.LayerNorm(width)

        self.group = Mapping(width)
        self.count = nn.Parameter(torch.randn(dancers, width))
        self.count_out = mlp(width)

        self.motion_in = nn.Linear(ROW, width)
        self.local = nn.ModuleList(DecoderLayer(width, heads, hidden, dropout) for _ in range(layers))
        self.everyone = nn.ModuleList(EncoderLayer(width, heads, hidden, dropout, places=False) for _ in range(layers))
        self.modulation = nn.ModuleList(GroupModulation(width) for _ in range(layers))
        self.motion_out = nn.Linear(width, ROW)

    def encode(self, music: Tensor) -> Music:
        """Music (B, T, features) as the denoiser needs it.

        Raises
        ------
        InputError
            More frames than a chunk has.
        """
        if music.shape[1] > self.frames:
            raise InputError(f"a chunk has at most {self.frames} frames, got {music.shape[1]}: cut the music.")
        x = self.music_in(music)
        x = torch.cat([x, self.summary_token.expand(len(x), 1, -1)], 1)
        for layer in self.music_encoder:
            x = layer(x)
        return Music(x[:, :-1], self.summary_out(x[:, -1]))

    def nothing(self, music: Music) -> Music:
        """What stands for music that is not told, of the same shapes."""
        tokens, summary = music
        return Music(self.no_tokens[: tokens.shape[1]].expand_as(tokens), self.no_summary.expand_as(summary))

    def embed_group(self, music: Music, noise: Tensor) -> Tensor:
        """Embedding w (B, width) of a group, of noise (B, width) and its music."""
        return self.group(noise + music.summary)

    def forward(
        self,
        motion: Tensor,
        step: Tensor,
        tokens: Tensor,
        summary: Tensor,
        group: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The dance without its noise.

        Parameters
        ----------
        motion : Tensor
            Noisy (B, N, T, 151).
        step : Tensor
            (B,) of the 1000 steps, 0 the least noisy.
        tokens, summary : Tensor
            See `Music`.
        group : Tensor
            See `embed_group`.
        mask : Tensor, optional
            bool (B, N, T), False where there is no dancer or no frame; by default all is there.

        Returns
        -------
        Tensor
            (B, N, T, 151).
        """
        batch, dancers, frames, _ = motion.shape
        time = self.time(sinusoid(step, self.width).to(motion.dtype))
        context = self.time_context(time) + summary
        memory = torch.cat([tokens, self.time_tokens(time).unflatten(-1, (2, -1))], 1)
        memory = self.memory_norm(memory)
        context, memory, placed = (x.repeat_interleave(dancers, 0) for x in (context, memory, rotary(memory)))

        counted = torch.full((batch,), dancers, device=motion.device) if mask is None else mask.any(-1).sum(-1)
        size = self.count_out(self.count[counted.clamp(1, len(self.count)) - 1])[:, None]
        own = everyone = whole = None
        if mask is not None:
            own = with_a_frame(mask).flatten(0, 1)
            whole = mask.flatten(1)
            everyone = torch.cat([whole, whole.new_ones(batch, 2)], 1)

        x = self.motion_in(motion)
        for local, attend, modulate in zip(self.local, self.everyone, self.modulation, strict=True):
            x = local(x.reshape(batch * dancers, frames, -1), placed, memory, context, own)
            x = attend(torch.cat([x.reshape(batch, dancers * frames, -1), size, group[:, None]], 1), everyone)
            x, size = x[:, :-2], x[:, -2:-1]
            x = modulate(x, group, whole).reshape(batch, dancers, frames, -1)
        return self.motion_out(x)
