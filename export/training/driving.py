"""Supervised steering: mean squared error on the angle, the centralised training of the FADNet post.

A run is a folder. `last.pt` has all that goes on after an interruption, `best.safetensors` the weights with the lowest
validation error, `result.json` the command, seeds, data digests and figures, `tensorboard/` the curves.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.export.datasets.base import SteeringDataset
from edgeflock.export.nets import NETS, STEERING_NETS
from edgeflock.export.training.augment import augment
from edgeflock.export.training.checkpoint import load_checkpoint, read_torch, save_state, write_atomically
from edgeflock.export.training.report import Report
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.preprocess import crop_200

EVAL_BATCH = 256


class SteeringConfig(BaseModel):
    """Everything, beside data and start weights, that decides what a training run computes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    net: str = Field("fadnet", description="one of edgeflock.export.nets.STEERING_NETS")
    epochs: int = Field(40, ge=1)
    batch: int = Field(64, ge=2, description="images per step; at least 2, for batch normalisation")
    lr: float = Field(1e-3, gt=0, description="peak learning rate of Adam")
    weight_decay: float = Field(1e-5, ge=0, description="the authors' value (facts/nets.md 1.2)")
    warmup: float = Field(0.03, ge=0, lt=1, description="part of all steps in which the learning rate rises from 0")
    ema: float = Field(0.999, ge=0, lt=1, description="decay per step of the averaged weights that are validated")
    augment: bool = True
    shift: int = Field(0, ge=0, le=60, description="largest horizontal shift in px, see augment()")
    bf16: bool = Field(True, description="bfloat16 convolutions while training; validation is always float32")
    seed: int = 1204


