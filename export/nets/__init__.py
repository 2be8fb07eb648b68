"""One file per net: architecture only, no training, no I/O."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from edgeflock.export.nets.dronet import DroNet
from edgeflock.export.nets.fadnet import FADNet, FADNetPlus, FADNetReleased
from edgeflock.export.nets.glamor import Glamor, GlamorResNet18
from edgeflock.export.nets.ldr import LDR, LDRReleased, cascaded_ldr
from edgeflock.export.nets.mobilenet import MobileNetV2
from edgeflock.export.nets.resnet import FerResNet18, FerResNet50
from edgeflock.export.nets.voxelmorph import VoxelMorph
from edgeflock.export.nets.vtn import VTN, VTNAffine

NETS: dict[str, Callable[[], nn.Module]] = {
    "fadnet": FADNet,
    "fadnet-released": FADNetReleased,
    "fadnet-plus": FADNetPlus,
    "dronet": DroNet,
    "ldr": LDR,
    "ldr-2": partial(cascaded_ldr, 2),
    "ldr-3": partial(cascaded_ldr, 3),
    "ldr-cheap-head": partial(LDR, head="trilinear"),
    "ldr-released": LDRReleased,
    "voxelmorph": VoxelMorph,
    "vtn": VTN,
    "vtn-affine": VTNAffine,
    "vtn-affine-2": partial(VTNAffine, 2),
    "vtn-affine-3": partial(VTNAffine, 3),
    "mobilenet-v2": MobileNetV2,
    "glamor": Glamor,
    "glamor-resnet18": GlamorResNet18,
    "glamor-context": partial(Glamor, attention="context"),
    "glamor-mean": partial(Glamor, attention="mean"),
    "glamor-concat": partial(Glamor, fusion="concat"),
    "fer-resnet18": FerResNet18,
    "fer-resnet50": FerResNet50,
}

STEERING_NETS = ("fadnet", "fadnet-released", "fadnet-plus", "dronet", "mobilenet-v2")
GLAMOR_NETS = ("glamor", "glamor-resnet18", "glamor-context", "glamor-mean", "glamor-concat")
EMOTION_NETS = (*GLAMOR_NETS, "fer-resnet18", "fer-resnet50")
REGISTRATION_NETS = (
    *("ldr", "ldr-2", "ldr-3", "ldr-cheap-head", "ldr-released"),
    *("voxelmorph", "vtn", "vtn-affine", "vtn-affine-2", "vtn-affine-3"),
)
