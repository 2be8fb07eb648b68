"""LDLVA's weights out of Keras: made from our own net in the files' own layout, they give our net's answers again."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from edgeflock.export.nets.keras_resnet import keras_resnet_state
from edgeflock.export.nets.resnet import BasicBlock, Bottleneck, FerNet, FerResNet18, FerResNet50
from edgeflock.export.training.loop.checkpoint import load_checkpoint
from edgeflock.export.training.methods.emotion import start_net
from edgeflock.runtime.errors import DataError

torch.set_num_threads(1)

Layers = list[dict[str, np.ndarray]]
KERAS_AXES = {2: (1, 0), 4: (2, 3, 1, 0)}


@pytest.fixture(scope="module")
def net() -> FerNet:
    return with_chance(FerResNet18())


def with_chance(net: FerNet) -> FerNet:
    """Batch statistics that matter."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5)
    return net.eval()


def arrays(*modules: nn.Module) -> Layers:
    """One Keras layer per convolution, batch norm and dense layer."""
    made = []
    for module in modules:
        roles = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        if not isinstance(module, nn.BatchNorm2d):
            roles = {"kernel": "weight"} | ({} if module.bias is None else {"bias": "bias"})
        made.append({role: getattr(module, name).detach().numpy() for role, name in roles.items()})
        if "kernel" in made[-1]:
            made[-1]["kernel"] = made[-1]["kernel"].transpose(KERAS_AXES[made[-1]["kernel"].ndim])
    return made


def by_depth(net: FerNet, shortcut_first: bool = False) -> Layers:
    """The backbone's layers as Keras lists them: parallel ones side by side."""
    trunk = net.trunk
    layers = [trunk.conv1, trunk.bn1]
    for module in trunk.modules():
        if isinstance(module, BasicBlock | Bottleneck):
            names = ("1", "2") if isinstance(module, BasicBlock) else ("1", "2", "3")
            branch = [(getattr(module, f"conv{n}"), getattr(module, f"bn{n}")) for n in names]
            for pair in branch[:-1]:
                layers += pair
            ends = [branch[-1]]
            if isinstance(module.downsample, nn.Sequential):
                ends.insert(0 if shortcut_first else 1, tuple(module.downsample))
            layers += [pair[0] for pair in ends] + [pair[1] for pair in ends]
    return arrays(*layers)


def checkpoint(backbone: Layers, head: Layers, prefix: str = "") -> dict[str, np.ndarray]:
    """Keys of the authors' model, with what else such a file holds."""
    named = {f"backbone/layer_with_weights-{i}": layer for i, layer in enumerate(backbone)}
    named |= dict(zip(("backbone_projection", "fc")[-len(head) :], head, strict=True)) if head else {}
    named["weighting_net/encoder/layer_with_weights-0"] = {"kernel": np.zeros((1024, 512), np.float32)}
    end = ".ATTRIBUTES/VARIABLE_VALUE"
    found = {f"{prefix}{name}/{role}/{end}": array for name, layer in named.items() for role, array in layer.items()}
    found[f"{prefix}fc/kernel/.OPTIMIZER_SLOT/optimizer/m/{end}"] = np.zeros((512, 7), np.float32)
    return found | {f"save_counter/{end}": np.array(3, np.int64)}


def same(net: nn.Module, other: nn.Module) -> None:
    face = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        expected = net(face)
        assert expected.std() > 0.01
        np.testing.assert_allclose(other.eval()(face), expected, atol=1e-5)


@pytest.mark.parametrize(("prefix", "shortcut_first"), [("", False), ("model/", True)])
def test_a_checkpoint_gives_the_net_again(
    tmp_path: Path, net: FerNet, write_tf_checkpoint, prefix: str, shortcut_first: bool
) -> None:
    tensors = checkpoint(by_depth(net, shortcut_first), arrays(net.fc), prefix)
    write_tf_checkpoint(tmp_path / "Model", tensors)
    name, got = load_checkpoint(tmp_path / "Model.index")
    assert name == "fer-resnet18"
    same(net, got)


def test_every_tensor_of_resnet50_finds_its_place(tmp_path: Path, write_tf_checkpoint) -> None:
    with torch.device("meta"):
        net = FerResNet50()
    net.to_empty(device="cpu")
    for i, tensor in enumerate(net.state_dict().values()):
        tensor.fill_(i)
    write_tf_checkpoint(tmp_path / "Model", checkpoint(by_depth(net), arrays(net.project, net.fc)))
    expected = {key: tensor for key, tensor in net.state_dict().items() if "num_" not in key}
    got = keras_resnet_state(tmp_path / "Model.index")
    assert got.keys() == expected.keys() and all(torch.equal(got[key], expected[key]) for key in got)


def write_h5(path: Path, layers: Layers) -> Path:
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"input", *(f"LAYER_{i}".encode() for i in range(len(layers)))]
        root.create_group("input").attrs["weight_names"] = np.zeros(0)
        for i, layer in enumerate(layers):
            group = root.create_group(f"LAYER_{i}")
            group.attrs["weight_names"] = [f"LAYER_{i}/{role}:0".encode() for role in layer]
            for role, array in layer.items():
                group[f"LAYER_{i}/{role}:0"] = array
    return path


def test_a_backbone_starts_a_training(tmp_path: Path, net: FerNet) -> None:
    got = start_net("fer-resnet18", write_h5(tmp_path / "resnet18.h5", by_depth(net)), 1)
    got.fc.load_state_dict(net.fc.state_dict())
    same(net, got)


def test_batch_norms_that_a_converter_put_into_the_convolutions(tmp_path: Path, net: FerNet) -> None:
    folded = []
    layers = by_depth(net)
    norms = iter([layer for layer in layers if "gamma" in layer])
    for layer in layers:
        if "kernel" in layer:
            norm = next(norms)
            scale = norm["gamma"] / np.sqrt(norm["moving_variance"] + 1e-5)
            folded.append({"kernel": layer["kernel"] * scale, "bias": norm["beta"] - norm["moving_mean"] * scale})
    got = load_checkpoint(write_h5(tmp_path / "a.h5", [*folded, *arrays(net.fc)]))[1]
    same(net, got)


def test_other_nets_are_refused(tmp_path: Path, net: FerNet) -> None:
    layers = by_depth(net)
    with pytest.raises(DataError, match=r"ResNet-18 \(20\) or ResNet-50 \(53\) in their order, got 19"):
        load_checkpoint(write_h5(tmp_path / "a.h5", layers[2:]))
    biased = [layer | {"bias": layer["kernel"][0, 0, 0]} if "kernel" in layer else layer for layer in layers]
    with pytest.raises(DataError, match=r"got 20 with bias and 20 batch norms: Keras' own ResNets"):
        load_checkpoint(write_h5(tmp_path / "b.h5", biased))
    broken = [{role: array[:-1] for role, array in layer.items()} if "gamma" in layer else layer for layer in layers]
    with pytest.raises(DataError, match="the batch norm of conv1 lacks its gamma of 64 channels"):
        load_checkpoint(write_h5(tmp_path / "c.h5", broken))
    (tmp_path / "d.h5").write_text("weights")
    with pytest.raises(DataError, match=r"d\.h5: not weights as Keras saves them"):
        load_checkpoint(tmp_path / "d.h5")
