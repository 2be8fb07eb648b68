"""MobileNet-V2 as a steering net: torchvision's names, the paper's shapes, grey in all three channels."""

from __future__ import annotations

import torch

from edgeflock.export.nets.mobilenet import InvertedResidual, MobileNetV2

torch.set_num_threads(1)


def test_tensors_are_named_as_in_torchvision() -> None:
    with torch.device("meta"):
        state = MobileNetV2().state_dict()
    assert state["features.0.0.weight"].shape == (32, 3, 3, 3)
    assert state["features.1.conv.0.0.weight"].shape == (32, 1, 3, 3)  # the first block does not expand
    assert state["features.2.conv.1.0.weight"].shape == (96, 1, 3, 3)
    assert state["features.17.conv.3.weight"].shape == (320,)
    assert state["features.18.0.weight"].shape == (1280, 320, 1, 1)
    assert state["classifier.1.weight"].shape == (1, 1280)


def test_stages_have_the_papers_shapes() -> None:
    shapes = []
    with torch.device("meta"):
        net = MobileNetV2()
        for module in net.features:
            module.register_forward_hook(lambda _module, _input, output: shapes.append(tuple(output.shape[1:])))
        assert net(torch.zeros(1, 1, 200, 200)).shape == (1, 1)
    assert [shapes[i] for i in (0, 1, 3, 6, 10, 13, 16, 17, 18)] == [
        *((32, 100, 100), (16, 100, 100), (24, 50, 50), (32, 25, 25), (64, 13, 13), (96, 13, 13)),
        *((160, 7, 7), (320, 7, 7), (1280, 7, 7)),
    ]


def test_only_blocks_of_equal_size_have_a_shortcut() -> None:
    assert [InvertedResidual(*sizes, 6).shortcut for sizes in ((24, 24, 1), (24, 24, 2), (24, 32, 1))] == [
        True,
        False,
        False,
    ]


def test_the_first_layer_sees_the_grey_image_three_times_in_minus_one_to_one() -> None:
    net, seen = MobileNetV2().eval(), {}
    net.features.register_forward_pre_hook(lambda _module, inputs: seen.update(x=inputs[0]))
    net(torch.tensor([0.0, 127.5, 255.0]).repeat(200, 67)[None, None, :, :200])
    assert seen["x"].shape == (1, 3, 200, 200)
    assert torch.equal(seen["x"][0, :, 0, :3], torch.tensor([[-1.0, 0.0, 1.0]] * 3))
