"""What GCD's denoiser and contrastive encoder are made of: attention with rotary places, FiLM, group modulation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoid(number: Tensor, width: int) -> Tensor:
    """Sines, then cosines (..., width) of numbers (...), at frequencies from 1 to 1e-4."""
    half = width // 2
    rates = torch.exp(torch.arange(half, device=number.device) * (-math.log(1e4) / (half - 1)))
    angles = number[..., None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], -1)


def rotary(x: Tensor, start: int = 0) -> Tensor:
    """Turn neighbouring pairs of (..., T, width) by their place, which begins at `start`.

    Su et al., "RoFormer", arXiv 2104.09864, eq. 34; over the full width and before the projections, as the authors'
    code does, so that attention is not exactly a function of distance.
    """
    length, width = x.shape[-2:]
    rates = 1e4 ** (-torch.arange(0, width, 2, device=x.device) / width)
    angles = torch.arange(start, start + length, device=x.device)[:, None] * rates
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], -1).flatten(-2)


def mlp(width: int) -> nn.Sequential:
    """LayerNorm, Linear, SiLU, Linear."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))


class Attention(nn.Module):
    """Multi-head attention, eq. MSA and CA of the paper; the mask (B, keys) is True where a key may be seen."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, Tq, width), (B, Tk, width) twice -> (B, Tq, width)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.q, query), (self.k, key), (self.v, value))
        )
        seen = None if mask is None else mask[:, None, None, :]
        drop = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, seen, dropout_p=drop)
        return self.out(mixed.transpose(1, 2).flatten(-2))


def feed_forward(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """Two linear layers with GELU between."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
    )


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, normalised before; without places it is the Group Global Attention."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, places: bool = True) -> None:
        super().__init__()
        self.places = places
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = feed_forward(width, hidden, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, width) -> (B, T, width)."""
        h = self.norms[0](x)
        placed = rotary(h) if self.places else h
        x = x + self.drop(self.attention(placed, placed, h, mask))
        return x + self.feed_forward(self.norms[1](x))


class FiLM(nn.Module):
    """Scale and shift by a context (Perez et al., arXiv 1709.07871), around 1 and 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.affine = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(B, T, width) and (B, width) -> (B, T, width)."""
        scale, shift = self.affine(F.mish(context))[:, None].chunk(2, -1)
        return (scale + 1) * x + shift


class DecoderLayer(nn.Module):
    """The Music-Motion Transformer: a dancer's own frames, then the music, each followed by FiLM."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.own, self.music = (Attention(width, heads, dropout) for _ in range(2))
        self.feed_forward = feed_forward(width, hidden, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.films = nn.ModuleList(FiLM(width) for _ in range(3))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, placed_memory: Tensor, memory: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, width), the music's (B, M, width) with and without places, context (B, width) -> (B, T, width)."""
        h = self.norms[0](x)
        placed = rotary(h)
        x = x + self.films[0](self.drop(self.own(placed, placed, h, mask)), context)
        h = rotary(self.norms[1](x))
        x = x + self.films[1](self.drop(self.music(h, placed_memory, memory)), context)
        return x + self.films[2](self.feed_forward(self.norms[2](x)), context)


class Mapping(nn.Module):
    """Eight layers from noise and music to the embedding of a group, as StyleGAN's (arXiv 1812.04948)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(8))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) -> (B, width)."""
        x = F.normalize(x, dim=-1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        return x


class GroupModulation(nn.Module):
    """Normalise every channel over all frames of all dancers, then scale and shift by the group's embedding.

    The paper's Group Modulation. The authors' variance is E[x^2] - mean^2 with 1e-8, which is 0 in fp16; this one is
    that of the differences, with 1e-5. The scale starts at 1, theirs at 0.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.affine = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.affine.bias)
        nn.init.ones_(self.affine.bias[:width])

    @staticmethod
    def normalise(x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, width), of which mask (B, L) says what counts -> mean 0 and variance 1 over L."""
        weight = torch.ones_like(x[..., :1]) if mask is None else mask[..., None].to(x.dtype)
        weight = weight / weight.sum(1, keepdim=True)
        centred = x - (x * weight).sum(1, keepdim=True)
        return centred * ((centred.square() * weight).sum(1, keepdim=True) + 1e-5).rsqrt()

    def forward(self, x: Tensor, group: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, width) and the group's (B, width) -> (B, L, width)."""
        scale, shift = self.affine(group)[:, None].chunk(2, -1)
        return scale * self.normalise(x, mask) + shift


def with_a_frame(mask: Tensor) -> Tensor:
    """Mask (..., T) whose first frame is seen even of dancers that are padding: attention to nothing is NaN."""
    return torch.cat([torch.ones_like(mask[..., :1]), mask[..., 1:]], -1)
