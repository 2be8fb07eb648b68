"""Weights of the authors' Keras GLAMOR-Net, as TensorFlow checkpoint or .npz, to the tensors of `Glamor`.

Kernels are (h, w, in, out), dense layers (in, out). A checkpoint names every tensor by the attributes that lead to it,
`FaceEncodingNet/blocks/0/conv/kernel`. An .npz holds one array per variable under `NNN|<variable name>`, NNN counting
in the order of creation: matched by what they are (kernel, bias, gamma ...) and by their order among their kind, since
these names of layers change with every model that a Keras process builds.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgeflock.export.nets.glamor import Glamor
from edgeflock.export.nets.tf_checkpoint import read_tf_checkpoint
from edgeflock.runtime.errors import DataError

_ENTRY = re.compile(r"(\d+)\|(.+)")
_ROLES = {
    "kernel": "weight",
    "weights": "weight",
    "weight": "weight",
    "bias": "bias",
    "biases": "bias",
    "gamma": "gamma",
    "scale": "gamma",
    "beta": "beta",
    "offset": "beta",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_LAYERS = {
    "face": "FaceEncodingNet/blocks",
    "context": "ContextEncodingNet/blocks",
    "attention.hidden": "attention_fc1",
    "attention.norm": "attention_fc1_bn",
    "attention.score": "attention_fc2",
    "face_weight.0": "face_weight1",
    "face_weight.2": "face_weight2",
    "context_weight.0": "context_weight1",
    "context_weight.2": "context_weight2",
    "head.0": "final_fc1",
    "head.3": "final_classify",
}
"""Our layers to the attributes of the authors' model."""
_LEAVES = {
    "weight": "kernel",
    "bias": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def holds_glamor(index: Path) -> bool:
    """Whether the `.index` of a TensorFlow checkpoint is of the authors' GLAMOR-Net."""
    # Its keys are compressed by what they share with the one before, which for this one is nothing or "model/".
    return b"FaceEncodingNet/" in index.read_bytes()


def tf_state(index: str | Path) -> dict[str, Tensor]:
    """State dict of `Glamor` from the `.index` file of a TensorFlow checkpoint of the authors' model.

    Both what `model.save_weights` writes, as the released `weights/glamor-net/Model`, and the checkpoints of their
    training, in which the model stands under `model/` beside the optimiser.

    Raises
    ------
    DataError
        Not a whole checkpoint, or a tensor of GLAMOR-Net is missing or of another shape; the message names it.
    """
    index = Path(index)
    stored = read_tf_checkpoint(index.with_suffix(""))
    held = {key.removeprefix("model/").removesuffix(_VALUE): array for key, array in stored.items()}
    state: dict[str, Tensor] = {}
    for name, role, shape in _tensors():
        layer = name.rpartition(".")[0]
        branch, _, number = layer.partition(".")
        if branch in ("face", "context"):
            kind = "conv" if role in ("weight", "bias") else "bn"
            layer = f"{_LAYERS[branch]}/{int(number) // 4}/{kind}"
        else:
            layer = _LAYERS[layer]
        key = f"{layer}/{_LEAVES[role]}"
        if key not in held:
            raise DataError(
                f"{index}: holds no '{key}', which is {name} of GLAMOR-Net: is it another net's checkpoint?"
            )
        state[name] = _tensor(held[key], shape, f"{index}: '{key}'", name)
    return state


def keras_state(path: str | Path) -> dict[str, Tensor]:
    """State dict of `Glamor` from an .npz in Keras layout.

    Raises
    ------
    DataError
        Not such a file, or its variables are not those of GLAMOR-Net; the message names the first that differs.
    """
    variables = _read(Path(path))
    state: dict[str, Tensor] = {}
    for name, role, shape in _tensors():
        if not variables.get(role):
            raise DataError(f"{path}: no variable is left for {name}: GLAMOR-Net has more than the file holds.")
        key, array = variables[role].pop(0)
        state[name] = _tensor(array, shape, f"{path}: '{key}'", name)
    left = [key for entries in variables.values() for key, _ in entries]
    if left:
        raise DataError(f"{path}: {len(left)} variables are not part of GLAMOR-Net, the first is '{left[0]}'.")
    return state


def _tensors() -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, role and shape of every tensor of `Glamor`, in order of creation."""
    with torch.device("meta"):
        net = Glamor()
    for prefix, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            roles = {"weight": "weight", "bias": "bias"}
        elif isinstance(module, nn.BatchNorm2d):
            roles = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
        else:
            continue
        for tensor, role in roles.items():
            yield f"{prefix}.{tensor}", role, tuple(getattr(module, tensor).shape)


def _tensor(array: np.ndarray, shape: tuple[int, ...], where: str, name: str) -> Tensor:
    """An array of the file as the tensor it should be."""
    array = _to_torch(array, len(shape))
    if array.shape != shape:
        raise DataError(
            f"{where} should be {name} of GLAMOR-Net, which is {shape} in torch's order, it gives {array.shape}. "
            f"Expected is the original net; the order of an .npz is that of creation: face encoder, context encoder, "
            f"attention, face weight, context weight, head."
        )
    return torch.from_numpy(np.array(array, np.float32))


def _read(path: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Variables by role, each role in order of creation."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = sorted((int(match[1]), key) for key in file.files if (match := _ENTRY.fullmatch(key)))
            variables: dict[str, list[tuple[str, np.ndarray]]] = {}
            for _, key in found:
                leaf = key.rsplit("/", 1)[-1].rsplit("|", 1)[-1].split(":")[0].lower()
                if leaf not in _ROLES:
                    raise DataError(
                        f"{path}: '{key}' ends in '{leaf}', expected one of {', '.join(_ROLES)}: save the net's "
                        f"variables alone, without the optimiser's."
                    )
                variables.setdefault(_ROLES[leaf], []).append((key, file[key]))
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path}: not a readable .npz of plain arrays ({error}).") from error
    if not variables:
        raise DataError(f"{path}: expected arrays named 'NNN|<variable name>', as of a Keras net; there is none.")
    return variables


def _to_torch(array: np.ndarray, dimensions: int) -> np.ndarray:
    """Kernels from Keras' order of axes to torch's; a dense layer may be stored as a 1x1 convolution."""
    if array.ndim == 4 and dimensions == 2 and array.shape[:2] == (1, 1):
        array = array[0, 0]
    order = {2: (1, 0), 4: (3, 2, 0, 1)}.get(array.ndim)
    return array.transpose(order) if order else array
