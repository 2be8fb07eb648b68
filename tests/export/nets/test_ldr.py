"""The registration nets: parameters as in docs/nets.md, shapes, and that they can learn."""

from __future__ import annotations

import pytest
import torch

from edgeflock.export.nets import NETS, REGISTRATION_NETS
from edgeflock.export.nets.ldr import LDR
from edgeflock.export.nets.spatial import jacobian_determinant, warp
from edgeflock.export.nets.vtn import VTN, AffineStem, VTNAffine
from edgeflock.export.training.methods.registration import correlation

torch.set_num_threads(1)

COUNTS = {
    "ldr": 1_548_528,
    "ldr-2": 2 * 1_548_528,
    "ldr-3": 3 * 1_548_528,
    "ldr-cheap-head": 1_544_979,
    "ldr-diffeomorphic": 1_544_979,
    "ldr-released": 280_659,
    "voxelmorph": 300_547,
    "vtn": 28_252_203,
    "vtn-affine": 42_418_491,
    "vtn-affine-2": 70_670_694,
    "vtn-affine-3": 98_922_897,
}


def count(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("name", REGISTRATION_NETS)
def test_parameters_are_counted_as_published_or_as_counted(name: str) -> None:
    with torch.device("meta"):
        assert count(NETS[name]()) == COUNTS[name]


def test_parameters_of_each_layer_of_ldr() -> None:
    """docs/nets.md."""
    expected = [2_064, 32_800, 131_136, 524_416, 524_288, 262_144, 65_536, 6_144]
    assert [count(layer) for layer in LDR().children()] == expected


def test_affine_stem_has_as_many_parameters_as_counted() -> None:
    with torch.device("meta"):
        assert count(AffineStem()) == 14_166_288


def test_flow_of_ldr_has_the_size_of_the_volumes() -> None:
    with torch.no_grad():
        assert LDR()(*torch.rand(2, 1, 1, 128, 128, 128)).shape == (1, 3, 128, 128, 128)


@pytest.mark.parametrize(
    "name", ["ldr", "ldr-2", "ldr-cheap-head", "ldr-diffeomorphic", "ldr-released", "voxelmorph", "vtn"]
)
def test_convolutional_nets_take_other_sizes_and_start_near_the_identity(name: str) -> None:
    torch.manual_seed(0)
    size = 64 if name == "vtn" else 32
    with torch.no_grad():
        flow = NETS[name]()(*torch.rand(2, 1, 1, size, size, size))
    assert flow.shape == (1, 3, size, size, size)
    assert 0 < flow.abs().max() < 0.5


def test_vtn_with_affine_stem_joins_both_flows_at_another_size() -> None:
    torch.manual_seed(0)
    net, volumes = VTNAffine(size=64).eval(), torch.rand(2, 1, 1, 64, 64, 64)
    torch.nn.init.normal_(net.stems[0].offset.weight, std=1)
    with torch.no_grad():
        (affine, deformable), aggregate = net.stages(*volumes)
    assert affine.std((2, 3, 4)).max() < 0.05 < affine.abs().max(), "an offset alone"
    assert torch.allclose(aggregate, affine + deformable, atol=1e-2)


@pytest.mark.parametrize("net", ["ldr", "ldr-cheap-head", "ldr-diffeomorphic"])
def test_one_pair_can_be_learnt_by_heart(net: str) -> None:
    torch.manual_seed(0)
    axis = torch.linspace(-1, 1, 16)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    fixed, moving = (
        torch.exp(-4 * ((z - shift) ** 2 + (y + shift) ** 2 + 2 * x**2))[None, None] for shift in (0.1, -0.15)
    )
    model = NETS[net]()
    optimiser = torch.optim.Adam(model.parameters(), 4e-3)
    before = correlation(moving, fixed).item()
    for _ in range(30):
        loss = 1 - correlation(warp(moving, model(fixed, moving)), fixed).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert before < 0.8 and loss.item() < 0.05


def test_deconvolutions_begin_without_stripes() -> None:
    """What is the same everywhere comes out the same in odd and even voxels."""
    torch.manual_seed(0)
    net = LDR()
    with torch.no_grad():
        out = net.deconv2(torch.ones(1, 128, 6, 6, 6))[..., 2:-2, 2:-2, 2:-2]
    assert out.std((2, 3, 4)).max() < 1e-5 < out.std(1).min()


def test_diffeomorphic_flow_does_not_fold_where_another_does() -> None:
    torch.manual_seed(0)
    x = torch.nn.functional.interpolate(torch.randn(1, 32, 5, 5, 5), size=(16, 16, 16), mode="trilinear")
    folded = {}
    for name in ("ldr-cheap-head", "ldr-diffeomorphic"):
        torch.manual_seed(0)
        head = NETS[name]().flow
        torch.nn.init.normal_(next(head.parameters()), std=0.006)
        with torch.no_grad():
            folded[name] = float((jacobian_determinant(head(x)) <= 0).double().mean())
    assert folded["ldr-diffeomorphic"] < 0.01 < 0.05 < folded["ldr-cheap-head"]


def test_vtn_doubles_its_size_at_each_refinement() -> None:
    torch.manual_seed(0)
    net, shapes = VTN(), []
    for refinement in (net.refine5, net.refine4, net.refine3, net.refine2, net.refine1):
        refinement.register_forward_hook(lambda _module, _input, output: shapes.append(tuple(output.shape[1:3])))
    with torch.no_grad():
        net(*torch.rand(2, 1, 1, 64, 64, 64))
    assert shapes == [(515, 2), (259, 4), (131, 8), (67, 16), (35, 32)]
