"""LDLVA's proof on data that anyone has: scikit-learn's digits with a share of the training labels flipped.

A small net learns from wrong labels by cross-entropy and by LDLVA. What stands in for valence and arousal is a map of
the training images made without labels (t-SNE or principal components). Two simpler remedies are measured beside it:
label smoothing, and the mean of the neighbours' labels in the same map. Set-up and figures: docs/ldlva.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.export.training.loop.optimisers import Adam
from edgeflock.export.training.methods.ldlva import Ldlva, LdlvaSettings, area_under_roc, flip
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.figures import new_figure
from edgeflock.runtime.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Aux = Literal["tsne-2", "pca-2", "pca-8"]
METHODS = {
    "ce": "cross-entropy",
    "smoothing": "label smoothing 0.1",
    "knn": "mean of the neighbours' labels",
    "ldlva": "LDLVA",
}
NOISES = (0.0, 0.2, 0.4)
SETTINGS = LdlvaSettings()  # gamma 0.01: with 0.001 some seeds lose on clean labels
BATCH, LR, TRAINING = 32, 1e-3, 0.6
HIDDEN, FEATURES, CLASSES = 256, 64, 10
BINS = 20  # of the uncertainties' histogram


class DigitsNet(nn.Module):
    """Images (N, 64) in 0..1 to features (N, 64), and these to scores (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, FEATURES), nn.ReLU())
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and scores."""
        v = self.features(images)
        return v, self.fc(v)


@dataclass(frozen=True)
class Digits:
    """One split: images float32 (N, 64) in 0..1, labels int64 (N,), the map of the training images (N, A)."""

    images: Tensor
    labels: Tensor
    wrong: np.ndarray
    """bool (N,): which labels were flipped."""
    space: Tensor
    test_images: Tensor
    test_labels: Tensor


class Outcome(NamedTuple):
    """Test accuracy after every epoch, and what LDLVA learnt of the labels, (N,)."""

    accuracies: list[float]
    uncertainty: np.ndarray | None


def load_digits(noise: float, seed: int, aux: Aux = "tsne-2") -> Digits:
    """Split 60/40 by a seed and flip a share of the training labels.

    Raises
    ------
    InputError
        The noise is not a share below 1.
    MissingExtra
        scikit-learn is not installed.
    """
    if not 0 <= noise < 1:
        raise InputError(f"the noise is a share of the labels, 0 or more and below 1, got {noise}.")
    images, labels = _digits()
    order = np.random.default_rng(seed).permutation(len(labels))
    train, test = np.split(order, [int(TRAINING * len(order))])
    given = flip(labels[train], CLASSES, noise, seed)
    return Digits(
        images=torch.from_numpy(images[train]),
        labels=torch.from_numpy(given),
        wrong=given != labels[train],
        space=torch.from_numpy(_space(seed, aux)),
        test_images=torch.from_numpy(images[test]),
        test_labels=torch.from_numpy(labels[test]),
    )


def _digits() -> tuple[np.ndarray, np.ndarray]:
    with needs("the digits experiment"):
        from sklearn import datasets
    images, labels = datasets.load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels.astype(np.int64)


@cache
def _space(seed: int, aux: Aux) -> np.ndarray:
    """Map of a split's training images, of unit variance over all axes together; labels and test images unseen."""
    images, labels = _digits()
    train = np.random.default_rng(seed).permutation(len(labels))[: int(TRAINING * len(labels))]
    if aux == "tsne-2":
        from sklearn.manifold import TSNE

        points = TSNE(2, init="pca", random_state=seed).fit_transform(images[train])
    else:
        centred = images[train] - images[train].mean(0)
        points = centred @ np.linalg.svd(centred, full_matrices=False)[2][: int(aux[4:])].T
    points = points - points.mean(0)
    return (points / points.std()).astype(np.float32)


