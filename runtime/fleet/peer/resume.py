"""What a peer keeps over a restart, and how it takes that back."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.peer.actions import State
from edgeflock.runtime.fleet.peer.codecs import digest
from edgeflock.runtime.fleet.peer.context import Context
from edgeflock.runtime.fleet.peer.edges import Edges
from edgeflock.runtime.fleet.peer.exchange import Exchange
from edgeflock.runtime.fleet.peer.gate import Boots, Gate


def kept(context: Context, gate: Gate, exchange: Exchange, edges: Edges, state: np.ndarray, plan: str) -> State:
    """What a restart needs to go on after the round that just closed; `plan` is the hash of the one in force."""
    tensors = {"state": state} | {f"own.{r}": value for r, value in edges.own.items()}
    if context.config.codec == "topk":
        tensors |= {f"theirs.{peer}": model for peer, (_, model) in exchange.theirs.items()}
    for peer, models in exchange.ours.items():
        tensors |= {f"ours.{peer}.{i}": model for i, model in enumerate(models.values())}
    facts = {
        "run": context.roster.run,
        "round": context.round,
        "plan": plan,
        "boots": {name: boots.state() for name, boots in gate.boots.items()},
        "mixed_with": {name: [[*at, boot] for at, boot in with_.items()] for name, with_ in edges.mixed_with.items()},
    }
    return tensors, facts


def restore(saved: State, context: Context, gate: Gate, exchange: Exchange, edges: Edges, size: int) -> np.ndarray:
    """Take back what was kept; returns the state, whose length is `size`.

    Raises
    ------
    InputError
        It is of another run or another net.
    """
    tensors, facts = saved
    run, state = context.roster.run, tensors["state"]
    if facts["run"] != run or len(state) != size:
        raise InputError(
            f"the checkpoint is of the run '{facts['run']}' and {len(state):,} weights, this is run '{run}' with "
            f"{size:,}: use another folder for another run."
        )
    context.round = facts["round"]
    edges.own = {int(name[4:]): value for name, value in tensors.items() if name.startswith("own.")}
    for name, value in tensors.items():
        if name.startswith("theirs."):
            exchange.theirs[name[7:]] = digest(value), value
        elif name.startswith("ours."):
            exchange.ours.setdefault(name.split(".")[1], OrderedDict())[digest(value)] = value
    gate.boots = {name: Boots.restored(boots) for name, boots in facts["boots"].items()}
    for name, with_ in facts["mixed_with"].items():
        edges.mixed_with[name] = {(k, view): boot for k, view, boot in with_}
    return state
