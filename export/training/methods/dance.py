"""How GDanceR and GCD learn group dances."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeflock.export.datasets.dances import CHUNK, Dances
from edgeflock.export.nets import CHOREOGRAPHY_NETS
from edgeflock.export.nets.gcd import GCD, ContrastiveEncoder, Music
from edgeflock.export.nets.gcd.contrastive import MOTION
from edgeflock.export.nets.gdancer import GDanceR
from edgeflock.export.training.config import DanceConfig, GcdConfig, GdancerConfig
from edgeflock.export.training.loop.metric import Metric
from edgeflock.export.training.loop.run import Run, build_net, prefetched
from edgeflock.export.training.methods.kinematics import joints_of_rows
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.motion.diffusion import STEPS, alpha_bars
from edgeflock.runtime.motion.skeleton import BODY

Batch = tuple[np.ndarray, np.ndarray]
"""Rows (B, N, 150, 151) and music (B, 150, features)."""

_JUDGED = 32  # validation chunks
_ASKED = (100, 300, 500, 700, 900)  # steps at which the denoiser is judged


def train_gcd(
    config: GcdConfig, training: Dances, validation: Dances, out: str | Path, *, fresh: bool = False, command: str = ""
) -> dict[str, Any]:
    """Train GCD; goes on where an interrupted run in `out` stopped (see `Run`).

    `method.safetensors` holds the contrastive encoder. The validation figure is the mean squared error of x0 over five
    steps of the diffusion; "constant" is that of the mean of all rows.

    Raises
    ------
    InputError, DataError
        See `Run.train`; a net of another family or other features.
    """
    net = _net(config, training, validation, GCD)
    assert isinstance(net, GCD)
    encoder = contrastive_for(net)
    run = Run.start(config, net, _steps(config, training), _described(training, validation), method=encoder)
    left = torch.tensor(alpha_bars(), dtype=torch.float32)
    judged = _some(validation)

    def loss(net: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(net, GCD)
        rows, music = _to(net, batch)
        return gcd_loss(net, encoder, rows, music, left.to(rows.device), config)

    def validate(net: nn.Module) -> dict[str, float]:
        assert isinstance(net, GCD)
        rows, music = _to(net, judged)
        heard = net.encode(music)
        noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)).to(rows)
        group = net.embed_group(heard, torch.zeros_like(heard.summary))
        errors = []
        for step in _ASKED:
            noisy = left[step].sqrt() * rows + (1 - left[step]).sqrt() * noise
            asked = torch.full((len(rows),), step, device=rows.device)
            errors.append((net(noisy, asked, *heard, group) - rows).square().mean())
        return {"error": float(torch.stack(errors).mean())}

    mean = np.concatenate([rows.reshape(-1, rows.shape[-1]) for rows in training.rows]).mean(0)
    metric = Metric("error", "lowest", {"constant": float(((judged[0] - mean) ** 2).mean())})
    return run.train(out, metric, lambda e: _batches(training, config, e), loss, validate, fresh=fresh, command=command)


def train_gdancer(
    config: GdancerConfig,
    training: Dances,
    validation: Dances,
    out: str | Path,
    *,
    fresh: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Train GDanceR; goes on where an interrupted run in `out` stopped (see `Run`).

    The validation figure is the mean distance of joints, in m, from the true dance while the net dances on its own;
    "constant" is that of standing still.

    Raises
    ------
    InputError, DataError
        See `Run.train`; a net of another family or other features.
    """
    net = _net(config, training, validation, GDanceR)
    assert isinstance(net, GDanceR)
    if net.pose != MOTION:
        raise InputError(f"{config.net} takes poses of {net.pose} numbers, training needs {MOTION}: gdancer-small.")
    steps = _steps(config, training)
    run = Run.start(config, net, steps, _described(training, validation))
    judged = _some(validation)
    total = steps * config.epochs

    def loss(net: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(net, GDanceR)
        rows, music = _to(net, batch)
        truth = rows[..., :MOTION]
        done = run.schedule.last_epoch / total
        made = net(music, truth[:, :, 0, :3], truth, 1 + (config.forced - 1) * done)
        return gdancer_loss(made, rows, config)

    def validate(net: nn.Module) -> dict[str, float]:
        rows, music = _to(net, judged)
        made, truth = joints_of_rows(net(music, rows[:, :, 0, :3])), joints_of_rows(rows)
        return {"distance": float((made - truth).norm(dim=-1).mean())}

    truth = joints_of_rows(torch.from_numpy(judged[0]))
    still = float((truth - truth[:, :, :1]).norm(dim=-1).mean())
    metric = Metric("distance", "lowest", {"constant": still}, "m")
    return run.train(out, metric, lambda e: _batches(training, config, e), loss, validate, fresh=fresh, command=command)


def contrastive_for(net: GCD) -> ContrastiveEncoder:
    """The contrastive encoder that goes with a denoiser of this width."""
    return ContrastiveEncoder(
        net.width, hidden=net.hidden, heads=net.heads, dancers=len(net.count), dropout=net.dropout
    )


def gcd_loss(
    net: GCD, encoder: ContrastiveEncoder, rows: Tensor, music: Tensor, left: Tensor, config: GcdConfig
) -> Tensor:
    """L_simple + L_geo + lambda L_nce of the paper, for rows (B, N, T, 151) and music (B, T, features)."""
    batch = len(rows)
    step = torch.randint(0, STEPS, (batch,), device=rows.device)
    kept = left[step][:, None, None, None]
    noisy = kept.sqrt() * rows + (1 - kept).sqrt() * torch.randn_like(rows)
    heard = net.encode(music)
    nothing = net.nothing(heard)
    dropped = torch.rand(batch, device=rows.device) < config.drop
    tokens = torch.where(dropped[:, None, None], nothing.tokens, heard.tokens)
    heard = Music(tokens, torch.where(dropped[:, None], nothing.summary, heard.summary))
    group = net.embed_group(heard, torch.randn_like(heard.summary))
    made = net(noisy, step, *heard, group).float()
    total = (made - rows).square().mean() + geometry(made, rows, config)
    if config.nce and batch > 1:
        total = total + config.nce * nce_loss(encoder, made[..., :MOTION], group, step, config)
    return total


def geometry(made: Tensor, rows: Tensor, config: DanceConfig) -> Tensor:
    """L_geo: joint positions, velocities of the rows, and feet that stand in the true dance and must not move.

    The released code asks the net itself which feet stand, which a net escapes by saying none.
    """
    joints, truth = joints_of_rows(made), joints_of_rows(rows)
    position = (joints - truth).square().mean()
    velocity = (made[..., :MOTION].diff(dim=2) - rows[..., :MOTION].diff(dim=2)).square().mean()
    stands = rows[..., :-1, MOTION:, None]
    foot = (joints[..., list(BODY.feet), :].diff(dim=2) * stands).square().mean()
    return config.position * position + config.velocity * velocity + config.foot * foot


def nce_loss(encoder: ContrastiveEncoder, made: Tensor, group: Tensor, step: Tensor, config: GcdConfig) -> Tensor:
    """L_nce of dances (B, N, T, 147) that a batch was denoised to, with their embeddings (B, width) and steps (B,).

    Half of the negatives are other groups, half the own group with some dancers of other groups, at least one (the
    released code may replace none). The paper denoises mixed groups again, which costs a pass of the net for each.
    """
    batch, dancers = made.shape[:2]
    steps = step[:, None].expand(-1, dancers)
    scores = [encoder(made, group, steps)]
    for number in range(config.negatives):
        other = (
            torch.arange(batch, device=made.device) + torch.randint(1, batch, (batch,), device=made.device)
        ) % batch
        swapped = torch.rand(batch, dancers, device=made.device) < config.replace
        swapped[torch.arange(batch), torch.randint(0, dancers, (batch,))] = True
        if number % 2:
            swapped[:] = True
        mixed = torch.where(swapped[..., None, None], made[other], made)
        scores.append(encoder(mixed, group, torch.where(swapped, steps[other], steps)))
    return -torch.stack(scores, 1).float().log_softmax(1)[:, 0].mean()


def gdancer_loss(made: Tensor, rows: Tensor, config: GdancerConfig) -> Tensor:
    """Squared error of the pose, and `geometry`; the paper states no loss."""
    made = torch.cat([made.float(), rows[..., MOTION:]], -1)
    return (made - rows).square().mean() + geometry(made, rows, config)


def _net(config: DanceConfig, training: Dances, validation: Dances, kind: type) -> nn.Module:
    net = build_net(config.net, CHOREOGRAPHY_NETS, None, config.seed)
    if not isinstance(net, kind):
        fitting = [name for name, build in CHOREOGRAPHY_NETS.items() if name.startswith(kind.__name__.lower())]
        raise InputError(f"{config.net} is trained otherwise: choose one of {', '.join(fitting)}.")
    for data in (training, validation):
        if data.features != net.features:
            raise InputError(
                f"{config.net} takes {net.features} features of music, {data.source} has {data.features}: choose a net "
                "whose name ends in small or 52 for ours."
            )
    if len(training) < config.batch:
        raise DataError(f"the training data must have at least {config.batch} dances, one batch, got {len(training)}.")
    return net


def _steps(config: DanceConfig, training: Dances) -> int:
    return len(training) // config.batch


def _described(training: Dances, validation: Dances) -> dict[str, dict[str, Any]]:
    return {"train": training.describe(), "val": validation.describe()}


def _some(data: Dances) -> Batch:
    chosen = np.unique(np.linspace(0, len(data) - 1, _JUDGED).astype(int))
    rows, music = zip(*(data.chunk(index, 0) for index in chosen), strict=True)
    return np.stack(rows), np.stack(music)


def _batches(data: Dances, config: DanceConfig, epoch: int) -> Iterator[Batch]:
    """Chunks from anywhere in a dance, each group turned and its dancers shuffled by chance."""
    order = np.random.default_rng([config.seed, epoch]).permutation(len(data))

    def make(step: int) -> Batch:
        rng = np.random.default_rng([config.seed, epoch, step])
        found = []
        for index in order[step * config.batch : (step + 1) * config.batch]:
            start = int(rng.integers(0, data.rows[index].shape[1] - CHUNK + 1))
            rows, music = data.chunk(index, start)
            found.append((rows[rng.permutation(len(rows))], music))
        rows, music = zip(*found, strict=True)
        return np.stack(rows), np.stack(music)

    return prefetched(make, len(data) // config.batch)


def _to(net: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    device = next(net.parameters()).device
    rows, music = (torch.from_numpy(array).to(device) for array in batch)
    return rows, music