def train_digits(
    data: Digits, method: str, seed: int, epochs: int = 40, advance: Callable[[], None] = lambda: None
) -> Outcome:
    """Train the net by one of `METHODS`; the same start weights and order of samples for all.

    Parameters
    ----------
    data : Digits
    method : str
    seed : int
        Of start weights and order.
    epochs : int
    advance : callable
        Called after every epoch.
    """
    torch.manual_seed(seed)
    net = DigitsNet()
    torch.manual_seed(seed + 1)
    ldlva = Ldlva(data.space, data.labels, CLASSES, FEATURES, SETTINGS)
    optimisers: list[torch.optim.Optimizer] = [Adam(net.parameters(), LR)]
    if method == "ldlva":
        shared = [ldlva.centres, *ldlva.calibration.parameters()]
        optimisers += [Adam(shared, LR), *ldlva.optimisers()]
    target = F.one_hot(data.labels, CLASSES).float()
    if method == "smoothing":
        target = 0.9 * target + 0.1 / CLASSES
    if method == "knn":  # every sample is its own neighbour too
        similarity = ldlva.log_similarity.exp()[..., None]
        target = (target + (similarity * target[ldlva.neighbours]).sum(1)) / (1 + similarity.sum(1))
    rng = np.random.default_rng(seed)
    accuracies = []
    for _ in range(epochs):
        for index in torch.from_numpy(rng.permutation(len(data.labels))).split(BATCH):
            v, scores = net(data.images[index])
            if method == "ldlva":
                with torch.no_grad():
                    near = net(data.images[ldlva.neighbours[index]])
                loss = ldlva(index, v, scores, *near)
            else:
                loss = F.cross_entropy(scores, target[index])
            for optimiser in optimisers:
                optimiser.zero_grad()
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
        with torch.no_grad():
            right = net(data.test_images)[1].argmax(1) == data.test_labels
        accuracies.append(right.double().mean().item())
        advance()
    return Outcome(accuracies, ldlva.uncertainty.numpy() if method == "ldlva" else None)


def compare(
    noise: float, seed: int, aux: Aux = "tsne-2", epochs: int = 40, advance: Callable[[], None] = lambda: None
) -> dict[str, float | None]:
    """Cross-entropy against LDLVA: test accuracies after the last epoch, and how well the uncertainty finds flips.

    `uncertainty_auc` is the area under the ROC curve, None where no label was flipped.
    """
    data = load_digits(noise, seed, aux)
    ce, ldlva = (train_digits(data, method, seed, epochs, advance) for method in ("ce", "ldlva"))
    assert ldlva.uncertainty is not None
    return {
        "ce_accuracy": ce.accuracies[-1],
        "ldlva_accuracy": ldlva.accuracies[-1],
        "uncertainty_auc": area_under_roc(ldlva.uncertainty, data.wrong) if data.wrong.any() else None,
    }


