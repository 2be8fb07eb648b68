"""A light registration net learns from a heavy one: ALDK of the LDR post (IEEE TMI 2022), and what works better.

Whatever the mode, the images and the smoothness of `registration_loss` are learnt from. The teacher's flows come from
files; where the moving image is bent, they are bent with it. u is a flow over the root mean square of the teacher's.

* `none`: nothing is learnt from the teacher.
* `mse`: the mean of (u_s - u_t)^2 over the foreground.
* `features`: `mse`, and the distance of the features at three sizes (Hu et al., IEEE TCSVT 2022).
* `aldk-literal`: the post's formulas as they are written: gamma 0.3, lambda 0.1, beta 0.1.
* `aldk`: a Wasserstein critic (Gulrajani et al. 2017, arXiv 1704.00028) of u, the fixed and the warped image, whose
  penalty asks for a slope of 1 per unit of root mean square distance.
* `best`: `mse` where the teacher warps better than the student does, fading out over the last fifth of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from edgeflock.export.datasets.fields import Fields, Pair, write_fields
from edgeflock.export.datasets.volumes import VolumeDataset
from edgeflock.export.nets.critic import Critic
from edgeflock.export.nets.ldr import LDR
from edgeflock.export.nets.spatial import Cascade, warp
from edgeflock.export.nets.vtn import VTN, AffineStem
from edgeflock.export.training.config import DistilConfig
from edgeflock.export.training.loop.optimisers import Adam
from edgeflock.export.training.methods.registration import (
    Batch,
    Lesson,
    check_size,
    image_loss,
    stages,
    to_input,
    train_registration,
)
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import sha256_of

ADVERSARIAL = ("aldk", "aldk-literal")
GAMMA, LAMBDA, BETA = 0.3, 0.1, 0.1
"""The values of the authors' code for the post's loss (`aioz-ai/LDR_ALDK`)."""

FOREGROUND, MARGIN, BACKGROUND_WEIGHT = 0.1, 0.04, 0.1
"""Intensity above which a voxel is tissue, part of the side by which it is dilated, and what the rest counts."""

BLOCK = 8
"""Side, in voxels, of the cubes in which teacher and student are compared."""

FADING = 0.8
"""Share of the steps after which the teacher's weight falls to a fifth: in the end the images decide."""

LEVELS = {"refine3": "deconv3", "refine2": "deconv2", "refine1": "deconv1"}
"""Layers of VTN and of LDR that give 64, 32 and 16 features at the same sizes."""


