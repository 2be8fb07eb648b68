"""Distillation: the terms' closed forms, who learns from which of them, and a run that goes on where it was cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeflock.export.datasets.fields import Fields, write_fields
from edgeflock.export.datasets.volumes import Volume, VolumeDataset
from edgeflock.export.nets.ldr import LDR
from edgeflock.export.nets.spatial import compose
from edgeflock.export.nets.vtn import VTN
from edgeflock.export.training.config import DistilConfig
from edgeflock.export.training.methods import registration
from edgeflock.export.training.methods.distil import (
    Distillation,
    better,
    distance,
    foreground,
    gradient_norm,
    mix,
    on_bent,
    teacher_fields,
    train_distilled,
)
from edgeflock.export.training.methods.registration import Batch, registration_loss
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.phantom import CLASSES, bspline_field, draw_phantom

torch.set_num_threads(1)

SIZE = 32
TINY = DistilConfig(net="ldr", size=SIZE, epochs=2, steps=3, pairs=2, seed=3)


@pytest.fixture(scope="module")
def data() -> VolumeDataset:
    drawn = {str(seed): Volume(*draw_phantom(seed, SIZE)) for seed in (1, 2)}
    return VolumeDataset(list(drawn), tuple(CLASSES.values()), SIZE, drawn.__getitem__)


@pytest.fixture(scope="module")
def fields(data: VolumeDataset, tmp_path_factory: pytest.TempPathFactory) -> Fields:
    flow = 2 * bspline_field(np.random.default_rng(0).normal(0, 1, (3, 5, 5, 5)), SIZE)
    return write_fields(tmp_path_factory.mktemp("fields"), data, data.pairs, SIZE, "teacher", lambda _: flow)


def one_step(mode: str, fields: Fields, data: VolumeDataset, step: int = 5, **settings: Any) -> tuple[Any, ...]:
    """Loss of a fresh student in one step, and what it is made of: the loss's owner, student, fixed, moving."""
    torch.manual_seed(1)
    student = LDR()
    nn.init.normal_(student.flow.weight, std=2e-3)  # flows of about a voxel
    fixed, moving = (torch.from_numpy(data[i].image)[None, None] / 255 for i in (0, 1))
    batch = Batch(data[0].image[None], data[1].image[None], np.zeros((1, 3, *(SIZE,) * 3), np.float32), [(0, 1)], step)
    lesson = Distillation(TINY.model_copy(update={"mode": mode, "bend": 0, **settings}), fields)
    loss = lesson(student, fixed, moving, torch.from_numpy(batch.bend), batch)
    return loss, lesson, student, fixed, moving


def gradients(net: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in net.parameters() if p.grad is not None]


# ---- terms (docs/registration.md)


def test_slope_of_a_linear_critic_is_the_norm_of_its_weights() -> None:
    """So the penalty is (|a| - 1)^2 exactly."""
    a = torch.randn(3, 4, 4, 4)
    norms = gradient_norm(lambda flow: (a * flow).flatten(1).sum(1), torch.randn(2, 3, 4, 4, 4))
    assert torch.allclose(norms, a.norm().expand(2), rtol=1e-5)


def test_penalty_passes_a_gradient_to_the_critic() -> None:
    a = torch.full((3, 2, 2, 2), 2.0, requires_grad=True)
    (gradient_norm(lambda flow: (a * flow).flatten(1).sum(1), torch.ones(1, 3, 2, 2, 2)) - 1).pow(2).sum().backward()
    assert a.grad is not None and (a.grad > 0).all()


def test_joint_flow_goes_from_the_students_to_the_teachers() -> None:
    teacher, student = torch.randn(2, 1, 3, 2, 2, 2)
    assert torch.equal(mix(teacher, student, 0), student) and torch.equal(mix(teacher, student, 1), teacher)


def test_a_flow_is_bent_with_the_image() -> None:
    flow, bend = (
        torch.from_numpy(bspline_field(np.random.default_rng(i).uniform(-2, 2, (3, 5, 5, 5)), 24))[None] for i in (1, 2)
    )
    answer = on_bent(flow, bend)
    assert (compose(bend, answer) - flow).abs().max() < 0.02 < (answer - flow).abs().max()


def test_the_foreground_is_the_tissue_and_a_margin() -> None:
    """4 % of the side."""
    image = torch.full((1, 1, 48, 48, 48), 0.05)
    image[..., 8, 8, 8] = 1
    found = foreground(image)
    assert (found == 1).sum() == 5**3 and found[..., 8, 8, 6] == 1 and found[..., 8, 8, 5] == pytest.approx(0.1)


def test_distance_is_over_the_rms_and_weighted() -> None:
    student, teacher = torch.zeros(1, 3, 2, 2, 2), torch.full((1, 3, 2, 2, 2), 4.0)
    where = torch.tensor([1.0, 0])[None, None, :, None, None].expand(1, 1, 2, 2, 2)
    assert distance(student, teacher, 2.0, where).item() == pytest.approx(2**2)
    assert distance(student, teacher, 2.0, 0 * where) == 0


def test_the_teacher_is_believed_where_it_warps_better() -> None:
    fixed = torch.rand(1, 1, 8, 8, 16)
    still, off = torch.zeros(1, 3, 8, 8, 16), torch.zeros(1, 3, 8, 8, 16)
    off[:, :, :, :, 8:] = 3
    assert (better(still, off, fixed, fixed) == 1).all()
    assert (better(off, still, fixed, fixed)[..., :8] == 1).all() and (
        better(off, still, fixed, fixed)[..., 8:] == 0
    ).all()


# ---- who learns from what


