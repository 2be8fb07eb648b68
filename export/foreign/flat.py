"""A torch module whose answers are a tuple of tensors with names."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from edgeflock.runtime.errors import InputError


class Flat(nn.Module):
    """Answers as a tuple; the keys of a dict become names.

    Attributes
    ----------
    names : list of str
        Of the answers; known after the first call.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.names: list[str] = []

    def train(self, mode: bool = True) -> Flat:
        """Stay in the mode of the net, which is evaluation: a program of torch.export refuses to be told."""
        return self

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Answer."""
        found: Any = self.net(*inputs)
        if isinstance(found, dict):
            self.names, values = list(found), tuple(found.values())
        else:
            values = (found,) if isinstance(found, Tensor) else tuple(found)
            self.names = ["output"] if len(values) == 1 else [f"output_{i}" for i in range(len(values))]
        if not all(isinstance(value, Tensor) for value in values):
            raise InputError(
                "the net answers with more than tensors: wrap it so that it gives a tensor, tuple or dict."
            )
        return values
