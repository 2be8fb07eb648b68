"""DroNet's ResNet-8 with the steering output alone, the baseline of the FADNet post (314,657 parameters)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.export.nets.blocks import ResBlock, SameConv2d


class DroNet(nn.Module):
    """ResNet-8 of DroNet, one output: (N, 1, 200, 200) grey 0..255 -> (N, 1) steering angle in rad, left positive.

    Source: Loquercio et al., RA-L 2018, and its code `uzh-rpg/rpg_public_dronet`, whose scaling to 0..1 this is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = SameConv2d(1, 32, 5, stride=2, size=200)
        self.res_block1 = ResBlock(32, 32, size=49)
        self.res_block2 = ResBlock(32, 64, size=25)
        self.res_block3 = ResBlock(64, 128, size=13)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(6272, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Steering angle (N, 1) of raw grey images (N, 1, 200, 200)."""
        x = self.conv1(image / 255)  # 32, 100, 100
        x = F.max_pool2d(x, 3, 2)  # 32, 49, 49
        x = self.res_block1(x)  # 32, 25, 25
        x = self.res_block2(x)  # 64, 13, 13
        x = self.res_block3(x)  # 128, 7, 7
        x = self.dropout(F.relu(x)).flatten(1)  # 6272
        return self.fc(x)
