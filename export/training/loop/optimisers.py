"""Adam and SGD of torch, without what compiles nets: the first step of torch's own loads it, though nobody compiles."""

from __future__ import annotations

import inspect
from typing import TypeVar

import torch

__all__ = ["SGD", "Adam"]

_Optimiser = TypeVar("_Optimiser", bound=torch.optim.Optimizer)


def _uncompiled(optimiser: type[_Optimiser]) -> type[_Optimiser]:
    """The same optimiser with its methods as they are under the decorators that speak to `torch.compile`."""
    names = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    plain = {name: inspect.unwrap(getattr(optimiser, name)) for name in names}
    step = torch.no_grad()(inspect.unwrap(optimiser.step))
    return type(optimiser.__name__, (optimiser,), plain | {"step": step, "__doc__": optimiser.__doc__})


Adam = _uncompiled(torch.optim.Adam)
SGD = _uncompiled(torch.optim.SGD)
