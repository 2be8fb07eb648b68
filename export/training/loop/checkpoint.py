"""Weights on disk: read the authors' and our own without pickle, write so that a crash never leaves half a file."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edgeflock.export.nets import Nets, known_nets
from edgeflock.export.nets.keras import holds_glamor, keras_state, tf_state
from edgeflock.export.nets.keras_resnet import keras_resnet_state
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.files import in_order, write_atomically


def load_checkpoint(path: str | Path) -> tuple[str, nn.Module]:
    """Rebuild the net whose weights a file holds.

    Parameters
    ----------
    path : str or Path
        `.safetensors` with a state dict, or a torch file with a state dict, bare or under `model_state` (the authors'
        `round_<k>/model_*.pth` and our `last.pt`). Torch files are read with `weights_only=True`. Or the
        authors' Keras nets: `.index` of a TensorFlow checkpoint; `.npz` with the variables of GLAMOR-Net
        (`edgeflock.export.nets.keras`); `.h5` with those of LDLVA's ResNets (`edgeflock.export.nets.keras_resnet`).

    Returns
    -------
    name : str
        Key of `edgeflock.export.nets.known_nets`, recognised by the names and shapes of the tensors.
    net : nn.Module
        In evaluation mode, on the CPU.

    Raises
    ------
    DataError
        No such file, not such a file, tensors of no known net, or NaN and infinity in the weights.
    """
    path = Path(path)
    state = read_state(path)
    shapes = _shapes(state)
    nets = known_nets()
    name = next((name for name, build in nets.items() if _shapes_of(build) == shapes), None)
    if name is None:
        raise DataError(
            f"{path}: the tensors belong to none of the nets {', '.join(nets)}; {_difference(nets, shapes)}. "
            f"`edgeflock export net` takes any other net (docs/own-net.md)."
        )
    broken = [key for key, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise DataError(f"{path}: the weights must be finite, {broken[0]} holds NaN or infinity: take another file.")
    net = nets[name]()
    net.load_state_dict(state, strict=False)  # BatchNorm's step counters, which may be missing, do not act in use
    return name, net.eval()


def read_state(path: Path) -> Mapping[str, Tensor]:
    """State dict that a file holds, of whatever net; formats and errors as for `load_checkpoint`."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected weights as .safetensors, .pth, .pt, .npz, .index or .h5.")
    if path.suffix == ".npz":
        return keras_state(path)
    if path.suffix == ".index" and holds_glamor(path):
        return tf_state(path)
    if path.suffix in (".index", ".h5"):
        return keras_resnet_state(path)
    try:
        content = load_file(path) if path.suffix == ".safetensors" else read_torch(path)
    except SafetensorError as error:
        raise DataError(f"{path}: not a readable safetensors file ({error}).") from error
    state = content.get("model_state", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise DataError(f"{path}: expected a state dict (tensor names to tensors), bare or under 'model_state'.")
    return state


# What torch's unpickler and zip reader raise over damaged bytes.
_BROKEN = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
)


def read_torch(path: Path) -> Any:
    """Content of a torch file, tensors and plain containers only; DataError for anything else."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a torch file of tensors and plain containers ({reason}).") from error


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}


@cache
def _shapes_of(build: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    """Tensors of a known net; the largest has 99 million weights, so none of them is made."""
    with torch.device("meta"):
        return _shapes(build().state_dict())


def _difference(nets: Nets, shapes: dict[str, tuple[int, ...]]) -> str:
    """In which tensors the file differs from the net it comes nearest to."""
    known = {name: _shapes_of(build) for name, build in nets.items()}
    name = min(known, key=lambda n: len(known[n].items() ^ shapes.items()))
    differing = sorted({key for key, _ in known[name].items() ^ shapes.items()})
    shown = [f"{k} (expected {known[name].get(k, 'none')}, got {shapes.get(k, 'none')})" for k in differing[:3]]
    return f"nearest is {name}, which differs in {len(differing)} tensors: {', '.join(shown)}"


def save_state(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a state dict as safetensors, atomically."""
    write_atomically(path, in_order(save({k: v.detach().cpu().contiguous() for k, v in state.items()}, metadata)))