def train_distilled(
    config: DistilConfig,
    training: VolumeDataset,
    validation: VolumeDataset,
    fields: Fields,
    out: str | Path,
    *,
    teacher: nn.Module | None = None,
    init: str | Path | None = None,
    fresh: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Train a student; goes on where an interrupted run in `out` stopped.

    Parameters
    ----------
    config : DistilConfig
    training, validation : VolumeDataset
    fields : Fields
        Flows of a teacher for pairs of `training` (see `teacher_fields`).
    out : str or Path
    teacher : nn.Module, optional
        The teacher itself, which only `features` needs.
    init, fresh, command
        See `train_registration`.

    Returns
    -------
    dict
        As `train_registration`; with a critic the figures have `critic_share`, the critic's part in the norm of the
        loss's gradient with respect to the flow, mean over the epoch.

    Raises
    ------
    InputError, DataError
        See `train_registration`; fields of another size, a student or teacher without features to compare.
    """
    if fields.size != config.size:
        raise InputError(f"{fields.folder} holds fields of {fields.size}^3, the student trains at {config.size}^3.")
    lesson = Distillation(config, fields, teacher)
    own = [Adam(lesson.critic.parameters(), config.critic_lr, betas=(0.0, 0.9))] if lesson.critic else []
    return train_registration(
        config,
        training,
        validation,
        out,
        Lesson(
            lesson,
            fields.pairs,
            {"teacher": {"sha256": fields.origin, "pairs": len(fields.pairs), "rms": fields.rms}},
            lesson.critic or lesson.adapters,
            own,
            lesson.figures,
        ),
        init=init,
        fresh=fresh,
        command=command,
    )


def teacher_fields(
    teacher: nn.Module,
    weights: Path,
    data: VolumeDataset,
    pairs: list[Pair],
    size: int,
    folder: Path,
    track: Callable[[list[Pair]], Iterable[Pair]] = iter,
) -> Fields:
    """Let a net answer pairs of volumes and keep its flows; goes on where an interrupted call stopped.

    A teacher with an affine stem answers at that stem's size, and its flows are averaged to `size`.

    Parameters
    ----------
    teacher : nn.Module
    weights : Path
        File that it came from.
    data, pairs, size, folder, track
        See `edgeflock.export.datasets.fields.write_fields`.

    Raises
    ------
    InputError
        The teacher does not take the volumes, and as for `write_fields`.
    """
    own = next((stem.size for stem in teacher.modules() if isinstance(stem, AffineStem)), size)
    check_size("the teacher", teacher, own, data)
    if own % size:
        raise InputError(f"the teacher's flows are {own}^3, which --size {size} does not divide evenly.")

    @torch.inference_mode()
    def answer(pair: Pair) -> np.ndarray:
        fixed, moving = (to_input(torch.from_numpy(data[i].image[None]), own) for i in pair)
        flow = teacher(fixed, moving) * (size / own)
        return F.avg_pool3d(flow, own // size)[0].numpy()

    return write_fields(folder, data, pairs, size, sha256_of(weights), answer, track)


@dataclass(eq=False)
class Distillation:
    """The loss of one run, `edgeflock.export.training.methods.registration.Loss`."""

    config: DistilConfig
    fields: Fields
    teacher: nn.Module | None = None
    critic: Critic | None = field(init=False, default=None)
    adapters: nn.ModuleDict | None = field(init=False, default=None)
    shares: list[float] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        torch.manual_seed(self.config.seed)
        if self.config.mode in ADVERSARIAL:
            literal = self.config.mode == "aldk-literal"
            self.critic = Critic(3 if literal else 5, literal)
        if self.config.mode == "features":
            if self.teacher is None or not isinstance(_last_stem(self.teacher), VTN):
                raise InputError("the mode features needs the weights of a VTN: pass --teacher, or another --mode.")
            self.adapters = nn.ModuleDict(
                {level: nn.Conv3d(width, width, 1) for level, width in zip(LEVELS, (64, 32, 16), strict=True)}
            )

    def __call__(self, net: nn.Module, fixed: Tensor, moving: Tensor, bend: Tensor, batch: Batch) -> Tensor:
        """Loss of one step; gradients reach the net, and the critic where this step is its own."""
        config, mode = self.config, self.config.mode
        if mode == "features":
            return self._with_features(net, fixed, moving, bend, batch)
        flows, student = stages(net, fixed, moving)
        images = image_loss(net, flows, student, fixed, moving, config)
        if mode == "none" or (mode in ADVERSARIAL and (batch.step + 1) % config.every):
            return images
        teacher = self._teacher(bend, batch)
        with torch.autocast(fixed.device.type, enabled=False):
            if mode in ADVERSARIAL:
                return self._adversarial(images, student, teacher, fixed, moving, batch.step)
            weight, where = config.weight, foreground(fixed)
            if mode == "best":
                done = batch.step / (config.epochs * config.steps)
                weight *= 1 - 0.8 * max(0.0, done - FADING) / (1 - FADING)
                where = where * better(teacher, student.detach(), fixed, moving)
            return images + weight * distance(student, teacher, self.fields.rms, where)

    def figures(self) -> dict[str, float]:
        """The critic's share since the last call."""
        found = {"critic_share": float(np.mean(self.shares))} if self.shares else {}
        self.shares.clear()
        return found

    def _teacher(self, bend: Tensor, batch: Batch) -> Tensor:
        flow = torch.from_numpy(np.stack([self.fields[pair] for pair in batch.pairs])).to(bend.device)
        return on_bent(flow, bend) if self.config.bend else flow

    # --- critic

    def _adversarial(
        self, images: Tensor, student: Tensor, teacher: Tensor, fixed: Tensor, moving: Tensor, step: int
    ) -> Tensor:
        config, critic = self.config, self.critic
        assert critic is not None
        frozen = {name: parameter.detach() for name, parameter in critic.named_parameters()}
        detached = student.detach()
        if critic.literal:
            paired = (functional_call(critic, frozen, student) - functional_call(critic, frozen, teacher)).pow(2)
            parts = GAMMA * images, (1 - GAMMA) * paired.sum(1).mean()
            mixed = mix(teacher, detached, BETA)
            slope = gradient_norm(lambda flow: critic(flow).mean(1), mixed)
            told_apart = (critic(detached) - critic(teacher)).pow(2).sum(1).mean()
            own = LAMBDA * (slope - 1).pow(2).mean() - told_apart
        else:

            def seen(flow: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                return flow / self.fields.rms, fixed, warp(moving, flow)

            behind = functional_call(critic, frozen, seen(teacher)) - functional_call(critic, frozen, seen(student))
            ramp = min(1.0, step / (0.2 * config.epochs * config.steps))
            parts = images, config.critic * ramp * behind.mean()
            share = torch.rand(len(fixed), 1, 1, 1, 1, device=fixed.device)
            mixed = mix(teacher, detached, share)
            warped = warp(moving, mixed)
            slope = gradient_norm(lambda u: critic(u, fixed, warped), mixed / self.fields.rms)
            slope = slope * mixed[0].numel() ** 0.5
            own = critic(*seen(detached)).mean() - critic(*seen(teacher)).mean()
            own = own + config.penalty * (slope - 1).pow(2).mean()
        norms = [float(torch.autograd.grad(part, student, retain_graph=True)[0].norm()) for part in parts]
        self.shares.append(norms[1] / (sum(norms) or 1))
        return parts[0] + parts[1] + own

    # --- features

    def _with_features(self, net: nn.Module, fixed: Tensor, moving: Tensor, bend: Tensor, batch: Batch) -> Tensor:
        """The teacher runs on the very images, since files have no features."""
        assert self.teacher is not None and self.adapters is not None
        student_stem, teacher_stem = _last_stem(net), _last_stem(self.teacher.to(fixed.device))
        if not isinstance(student_stem, LDR):
            raise InputError(
                "the mode features compares with LDR's layers: choose an LDR for --net, or another --mode."
            )
        with torch.no_grad(), _outputs({k: getattr(teacher_stem, k).deconv for k in LEVELS}) as told:
            teacher = self.teacher(fixed, moving)
        with _outputs({k: getattr(student_stem, layer) for k, layer in LEVELS.items()}) as mine:
            flows, student = stages(net, fixed, moving)
        total = image_loss(net, flows, student, fixed, moving, self.config)
        total = total + self.config.weight * distance(student, teacher.float(), self.fields.rms, foreground(fixed))
        for level, goal in told.items():
            apart = (self.adapters[level](mine[level]) - goal).pow(2).mean() / goal.var()
            total = total + self.config.feature_weight * apart
        return total


def on_bent(flow: Tensor, bend: Tensor) -> Tensor:
    """The flow that does for a moving image warped by `bend` what `flow` does for the image itself.

    compose(bend, answer) = flow, that is answer(x) = flow(x) - bend(x + answer(x)), by fixed-point steps: a bend of
    smooth B-splines changes by less than a voxel from one voxel to the next.
    """
    answer = flow - bend
    for _ in range(6):
        answer = flow - warp(bend, answer)
    return answer


def foreground(fixed: Tensor) -> Tensor:
    """Weights (N, 1, D, H, W): 1 in the tissue and near it, little elsewhere."""
    tissue = (fixed > FOREGROUND).to(fixed.dtype)
    margin = round(MARGIN * fixed.shape[-1])
    for axis in range(3):
        kernel = [2 * margin + 1 if i == axis else 1 for i in range(3)]
        tissue = F.max_pool3d(tissue, kernel, 1, [n // 2 for n in kernel])
    return BACKGROUND_WEIGHT + (1 - BACKGROUND_WEIGHT) * tissue


def better(teacher: Tensor, student: Tensor, fixed: Tensor, moving: Tensor) -> Tensor:
    """1 where the teacher's warped image is at least as near to the fixed one as the student's, in cubes; else 0."""
    errors = [F.avg_pool3d((warp(moving, flow) - fixed) ** 2, BLOCK) for flow in (teacher, student)]
    return F.interpolate((errors[0] <= errors[1]).to(fixed.dtype), size=fixed.shape[2:], mode="nearest")


def distance(student: Tensor, teacher: Tensor, rms: float, where: Tensor) -> Tensor:
    """Mean of (u_s - u_t)^2 over voxels and axes, weighted by `where` (N, 1, D, H, W)."""
    apart = ((student - teacher) / rms).pow(2).mean(1, keepdim=True)
    return (where * apart).sum() / where.sum().clamp(min=1e-6)


def mix(teacher: Tensor, student: Tensor, share: float | Tensor) -> Tensor:
    """The joint flow at which the slope is penalised."""
    return share * teacher + (1 - share) * student


def gradient_norm(judge: Callable[[Tensor], Tensor], flow: Tensor) -> Tensor:
    """Euclidean norm of the gradient of a critic's answer, one for each flow (N, ...) -> (N,)."""
    flow = flow.detach().requires_grad_()
    (slope,) = torch.autograd.grad(judge(flow).sum(), flow, create_graph=True)
    return slope.flatten(1).norm(dim=1)


@contextmanager
def _outputs(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """What layers answer within the block, by name."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _layer, _given, answer: found.__setitem__(name, answer)

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _last_stem(net: nn.Module) -> nn.Module:
    return net.stems[-1] if isinstance(net, Cascade) else net
