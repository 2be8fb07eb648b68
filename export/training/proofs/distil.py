"""What a light registration net learns from a heavy one, by every mode: one teacher, same batches, several seeds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.ndimage import binary_erosion, distance_transform_edt, find_objects
from torch import nn

from edgeflock.export.datasets.volumes import Volume, VolumeDataset, check_apart, open_volumes
from edgeflock.export.nets.spatial import jacobian_determinant, warp
from edgeflock.export.training.config import DistilConfig, DistilTable, RegistrationConfig
from edgeflock.export.training.loop.checkpoint import load_checkpoint
from edgeflock.export.training.methods.distil import teacher_fields, train_distilled
from edgeflock.export.training.methods.registration import as_seen, correlation, train_registration
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.prepare import volume as volumes
from edgeflock.runtime.prepare.phantom import CLASSES, draw_phantom

EPOCHS = 4
"""Times that weights are kept and judged in a run."""

TEACHER, NOTHING, BASELINE = "teacher", "not registered", "none"

COLUMNS = {
    "dice": ("Dice", ".4f"),
    "hd95": ("HD95, voxels", ".2f"),
    "folded": ("folded", ".3%"),
    "log_jacobian_std": ("std of log J", ".3f"),
    "correlation": ("correlation", ".4f"),
    "ms": ("ms", ".0f"),
}


def run_table(out: Path, data: Path | None, settings: DistilTable, console: Console) -> list[dict[str, Any]]:
    """Train the teacher and all students; every run goes on where an interrupted call in `out` stopped.

    Returns
    -------
    list of dict
        As under "rows" in `results.json`: mode, seed, and the mean figures of `COLUMNS` over the pairs of the table.

    Raises
    ------
    InputError
        `out` holds other runs, or the volumes have no segmentations.
    """
    training, choosing, judged = _parts(data, settings)
    few = training.only(training.names[: settings.bodies])
    common = {"size": settings.size, "epochs": EPOCHS, "batch": settings.batch, "pairs": settings.pairs}
    config = RegistrationConfig(
        net=settings.teacher, steps=max(1, settings.teacher_steps // EPOCHS), lr=settings.teacher_lr, **common
    )
    train_registration(config, training, choosing, out / TEACHER)
    weights = out / TEACHER / "best.safetensors"
    teacher = load_checkpoint(weights)[1]
    fields = teacher_fields(
        teacher, weights, few, few.pairs, settings.size, out / "fields", lambda left: track(left, "teacher's flows")
    )

    def student(mode: str, seed: int, smoothness: float) -> tuple[nn.Module, dict[str, Any]]:
        folder = out / f"{mode}-{smoothness:g}-{seed}"
        config = DistilConfig(
            net=settings.net, steps=max(1, settings.steps // EPOCHS), lr=settings.lr, mode=mode, seed=seed,
            smoothness=smoothness, **common,
        )  # fmt: skip
        result = train_distilled(config, few, choosing, fields, folder, teacher=teacher)
        return load_checkpoint(folder / "best.safetensors")[1], result["figures"]

    found = {s: student(BASELINE, settings.tuning_seed, s)[1]["dice"] for s in settings.smoothness}
    smoothness = max(found, key=lambda s: found[s])
    pairs = [as_seen(judged, pair, settings.size) for pair in judged.some_pairs(settings.pairs)]
    rows: list[dict[str, Any]] = [
        {"mode": NOTHING, "seed": None, **_judge(None, pairs, judged.classes)},
        {"mode": TEACHER, "seed": None, **_judge(teacher, pairs, judged.classes)},
    ]
    for seed in settings.seed:
        for mode in settings.mode:
            net, figures = student(mode, seed, smoothness)
            row = {"mode": mode, "seed": seed, **_judge(net, pairs, judged.classes)}
            rows.append(row | {"critic_share": figures.get("critic_share"), "train_s": figures["wall_s"]})
            write_atomically(
                out / "results.json",
                json.dumps(
                    {
                        "settings": settings.model_dump(),
                        "data": str(data) if data else "phantoms (synthetic)",
                        "smoothness": {"chosen": smoothness, "dice": {f"{s:g}": dice for s, dice in found.items()}},
                        "rows": rows,
                    },
                    indent=2,
                ),
            )
    console.print(
        f"smoothness {smoothness:g}, chosen by the Dice of the student without a teacher: "
        + ", ".join(f"{s:g} {dice:.4f}" for s, dice in found.items())
    )
    return rows


def show_table(out: Path, data: Path | None, settings: DistilTable, console: Console) -> None:
    """Run `run_table` and print its means, with the verdict on each mode."""
    rows = run_table(out, data, settings, console)
    table = Table("mode", *(title for title, _ in COLUMNS.values()), "Dice of each seed", f"against {BASELINE}")
    for mode in dict.fromkeys(row["mode"] for row in rows):
        own = [row for row in rows if row["mode"] == mode]
        means = [format(float(np.mean([row[key] for row in own])), form) for key, (_, form) in COLUMNS.items()]
        table.add_row(mode, *means, " ".join(f"{row['dice']:.4f}" for row in own), verdict(rows, mode))
    console.print(table)
    console.print(f"{out / 'results.json'}", highlight=False, soft_wrap=True)


def verdict(rows: list[dict[str, Any]], mode: str) -> str:
    """Mean difference in Dice from the student without a teacher, seed by seed, and whether it is more than chance.

    A mode helps if it is better with every seed, and on the mean by more than twice the differences' standard error.
    """
    base = {row["seed"]: row["dice"] for row in rows if row["mode"] == BASELINE}
    own = {row["seed"]: row["dice"] for row in rows if row["mode"] == mode}
    gains = np.array([own[seed] - base[seed] for seed in own.keys() & base.keys()])
    if mode == BASELINE or not len(gains):
        return ""
    text = f"{gains.mean():+.4f}, better {np.count_nonzero(gains > 0)} of {len(gains)}"
    error = gains.std(ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else np.inf
    return text + (": helps" if (gains > 0).all() and gains.mean() > 2 * error else "")


def hausdorff95(one: np.ndarray, other: np.ndarray, labels: tuple[int, ...]) -> float:
    """95th percentile of the distances from either surface to the other, in voxels, mean over the labels both have."""
    found = []
    for label in labels:
        masks = [one == label, other == label]
        if not (masks[0].any() and masks[1].any()):
            continue
        box = tuple(
            slice(max(0, part.start - 1), part.stop + 1)
            for part in find_objects((masks[0] | masks[1]).astype(np.uint8))[0]
        )
        a, b = (mask[box] for mask in masks)
        edges = [mask & ~binary_erosion(mask) for mask in (a, b)]
        apart = [distance_transform_edt(~edge) for edge in edges]
        found.append(np.percentile(np.concatenate([apart[1][edges[0]], apart[0][edges[1]]]), 95))
    return float(np.mean(found)) if found else float("nan")


@torch.inference_mode()
def _judge(net: nn.Module | None, pairs: list[dict[str, Any]], classes: tuple[int, ...]) -> dict[str, float]:
    rows = []
    for pair in pairs:
        fixed, moving, (goal, labels) = pair["fixed"], pair["moving"], pair["labels"]
        started = time.perf_counter()
        flow = torch.zeros(1, 3, *fixed.shape[2:]) if net is None else net(fixed, moving)
        ms = 1e3 * (time.perf_counter() - started) if net is not None else 0.0
        warped = volumes.warp(labels, flow[0].numpy(), nearest=True)
        determinant = jacobian_determinant(flow)
        rows.append(
            {
                "dice": volumes.dice(warped, goal, classes),
                "hd95": hausdorff95(warped, goal, classes),
                "folded": float((determinant <= 0).double().mean()),
                "log_jacobian_std": float(determinant.clamp(min=1e-3).log().std()),
                "correlation": float(correlation(warp(moving, flow), fixed)),
                "ms": ms,
            }
        )
    return {key: float(np.nanmean([row[key] for row in rows])) for key in COLUMNS}


def _parts(data: Path | None, settings: DistilTable) -> tuple[VolumeDataset, VolumeDataset, VolumeDataset]:
    """Volumes to train on, to choose weights by, and for the table."""
    if data is None:
        drawn = {str(seed): Volume(*draw_phantom(seed, settings.size)) for seed in track(range(1, 41), "phantoms")}
        whole = VolumeDataset(list(drawn), tuple(CLASSES.values()), settings.size, drawn.__getitem__)
        training, validation = whole.only(whole.names[:28]), whole.only(whole.names[28:])
    else:
        training, validation = open_volumes(data, "train"), open_volumes(data, "val")
        check_apart(training, validation)
        if any(validation[i].labels is None for i in range(len(validation))):
            raise InputError(f"{data}: the table needs a segmentation of every validation volume.")
    half = len(validation) // 2
    return training, validation.only(validation.names[:half]), validation.only(validation.names[half:])
