"""One file per net: architecture only, no training, no I/O."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from edgeflock.export.nets.dronet import DroNet
from edgeflock.export.nets.fadnet import FADNet, FADNetPlus, FADNetReleased
from edgeflock.export.nets.gcd import GCD
from edgeflock.export.nets.gdancer import GDanceR
from edgeflock.export.nets.glamor import Glamor, GlamorResNet18
from edgeflock.export.nets.ldr import LDR, LDRReleased, cascaded_ldr
from edgeflock.export.nets.mobilenet import MobileNetV2
from edgeflock.export.nets.resnet import FerResNet18, FerResNet50
from edgeflock.export.nets.voxelmorph import VoxelMorph
from edgeflock.export.nets.vtn import VTN, VTNAffine
from edgeflock.runtime.tasks.family import families, part

__all__ = [
    "CHOREOGRAPHY_NETS",
    "EMOTION_NETS",
    "GLAMOR_NETS",
    "NETS",
    "REGISTRATION_NETS",
    "STEERING_NETS",
    "Nets",
    "known_nets",
]

Nets = dict[str, Callable[[], nn.Module]]

STEERING_NETS: Nets = {
    "fadnet": FADNet,
    "fadnet-released": FADNetReleased,
    "fadnet-plus": FADNetPlus,
    "dronet": DroNet,
    "mobilenet-v2": MobileNetV2,
}
REGISTRATION_NETS: Nets = {
    "ldr": LDR,
    "ldr-2": partial(cascaded_ldr, 2),
    "ldr-3": partial(cascaded_ldr, 3),
    "ldr-cheap-head": partial(LDR, head="trilinear"),
    "ldr-diffeomorphic": partial(LDR, head="diffeomorphic"),
    "ldr-released": LDRReleased,
    "voxelmorph": VoxelMorph,
    "vtn": VTN,
    "vtn-affine": VTNAffine,
    "vtn-affine-2": partial(VTNAffine, 2),
    "vtn-affine-3": partial(VTNAffine, 3),
}
GLAMOR_NETS: Nets = {
    "glamor": Glamor,
    "glamor-resnet18": GlamorResNet18,
    "glamor-context": partial(Glamor, attention="context"),
    "glamor-mean": partial(Glamor, attention="mean"),
    "glamor-concat": partial(Glamor, fusion="concat"),
}
EMOTION_NETS: Nets = {**GLAMOR_NETS, "fer-resnet18": FerResNet18, "fer-resnet50": FerResNet50}
CHOREOGRAPHY_NETS: Nets = {
    "gdancer": GDanceR,
    "gdancer-small": partial(GDanceR, music=52, pose=147, width=192, layers=2),
    "gdancer-small-alone": partial(GDanceR, music=52, pose=147, width=192, layers=2, attention=False),
    "gcd": GCD,
    "gcd-52": partial(GCD, music=52),
    "gcd-small": partial(GCD, width=128, layers=3, hidden=256, heads=4, music=52, dropout=0.0),
}

NETS: Nets = {**STEERING_NETS, **REGISTRATION_NETS, **EMOTION_NETS, **CHOREOGRAPHY_NETS}
"""The nets that come with edgeflock."""


def known_nets() -> Nets:
    """Nets of every family that is installed here, `NETS` among them."""
    found: Nets = {}
    for family in families().values():
        found |= part(family.nets) if family.nets else {}
    return found | NETS
