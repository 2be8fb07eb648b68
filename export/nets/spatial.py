"""Flows: the spatial transformer, composition, Jacobian determinants, and cascades of registration nets.

A flow (N, 3, D, H, W) is a displacement in voxels; channel k goes along array axis k (D, H, W). It says where each
voxel of the fixed image is found in the moving one: warped(x) = moving(x + flow(x)), trilinear, coordinates clamped to
the border (docs/nets.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample an image (N, C, D, H, W) at x + flow(x); flow (N, 3, D, H, W) in voxels -> (N, C, D, H, W).

    In an exported graph it is made of `GatherElements`: ONNX below opset 20 and most engines have no `GridSample` of
    volumes. ONNX Runtime's CPU takes 1.1 times as long for it as torch for `grid_sample`, and 2.5 times with `Gather`.
    """
    if torch.onnx.is_in_onnx_export():
        return _gather_warp(image, flow)
    sizes = image.shape[2:]
    grid = [2 / (size - 1) * where - 1 for size, where in zip(sizes, _positions(flow), strict=True)]
    return F.grid_sample(image, torch.stack(grid[::-1], -1), "bilinear", "border", align_corners=True)


def compose(first: Tensor, then: Tensor) -> Tensor:
    """Flow of two steps, warp(warp(image, first), then) ~ warp(image, compose(first, then))."""
    return warp(first, then) + then


def compose_affine(first: Tensor, then: Tensor) -> Tensor:
    """`compose` for an affine first flow, which needs no sampling: first(x + then(x)) = first(x) + W then(x).

    Where x + then(x) leaves the volume it goes on affinely, where `compose` takes the border's value.
    """
    return first + (linear_part(first) @ then.flatten(2)).reshape(then.shape) + then


def linear_part(flow: Tensor) -> Tensor:
    """W = A - I of an affine flow W (x - centre) + b: (N, 3, size, size, size) -> (N, 3, 3)."""
    origin = flow[:, :, 0, 0, 0]
    return torch.stack([flow[:, :, 1, 0, 0] - origin, flow[:, :, 0, 1, 0] - origin, flow[:, :, 0, 0, 1] - origin], 2)


INTEGRATION_STEPS = 5
"""Squarings of `integrate`: 32 small steps, each of less than a voxel where the flow is below 32."""


def integrate(velocity: Tensor) -> Tensor:
    """Flow after unit time along a stationary velocity (N, 3, D, H, W), by scaling and squaring.

    Arsigny et al., MICCAI 2006.
    """
    flow = velocity / 2**INTEGRATION_STEPS
    for _ in range(INTEGRATION_STEPS):
        flow = compose(flow, flow)
    return flow


def jacobian_determinant(flow: Tensor) -> Tensor:
    """Determinant of d(x + flow(x))/dx by forward differences, (N, D-1, H-1, W-1).

    1 keeps the volume, 0 and less is a fold.
    """
    here = flow[:, :, :-1, :-1, :-1]
    columns = (flow[:, :, 1:, :-1, :-1], flow[:, :, :-1, 1:, :-1], flow[:, :, :-1, :-1, 1:])
    a, b, c = (ahead - here + _unit(axis, flow) for axis, ahead in enumerate(columns))
    return (a * torch.linalg.cross(b, c, dim=1)).sum(1)


def affine_flow(change: Tensor, offset: Tensor, size: int) -> Tensor:
    """Flow of an affine map: (N, 3, 3) change = A - I and (N, 3) offset in voxels -> (N, 3, size, size, size).

    flow(x) = change (x - centre) + offset; the centre is (size - 1) / 2.
    """
    dtype = torch.promote_types(change.dtype, torch.float32)
    ramp = torch.arange(size, device=change.device, dtype=dtype) - (size - 1) / 2
    flow = offset[:, :, None, None, None]
    for axis in range(3):
        flow = flow + change[:, :, axis, None, None, None] * _along(ramp, axis)
    return flow


