"""FADNet, the steering net of "Deep Federated Learning for Autonomous Driving" (arXiv 2110.05754), in three variants.

`FADNet` follows the post. `FADNetReleased` and `FADNetPlus` are the two nets of the authors' repository, tensor names
included, so that weights trained there load. The parameter count of the post, 317,729, belongs to none of them
(docs/nets.md): ours are 308,445, 341,980 and 336,709.

All take raw grey pixels (N, 1, 200, 200) in 0..255 and give the steering angle (N, 1) in rad, left positive.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.export.nets.blocks import ResBlock, ResidualBranch, SameConv2d

FEATURES = 6272  # d of the post = 128 * 7 * 7, the output of block 3


class FADNet(nn.Module):
    """FADNet as the post describes it, 308,445 parameters.

    Layer normalisation of the image, ResNet-8 trunk, and beside it the support features: the input of each residual
    block, pooled without weights to d = 6,272 values and accumulated with one learnable weight per block (w in R^3).
    The steering angle is the mean of the Hadamard product of block and support features.

    Where the post is silent: pooling is adaptive to 14x14 (32 channels) and 7x14 (64 channels), which gives d for
    each block; the layer normalisation has one scale and one shift; FC is Linear(7, 7) on the width axis, as in the
    authors' code (arXiv 2110.05754, docs/nets.md).
    """

    def __init__(self) -> None:
        super().__init__()
        # One group = layer norm over (C, H, W). Its scale and shift stay at 1 and 0 unless unfrozen: conv1 learns the
        # same function, and their gradient has to come back through conv1, which costs a quarter of a training step.
        self.norm = nn.GroupNorm(1, 1).requires_grad_(False)
        self.conv1 = SameConv2d(1, 32, 5, stride=2, size=200)
        self.res_block1 = ResBlock(32, 32, size=49)
        self.res_block2 = ResBlock(32, 64, size=25)
        self.res_block3 = ResBlock(64, 128, size=13)
        self.gap1 = AdaptivePool(49, (14, 14))
        self.gap2 = AdaptivePool(25, (14, 14))
        self.gap3 = AdaptivePool(13, (7, 14))
        self.fc = nn.Linear(7, 7)
        self.dropout = nn.Dropout(0.5)
        self.accumulation = Accumulation(3)

    def forward(self, image: Tensor) -> Tensor:
        """Steering angle (N, 1) of raw grey images (N, 1, 200, 200)."""
        x1 = self.conv1(self.norm(image))  # 32, 100, 100
        x1 = F.max_pool2d(x1, 3, 2)  # 32, 49, 49
        x2 = self.res_block1(x1)  # 32, 25, 25
        x3 = self.res_block2(x2)  # 64, 13, 13
        x4 = self.res_block3(x3)  # 128, 7, 7

        f_s = self.dropout(F.relu(self.fc(x4))).flatten(1)  # 6272
        f_c = self.accumulation([self.gap1(x1), self.gap2(x2), self.gap3(x3)])  # 6272
        return aggregate(f_s, f_c)


class Accumulation(nn.Module):
    """Weighted sum of n features of equal size: f_c = sum_h w_h f_h, w in R^n learnable, no bias.

    It starts as the plain mean.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((n,), 1 / n))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Sum n features (N, d) to one (N, d)."""
        return self.weight @ torch.stack(features, 1)


def aggregate(f_s: Tensor, f_c: Tensor) -> Tensor:
    """Mean of the Hadamard product of two features (N, d) -> (N, 1)."""
    return (f_s * f_c).mean(1, keepdim=True)


class AdaptivePool(nn.Module):
    """Adaptive average pooling of square maps, flattened: (N, C, size, size) -> (N, C * rows * columns).

    ONNX has no adaptive pooling to sizes that do not divide the input: there it becomes two products with constant
    matrices, which average the same cells.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, size: int, output: tuple[int, int]) -> None:
        super().__init__()
        self.output = output
        rows, columns = (_pooling_matrix(size, n) for n in output)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns.T.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pool, then flatten in (C, rows, columns) order."""
        if torch.onnx.is_in_onnx_export():
            return (self.rows @ x @ self.columns).flatten(1)
        return F.adaptive_avg_pool2d(x, self.output).flatten(1)


def _pooling_matrix(size: int, cells: int) -> Tensor:
    """(cells, size): row i averages entries floor(i size/cells) .. ceil((i+1) size/cells) - 1."""
    matrix = torch.zeros(cells, size)
    for i in range(cells):
        start, stop = i * size // cells, -(-(i + 1) * size // cells)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


class FADNetReleased(nn.Module):
    """FADNet as in the authors' repository since 2022-09-20, 341,980 parameters, their tensor names.

    No layer normalisation, 1x1 convolutions as supports, a bias in the accumulation (`aioz-ai/FADNet`, class FADNet).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = SameConv2d(1, 32, 5, stride=2, size=200)
        self.res_block1 = ResidualBranch(32, 32, size=49)
        self.conv2 = SameConv2d(32, 32, 1, stride=2, size=49)
        self.res_block2 = ResidualBranch(32, 64, size=25)
        self.conv3 = SameConv2d(32, 64, 1, stride=2, size=25)
        self.res_block3 = ResidualBranch(64, 128, size=13)
        self.conv4 = SameConv2d(64, 128, 1, stride=2, size=13)
        self.conv2_support = SameConv2d(32, 256, 1, stride=7, size=49)
        self.conv3_support = SameConv2d(32, 256, 1, stride=4, size=25)
        self.conv4_support = SameConv2d(64, 256, 1, stride=2, size=13)
        self.fc = nn.Linear(7, 7)
        self.dropout = nn.Dropout2d(0.5)
        self.fc_accumulation = nn.Linear(3, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Steering angle (N, 1) of raw grey images (N, 1, 200, 200)."""
        x1 = F.max_pool2d(self.conv1(image), 3, 2)  # 32, 49, 49
        x2 = self.res_block1(x1) + self.conv2(x1)  # 32, 25, 25
        x3 = self.res_block2(x2) + self.conv3(x2)  # 64, 13, 13
        x4 = self.res_block3(x3) + self.conv4(x3)  # 128, 7, 7

        f_s = self.dropout(F.relu(self.fc(x4))).flatten(1)  # 6272
        supports = [self.conv2_support(x1), self.conv3_support(x2), self.conv4_support(x3)]  # each 256, 7, 7
        f_c = self.fc_accumulation(torch.stack([mean_of_pairs(s) for s in supports], 2)).squeeze(2)  # 6272
        return aggregate(f_s, f_c)


class FADNetPlus(nn.Module):
    """FADNet_plus of the authors' repository, 336,709 parameters, their tensor names.

    The trunk has no shortcuts; a linear layer on the Hadamard product replaces its mean (`aioz-ai/FADNet`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = SameConv2d(1, 32, 5, stride=2, size=200)
        self.res_block1 = ResidualBranch(32, 32, size=49)
        self.res_block2 = ResidualBranch(32, 64, size=25)
        self.res_block3 = ResidualBranch(64, 128, size=13)
        self.conv2 = SameConv2d(32, 256, 1, stride=7, size=49)
        self.conv3 = SameConv2d(32, 256, 1, stride=4, size=25)
        self.conv4 = SameConv2d(64, 256, 1, stride=2, size=13)
        self.dropout = nn.Dropout2d(0.5)
        self.fc_feature = nn.Linear(3, 1)
        self.fc = nn.Linear(FEATURES, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Steering angle (N, 1) of raw grey images (N, 1, 200, 200)."""
        x1 = F.max_pool2d(self.conv1(image), 3, 2)  # 32, 49, 49
        x2 = self.res_block1(x1)  # 32, 25, 25
        x3 = self.res_block2(x2)  # 64, 13, 13
        x4 = self.res_block3(x3)  # 128, 7, 7

        f_s = self.dropout(F.relu(x4)).flatten(1)  # 6272
        supports = [self.conv2(x1), self.conv3(x2), self.conv4(x3)]  # each 256, 7, 7
        f_c = self.fc_feature(torch.stack([mean_of_pairs(s) for s in supports], 2)).squeeze(2)  # 6272
        return self.fc(f_s * f_c)


def mean_of_pairs(support: Tensor) -> Tensor:
    """(N, 256, 7, 7) -> (N, 6272): mean of neighbours in (C, H, W) memory order.

    A pair may straddle two rows or two channels. The released weights depend on exactly this order.
    """
    return support.reshape(-1, FEATURES, 2).mean(2)
