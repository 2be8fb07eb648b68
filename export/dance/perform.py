"""Dance to a piece of music with trained weights: chunks of GCD joined in every step, or GDanceR frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgeflock.export.datasets.dances import CHUNK
from edgeflock.export.nets.gcd import GCD, ContrastiveEncoder, Music
from edgeflock.export.nets.gcd.contrastive import MOTION
from edgeflock.export.nets.gdancer import GDanceR
from edgeflock.export.training.loop.checkpoint import load_checkpoint, read_state
from edgeflock.export.training.methods.dance import contrastive_for
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.motion.diffusion import alpha_bars, assembled, chunk_starts, joined, sample
from edgeflock.runtime.motion.formations import formation
from edgeflock.runtime.motion.group import RATE, Group, group_of_rows

STRENGTH = 0.05
"""Root mean square, in the rows' units, of the shift of gamma = 1 at the noisiest step."""
_AT_ONCE = 16  # chunks that the net gets, so that long music takes no more memory in it


@dataclass(frozen=True)
class Wish:
    """How a group is to dance.

    Attributes
    ----------
    dancers : int
    gamma : float
        From -1, each its own, to 1, all alike; 0 asks the contrastive encoder nothing.
    guidance : float
        Weight of the music over none (classifier-free guidance, Ho and Salimans, arXiv 2207.12598); 1 asks once.
    steps, order : int
        See `edgeflock.runtime.motion.diffusion.sample`.
    seed : int
        Of the noise.
    """

    dancers: int = 3
    gamma: float = 0.0
    guidance: float = 1.0
    steps: int = 50
    order: int = 1
    seed: int = 0


def dance_to(weights: Path, features: np.ndarray, wish: Wish) -> Group:
    """Dance of a group to features (T, D) of music at 30 Hz.

    Parameters
    ----------
    weights : Path
        Of `edgeflock train gcd` or `edgeflock train gdancer`; the contrastive encoder is looked for beside it.
    features : ndarray
    wish : Wish

    Raises
    ------
    InputError
        Other features than the net takes, no dancer, or a wish that the net has no way to fulfil.
    DataError
        Weights of no net that dances, or no contrastive encoder where gamma needs it.
    """
    name, net = load_checkpoint(weights)
    if not isinstance(net, (GCD, GDanceR)):
        raise DataError(f"{weights} holds a {name}, expected weights of `edgeflock train gcd` or `gdancer`.")
    if features.shape[1] != net.features:
        raise InputError(f"{name} takes {net.features} features of a frame of music, got {features.shape[1]}.")
    if wish.dancers < 1:
        raise InputError(f"expected at least one dancer, got {wish.dancers}.")
    if isinstance(net, GCD):
        encoder = encoder_beside(net, weights) if wish.gamma else None
        return group_of_rows(Diffusion(net, encoder, wish)(features))
    if wish.gamma or wish.guidance != 1:
        raise InputError(f"{name} has neither gamma nor guidance: take weights of `edgeflock train gcd`.")
    if net.pose != MOTION:
        raise InputError(f"{name} gives poses of {net.pose} numbers, expected {MOTION}: take gdancer-small.")
    return _frame_by_frame(net, features, wish)


