"""What a training run shows while it runs: a progress bar, one line per epoch, and a TensorBoard log."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

if TYPE_CHECKING:
    from edgeflock.export.training.loop.metric import Metric


class Report:
    """Progress of one run, as a context manager.

    Parameters
    ----------
    out : Path
        Folder of the run; the log goes to `tensorboard/` in it.
    title : str
        Shown before the bar.
    epochs, steps : int
        Length of the run: epochs, and steps in each.
    metric : Metric
        Validation figure.
    done : int
        Epochs that an earlier process finished; what it logged after them is hidden.
    """

    def __init__(self, out: Path, title: str, epochs: int, steps: int, metric: Metric, done: int) -> None:
        self._steps, self._epochs, self._metric, self._count = steps, epochs, metric, done * steps
        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=self._count)
        self._progress = Progress(
            TextColumn(f"{title} epoch {{task.fields[epoch]}}/{epochs}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.5f}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._task = self._progress.add_task(
            title, total=epochs * steps, completed=self._count, epoch=done, loss=math.nan
        )

    def __enter__(self) -> Report:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._writer.close()

    def step(self, loss: float, rate: float) -> None:
        """One step is done: its loss and learning rate."""
        self._progress.update(self._task, completed=self._count + 1, epoch=self._count // self._steps + 1, loss=loss)
        self._count += 1
        self._writer.add_scalar("loss/step", loss, self._count)
        self._writer.add_scalar("learning rate", rate, self._count)

    def epoch(self, history: list[dict[str, float]], seconds: float) -> None:
        """One epoch is done: the figures of all so far, and the seconds spent in all."""
        metric, now = self._metric, history[-1]
        value, constant = now[metric.name], metric.baselines["constant"]
        unit = f" {metric.unit}" if metric.unit else ""
        self._progress.console.print(
            f"epoch {len(history)}/{self._epochs}  loss {now['loss']:.5f}  validation {metric.name} {value:.4f}{unit}, "
            f"Constant {constant:.4f}, best {metric.of(history)[metric.name]:.4f}  {seconds:.0f} s",
            highlight=False,
            soft_wrap=True,
        )
        self._writer.add_scalar("loss/epoch", now["loss"], self._count)
        for name in now.keys() - {"epoch", "loss"}:
            self._writer.add_scalar(f"validation/{name}", now[name], self._count)
        if constant:
            self._writer.add_scalar(f"validation/{metric.name} relative to constant", value / constant, self._count)
        self._writer.flush()
