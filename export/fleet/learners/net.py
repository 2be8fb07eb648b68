"""A silo's net, optimiser and data, in torch."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from edgeflock.export.fleet.learners.flat import flat_layout, flat_model, load_flat
from edgeflock.export.fleet.learners.lessons import NetTask
from edgeflock.export.training.loop.optimisers import Adam
from edgeflock.export.training.loop.precision import autocast
from edgeflock.runtime.errors import DataError, ParityError

RE_ESTIMATE_BATCHES = 8


class NetLearner:
    """A silo's net, Adam and data (`edgeflock.runtime.fleet.learner.Learner`).

    Parameters
    ----------
    task : NetTask
    stream : int
        Sets this learner's chance apart from the others'.
    share : ndarray of int
        Indices of its samples; every epoch takes each once, in a new order.
    parts : int
        Batches per step, whose mean gradient is followed: 1 for a silo.
    """

    def __init__(self, task: NetTask, stream: int, share: np.ndarray, parts: int = 1) -> None:
        net = task.build()
        self._task, self._stream, self._share, self._parts = task, stream, share, parts
        self._lessons = task.lessons()
        self._layout = flat_layout(net, task.batch_norm, task.layers)
        # A net in training normalises by its batch, so statistics that are its own need not be trained yet.
        local = self._layout.policy == "local"
        self._to_train = replace(self._layout, policy="re-estimate") if local else self._layout
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self._frozen = [
            module
            for name, module in net.named_modules()
            if not name.startswith(task.layers) and not any(module.children())
        ]
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name.startswith(task.layers))
        trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
        self._adam = Adam(trained, task.lr)
        self._judged = copy.deepcopy(self._net).requires_grad_(False)

    @property
    def size(self) -> int:
        """Length of the flat model."""
        return self._layout.size

    def model(self) -> np.ndarray:
        """Copy of the flat model, float32 (size,)."""
        return flat_model(self._net, self._layout)

    def load(self, model: np.ndarray) -> None:
        """Go on from this flat model."""
        load_flat(self._net, self._to_train, model)

    def train(self, round_: int, steps: int) -> float:
        """Local steps of one round, counted from 1; returns their mean loss."""
        task = self._task
        torch.manual_seed(int(np.random.SeedSequence([task.seed, self._stream, round_]).generate_state(1)[0]))
        self._net.train()
        for module in self._frozen:
            module.eval()
        total = 0.0
        for step in range((round_ - 1) * steps, round_ * steps):
            rng = np.random.default_rng([task.seed, self._stream, step])
            self._adam.zero_grad()
            for part in np.split(self._indices(step), self._parts):
                with autocast(next(self._net.parameters()).device, task.bf16):
                    loss = self._lessons.loss(self._net, self._lessons.draw(part, rng)) / self._parts
                loss.backward()
                total += loss.item()
            self._adam.step()
        return total / steps

    def _indices(self, step: int) -> np.ndarray:
        """Samples of a step, by its number alone."""
        size = self._task.batch * self._parts
        epoch, at = divmod(step, len(self._share) // size)
        order = np.random.default_rng([self._task.seed, self._stream, 1 << 20, epoch]).permutation(self._share)
        return order[at * size : (at + 1) * size]

    def evaluate(self, model: np.ndarray) -> dict[str, float]:
        """Figures of a flat model on the validation data; what is not mixed is this silo's."""
        with torch.inference_mode():
            return self._lessons.figures(self._whole(model))

    def weights(self, model: np.ndarray) -> dict[str, np.ndarray]:
        """The whole net of a flat model."""
        return {name: _numpy(value) for name, value in self._whole(model).state_dict().items()}

    def graph(self, model: np.ndarray) -> bytes:
        """The whole net of a flat model as ONNX; empty where the task makes none, or ONNX answers otherwise."""
        net = copy.deepcopy(self._whole(model)).cpu()
        try:
            return self._task.graph(net.to(memory_format=torch.contiguous_format))  # type: ignore[call-overload]
        except ParityError:  # the robot learns on; no bundle is made of this model
            return b""

    def _whole(self, model: np.ndarray) -> nn.Module:
        self._judged.load_state_dict(self._net.state_dict())
        load_flat(self._judged, self._layout, model, self._own_batches())
        return self._judged.eval()

    def _own_batches(self) -> Iterable[Tensor]:
        """Inputs to re-estimate batch statistics from."""
        for i in range(RE_ESTIMATE_BATCHES):
            rng = np.random.default_rng([self._task.seed, self._stream, 2 << 20, i])
            yield self._lessons.inputs(
                self._lessons.draw(rng.choice(self._share, self._task.batch, replace=False), rng)
            )

    def state(self) -> dict[str, np.ndarray]:
        """The whole net, whose unmixed buffers are the silo's own, and the moments of Adam."""
        moments = self._adam.state_dict()["state"]
        return {f"net.{name}": _numpy(value) for name, value in self._net.state_dict().items()} | {
            f"adam.{i}.{name}": _numpy(value) for i, kept in moments.items() for name, value in kept.items()
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what `state` gave; `DataError` when it is another net's."""
        net = {name[4:]: torch.tensor(value) for name, value in state.items() if name.startswith("net.")}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("adam."):
                _, i, kind = name.split(".")
                moments.setdefault(int(i), {})[kind] = torch.tensor(value)
        try:
            self._net.load_state_dict(net)
        except RuntimeError as error:
            raise DataError(f"the saved state is not of this net ({str(error).splitlines()[0]}).") from error
        self._adam.load_state_dict({**self._adam.state_dict(), "state": moments})


def _numpy(value: Tensor) -> np.ndarray:
    return value.detach().cpu().contiguous().numpy().copy()
