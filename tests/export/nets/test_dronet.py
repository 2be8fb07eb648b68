"""DroNet: the baseline without support features."""

from __future__ import annotations

import torch

from edgeflock.export.nets import FADNet
from edgeflock.export.nets.dronet import DroNet

torch.set_num_threads(1)


def test_equals_its_parts_written_out() -> None:
    torch.manual_seed(0)
    net = DroNet().eval()
    image = torch.randint(0, 256, (2, 1, 200, 200)).float()
    shapes = []
    for block in (net.res_block1, net.res_block2, net.res_block3):
        block.register_forward_hook(lambda _module, _input, output: shapes.append(tuple(output.shape[1:])))
    y = net(image)
    assert shapes == [(32, 25, 25), (64, 13, 13), (128, 7, 7)]
    assert y.shape == (2, 1) and torch.isfinite(y).all()


def test_trunk_is_the_one_of_fadnet() -> None:
    def trunk(net: torch.nn.Module) -> dict[str, torch.Size]:
        return {k: v.shape for k, v in net.state_dict().items() if k.startswith(("conv1", "res_block"))}

    assert trunk(DroNet()) == trunk(FADNet())


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    net, image = DroNet(), torch.randint(0, 256, (2, 1, 200, 200)).float()
    net.eval()
    assert torch.equal(net(image), net(image))
    net.train()
    assert not torch.equal(net(image), net(image))
