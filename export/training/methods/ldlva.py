"""LDLVA (Le et al., WACV 2023): label distributions from neighbours in valence-arousal, and how much to trust labels.

Source: Le et al., WACV 2023 (arXiv 2209.10448), section 3; `Released` is what the authors' code does differently
(docs/ldlva.md). It goes with any net that gives features and scores: `ldlva_emotion` trains the expression nets
with it, `ldlva_digits` a small one.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.export.training.loop.optimisers import SGD
from edgeflock.runtime.errors import DataError

CHUNK = 2048  # rows of the distance matrix at a time


class LdlvaSettings(BaseModel):
    """Values of the method; where the post gives none they are the released code's for RAF-DB."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    neighbours: int = Field(8, ge=1, description="K")
    delta: float = Field(0.5, gt=0, description="width of the local similarity, in units of valence and arousal")
    gamma: float = Field(0.01, ge=0, description="weight of the discriminative loss")
    start: float = Field(-0.5, description="logit of every uncertainty at the start; -0.5 is 0.378")
    rate: float = Field(10.0, gt=0, description="learning rate of the uncertainties, by SGD of their own")
    momentum: float = Field(0.0, ge=0, lt=1, description="of that SGD")
    balanced: bool = Field(False, description="weigh samples by how rare their label is")


class Ldlva(nn.Module):
    """Loss of the post over a training set, and what is learnt beside the net: uncertainties, calibration, centres.

    Parameters
    ----------
    affect : Tensor
        (N, A), valence and arousal of every training sample, or any other space in which neighbours look alike.
    labels : Tensor
        int64 (N,), the given labels.
    classes, features : int
        m and V of the post.
    settings : LdlvaSettings, optional

    Attributes
    ----------
    neighbours : Tensor
        int64 (N, K), N(i).

    Raises
    ------
    DataError
        Not more samples than neighbours, or affect that is not finite.
    """

    neighbours: Tensor
    labels: Tensor
    log_similarity: Tensor
    weight: Tensor

    def __init__(
        self, affect: Tensor, labels: Tensor, classes: int, features: int, settings: LdlvaSettings | None = None
    ) -> None:
        super().__init__()
        self.settings = settings or LdlvaSettings()
        near = nearest(affect, self.settings.neighbours)
        self.register_buffer("neighbours", near, persistent=False)
        self.register_buffer("labels", labels, persistent=False)
        similarity = self.log_local_similarity(affect[:, None], affect[near])
        self.register_buffer("log_similarity", similarity, persistent=False)
        counts = labels.bincount(minlength=classes)
        weight = (len(labels) / (classes * counts))[labels] if self.settings.balanced else torch.ones(len(labels))
        self.register_buffer("weight", weight, persistent=False)
        self.doubt = nn.Parameter(torch.full((len(labels),), self.settings.start))  # lambda before its sigmoid
        self.centres = nn.Parameter(torch.zeros(classes, features))  # mu
        self.calibration = calibration_net(features)  # g

    @property
    def uncertainty(self) -> Tensor:
        """lambda, (N,): 0 where the given label is trusted, 1 where the neighbours are."""
        return self.doubt.detach().sigmoid()

    def optimisers(self) -> list[torch.optim.Optimizer]:
        """Of the parameters that do not share the net's."""
        return [SGD([self.doubt], self.settings.rate, self.settings.momentum)]

    def forward(self, index: Tensor, v: Tensor, scores: Tensor, v_near: Tensor, scores_near: Tensor) -> Tensor:
        """L of a batch; sums over samples are means, so that the batch does not scale the learning rates.

        Parameters
        ----------
        index : Tensor
            int64 (B,), which training samples these are.
        v, scores : Tensor
            Features (B, V) and scores before the softmax (B, m) of the samples.
        v_near, scores_near : Tensor
            (B, K, V) and (B, K, m), the same of their `neighbours`, without gradient: they are a target.
        """
        uncertainty = self.doubt[index].sigmoid()
        target = self.target(index, uncertainty, v, v_near, scores_near)
        classification = (self.weight[index] * F.cross_entropy(scores, target, reduction="none")).mean()
        return classification + self.discriminative(index, uncertainty, v, v_near)

    def target(self, index: Tensor, uncertainty: Tensor, v: Tensor, v_near: Tensor, scores_near: Tensor) -> Tensor:
        """d, (B, m): the given label and what the neighbours say, weighed by the uncertainty."""
        aggregated = aggregate(self.log_similarity[index] + self.log_calibration(v, v_near), scores_near.softmax(-1))
        given = F.one_hot(self.labels[index], scores_near.shape[-1])
        return (1 - uncertainty)[:, None] * given + uncertainty[:, None] * aggregated

    def log_local_similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Logarithm of s: minus the squared distance in valence-arousal over delta squared."""
        return -(a - b).square().sum(-1) / self.settings.delta**2

    def log_calibration(self, v: Tensor, v_near: Tensor) -> Tensor:
        """Logarithm of zeta, (B, K): log Sigmoid(g([v^i, v^k]))."""
        return F.logsigmoid(self.calibrate(v, v_near))

    def calibrate(self, v: Tensor, v_near: Tensor) -> Tensor:
        """g, (B, K)."""
        pairs = torch.cat([v[:, None].expand_as(v_near), v_near], -1)  # B, K, 2V
        return self.calibration(pairs.flatten(0, 1)).view(pairs.shape[:2])

    def discriminative(self, index: Tensor, uncertainty: Tensor, v: Tensor, v_near: Tensor) -> Tensor:
        """L_D times gamma: features near their class's centre where the label is certain, centres far apart."""
        distance = (v - self.centres[self.labels[index]]).square().sum(1)
        # Detached, or the minimum would be to doubt every label.
        within = ((1 - uncertainty.detach()) * distance / 2).mean()
        return self.settings.gamma * (within + repulsion(self.centres, self.centres.shape[1] ** 0.5))


