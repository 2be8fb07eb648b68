"""Nets of torch as the flat models that a fleet mixes, and batch-norm statistics from local data."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.mixing.layout import FlatLayout, check_statistics


def flat_layout(net: nn.Module, policy: str = "average", layers: str = "") -> FlatLayout:
    """What of a net is mixed under a batch-norm policy (`edgeflock.runtime.fleet.mixing.layout`)."""
    return FlatLayout.of(_state(net), policy, layers)


def flat_model(net: nn.Module, layout: FlatLayout) -> np.ndarray:
    """Flat float32 copy (layout.size,) of what is mixed."""
    return layout.flatten(_state(net))


def load_flat(net: nn.Module, layout: FlatLayout, flat: np.ndarray, batches: Iterable[Tensor] | None = None) -> None:
    """Put a mixed model into a net, in place.

    Parameters
    ----------
    net : nn.Module
        Gives what is not mixed.
    layout, flat : FlatLayout, ndarray of float32 (layout.size,)
        From `flat_layout`, and the mixed model.
    batches : iterable of Tensor, optional
        Inputs for the policy `re-estimate`. In training they may be left out until the net is used: a net in train mode
        normalises by its batch.

    Raises
    ------
    InputError
        Another length; statistics that nobody trained; batches that are empty or not finite.
    """
    mixed = layout.restore(flat, _state(net))
    net.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in mixed.items()})
    if layout.policy == "re-estimate" and batches is not None:
        re_estimate(net, batches)


def re_estimate(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Compute a net's batch-norm statistics anew: the mean over batches of inputs, in place.

    Raises
    ------
    InputError
        There is no batch, or the statistics come out NaN or infinite.
    """
    update_bn(batches, net, next(net.parameters()).device)
    state = _state(net)
    check_statistics(state)
    for name, value in state.items():
        if name.endswith(("running_mean", "running_var")) and not np.isfinite(value).all():
            raise InputError(
                f"'{name}' came out NaN or infinite: are the batches finite, with two samples or more each?"
            )


def _state(net: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy() for name, value in net.state_dict().items()}