def run_table(
    out: Path, seeds: list[int], aux: Aux = "tsne-2", epochs: int = 40, advance: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """All methods at all noises and seeds; goes on where an interrupted call in `out` stopped.

    Returns
    -------
    list of dict
        As in `results.json`: noise, seed, method, accuracies per epoch, and of LDLVA the AUC and the histograms of the
        uncertainties of right and wrong labels.

    Raises
    ------
    InputError
        `out` holds results of other settings.
    """
    path = out / "results.json"
    settings = {"aux": aux, "epochs": epochs}
    held = json.loads(path.read_text()) if path.is_file() else {**settings, "cells": []}
    for key, value in settings.items():
        if held[key] != value:
            raise InputError(f"{path} was made with {key}={held[key]!r}, not {value!r}: name another folder.")
    done = {(cell["noise"], cell["seed"], cell["method"]): cell for cell in held["cells"]}
    out.mkdir(parents=True, exist_ok=True)
    wanted = [(noise, seed, method) for seed in seeds for noise in NOISES for method in METHODS]
    for noise, seed, method in wanted:
        if (noise, seed, method) not in done:
            data = load_digits(noise, seed, aux)
            accuracies, uncertainty = train_digits(data, method, seed, epochs)
            cell = {"noise": noise, "seed": seed, "method": method, "accuracies": accuracies}
            if uncertainty is not None:
                cell["auc"] = area_under_roc(uncertainty, data.wrong) if data.wrong.any() else None
                cell["histograms"] = [
                    np.histogram(uncertainty[data.wrong == wrong], BINS, (0, 1))[0].tolist() for wrong in (False, True)
                ]
            done[noise, seed, method] = cell
            write_atomically(path, json.dumps({**settings, "cells": list(done.values())}).encode())
        advance()
    return [done[key] for key in wanted]


def plot(cells: list[dict[str, Any]]) -> Figure:
    """Accuracy over the epochs at the highest noise, and the uncertainties that LDLVA learnt there.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    """
    figure = new_figure(8, 3, "The picture")
    left, right = figure.subplots(1, 2)
    noise = max(cell["noise"] for cell in cells)
    for method, title in METHODS.items():
        curves = np.array([c["accuracies"] for c in cells if c["noise"] == noise and c["method"] == method])
        epochs = np.arange(1, curves.shape[1] + 1)
        line = left.plot(epochs, curves.mean(0), label=title)[0]
        left.fill_between(epochs, curves.min(0), curves.max(0), color=line.get_color(), alpha=0.15, linewidth=0)
    left.set(xlabel="epoch", ylabel="test accuracy", ylim=(0.8, 1), title=f"{noise:.0%} of the labels flipped")
    left.legend(loc="lower left", fontsize="small")
    kept, wrong = np.sum([c["histograms"] for c in cells if c["noise"] == noise and "histograms" in c], 0)
    edges = np.linspace(0, 1, BINS + 1)
    right.stairs(kept, edges, fill=True, alpha=0.6, label="right labels")
    right.stairs(wrong, edges, fill=True, alpha=0.6, label="flipped labels")
    right.set(xlabel="learnt uncertainty $\\lambda$", ylabel="training images", title="What LDLVA doubts")
    right.legend(fontsize="small")
    return figure


def show_comparison(noise: float, seed: int, aux: Aux, epochs: int, file: Path | None, console: Console) -> None:
    """Run `compare` with a progress bar, print it, and write it as JSON."""
    with Progress(console=console) as progress:
        task = progress.add_task("cross-entropy, LDLVA", total=2 * epochs)
        figures = compare(noise, seed, aux, epochs, lambda: progress.advance(task))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, (json.dumps(figures, indent=2) + "\n").encode())
    auc = figures["uncertainty_auc"]
    found = "" if auc is None else f", flipped labels found with an AUC of {auc:.3f}"
    console.print(
        f"{noise:.0%} flipped, seed {seed}: cross-entropy {figures['ce_accuracy']:.3f}, LDLVA "
        f"{figures['ldlva_accuracy']:.3f}{found}",
        highlight=False,
        soft_wrap=True,
    )


def show_table(out: Path, seeds: list[int], aux: Aux, epochs: int, console: Console) -> None:
    """Run `run_table` with a progress bar, print it, and draw `ldlva-digits.png` beside its results."""
    with Progress(console=console) as progress:
        task = progress.add_task("digits", total=len(seeds) * len(NOISES) * len(METHODS))
        cells = run_table(out, seeds, aux, epochs, lambda: progress.advance(task))
    table = Table("flipped", *METHODS.values(), "AUC, each seed")
    for noise in NOISES:
        rows = [cell for cell in cells if cell["noise"] == noise]
        last = {m: [cell["accuracies"][-1] for cell in rows if cell["method"] == m] for m in METHODS}
        found = [f"{cell['auc']:.3f}" for cell in rows if cell.get("auc")]
        means = [f"{np.mean(of):.3f}\n{min(of):.3f}-{max(of):.3f}" for of in last.values()]
        table.add_row(f"{noise:.0%}", *means, "\n".join(found))
    console.print(table)
    picture = out / "ldlva-digits.png"
    plot(cells).savefig(picture, dpi=100)
    console.print(f"{out / 'results.json'}, {picture}", highlight=False, soft_wrap=True)
