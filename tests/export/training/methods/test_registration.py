"""Registration without labels: the losses' closed forms, and a training that learns, resumes and says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeflock.export.datasets.synthetic.phantoms import phantoms
from edgeflock.export.datasets.volumes import Volume, VolumeDataset, open_volumes
from edgeflock.export.nets.spatial import affine_flow
from edgeflock.export.nets.vtn import VTNAffine
from edgeflock.export.training.config import RegistrationConfig
from edgeflock.export.training.loop.checkpoint import load_checkpoint
from edgeflock.export.training.methods import registration
from edgeflock.export.training.methods.registration import (
    affine_penalties,
    correlation,
    figures,
    folding,
    registration_loss,
    smoothness,
    train_registration,
)
from edgeflock.runtime.errors import InputError

torch.set_num_threads(1)

TINY = RegistrationConfig(net="ldr", size=16, epochs=2, steps=3, pairs=2, seed=3)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    phantoms(folder, train=3, val=2, size=32, seed=1)
    return folder / "phantoms.json"


# ---- losses (docs/nets.md)


def test_correlation_is_numpys_and_ignores_brightness_and_contrast() -> None:
    a, b = torch.rand(2, 2, 1, 4, 5, 6, dtype=torch.float64)
    expected = [np.corrcoef(x.numpy().ravel(), y.numpy().ravel())[0, 1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(correlation(a, b), expected, atol=1e-9)
    np.testing.assert_allclose(correlation(0.3 * a + 7, b), expected, atol=1e-9)
    np.testing.assert_allclose(correlation(-a, b), np.negative(expected), atol=1e-9)
    np.testing.assert_allclose(correlation(a, a), 1, atol=1e-9)


def test_correlation_has_a_right_gradient() -> None:
    a, b = torch.rand(2, 1, 1, 3, 3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(correlation, (a.requires_grad_(), b.requires_grad_()))


def test_correlation_of_a_constant_is_0() -> None:
    assert correlation(torch.ones(1, 1, 4, 4, 4), torch.rand(1, 1, 4, 4, 4)).item() == 0


def test_smoothness_of_a_constant_and_of_a_linear_flow() -> None:
    assert smoothness(torch.full((1, 3, 5, 6, 7), 4.0)) == 0
    z = torch.arange(5.0)[:, None, None].expand(5, 6, 7)
    flow = torch.stack([0.5 * z, torch.zeros_like(z), torch.zeros_like(z)])[None]
    # 4 of 5 planes differ from the next, by 0.5, in one of three channels
    assert smoothness(flow).item() == pytest.approx(0.5 * 0.25 * (4 / 5) / 3)


def test_affine_penalties_spare_rotations_and_name_the_rest() -> None:
    turn = torch.tensor([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    for matrix, determinant, orthogonality in (
        (turn, 0, 0),
        (2 * torch.eye(3), 0.5 * 7**2, 3 * (4 + 1 / 4) - 6),
        (torch.diag(torch.tensor([2, 0.5, 1])), 0, 2 * (4 + 1 / 4) + 2 - 6),
    ):
        flow = affine_flow((matrix - torch.eye(3))[None], torch.tensor([[3.0, 0, 1]]), 8)
        got = affine_penalties(flow)
        assert got[0].item() == pytest.approx(determinant, abs=1e-4)
        assert got[1].item() == pytest.approx(orthogonality, abs=1e-3)


def test_only_the_last_warped_image_counts_and_every_stem_is_regularised() -> None:
    torch.manual_seed(0)
    net, (fixed, moving) = VTNAffine(size=64), torch.rand(2, 1, 1, 64, 64, 64)
    config = RegistrationConfig(net="vtn-affine", smoothness=0, affine=0)
    with torch.no_grad():
        for stem in (net.stems[0].change, net.stems[1].flow):
            stem.weight.mul_(300)
        flows, aggregate = net.stages(fixed, moving)
        bare = registration_loss(net, fixed, moving, config)
        smooth = registration_loss(net, fixed, moving, config.model_copy(update={"smoothness": 2.0}))
        rigid = registration_loss(net, fixed, moving, config.model_copy(update={"affine": 2.0}))
    assert 0 < bare < 2
    assert (smooth - bare).item() == pytest.approx(2 * smoothness(flows[1]).item(), rel=1e-3)
    assert (rigid - bare).item() == pytest.approx(2 * sum(affine_penalties(flows[0])).item(), rel=1e-2)
    assert aggregate.shape == (1, 3, 64, 64, 64)


def test_folding_counts_what_the_determinant_lacks() -> None:
    mirror = affine_flow(torch.diag(torch.tensor([-2.0, 0, 0]))[None], torch.zeros(1, 3), 6)
    assert folding(mirror).item() == pytest.approx(1.1) and folding(torch.zeros(1, 3, 6, 6, 6)) == 0


# ---- training


def test_learns_to_register_phantoms(spec: Path, tmp_path: Path) -> None:
    data = open_volumes(spec, "train")
    config = RegistrationConfig(net="ldr", size=32, epochs=1, steps=60, lr=3e-3, ema=0.9, bend=0, pairs=2, seed=1)
    found = train_registration(config, data, data, tmp_path)["figures"]
    assert found["dice"] > found["constant"] + 0.05
    assert found["folded"] < 0.02 and found["correlation"] > 0.8


def test_result_and_files_agree(spec: Path, tmp_path: Path) -> None:
    training, validation = open_volumes(spec, "train"), open_volumes(spec, "val")
    result = train_registration(TINY, training, validation, tmp_path, command="edgeflock train registration")
    assert result == json.loads((tmp_path / "result.json").read_text())
    described = {"volumes": 2, "classes": [1, 2, 3, 4], "sha256": validation.digest(), "synthetic": True}
    assert result["data"]["val"] == described and result["synthetic"]
    name, _ = load_checkpoint(tmp_path / "best.safetensors")
    assert name == "ldr" and result["figures"]["dice"] == max(past["dice"] for past in result["history"])
    assert train_registration(TINY, training, validation, tmp_path, command="edgeflock train registration") == result
    with pytest.raises(InputError, match=r"smoothness=1\.0, this one has 2\.0"):
        train_registration(TINY.model_copy(update={"smoothness": 2.0}), training, validation, tmp_path)


def test_volumes_without_segmentation_are_judged_by_correlation(spec: Path, tmp_path: Path) -> None:
    labelled = open_volumes(spec, "train")
    bare = VolumeDataset(labelled.names, (1,), 32, lambda name: Volume(labelled.read(name).image, None))
    found = train_registration(TINY, bare, bare, tmp_path)["figures"]
    assert "dice" not in found and 0 < found["constant"] < 1 and found["correlation"] > 0.9 * found["constant"]


def test_no_registration_leaves_everything_where_it_is(spec: Path) -> None:
    data = open_volumes(spec, "val")
    pair = {name: torch.from_numpy(data[i].image)[None, None].float() for i, name in enumerate(("fixed", "moving"))}
    before = figures(None, [{**pair, "labels": [data[0].labels, data[1].labels]}], data.classes)
    assert before["folded"] == before["jacobian_std"] == 0 and 0 < before["dice"] < 1
    same = figures(None, [{**pair, "moving": pair["fixed"], "labels": [data[0].labels] * 2}], data.classes)
    assert same["dice"] == 1 and same["correlation"] == pytest.approx(1)


def test_interrupted_run_goes_on_to_the_history_of_an_uninterrupted_one(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, calls = (open_volumes(spec, "train"), open_volumes(spec, "val")), []

    def interrupt(*arguments: Any) -> dict[str, float]:
        calls.append(arguments)
        if len(calls) == 3:  # without registration, epoch 1, epoch 2
            raise KeyboardInterrupt
        return figures(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(registration, "figures", interrupt)
        train_registration(TINY, *data, tmp_path / "cut")
    resumed = train_registration(TINY, *data, tmp_path / "cut")
    assert resumed["history"] == train_registration(TINY, *data, tmp_path / "whole")["history"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": "fadnet"}, "unknown net 'fadnet': choose one of ldr"),
        ({"net": "vtn-affine", "size": 32}, r"vtn-affine takes the size \{128\}, got 32"),
        ({"size": 20}, "any multiple of 16"),
        ({"size": 64}, "sides of 32 voxels"),
    ],
)
def test_bad_settings_are_named(spec: Path, tmp_path: Path, change: dict, message: str) -> None:
    data = open_volumes(spec, "val")
    with pytest.raises(InputError, match=message):
        train_registration(TINY.model_copy(update=change), data, data, tmp_path)