def train_steering(
    config: SteeringConfig,
    training: SteeringDataset,
    validation: SteeringDataset,
    out: str | Path,
    *,
    init: str | Path | None = None,
    fresh: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Train a net to steer; goes on where an interrupted run in `out` stopped.

    Chance in an epoch (order, augmentation, dropout) comes from the seed and the epoch's number alone, so a run that
    was killed and resumed computes the same as one that was not, as far as the machine's arithmetic repeats.

    Parameters
    ----------
    config : SteeringConfig
    training, validation : SteeringDataset
    out : str or Path
        Folder of the run, made if missing.
    init : str or Path, optional
        Weights to start from (see `load_checkpoint`), of the same net.
    fresh : bool
        Start anew even if `out` holds a run.
    command : str
        Command line, kept in the result.

    Returns
    -------
    dict
        As in `result.json`; `figures` has the RMSE over the whole validation set in rad, of the net (best epoch), of a
        random training label and of the constant mean training label.

    Raises
    ------
    InputError
        Unknown net, start weights of another net, `out` holds a run with other settings or data, or the loss is NaN.
    DataError
        Too little data, unreadable weights or checkpoint.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    run = _Run.start(config, training, validation, init)
    checkpoint = out / "last.pt"
    if fresh:
        checkpoint.unlink(missing_ok=True)
    if checkpoint.exists():
        run.resume(checkpoint)
    baselines = _baselines(training.angles, validation.angles, config.seed)
    labels = torch.from_numpy(validation.angles)
    with Report(out, config.net, config.epochs, run.steps, done=run.epoch) as report:
        while run.epoch < config.epochs:
            started = time.monotonic()
            loss = run.train_epoch(training, report)
            predicted = predict(run.average, validation)
            rmse = float((predicted.double() - labels).square().mean().sqrt())
            run.seconds += time.monotonic() - started
            run.epoch += 1
            best = rmse < min((past["rmse"] for past in run.history), default=math.inf)
            run.history.append({"epoch": run.epoch, "loss": loss, "rmse": rmse})
            if best:
                metadata = {"net": config.net, "epoch": str(run.epoch), "rmse": f"{rmse:.6f}"}
                save_state(out / "best.safetensors", run.average.state_dict(), metadata)
            run.save(checkpoint)
            report.epoch(run.history, baselines["constant"], run.seconds)
    return run.result(out, baselines, command)


def predict(net: nn.Module, data: SteeringDataset) -> Tensor:
    """Steering angles float32 (N,) in rad that a net in evaluation mode gives for all frames of a data set."""
    device = next(net.parameters()).device
    angles = []
    with torch.inference_mode():
        for start in range(0, len(data), EVAL_BATCH):
            images = np.stack([crop_200(frame) for frame in data.frames[start : start + EVAL_BATCH]])
            angles.append(net(_to_input(images, device)).squeeze(1).cpu())
    return torch.cat(angles)


@dataclass
class _Run:
    """Everything that an interrupted training needs to go on."""

    config: SteeringConfig
    data: dict[str, dict[str, Any]]
    init: dict[str, str] | None
    net: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    steps: int  # per epoch
    epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def start(
        cls, config: SteeringConfig, training: SteeringDataset, validation: SteeringDataset, init: str | Path | None
    ) -> _Run:
        if config.net not in STEERING_NETS:
            raise InputError(f"unknown steering net {config.net!r}: choose one of {', '.join(STEERING_NETS)}.")
        for what, data, least in (("training", training, config.batch), ("validation", validation, 1)):
            if len(data) < least:
                raise DataError(f"the {what} data must have at least {least} frames, one batch, got {len(data)}.")
        torch.manual_seed(config.seed)
        net = NETS[config.net]()
        if init is not None:
            name, given = load_checkpoint(init)
            if name != config.net:
                raise InputError(f"{init} holds a {name}, the run trains {config.net}: pass --net {name}.")
            net.load_state_dict(given.state_dict())
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        net = net.to(device)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 4x the speed on CPUs, with bf16
        optimiser = torch.optim.Adam(
            [p for p in net.parameters() if p.requires_grad], config.lr, weight_decay=config.weight_decay
        )
        steps = len(training) // config.batch
        total = steps * config.epochs
        rising = config.warmup * total

        def rate(step: int) -> float:
            """Linear warm-up, then half a cosine down to 0."""
            if step < rising:
                return (step + 1) / (rising + 1)
            return 0.5 * (1 + math.cos(math.pi * (step - rising) / (total - rising)))

        return cls(
            config=config,
            data={"train": _describe(training), "val": _describe(validation)},
            init={"file": Path(init).name, "sha256": _sha256(Path(init))} if init is not None else None,
            net=net,
            average=copy.deepcopy(net).eval().requires_grad_(False),
            optimiser=optimiser,
            schedule=torch.optim.lr_scheduler.LambdaLR(optimiser, rate),
            steps=steps,
        )

    def train_epoch(self, data: SteeringDataset, report: Report) -> float:
        """One pass over the data in random order; returns the mean loss."""
        torch.manual_seed(int(np.random.SeedSequence([self.config.seed, self.epoch]).generate_state(1)[0]))
        self.net.train()
        device = next(self.net.parameters()).device
        total = 0.0
        for step, (images, angles) in enumerate(_batches(data, self.config, self.epoch, self.steps)):
            with torch.autocast(device.type, torch.bfloat16, enabled=self.config.bf16):
                predicted = self.net(_to_input(images, device))
            loss = F.mse_loss(predicted.float(), torch.from_numpy(angles)[:, None].to(device))
            self.optimiser.zero_grad()
            loss.backward()
            value = loss.item()
            if not math.isfinite(value):
                raise InputError(
                    f"the loss is {value} in epoch {self.epoch + 1}, step {step + 1} of {self.steps}, expected a "
                    f"finite number: lower the learning rate ({self.config.lr:g}) or start from other weights."
                )
            self.optimiser.step()
            self.schedule.step()
            self._average(self.epoch * self.steps + step)
            total += value
            report.step(value, float(self.schedule.get_last_lr()[0]))
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

    def save(self, path: Path) -> None:
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
        torch.save(content, buffer)
        write_atomically(path, buffer.getvalue())

    def resume(self, path: Path) -> None:
        saved = read_torch(path)
        if not isinstance(saved, dict) or "identity" not in saved:
            raise DataError(f"{path}: not the checkpoint of a steering run; pass --fresh to replace it.")
        for key, value in self.identity.items():
            if saved["identity"].get(key) != value:
                raise InputError(
                    f"{path} belongs to a run with {key}={saved['identity'].get(key)!r}, this one has {value!r}: "
                    "use the same settings and data to go on, another --out, or --fresh to start anew."
                )
        self.epoch, self.seconds, self.history = saved["epoch"], saved["seconds"], saved["history"]
        self.average.load_state_dict(saved["model_state"])
        self.net.load_state_dict(saved["net"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.schedule.load_state_dict(saved["schedule"])

    def result(self, out: Path, baselines: dict[str, float], command: str) -> dict[str, Any]:
        """Write and return `result.json`."""
        best = min(self.history, key=lambda past: past["rmse"])
        result = {
            "command": command,
            "net": self.config.net,
            "seeds": {"training": self.config.seed},
            "config": self.config.model_dump(),
            "init": self.init,
            "data": self.data,
            "figures": {
                "rmse": best["rmse"],
                **baselines,
                "best_epoch": best["epoch"],
                "epochs": self.epoch,
                "wall_s": round(self.seconds, 1),
            },
            "history": self.history,
            "versions": {name: version(name) for name in ("edgeflock", "torch", "numpy", "opencv-python-headless")},
        }
        write_atomically(out / "result.json", (json.dumps(result, indent=2) + "\n").encode())
        return result


def _batches(
    data: SteeringDataset, config: SteeringConfig, epoch: int, steps: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images uint8 (batch, 200, 200) and angles float32 (batch,), made one step ahead in a thread."""
    order = np.random.default_rng([config.seed, epoch]).permutation(len(data))

    def make(step: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([config.seed, epoch, step])
        images, angles = np.empty((config.batch, 200, 200), np.uint8), np.empty(config.batch, np.float32)
        for i, frame in enumerate(order[step * config.batch : (step + 1) * config.batch]):
            images[i], angles[i] = (
                augment(data.frames[frame], float(data.angles[frame]), rng, config.shift)
                if config.augment
                else (crop_200(data.frames[frame]), data.angles[frame])
            )
        return images, angles

    with ThreadPoolExecutor(1) as worker:
        upcoming = worker.submit(make, 0)
        for step in range(1, steps + 1):
            batch = upcoming.result()
            if step < steps:
                upcoming = worker.submit(make, step)
            yield batch


def _describe(data: SteeringDataset) -> dict[str, Any]:
    return {"frames": len(data), "groups": sorted(set(data.group_names)), "sha256": data.digest()}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _baselines(training: np.ndarray, validation: np.ndarray, seed: int) -> dict[str, float]:
    """RMSE of predicting a random training label, and the mean training label."""
    guess = np.random.default_rng(seed).choice(training, len(validation))
    return {
        "random": float(np.sqrt(np.mean((guess.astype(np.float64) - validation) ** 2))),
        "constant": float(np.sqrt(np.mean((training.mean(dtype=np.float64) - validation) ** 2))),
    }


def _to_input(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (N, 200, 200) -> float32 (N, 1, 200, 200)."""
    return torch.from_numpy(images)[:, None].to(device).float()
