"""What every training run shares: schedule, averaged weights, resume, best weights, result.

A run is a folder. `last.pt` has all that goes on after an interruption, `best.safetensors` the weights with the best
validation figure (`method.safetensors` what a method learnt beside them), `result.json` the command, seeds, data
digests and figures, `tensorboard/` the curves.
"""

from __future__ import annotations

import copy
import io
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from edgeflock.export.nets import known_nets
from edgeflock.export.training.config import RunConfig
from edgeflock.export.training.loop.checkpoint import load_checkpoint, read_torch, save_state
from edgeflock.export.training.loop.metric import Metric
from edgeflock.export.training.loop.optimisers import SGD, Adam
from edgeflock.export.training.loop.precision import autocast
from edgeflock.export.training.loop.report import Report
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import check_same_run, sha256_of, sole_writer, write_atomically

Batch = TypeVar("Batch")

MOMENTUM = 0.9


def build_net(name: str, known: Iterable[str], init: str | Path | None, seed: int) -> nn.Module:
    """New net from a seed, or with the weights of a file, which must be of the same net.

    Raises
    ------
    InputError
        The net is none of the known, or `init` holds another.
    DataError
        `init` is unreadable.
    """
    if name not in known:
        raise InputError(f"unknown net {name!r}: choose one of {', '.join(known)}.")
    torch.manual_seed(seed)
    net = known_nets()[name]()
    if init is not None:
        held, given = load_checkpoint(init)
        if held != name:
            raise InputError(f"{init} holds a {held}, the run trains {name}: pass --net {held}.")
        net.load_state_dict(given.state_dict())
    return net