class Diffusion:
    """GCD that dances to music of any length.

    Parameters
    ----------
    net : GCD
        In evaluation mode.
    encoder : ContrastiveEncoder, optional
        What gamma is asked of.
    wish : Wish
    """

    def __init__(self, net: GCD, encoder: ContrastiveEncoder | None, wish: Wish) -> None:
        self.net, self.encoder, self.wish = net, encoder, wish

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Rows float32 (N, T, 151) of music (T, features)."""
        frames, wish = len(features), self.wish
        starts = chunk_starts(frames)
        padded = np.pad(features, ((0, starts[-1] + CHUNK - frames), (0, 0)), mode="edge").astype(np.float32)
        rng = np.random.default_rng([wish.seed, 34])
        # The shared half begins from the same noise, so that dancers have the same order in both chunks.
        long = rng.normal(size=(wish.dancers, len(padded), 151))
        noise = np.stack([long[:, start : start + CHUNK] for start in starts])
        with torch.no_grad():
            music = self.net.encode(torch.from_numpy(np.stack([padded[s : s + CHUNK] for s in starts])))
            # One embedding for the whole dance: it is one group.
            style = torch.from_numpy(rng.normal(size=(1, self.net.width)).astype(np.float32))
            summary = music.summary.mean(0, keepdim=True).expand_as(music.summary)
            group = self.net.embed_group(Music(music.tokens, summary), style.expand(len(starts), -1))

        def denoise(x: np.ndarray, step: int) -> np.ndarray:
            parts = (slice(first, first + _AT_ONCE) for first in range(0, len(x), _AT_ONCE))
            return np.concatenate(
                [
                    self._denoised(torch.from_numpy(x[p]), step, Music(music.tokens[p], music.summary[p]), group[p])
                    for p in parts
                ]
            )

        chunks = sample(denoise, noise, wish.steps, wish.order, joined if len(starts) > 1 else None)
        return assembled(chunks, frames)

    def _denoised(self, x: Tensor, step: int, music: Music, group: Tensor) -> np.ndarray:
        asked = torch.full((len(x),), step)
        with torch.no_grad():
            clean = self.net(x, asked, *music, group)
            if self.wish.guidance != 1:
                nothing = self.net.nothing(music)
                alone = self.net(x, asked, *nothing, group)
                clean = alone + self.wish.guidance * (clean - alone)
        if self.encoder is not None:
            clean = clean + self.wish.gamma * pull(self.encoder, clean, group, step)
        return clean.numpy()


def pull(encoder: ContrastiveEncoder, clean: Tensor, group: Tensor, step: int) -> Tensor:
    """By how much gamma = 1 moves x0 (C, N, T, 151) towards what belongs to its group.

    The paper shifts the mean of a step by gamma Sigma grad log f(x_m, w). The encoder learns from estimates of x0, so
    the gradient is that by x0. Its length says little, for log f has no scale: the shift is as large as what is left
    of the noise, (1 - alpha_bar), times `STRENGTH`.
    """
    with torch.enable_grad():
        asked = clean[..., :MOTION].detach().requires_grad_()
        steps = torch.full(clean.shape[:2], step)
        (gradient,) = torch.autograd.grad(encoder(asked, group, steps).sum(), asked)
    size = gradient.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)
    left = float(1 - alpha_bars()[step])
    return torch.nn.functional.pad(gradient / size * left * STRENGTH, (0, clean.shape[-1] - MOTION))


def encoder_beside(net: GCD, weights: Path) -> ContrastiveEncoder:
    """The contrastive encoder that was trained with these weights, `DataError` where it does not lie beside them."""
    path = weights.with_name("method.safetensors")
    encoder = contrastive_for(net)
    try:
        encoder.load_state_dict(read_state(path))
    except (DataError, RuntimeError) as error:
        raise DataError(f"{path}: gamma needs the contrastive encoder of the same training ({error}).") from None
    return encoder.eval()


def _frame_by_frame(net: nn.Module, features: np.ndarray, wish: Wish) -> Group:
    assert isinstance(net, GDanceR)
    at = formation("line", wish.dancers)
    rng = np.random.default_rng([wish.seed, 34])
    place = np.stack([at[:, 0], np.full(wish.dancers, 0.95), at[:, 1]], -1) + rng.normal(0, 0.05, (wish.dancers, 3))
    with torch.no_grad():
        rows = net(torch.from_numpy(features)[None], torch.from_numpy(place.astype(np.float32))[None])[0].numpy()
    return group_of_rows(np.pad(rows, ((0, 0), (0, 0), (0, 151 - MOTION))), RATE)