class Cascade(nn.Module):
    """Registration nets one after the other, each on what the ones before have left; not shared.

    flow_k = stem_k(fixed, moving_k-1), aggregate_k = compose(aggregate_k-1, flow_k), moving_k = warp(moving,
    aggregate_k) (Zhao et al. 2019, arXiv 1907.12353).
    """

    AFFINE_FIRST: ClassVar[bool] = False
    """Whether the first stem's flow is affine, and so composed without sampling."""

    def __init__(self, stems: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stems = nn.ModuleList(stems)

    def stages(self, fixed: Tensor, moving: Tensor) -> tuple[list[Tensor], Tensor]:
        """Flow of each stem, and the composition of all of them."""
        flows = [self.stems[0](fixed, moving)]
        aggregate = flows[0]
        join = compose_affine if self.AFFINE_FIRST else compose
        for stem in self.stems[1:]:
            flows.append(stem(fixed, warp(moving, aggregate)))
            aggregate = join(aggregate, flows[-1])
            join = compose
        return flows, aggregate

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Flow (N, 3, D, H, W) in voxels that warps moving onto fixed, both (N, 1, D, H, W) in 0..1."""
        return self.stages(fixed, moving)[1]


class FlowDeconv(nn.ConvTranspose3d):
    """Transposed convolution 4^3/2 to a flow of twice the size: (N, C, size^3) -> (N, 3, (2 size)^3), no bias.

    The factor 20 is VTN's; it acts on the weights, where it costs nothing in an exported graph.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels, 3, 4, stride=2, padding=1, bias=False)
        start_near_identity(self)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Flow in voxels."""
        return F.conv_transpose3d(x, FLOW_SCALE * self.weight, stride=2, padding=1)


class FlowConv(nn.Conv3d):
    """Convolution 3^3 to a flow of the same size, times 20 like `FlowDeconv`."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels, 3, 3, padding=1)
        start_near_identity(self)

    def forward(self, x: Tensor) -> Tensor:
        """Flow in voxels."""
        assert self.bias is not None
        return F.conv3d(x, FLOW_SCALE * self.weight, FLOW_SCALE * self.bias, padding=1)


FLOW_SCALE = 20.0


def start_near_identity(head: nn.Module) -> None:
    """Begin the training with flows near 0, as VoxelMorph does: a random flow would fold the volume."""
    nn.init.uniform_(head.weight, -1e-4, 1e-4)  # type: ignore[arg-type]
    if head.bias is not None:
        nn.init.zeros_(head.bias)  # type: ignore[arg-type]


def start_without_stripes(deconv: nn.ConvTranspose3d) -> None:
    """Begin a transposed convolution 4^3 of stride 2 as a convolution 3^3 of the volume with every voxel doubled.

    Then neighbours are written with the same weights (Aitken et al., arXiv 1707.02937). The spread is PyTorch's.
    """
    if deconv.weight.is_meta:
        return  # shapes alone are asked for, and torch loads sympy to pool nothing
    with torch.no_grad():
        smaller = torch.empty(*deconv.weight.shape[:2], 3, 3, 3).uniform_(-1, 1)
        doubled = F.avg_pool3d(F.pad(smaller, (1,) * 6), 2, stride=1)
        deconv.weight.copy_(doubled * deconv.weight.std() / doubled.std())


def _along(ramp: Tensor, axis: int) -> Tensor:
    """(size,) -> broadcast against (D, H, W)."""
    return ramp.reshape([-1 if i == axis else 1 for i in range(3)])


def _positions(flow: Tensor) -> list[Tensor]:
    """Coordinates x + flow(x), three (N, D, H, W) in voxels; float32 also where autocast made a coarser flow."""
    dtype = torch.promote_types(flow.dtype, torch.float32)
    return [
        flow[:, axis] + _along(torch.arange(int(size), device=flow.device, dtype=dtype), axis)
        for axis, size in enumerate(flow.shape[2:])
    ]


def _unit(axis: int, like: Tensor) -> Tensor:
    return torch.eye(3, device=like.device, dtype=like.dtype)[axis].reshape(1, 3, 1, 1, 1)


def _gather_warp(image: Tensor, flow: Tensor) -> Tensor:
    """`warp` of one image (1, C, D, H, W) without GridSample."""
    channels, *sizes = (int(size) for size in image.shape[1:])
    strides = (sizes[1] * sizes[2], sizes[2], 1)
    index = torch.zeros(1, dtype=torch.long)
    fractions = []
    for size, stride, where in zip(sizes, strides, _positions(flow), strict=True):
        where = where.clamp(0, size - 1)
        low = where.floor().clamp(max=size - 2)  # so that low + 1 is a voxel too
        fractions.append(where - low)
        index = index + low.long() * stride
    flat, index = image.reshape(channels, -1), index.reshape(1, -1).expand(channels, -1)
    corners = [
        torch.gather(flat, 1, index + sum(corner)).reshape(image.shape)
        for corner in product(*((0, stride) for stride in strides))
    ]
    for fraction in fractions[::-1]:
        corners = [low + fraction * (high - low) for low, high in zip(corners[::2], corners[1::2], strict=True)]
    return corners[0]
