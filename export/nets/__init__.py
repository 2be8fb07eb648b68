"""One file per net: architecture only, no training, no I/O."""

from __future__ import annotations

from torch import nn

from edgeflock.export.nets.dronet import DroNet
from edgeflock.export.nets.fadnet import FADNet, FADNetPlus, FADNetReleased

NETS: dict[str, type[nn.Module]] = {
    "fadnet": FADNet,
    "fadnet-released": FADNetReleased,
    "fadnet-plus": FADNetPlus,
    "dronet": DroNet,
}