@dataclass
class Run:
    """Everything that an interrupted training needs to go on."""

    config: RunConfig
    data: dict[str, dict[str, Any]]
    init: dict[str, str] | None
    net: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    steps: int  # per epoch
    method: nn.Module | None = None
    own: Sequence[torch.optim.Optimizer] = ()
    epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        config: RunConfig,
        net: nn.Module,
        steps: int,
        data: dict[str, dict[str, Any]],
        init: str | Path | None = None,
        method: nn.Module | None = None,
        own: Sequence[torch.optim.Optimizer] = (),
    ) -> Run:
        """Prepare a run of `steps` per epoch.

        Parameters
        ----------
        config : RunConfig
        net : nn.Module
        steps : int
        data : dict
            Description of each split, with its "sha256".
        init : str or Path, optional
            File that the net's weights came from.
        method : nn.Module, optional
            What the loss learns beside the net: trained with it, without weight decay, and kept in the checkpoints.
        own : sequence of Optimizer
            Optimisers of those of the method's parameters that do not share the net's; they have no schedule.
        """
        net = net.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        for kind, layout in ((nn.Conv2d, torch.channels_last), (nn.Conv3d, torch.channels_last_3d)):
            if any(isinstance(module, kind) for module in net.modules()):
                net.to(memory_format=layout)  # type: ignore[call-overload]  # up to 4x the speed on CPUs, with bf16
        make = Adam if config.optimiser == "adam" else partial(SGD, momentum=MOMENTUM)
        groups: list[dict[str, Any]] = [{"params": [p for p in net.parameters() if p.requires_grad]}]
        if method is not None:
            method.to(next(net.parameters()).device)
            apart = {p for optimiser in own for group in optimiser.param_groups for p in group["params"]}
            groups.append({"params": [p for p in method.parameters() if p not in apart], "weight_decay": 0.0})
        optimiser = make(groups, config.lr, weight_decay=config.weight_decay)
        total = steps * config.epochs
        rising = config.warmup * total

        def rate(step: int) -> float:
            """Linear warm-up, then half a cosine down to 0, or the milestones' steps."""
            if step < rising:
                return (step + 1) / (rising + 1)
            if config.milestones:
                passed = sum(step >= epoch * steps for epoch in config.milestones)
                return max(config.drop**passed, config.floor / config.lr)
            return 0.5 * (1 + math.cos(math.pi * (step - rising) / (total - rising)))

        return cls(
            config=config,
            data=data,
            init={"file": Path(init).name, "sha256": sha256_of(init)} if init is not None else None,
            net=net,
            average=copy.deepcopy(net).eval().requires_grad_(False),
            optimiser=optimiser,
            schedule=torch.optim.lr_scheduler.LambdaLR(optimiser, rate),
            steps=steps,
            method=method,
            own=own,
        )

    def train(
        self,
        out: str | Path,
        metric: Metric,
        batches: Callable[[int], Iterable[Batch]],
        loss: Callable[[nn.Module, Batch], Tensor],
        validate: Callable[[nn.Module], dict[str, float]],
        *,
        fresh: bool = False,
        command: str = "",
    ) -> dict[str, Any]:
        """Train to the end; goes on where an interrupted run in `out` stopped.

        Chance in an epoch (order, augmentation, dropout) comes from the seed and the epoch's number alone, so a run
        that was killed and resumed computes the same as one that was not, as far as the machine's arithmetic repeats.

        Parameters
        ----------
        out : str or Path
            Folder of the run, made if missing.
        metric : Metric
        batches : callable
            Epoch number to its `steps` batches.
        loss : callable
            Net and batch to the scalar to minimise; the batch may still be on the CPU.
        validate : callable
            Net in evaluation mode to figures by name, the metric's among them.
        fresh : bool
            Start anew even if `out` holds a run.
        command : str
            Command line, kept in the result.

        Returns
        -------
        dict
            As in `result.json`.

        Raises
        ------
        InputError
            `out` holds a run with other settings or data, or the loss is NaN.
        DataError
            The checkpoint is unreadable.
        """
        out = Path(out)
        with sole_writer(out):
            checkpoint = out / "last.pt"
            if fresh:
                for path in (checkpoint, out / "result.json"):  # an old result would answer for a run that is cut off
                    path.unlink(missing_ok=True)
            if checkpoint.exists():
                self._resume(checkpoint)
            epochs = self.config.epochs
            with Report(out, self.config.net, epochs, self.steps, metric, done=self.epoch) as report:
                while self.epoch < epochs:
                    started = time.monotonic()
                    mean = self._train_epoch(batches(self.epoch), loss, report)
                    with torch.inference_mode():
                        figures = validate(self.average)
                    self.seconds += time.monotonic() - started
                    self.epoch += 1
                    self.history.append({"epoch": self.epoch, "loss": mean, **figures})
                    if metric.of(self.history) is self.history[-1]:
                        metadata = {"net": self.config.net, "epoch": str(self.epoch)}
                        metadata[metric.name] = f"{figures[metric.name]:.6f}"
                        save_state(out / "best.safetensors", self.average.state_dict(), metadata)
                        if self.method is not None:
                            save_state(out / "method.safetensors", self.method.state_dict(), metadata)
                    self._save(checkpoint)
                    report.epoch(self.history, self.seconds)
            return self._result(out, metric, command)

    def _train_epoch(
        self, batches: Iterable[Batch], loss: Callable[[nn.Module, Batch], Tensor], report: Report
    ) -> float:
        """One pass over the data; returns the mean loss."""
        torch.manual_seed(int(np.random.SeedSequence([self.config.seed, self.epoch]).generate_state(1)[0]))
        self.net.train()
        device = next(self.net.parameters()).device
        total = 0.0
        for step, batch in enumerate(batches):
            with autocast(device, self.config.bf16):
                value = loss(self.net, batch)
            for optimiser in (self.optimiser, *self.own):
                optimiser.zero_grad()
            value.backward()
            number = value.item()
            if not math.isfinite(number):
                raise InputError(
                    f"the loss is {number} in epoch {self.epoch + 1}, step {step + 1} of {self.steps}, expected a "
                    f"finite number: lower the learning rate ({self.config.lr:g}) or start from other weights."
                )
            for optimiser in (self.optimiser, *self.own):
                optimiser.step()
            self.schedule.step()
            self._average(self.epoch * self.steps + step)
            total += number
            report.step(number, float(self.schedule.get_last_lr()[0]))
        return total / self.steps

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """Exponential moving average of weights and batch statistics, younger in the first steps."""
        decay = min(self.config.ema, (1 + step) / (10 + step))
        for mean, now in zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)

    @property
    def identity(self) -> dict[str, Any]:
        """What must agree for a checkpoint to be continued."""
        digests = {split: described["sha256"] for split, described in self.data.items()}
        return {**self.config.model_dump(), "init": self.init, "data": digests}

    def _save(self, path: Path) -> None:
        buffer = io.BytesIO()
        content = {
            "identity": self.identity,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "history": self.history,
            "model_state": self.average.state_dict(),
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        if self.method is not None:
            content["method"] = self.method.state_dict()
            content["own"] = [optimiser.state_dict() for optimiser in self.own]
        torch.save(content, buffer)
        write_atomically(path, buffer.getvalue())

    def _resume(self, path: Path) -> None:
        saved = read_torch(path)
        if not isinstance(saved, dict) or "identity" not in saved:
            raise DataError(f"{path}: not the checkpoint of a training run; pass --fresh to replace it.")
        check_same_run(path, saved["identity"], self.identity)
        self.epoch, self.seconds, self.history = saved["epoch"], saved["seconds"], saved["history"]
        self.average.load_state_dict(saved["model_state"])
        self.net.load_state_dict(saved["net"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.schedule.load_state_dict(saved["schedule"])
        if self.method is not None:
            self.method.load_state_dict(saved["method"])
            for optimiser, state in zip(self.own, saved["own"], strict=True):
                optimiser.load_state_dict(state)

    def _result(self, out: Path, metric: Metric, command: str) -> dict[str, Any]:
        """Write and return `result.json`."""
        best = metric.of(self.history)
        result = {
            "command": command,
            "synthetic": True if all(described.get("synthetic") for described in self.data.values()) else None,
            "net": self.config.net,
            "seeds": {"training": self.config.seed},
            "config": self.config.model_dump(mode="json"),
            "init": self.init,
            "data": self.data,
            "figures": {
                **{name: value for name, value in best.items() if name not in ("epoch", "loss")},
                **metric.baselines,
                "best_epoch": best["epoch"],
                "epochs": self.epoch,
                "wall_s": round(self.seconds, 1),
            },
            "history": self.history,
            "versions": {name: version(name) for name in ("edgeflock", "torch", "numpy", "opencv-python-headless")},
        }
        write_atomically(out / "result.json", (json.dumps(result, indent=2) + "\n").encode())
        return result


def prefetched(make: Callable[[int], Batch], steps: int) -> Iterator[Batch]:
    """make(0) .. make(steps - 1), each made in a thread while the one before is used."""
    with ThreadPoolExecutor(1) as worker:
        upcoming = worker.submit(make, 0)
        for step in range(1, steps + 1):
            batch = upcoming.result()
            if step < steps:
                upcoming = worker.submit(make, step)
            yield batch