class Released(Ldlva):
    """What the authors' code does instead (`minhnhatvt/label-distribution-learning-fer-tf`).

    Similarity exp(-L1 / delta); g not below -1.3; L_D over samples and neighbours; centres moved by SGD of their own
    (0.5), a class's pull divided by its count, and pushed apart with V instead of its root.
    """

    def optimisers(self) -> list[torch.optim.Optimizer]:
        """Of uncertainties and centres."""
        return [*super().optimisers(), SGD([self.centres], 0.5)]

    def log_local_similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Logarithm of s: minus the L1 distance over delta."""
        return -(a - b).abs().sum(-1) / self.settings.delta

    def calibrate(self, v: Tensor, v_near: Tensor) -> Tensor:
        """g, (B, K), at least -1.3, so that zeta is at least 0.214."""
        return super().calibrate(v, v_near).clamp(min=-1.3)

    def discriminative(self, index: Tensor, uncertainty: Tensor, v: Tensor, v_near: Tensor) -> Tensor:
        """L_D times gamma, whose gradient moves the features; the centres get the gradient of a rule of their own."""
        everyone = torch.cat([index, self.neighbours[index].flatten()])
        labels, certainty = self.labels[everyone], 1 - self.uncertainty[everyone]
        features = torch.cat([v, v_near.flatten(0, 1)])

        def within(features: Tensor, centres: Tensor) -> Tensor:
            return certainty * (features - centres[labels]).square().sum(1) / 2

        counts = labels.bincount(minlength=len(self.centres))[labels] + 1
        pull = (within(features.detach(), self.centres) / counts).mean()
        push = 0.1 * repulsion(self.centres, self.centres.shape[1]) / 2  # the code counts every pair once
        rule = pull + push - (pull + push).detach()  # its gradient, not its value
        return self.settings.gamma * within(features, self.centres.detach()).mean() + rule


def calibration_net(features: int) -> nn.Sequential:
    """MLP g of the released code, [v^i, v^k] to a score, (N, 2V) -> (N, 1); 657,921 parameters for V = 512."""
    return nn.Sequential(
        nn.Linear(2 * features, features),
        nn.BatchNorm1d(features),
        nn.ReLU(),
        nn.Linear(features, features // 2),
        nn.BatchNorm1d(features // 2),
        nn.ReLU(),
        nn.Linear(features // 2, 1),
    )


def nearest(points: Tensor, k: int) -> Tensor:
    """Indices int64 (N, k) of the nearest other points of each of (N, A), nearest first."""
    if not torch.isfinite(points).all():
        raise DataError("valence and arousal must be finite numbers for every training sample, some are not.")
    if len(points) <= k:
        raise DataError(f"{k} neighbours need at least {k + 1} training samples, got {len(points)}.")
    found = []
    for start in range(0, len(points), CHUNK):
        rows = points[start : start + CHUNK]
        distance = torch.cdist(rows, points, compute_mode="donot_use_mm_for_euclid_dist")
        own = torch.arange(len(rows))
        distance[own, start + own] = torch.inf
        found.append(distance.topk(k, largest=False).indices)
    return torch.cat(found)


def aggregate(log_contribution: Tensor, predictions: Tensor) -> Tensor:
    """d~, (B, m): mean of the neighbours' predictions (B, K, m), weighed by their contributions c = exp(log) (B, K).

    Only the ratios of the contributions count, so they may be as small as they like.
    """
    return (log_contribution.softmax(-1)[..., None] * predictions).sum(-2)


def repulsion(centres: Tensor, scale: float) -> Tensor:
    """Sum over j != k of exp(-||mu_j - mu_k||^2 / scale): m(m - 1) where all coincide, 0 where all are far apart."""
    squares = (centres[:, None] - centres).square().sum(-1)
    different = ~torch.eye(len(centres), dtype=torch.bool, device=centres.device)
    return torch.exp(-squares / scale)[different].sum()


def flip(labels: np.ndarray, classes: int, share: float, seed: int) -> np.ndarray:
    """Labels of which a share, drawn by chance, are changed to one of the other classes."""
    rng = np.random.default_rng([seed, 0xF11B])
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
    flipped = labels.copy()
    flipped[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return flipped


def area_under_roc(score: np.ndarray, positive: np.ndarray) -> float:
    """How often a positive sample has the higher score than a negative one; equal scores count half."""
    _, rank, count = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[rank]  # 1 .. N, the mean where equal
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))
