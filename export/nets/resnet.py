"""ResNet-18 and -50 (He et al. 2016), and with them the facial expression nets of LDLVA (WACV 2023).

Tensors of a trunk are named as in torchvision, so that weights trained there load (`load_trunk`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.runtime.errors import DataError

FEATURES = 512  # V of the LDLVA post; two of them go into its calibration MLP
LABELS = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (N, C, H, W) -> (N, width, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Branch plus shortcut, then ReLU."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride, as in torchvision), 1x1 to 4 x width, and a shortcut."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Branch plus shortcut, then ReLU."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def shortcut(channels: int, out: int, stride: int) -> nn.Module:
    """Nothing where the block keeps its size, otherwise a 1x1 convolution with the block's stride."""
    if channels == out and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


class ResNet(nn.Module):
    """The convolutional trunk: (N, 3, H, W) -> (N, `channels`, H / 32, W / 32), rounded up.

    Parameters
    ----------
    block : {BasicBlock, Bottleneck}
    depths : tuple of int
        Blocks per layer: (2, 2, 2, 2) is ResNet-18 (11,176,512 parameters), (3, 4, 6, 3) with `Bottleneck` ResNet-50
        (23,508,032).
    """

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.channels = 64
        self.layer1 = self._layer(block, 64, depths[0], 1)
        self.layer2 = self._layer(block, 128, depths[1], 2)
        self.layer3 = self._layer(block, 256, depths[2], 2)
        self.layer4 = self._layer(block, 512, depths[3], 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, mode="fan_out", nonlinearity="relu")

    def _layer(self, block: type[BasicBlock] | type[Bottleneck], width: int, depth: int, stride: int) -> nn.Sequential:
        blocks = []
        for i in range(depth):
            blocks.append(block(self.channels, width, stride if i == 0 else 1))
            self.channels = width * block.expansion
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Feature map of images."""
        x = F.relu(self.bn1(self.conv1(x)))  # 64, H/2
        x = F.max_pool2d(x, 3, 2, padding=1)  # 64, H/4
        x = self.layer1(x)  # 64 | 256, H/4
        x = self.layer2(x)  # 128 | 512, H/8
        x = self.layer3(x)  # 256 | 1024, H/16
        return self.layer4(x)  # 512 | 2048, H/32


def resnet18() -> ResNet:
    """ResNet-18 without its head, 11,176,512 parameters."""
    return ResNet(BasicBlock, (2, 2, 2, 2))


def resnet50() -> ResNet:
    """ResNet-50 without its head, 23,508,032 parameters."""
    return ResNet(Bottleneck, (3, 4, 6, 3))


def global_pool(x: Tensor) -> Tensor:
    """Mean over the map: (N, C, H, W) -> (N, C)."""
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


class FerNet(nn.Module):
    """LDLVA's expression net: trunk, global average pool, V = 512 features, one dense layer, softmax.

    ResNet-50's 2,048 channels go through a dense layer to V: the authors' configuration names V = 512 for it and loads
    the rest from a file that is not public (docs/nets.md).

    Attributes
    ----------
    size : int
        Side of the face image in the authors' configuration.
    labels : tuple of str
        Class names in the order of the output.
    """

    size: int
    labels = LABELS

    def __init__(self, trunk: ResNet) -> None:
        super().__init__()
        self.trunk = trunk
        self.project = nn.Identity() if trunk.channels == FEATURES else nn.Linear(trunk.channels, FEATURES)
        self.fc = nn.Linear(FEATURES, len(LABELS))

    def features(self, face: Tensor) -> Tensor:
        """Features v of the post, (N, 512), of face images (N, 3, size, size) in -1..1."""
        return self.project(global_pool(self.trunk(face)))

    def logits(self, face: Tensor) -> Tensor:
        """Scores (N, 7) before the softmax."""
        return self.fc(self.features(face))

    def forward(self, face: Tensor) -> Tensor:
        """Probabilities (N, 7)."""
        return self.logits(face).softmax(1)


class FerResNet18(FerNet):
    """LDLVA with ResNet-18: face (N, 3, 224, 224) in -1..1 -> (N, 7); 11,180,103 parameters."""

    size = 224

    def __init__(self) -> None:
        super().__init__(resnet18())


class FerResNet50(FerNet):
    """LDLVA with ResNet-50: face (N, 3, 112, 112) in -1..1 -> (N, 7); 24,560,711 parameters."""

    size = 112

    def __init__(self) -> None:
        super().__init__(resnet50())


def load_trunk(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put weights of a torchvision ResNet into every ResNet trunk of a net; their `fc` head is left out.

    Raises
    ------
    DataError
        The net has no such trunk, or tensors are missing, unknown or of other shapes.
    """
    trunks = [module for module in net.modules() if isinstance(module, ResNet)]
    given = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    if not trunks:
        raise DataError(f"{type(net).__name__} has no ResNet trunk to load weights of a torchvision ResNet into.")
    for trunk in trunks:
        try:
            with torch.no_grad():
                trunk.load_state_dict(given)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise DataError(f"not the weights of this ResNet trunk, names as in torchvision: {reason[:300]}") from None