def test_without_a_teacher_the_loss_is_that_of_the_images(data: VolumeDataset, fields: Fields) -> None:
    loss, _, student, fixed, moving = one_step("none", fields, data)
    assert torch.equal(loss, registration_loss(student, fixed, moving, TINY))


@pytest.mark.parametrize("mode", ["aldk", "aldk-literal"])
def test_the_critic_acts_on_every_third_step_alone(mode: str, data: VolumeDataset, fields: Fields) -> None:
    for step in (3, 4):
        loss, lesson, student, fixed, moving = one_step(mode, fields, data, step)
        assert torch.equal(loss, registration_loss(student, fixed, moving, TINY)) and not lesson.shares
    assert len(one_step(mode, fields, data, 5)[1].shares) == 1


def test_neither_learns_for_the_other(data: VolumeDataset, fields: Fields) -> None:
    """Frozen critic in the student's term, detached flow in the critic's."""
    runs = {}
    for weight in (0.0, 0.1):
        loss, lesson, student, fixed, moving = one_step("aldk", fields, data, critic=weight)
        loss.backward()
        runs[weight] = gradients(student), gradients(lesson.critic)
    for a, b in zip(runs[0.0][1], runs[0.1][1], strict=True):
        assert torch.allclose(a, b, atol=1e-6), "the critic learns the same, whatever the student takes from it"
    registration_loss(student, fixed, moving, TINY).backward()
    alone = one_step("none", fields, data)
    alone[0].backward()
    for a, b in zip(runs[0.0][0], gradients(alone[2]), strict=True):
        assert torch.allclose(a, b, atol=1e-6), "with no weight the critic teaches the student nothing"
    assert any(not torch.allclose(a, b, atol=1e-6) for a, b in zip(runs[0.0][0], runs[0.1][0], strict=True))


def test_the_critic_has_its_part_in_the_gradient_and_in_the_posts_form_none(
    data: VolumeDataset, fields: Fields
) -> None:
    shares = {mode: one_step(mode, fields, data)[1].figures()["critic_share"] for mode in ("aldk", "aldk-literal")}
    assert shares["aldk-literal"] < 0.01 < shares["aldk"]


def test_best_believes_in_the_teacher_less_and_less_at_the_end(data: VolumeDataset, fields: Fields) -> None:
    def worth(step: int) -> float:
        loss, _, student, fixed, moving = one_step("best", fields, data, step, epochs=10, steps=10)
        return (loss - registration_loss(student, fixed, moving, TINY)).item()

    assert worth(0) == pytest.approx(worth(80)) and worth(99) == pytest.approx(0.24 * worth(0), rel=0.01)


# ---- runs


def test_learning_of_flows_brings_the_student_nearer_to_the_teacher(
    data: VolumeDataset, fields: Fields, tmp_path: Path
) -> None:
    apart = {}
    for mode in ("none", "mse"):
        config = TINY.model_copy(update={"mode": mode, "steps": 6, "epochs": 1, "lr": 3e-3, "ema": 0, "weight": 5.0})
        train_distilled(config, data, data, fields, tmp_path / mode)
        net = registration.build_net("ldr", registration.REGISTRATION_NETS, tmp_path / mode / "best.safetensors", 0)
        with torch.no_grad():
            flow = net(*(torch.from_numpy(data[i].image)[None, None] / 255 for i in (0, 1)))
        apart[mode] = float((flow - torch.from_numpy(fields[(0, 1)])).pow(2).mean())
    assert apart["mse"] < 0.9 * apart["none"]


def test_a_cut_run_with_a_critic_goes_on_to_the_same_end(
    data: VolumeDataset, fields: Fields, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, calls, figures = TINY.model_copy(update={"mode": "aldk"}), [], registration.figures

    def interrupt(*arguments: Any) -> dict[str, float]:
        calls.append(arguments)
        if len(calls) == 3:  # without registration, epoch 1, epoch 2
            raise KeyboardInterrupt
        return figures(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(registration, "figures", interrupt)
        train_distilled(config, data, data, fields, tmp_path / "cut")
    resumed = train_distilled(config, data, data, fields, tmp_path / "cut")
    assert resumed["history"] == train_distilled(config, data, data, fields, tmp_path / "whole")["history"]
    assert 0 < resumed["figures"]["critic_share"] < 1 and resumed["data"]["teacher"]["sha256"] == "teacher"


def test_features_come_from_a_vtn_on_the_same_images(tmp_path: Path) -> None:
    drawn = {str(seed): Volume(*draw_phantom(seed, 64)) for seed in (1, 2)}
    data = VolumeDataset(list(drawn), tuple(CLASSES.values()), 64, drawn.__getitem__)
    weights = tmp_path / "weights"
    weights.touch()
    teacher = VTN().eval()
    fields = teacher_fields(teacher, weights, data, data.pairs[:1], 64, tmp_path / "fields")
    config = DistilConfig(net="ldr", size=64, epochs=1, steps=1, pairs=1, mode="features")
    assert "dice" in train_distilled(config, data, data, fields, tmp_path / "run", teacher=teacher)["figures"]
    with pytest.raises(InputError, match="compares with LDR's layers"):
        train_distilled(
            config.model_copy(update={"net": "voxelmorph"}), data, data, fields, tmp_path / "other", teacher=teacher
        )


def test_bad_settings_are_named(data: VolumeDataset, fields: Fields, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fields of 32\^3, the student trains at 16\^3"):
        train_distilled(TINY.model_copy(update={"size": 16}), data, data, fields, tmp_path)
    with pytest.raises(InputError, match="needs the weights of a VTN"):
        train_distilled(TINY.model_copy(update={"mode": "features"}), data, data, fields, tmp_path, teacher=LDR())
