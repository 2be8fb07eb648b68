"""Flows: warp, composition, Jacobian and cascades against closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from edgeflock.export.graph import predict
from edgeflock.export.nets.spatial import (
    Cascade,
    affine_flow,
    compose,
    compose_affine,
    integrate,
    jacobian_determinant,
    linear_part,
    warp,
)
from edgeflock.export.onnx import export_onnx
from edgeflock.runtime.prepare.phantom import bspline_field

torch.set_num_threads(1)
SHAPE = (12, 14, 17)


def image(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


def rough_flow(shape: tuple[int, ...] = SHAPE, seed: int = 1) -> np.ndarray:
    """Reaches beyond every border."""
    return np.random.default_rng(seed).normal(0, 6, (3, *shape)).astype(np.float32)


def smooth_flow(size: int, amplitude: float, seed: int) -> Tensor:
    control = np.random.default_rng(seed).uniform(-amplitude, amplitude, (3, 4, 4, 4))
    return torch.from_numpy(bspline_field(control, size))[None]


def tensors(*arrays: np.ndarray) -> list[Tensor]:
    """Volumes (D, H, W) to (1, 1, D, H, W), flows (3, D, H, W) to (1, 3, D, H, W)."""
    return [torch.from_numpy(array)[(None,) * (5 - array.ndim)] for array in arrays]


def test_warp_is_trilinear_and_clamped_like_scipys() -> None:
    volume, flow = image(), rough_flow()
    expected = map_coordinates(volume, np.indices(SHAPE) + flow, order=1, mode="nearest")
    assert np.abs(warp(*tensors(volume, flow))[0, 0].numpy() - expected).max() < 1e-5


def test_warp_in_a_graph_is_the_same_without_grid_sample() -> None:
    class Warp(nn.Module):
        def forward(self, volume: Tensor, flow: Tensor) -> Tensor:
            return warp(volume, flow)

    volume, flow = torch.from_numpy(np.stack([image(), image(seed=2)]))[None], tensors(rough_flow())[0]
    model = export_onnx(Warp(), {"volume": volume.shape, "flow": flow.shape}, ["warped"])
    assert "GridSample" not in {node.op_type for node in model.graph.node}
    got = predict(model, {"volume": volume.numpy(), "flow": flow.numpy()})["warped"]
    assert np.abs(got - warp(volume, flow).numpy()).max() < 1e-5


def test_warp_by_nothing_and_by_whole_voxels() -> None:
    volume, still = tensors(image(), np.zeros((3, *SHAPE), np.float32))
    assert torch.allclose(warp(volume, still), volume, atol=1e-6)
    shift = still + torch.tensor([2.0, -1, 3])[:, None, None, None]
    moved = warp(volume, shift)
    assert torch.allclose(moved[..., :-2, 1:, :-3], volume[..., 2:, :-1, 3:], atol=1e-5)


def test_warp_passes_gradients_to_image_and_flow() -> None:
    rng = torch.Generator().manual_seed(3)
    volume = torch.rand(1, 1, 4, 5, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    flow = 0.3 + 0.4 * torch.rand(1, 3, 4, 5, 4, generator=rng, dtype=torch.float64)  # never on a whole voxel
    assert torch.autograd.gradcheck(warp, (volume, flow.requires_grad_()))


def test_composition_does_in_one_warp_what_two_do() -> None:
    """On ramps, which trilinear sampling reproduces, exactly."""
    size = 24
    ramps = torch.from_numpy(np.indices((size,) * 3).astype(np.float32))[None]
    first, then = smooth_flow(size, 4, 1), smooth_flow(size, 4, 2)
    inside = (slice(None), slice(None), *(slice(5, -5),) * 3)
    twice = warp(warp(ramps, first), then)[inside]
    assert torch.allclose(warp(ramps, compose(first, then))[inside], twice, atol=1e-4)
    assert (warp(ramps, first + then)[inside] - twice).abs().max() > 0.1


def test_composing_an_affine_flow_needs_no_sampling() -> None:
    size = 16
    affine = affine_flow(torch.tensor([[[0.1, -0.05, 0], [0.02, -0.1, 0.03], [0, 0.04, 0.05]]]), torch.ones(1, 3), size)
    inside = (slice(None), slice(None), *(slice(4, -4),) * 3)
    flow = smooth_flow(size, 2, 1)
    assert torch.allclose(compose_affine(affine, flow)[inside], compose(affine, flow)[inside], atol=1e-4)


def test_integration_of_a_linear_velocity_is_the_matrix_exponential() -> None:
    velocity = affine_flow(torch.diag(torch.tensor([0.2, -0.3, 0.1]))[None], torch.zeros(1, 3), 15)
    expected = affine_flow(torch.diag(torch.tensor([0.2, -0.3, 0.1]).exp() - 1)[None], torch.zeros(1, 3), 15)
    assert (integrate(velocity) - expected)[..., 5:10, 5:10, 5:10].abs().max() < 0.02


def test_there_and_back_again_is_the_identity() -> None:
    velocity = smooth_flow(24, 3, 4)
    assert compose(integrate(velocity), integrate(-velocity)).abs()[..., 6:-6, 6:-6, 6:-6].max() < 0.1


@pytest.mark.parametrize("scale", [1.0, 0.5, 1.25])
def test_jacobian_of_a_scaling_is_its_cube(scale: float) -> None:
    flow = affine_flow((scale - 1) * torch.eye(3)[None], torch.zeros(1, 3), 9)
    determinant = jacobian_determinant(flow)
    assert determinant.shape == (1, 8, 8, 8)
    assert torch.allclose(determinant, torch.tensor(scale**3), atol=1e-5) and determinant.std() < 1e-5


def test_jacobian_of_any_affine_flow_is_its_determinant_and_of_a_mirror_negative() -> None:
    change = torch.tensor([[[0.1, -0.3, 0.2], [0.05, -0.2, 0.1], [0.3, 0.2, 0.1]]])
    expected = torch.linalg.det(change[0] + torch.eye(3))
    flow = affine_flow(change, torch.tensor([[1.0, 2, 3]]), 6)
    assert torch.allclose(jacobian_determinant(flow), expected, atol=1e-5)
    assert torch.allclose(linear_part(flow), change, atol=1e-5)
    mirror = affine_flow(torch.diag(torch.tensor([-2.0, 0, 0]))[None], torch.zeros(1, 3), 6)
    assert torch.allclose(jacobian_determinant(mirror), torch.tensor(-1.0))


def test_affine_flow_turns_about_the_centre() -> None:
    flow = affine_flow(torch.tensor([[[0.5, 0, 0], [0, 0, 1], [0, 0, 0]]]), torch.tensor([[0.0, 0, 7]]), 5)
    assert flow[0, :, 2, 2, 2].tolist() == [0, 0, 7]
    assert flow[0, :, 4, 2, 1].tolist() == [1, -1, 7]


def test_cascade_composes_and_shows_each_stem_what_is_left() -> None:
    class Shift(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by, self.seen = by, torch.empty(0)

        def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
            self.seen = moving
            return torch.tensor([self.by, 0.0, 0.0])[:, None, None, None].expand(1, 3, *moving.shape[2:])

    stems = [Shift(1), Shift(2), Shift(-4)]
    [volume] = tensors(image())
    flow = Cascade(stems)(volume, volume)
    assert torch.allclose(flow[:, 0], torch.tensor(-1.0)) and not flow[:, 1:].any()
    for stem, shift in zip(stems, (0, 1, 3), strict=True):
        assert torch.allclose(stem.seen[:, :, : 12 - shift], volume[:, :, shift:], atol=1e-5)
