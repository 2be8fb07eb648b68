"""Weights of the authors' Keras GLAMOR-Net, stored as .npz, to the tensors of `Glamor`.

The file holds one array per variable under `NNN|<variable name>`, NNN counting in the order of creation; kernels are
(h, w, in, out), dense layers (in, out). Variables are matched by what they are (kernel, bias, gamma ...) and by their
order among their kind, since names of layers change with every model that a Keras process builds.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgeflock.export.nets.glamor import Glamor
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


def keras_state(path: str | Path) -> dict[str, Tensor]:
    """State dict of `Glamor` from an .npz in Keras layout.

    Raises
    ------
    DataError
        Not such a file, or its variables are not those of GLAMOR-Net; the message names the first that differs.
    """
    variables = _read(Path(path))
    with torch.device("meta"):
        net = Glamor()
    state: dict[str, Tensor] = {}
    for prefix, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            roles = {"weight": "weight", "bias": "bias"}
        elif isinstance(module, nn.BatchNorm2d):
            roles = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
        else:
            continue
        for tensor, role in roles.items():
            name = f"{prefix}.{tensor}"
            if not variables.get(role):
                raise DataError(f"{path}: no variable is left for {name}: GLAMOR-Net has more than the file holds.")
            key, array = variables[role].pop(0)
            shape = tuple(getattr(module, tensor).shape)
            array = _to_torch(array, len(shape))
            if array.shape != shape:
                raise DataError(
                    f"{path}: '{key}' should be {name} of GLAMOR-Net, which is {shape} in torch's order, it gives "
                    f"{array.shape}. Expected are the variables of the original net in order of creation: face "
                    f"encoder, context encoder, attention, face weight, context weight, head."
                )
            state[name] = torch.from_numpy(np.array(array, np.float32))
    left = [key for entries in variables.values() for key, _ in entries]
    if left:
        raise DataError(f"{path}: {len(left)} variables are not part of GLAMOR-Net, the first is '{left[0]}'.")
    return state


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
