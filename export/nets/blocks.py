"""What the steering nets share: TensorFlow's "SAME" convolution and the residual block of ResNet-8."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one axis so that the output has ceil(size / stride) entries.

    An odd total puts the extra zero after (right, bottom), as TensorFlow's "SAME" does.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """Convolution with "SAME" padding of a square map: (N, C, size, size) -> (N, C', ceil(size / stride), ...).

    The size is given here, not read from the input, so that the padding is a constant of the exported graph.
    PyTorch's start values are the authors' own: weights and bias uniform in +-1/sqrt(fan_in).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, size: int) -> None:
        before, after = same_padding(size, kernel, stride)
        # Convolutions pad both ends alike; only the odd extra zero needs a step of its own.
        super().__init__(in_channels, out_channels, kernel, stride, padding=before if before == after else 0)
        self.uneven = (before, after, before, after) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        """Pad, then convolve."""
        return super().forward(F.pad(x, self.uneven) if self.uneven else x)


class ResidualBranch(nn.Module):
    """The convolutional branch of a block: BN-ReLU-conv3x3/2-BN-ReLU-conv3x3, (C, size, size) -> (C', size/2, size/2).

    Sub-modules have the authors' names (`aioz-ai/FADNet`), so that released weights load.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__()
        self.batch_norm = nn.BatchNorm2d(in_channels)
        self.conv2d = SameConv2d(in_channels, out_channels, 3, stride=2, size=size)
        self.batch_norm_1 = nn.BatchNorm2d(out_channels)
        self.conv2d_2 = SameConv2d(out_channels, out_channels, 3, size=-(-size // 2))

    def forward(self, x: Tensor) -> Tensor:
        """Run the branch without its shortcut."""
        x = self.conv2d(F.relu(self.batch_norm(x)))
        return self.conv2d_2(F.relu(self.batch_norm_1(x)))


class ResBlock(ResidualBranch):
    """Residual block of ResNet-8: the branch plus a 1x1/2 convolution of the block's input."""

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__(in_channels, out_channels, size)
        self.shortcut = SameConv2d(in_channels, out_channels, 1, stride=2, size=size)

    def forward(self, x: Tensor) -> Tensor:
        """Branch plus shortcut."""
        return super().forward(x) + self.shortcut(x)
