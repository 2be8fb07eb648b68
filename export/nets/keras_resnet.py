"""Weights of LDLVA's Keras ResNets, TensorFlow checkpoint or .h5, to the tensors of `FerResNet18` and `FerResNet50`.

The authors' code saves a model with the parts `backbone` (read from an .h5 that is not public, channels first as
converters from PyTorch make it), `fc` and `weighting_net`. Names of layers inside the backbone are a converter's and
say nothing, so convolutions are matched by their order and shape, which for these nets leaves one way only. No such
file was at hand: the reader is tested on files made after the formats' descriptions (docs/ldlva.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgeflock.export.nets.resnet import FerNet, FerResNet18, FerResNet50, ResNet
from edgeflock.export.nets.tf_checkpoint import read_tf_checkpoint
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.extras import needs

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_ROLES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")

Layer = dict[str, np.ndarray]
"""Arrays by role."""


def keras_resnet_state(path: Path) -> dict[str, Tensor]:
    """State dict of an expression net, or of its trunk alone where the file has no classifying layer.

    Parameters
    ----------
    path : Path
        `.index` of a TensorFlow checkpoint, or `.h5`.

    Raises
    ------
    DataError
        Not such a file, or not one of these nets; the message says what differs.
    MissingExtra
        h5py is not installed.
    """
    variables = _checkpoint(path) if path.suffix == ".index" else _hdf5(path)
    layers: dict[str, Layer] = {}
    for name, array in variables:
        layer, _, role = name.rpartition("/")
        if role in _ROLES and not layer.startswith("weighting_net"):  # LDLVA's g, of no use beyond its training
            layers.setdefault(layer, {})[role] = array
    convolutions = [layer for layer in layers.values() if "kernel" in layer and layer["kernel"].ndim == 4]
    norms = [layer for layer in layers.values() if "moving_mean" in layer]
    dense = [layer for layer in layers.values() if "kernel" in layer and layer["kernel"].ndim == 2]
    for kind in (FerResNet18, FerResNet50):
        with torch.device("meta"):
            net = kind()
        for shortcut_first in (False, True):  # which of two parallel convolutions Keras lists first
            pairs = _pairs(net.trunk, shortcut_first)
            shapes = [tuple(net.trunk.get_submodule(name).weight.shape) for name, _ in pairs]  # type: ignore[arg-type]
            if [_order(layer["kernel"]).shape for layer in convolutions] == shapes:
                return _state(path, net, pairs, convolutions, norms, dense)
    raise DataError(
        f"{path}: expected the convolutions of ResNet-18 (20) or ResNet-50 (53) in their order, got "
        f"{len(convolutions)} convolutions that are not these."
    )


def _pairs(trunk: ResNet, shortcut_first: bool) -> list[tuple[str, str]]:
    """Names of all convolutions and their batch norms, in the order of a Keras model's layers."""
    found = [("conv1", "bn1")]
    for number in (1, 2, 3, 4):
        for i, block in enumerate(trunk.get_submodule(f"layer{number}").children()):
            prefix = f"layer{number}.{i}"
            count = sum(name.startswith("conv") for name, _ in block.named_children())
            branch = [(f"{prefix}.conv{n}", f"{prefix}.bn{n}") for n in range(1, count + 1)]
            if isinstance(block.get_submodule("downsample"), nn.Sequential):
                branch.insert(count - shortcut_first, (f"{prefix}.downsample.0", f"{prefix}.downsample.1"))
            found += branch
    return found


def _state(
    path: Path,
    net: FerNet,
    pairs: list[tuple[str, str]],
    convolutions: list[Layer],
    norms: list[Layer],
    dense: list[Layer],
) -> dict[str, Tensor]:
    """Tensors under the names of the expression net, or of the trunk alone."""
    biased = sum("bias" in layer for layer in convolutions)
    if (len(norms), biased) not in ((len(pairs), 0), (0, len(pairs))):
        raise DataError(
            f"{path}: expected {len(pairs)} convolutions without bias and as many batch norms, or with bias and "
            f"none, got {biased} with bias and {len(norms)} batch norms: Keras' own ResNets are built otherwise."
        )
    state = {}
    for (conv, bn), layer, norm in zip(pairs, convolutions, norms or convolutions, strict=True):
        state[f"{conv}.weight"] = _order(layer["kernel"])
        if not norms:  # the converter put the batch norm into the convolution: one that does nothing but add the bias
            ones = np.ones_like(layer["bias"])
            eps = net.trunk.bn1.eps
            norm = {
                "gamma": ones * (1 + eps) ** 0.5,
                "beta": layer["bias"],
                "moving_mean": 0 * ones,
                "moving_variance": ones,
            }
        names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        for role, name in names.items():
            if role not in norm or norm[role].shape != layer["kernel"].shape[-1:]:
                raise DataError(
                    f"{path}: the batch norm of {conv} lacks its {role} of {layer['kernel'].shape[-1]} channels."
                )
            state[f"{bn}.{name}"] = norm[role]
    heads = [("fc", net.fc)] if isinstance(net.project, nn.Identity) else [("project", net.project), ("fc", net.fc)]
    if [layer["kernel"].shape[::-1] for layer in dense] == [tuple(module.weight.shape) for _, module in heads]:
        state = {f"trunk.{name}": array for name, array in state.items()}
        for (name, _), layer in zip(heads, dense, strict=True):
            state |= {f"{name}.weight": _order(layer["kernel"]), f"{name}.bias": layer["bias"]}
    return {name: torch.from_numpy(np.array(array, np.float32)) for name, array in state.items()}


def _order(kernel: np.ndarray) -> np.ndarray:
    """Keras' order of axes, (h, w, in, out) or (in, out), to torch's."""
    return kernel.transpose((3, 2, 0, 1) if kernel.ndim == 4 else (1, 0))


def _checkpoint(path: Path) -> Iterable[tuple[str, np.ndarray]]:
    """Variables in the order of the layers, the backbone before the head."""
    found: Mapping[str, np.ndarray] = read_tf_checkpoint(path.with_suffix(""))
    named = {
        key.removesuffix(_VALUE).removeprefix("model/"): array
        for key, array in found.items()
        if key.endswith(_VALUE) and "/.OPTIMIZER_SLOT/" not in key
    }

    def place(name: str) -> list[str | int]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]

    return [(name, named[name]) for name in sorted(named, key=place)]


def _hdf5(path: Path) -> Iterable[tuple[str, np.ndarray]]:
    """Variables in the order of the layers, as Keras notes it in the attributes of its groups."""
    with needs("reading Keras' .h5"):
        import h5py
    variables = []
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            for layer in root.attrs["layer_names"]:
                group = root[layer]
                for name in group.attrs["weight_names"]:
                    text = name.decode() if isinstance(name, bytes) else name
                    variables.append((text.partition(":")[0], np.asarray(group[text], np.float32)))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not weights as Keras saves them in HDF5 ({error}).") from error
    return variables
