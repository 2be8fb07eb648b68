"""GDanceR: group choreography frame by frame (CVPR 2023, arXiv 2303.12337, section 4).

Its code was never released and no size, depth or loss is stated: all widths and numbers of layers here are ours.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgeflock.export.nets.gcd.blocks import EncoderLayer


class State(NamedTuple):
    """What a dancer's LSTM remembers, each (layers, B N, width)."""

    hidden: Tensor
    cell: Tensor


class CrossEntityAttention(nn.Module):
    """Dancers see each other, the near ones more: the equations of e_ij, alpha_ij and g_i.

    Parameters
    ----------
    width : int
        d_h = d_k = d_v.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.gamma = nn.Parameter(torch.zeros(width))

    @staticmethod
    def nearness(place: Tensor) -> Tensor:
        """Spatial encoding e_ij (B, N, N) of places (B, N, 3) in m: 1 of oneself, towards 0 with the distance."""
        apart = (place[:, :, None] - place[:, None]).square().sum(-1)
        return torch.exp(-apart / math.sqrt(place.shape[-1]))

    def forward(self, hidden: Tensor, place: Tensor) -> Tensor:
        """What the group tells each dancer (B, N, width), of motions (B, N, width) and places (B, N, 3)."""
        near = self.nearness(place)
        q, k, v = self.q(hidden), self.k(hidden), self.v(hidden)
        alpha = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]) + near, -1)
        return alpha @ v + (alpha * near).sum(-1, keepdim=True) * self.gamma


class GDanceR(nn.Module):
    """Music and starting places in, the next pose of every dancer out.

    Parameters
    ----------
    music : int
        Features of a frame of music: the paper's 438.
    pose : int
        Numbers of a pose, the place (3) first: 75 as axis-angle of 24 joints (the paper counts 72), 147 as 6-D.
    width : int
        d_a = d_h = d_k = d_v.
    layers, encoder_layers, heads : int
        Of the LSTM; of the music encoder; its heads.
    attention : bool
        False leaves the cross-entity attention out, z = h, as the paper's ablation.
    """

    def __init__(
        self,
        music: int = 438,
        pose: int = 75,
        width: int = 512,
        layers: int = 3,
        encoder_layers: int = 2,
        heads: int = 8,
        dropout: float = 0.1,
        attention: bool = True,
    ) -> None:
        super().__init__()
        self.pose, self.features = pose, music
        self.music_in = nn.Linear(music, width)
        self.music_encoder = nn.ModuleList(
            EncoderLayer(width, heads, 2 * width, dropout, places=False) for _ in range(encoder_layers)
        )
        self.first = nn.Sequential(nn.Linear(width + 3, width), nn.GELU(), nn.Linear(width, pose))
        self.pose_in = nn.Linear(pose, width)
        self.lstm = nn.LSTM(width, width, layers, dropout=dropout if layers > 1 else 0.0)
        self.attention = CrossEntityAttention(width) if attention else None
        self.next = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, pose))

    def encode(self, music: Tensor) -> Tensor:
        """Music (B, T, features) -> a_t (B, T, width), with sinusoidal places."""
        x = self.music_in(music)
        width, place = x.shape[-1], torch.arange(x.shape[1], device=x.device)[:, None]
        rates = 1e4 ** (-torch.arange(0, width, 2, device=x.device) / width)
        x = x + torch.stack([(place * rates).sin(), (place * rates).cos()], -1).flatten(-2)
        for layer in self.music_encoder:
            x = layer(x)
        return x

    def start(self, audio: Tensor, place: Tensor) -> tuple[Tensor, State]:
        """Poses y_0 (B, N, pose) at places (B, N, 3), for encoded music (B, T, width); and an empty memory."""
        mean = audio.mean(1)[:, None].expand(-1, place.shape[1], -1)
        pose = self.first(torch.cat([mean, place], -1))
        empty = place.new_zeros(self.lstm.num_layers, place.shape[0] * place.shape[1], self.lstm.hidden_size)
        return torch.cat([place, pose[..., 3:]], -1), State(empty, empty)

    def step(self, pose: Tensor, hidden: Tensor, cell: Tensor, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One frame on.

        Parameters
        ----------
        pose : Tensor
            y_{t-1} (B, N, pose).
        hidden, cell : Tensor
            See `State`.
        audio : Tensor
            a_t (B, width).

        Returns
        -------
        pose, hidden, cell : Tensor
            y_t and the new memory. The net says how the pose changes; the paper's decoder says the pose itself.
        """
        batch, dancers, _ = pose.shape
        out, (hidden, cell) = self.lstm(self.pose_in(pose).reshape(1, batch * dancers, -1), (hidden, cell))
        h = out.reshape(batch, dancers, -1)
        z = h if self.attention is None else h + self.attention(h, pose[..., :3])
        return pose + self.next(torch.cat([z, audio[:, None].expand_as(z)], -1)), hidden, cell

    def forward(self, music: Tensor, place: Tensor, given: Tensor | None = None, share: float = 0.0) -> Tensor:
        """Dance of a group (B, N, T, pose).

        Parameters
        ----------
        music : Tensor
            (B, T, features).
        place : Tensor
            Starting places (B, N, 3).
        given : Tensor, optional
            The true dance (B, N, T, pose), of whose frames a `share` is shown to the net in place of its own
            (scheduled sampling, Bengio et al., arXiv 1506.03099).
        share : float
            1 is teacher forcing.
        """
        audio = self.encode(music)
        pose, (hidden, cell) = self.start(audio, place)
        poses = [pose]
        for t in range(1, music.shape[1]):
            if given is not None and share and torch.rand(()) < share:
                pose = given[:, :, t - 1]
            pose, hidden, cell = self.step(pose, hidden, cell, audio[:, t])
            poses.append(pose)
        return torch.stack(poses, 2)
