"""GLAMOR-Net's proof on data that anyone has: drawn scenes in which the face says what in the context counts.

The same net learns the same scenes with global-local attention, with attention to the context alone, and with the mean
of the context (docs/glamor.md). The nets are GLAMOR-Net's own parts, made small for a CPU: images are shrunk to a
quarter (faces, at 32 pixels, to half), and each encoder has three layers of 32, 64 and 64 filters in place of five of
32 to 256. Attention, fusion and head are the originals at D = 64, the map has 7x7 cells as the original's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from edgeflock.export.datasets.emotion import EmotionDataset, prepare
from edgeflock.export.datasets.synthetic.keyed import CELLS, FACE_ALONE, keyed_scenes
from edgeflock.export.nets.glamor import LABELS, Encoder, Glamor
from edgeflock.export.training.config import GlamorConfig
from edgeflock.export.training.loop.checkpoint import read_state
from edgeflock.export.training.methods.emotion import train_emotion
from edgeflock.export.training.methods.glamor import SHOWN, Look, draw_attention, look
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.figures import new_figure
from edgeflock.runtime.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Attention = Literal["gla", "context", "mean"]
ATTENTIONS: dict[Attention, str] = {
    "gla": "GLA: face and cell",
    "context": "context alone",
    "mean": "mean pooling",
}
FILTERS = (32, 64, 64)
FACE_SIZE = 32


@dataclass(frozen=True)
class Task:
    """Size of the experiment."""

    samples: int = 4000
    """Training scenes; an eighth as many are for testing."""
    epochs: int = 8
    markers: int = 4


def scene_net(attention: Attention, seed: int) -> Glamor:
    """Small GLAMOR-Net of the experiment; nets of one seed start with the same encoders."""
    torch.manual_seed(seed)
    face, context = (nn.Sequential(nn.AvgPool2d(shrink), Encoder(FILTERS)) for shrink in (2, 4))
    return Glamor(face, context, FILTERS[-1], attention=attention)


def scenes(n: int, seed: int, markers: int) -> tuple[EmotionDataset, np.ndarray]:
    """Drawn scenes as the net takes them, and the cell (N,) of the marker that counts in each."""
    drawn = list(keyed_scenes(n, seed, markers))
    data = prepare((example for example, _ in drawn), Glamor(), f"{n} synthetic keyed scenes, seed {seed}")
    return data, np.array([cell for _, cell in drawn])


def compare_attentions(out: Path, task: Task = Task(), seeds: Sequence[int] = (0, 1, 2)) -> dict[str, Any]:
    """Train every kind of attention on every seed; goes on where it stopped.

    Parameters
    ----------
    out : Path
        Folder of the runs, `<attention>-<seed>` each; gets `attention.jpg` of the first seed.
    task : Task
    seeds : sequence of int
        Each draws training and test scenes of its own.

    Returns
    -------
    dict
        `runs`: for each attention and seed the test accuracy of the last epoch, the mean attention on the marker that
        counts, and the accuracy after every epoch; beside them the task, and what chance and the face alone reach.

    Raises
    ------
    InputError
        `out` holds runs of another task.
    """
    runs = []
    for seed in seeds:
        training, _ = scenes(task.samples, 2 * seed, task.markers)
        judged, cells = scenes(task.samples // 8, 2 * seed + 1, task.markers)
        looks = []
        for attention in ATTENTIONS:
            result, seen = _train(attention, seed, task, training, judged, out / f"{attention}-{seed}")
            on_marker = seen.attention.reshape(len(judged), -1)[np.arange(len(judged)), cells]
            runs.append(
                {
                    "attention": attention,
                    "seed": seed,
                    "accuracy": result["history"][-1]["accuracy"],
                    "attention_on_marker": float(on_marker.mean()),
                    "accuracies": [epoch["accuracy"] for epoch in result["history"]],
                    "wall_s": result["figures"]["wall_s"],
                }
            )
            looks.append(seen)
        if seed == seeds[0]:
            draw_attention(judged, looks, np.arange(min(SHOWN, len(judged))), out / "attention.jpg")
    return {
        "task": {**task.__dict__, "filters": FILTERS, "seeds": list(seeds)},
        "chance": 1 / len(LABELS),
        "face_alone": FACE_ALONE,
        "runs": runs,
    }


def _train(
    attention: Attention, seed: int, task: Task, training: EmotionDataset, judged: EmotionDataset, out: Path
) -> tuple[dict[str, Any], Look]:
    """Result of one run, and what its last weights make of the test scenes."""
    config = GlamorConfig(
        net=f"scenes, {ATTENTIONS[attention]}, seed {seed}",
        epochs=task.epochs,
        lr=3e-3,
        warmup=0.05,
        weight_decay=0,
        size=FACE_SIZE,
        augment=False,
        seed=seed,
    )
    net = scene_net(attention, seed)
    result = train_emotion(config, training, judged, out, net=net)
    net.load_state_dict(read_state(out / "last.pt"))
    return result, look(net.eval(), judged, FACE_SIZE)


def summary(result: dict[str, Any]) -> dict[Attention, list[dict[str, Any]]]:
    """Runs by attention."""
    return {name: [run for run in result["runs"] if run["attention"] == name] for name in ATTENTIONS}


def show_scene(out: Path, json_file: Path | None, task: Task, seeds: Sequence[int], console: Console) -> None:
    """Run the comparison, print its table, and write `accuracy.png` beside the runs and all figures as JSON."""
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InputError(f"the comparison needs different seeds from 0, got {list(seeds)}.")
    result = compare_attentions(out, task, seeds)
    table = Table("", *(f"seed {seed}" for seed in seeds), "mean", "attention on the marker", "s")
    for attention, runs in summary(result).items():
        mean, on_marker = (np.mean([run[key] for run in runs]) for key in ("accuracy", "attention_on_marker"))
        table.add_row(
            ATTENTIONS[attention],
            *(f"{run['accuracy']:.3f}" for run in runs),
            f"{mean:.3f}",
            f"{on_marker:.3f}",
            f"{sum(run['wall_s'] for run in runs):.0f}",
        )
    console.print(table)
    console.print(
        f"Test accuracy after {task.epochs} epochs on {task.samples // 8} synthetic scenes per seed; chance "
        f"{result['chance']:.3f}, the face alone allows {result['face_alone']:.3f}; an even attention puts "
        f"{1 / CELLS**2:.3f} on the marker.",
        soft_wrap=True,
        highlight=False,
    )
    plot(result).savefig(out / "accuracy.png", dpi=120)
    console.print(f"{out / 'accuracy.png'}, {out / 'attention.jpg'}", soft_wrap=True, highlight=False)
    if json_file is not None:
        write_atomically(json_file, (json.dumps(result, indent=2) + "\n").encode())


def plot(result: dict[str, Any]) -> Figure:
    """Accuracy over epochs, a line per run and a colour per attention."""
    figure = new_figure(6.4, 3.8, "The plot of the scene experiment")
    axes = figure.add_subplot(
        xlabel="epoch", ylabel="test accuracy", ylim=(0, 1), title="Synthetic scenes: the face says which marker counts"
    )
    for i, (attention, runs) in enumerate(summary(result).items()):
        for run in runs:
            epochs = range(1, len(run["accuracies"]) + 1)
            axes.plot(epochs, run["accuracies"], f"C{i}", label=ATTENTIONS[attention] if run is runs[0] else None)
    for name, style in (("face_alone", "--"), ("chance", ":")):
        axes.axhline(result[name], color="grey", linestyle=style, label=name.replace("_", " "))
    axes.legend()
    return figure
