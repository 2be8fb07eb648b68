"""Forward kinematics in torch, for losses on joints; the same numbers as `edgeflock.runtime.motion.skeleton`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflock.runtime.motion.skeleton import BODY, Skeleton


def matrix_of_6d(six: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of 6-D rotations (..., 6), see `edgeflock.runtime.motion.rotations`."""
    x = F.normalize(six[..., :3], dim=-1)
    y = six[..., 3:]
    y = F.normalize(y - (x * y).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.cross(x, y, dim=-1)], -2)


def joints_of_rows(rows: Tensor, skeleton: Skeleton = BODY) -> Tensor:
    """Places (..., J, 3) in m of rows (..., 3 + 6 J or more): root, 6-D rotations."""
    count = len(skeleton.parents)
    rotations = matrix_of_6d(rows[..., 3 : 3 + 6 * count].unflatten(-1, (count, 6)))
    offsets = torch.as_tensor(skeleton.offsets, dtype=rows.dtype, device=rows.device)
    turned, places = {0: rotations[..., 0, :, :]}, {0: rows[..., :3]}
    for joint in skeleton.order[1:]:
        parent = skeleton.parents[joint]
        turned[joint] = turned[parent] @ rotations[..., joint, :, :]
        places[joint] = places[parent] + turned[parent] @ offsets[joint]
    return torch.stack([places[joint] for joint in range(count)], -2)
