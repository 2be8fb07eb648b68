"""Robust rules: mixing that a few broken or hostile neighbours cannot steer.

Each is called with a silo's own model (d,), what its neighbours bring (m, d) and the plan's weights (m,), and gives the
mixed model. None falls back to the plain mean: with fewer neighbours than `least` the call raises, and `Mixing` keeps
the silo's own model in such a round. The own model counts as sound, and none of the rules keeps the fleet's mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflock.runtime.errors import InputError


@dataclass(frozen=True)
class Clipping:
    """Self-centred clipping: no neighbour moves a silo farther than `weight x radius` (He et al. 2022, ClippedGossip).

    `own + sum_j w_j clip(theirs_j - own, radius)`. The only rule here that works with one neighbour, given a radius.

    Parameters
    ----------
    f : int
        Neighbours that may be bad, where no radius is given: it is then `sqrt(sum_near w d^2 / sum_far w)` over the
        distances d, far being the f farthest (their radius, with the nearest taken as the sound ones).
    radius : float, optional
        Given instead, as an L2 norm over the whole model: a few times the length of a round's own training step.
    """

    f: int = 1
    radius: float | None = None

    def __post_init__(self) -> None:
        _check_f(self.f)
        if self.radius is not None and not (np.isfinite(self.radius) and self.radius > 0):
            raise InputError(f"the radius of clipping is {self.radius}: expected a number above 0.")

    @property
    def least(self) -> int:
        """One neighbour with a radius, else f and one to measure by."""
        return 1 if self.radius is not None else self.f + 1

    def __call__(self, own: np.ndarray, theirs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Weighted mean of the clipped differences."""
        _check(self, own, theirs)
        mixed = own.astype(np.float64)
        norms = np.array([np.linalg.norm(model.astype(np.float64) - own) for model in theirs])
        radius = self.radius
        if radius is None:
            order = np.argsort(norms, kind="stable")
            near, far = order[: len(order) - self.f], order[len(order) - self.f :]
            radius = float(np.sqrt((weights[near] * norms[near] ** 2).sum() / weights[far].sum()))
        for model, weight, norm in zip(theirs, weights, norms, strict=True):
            mixed += weight * min(1.0, radius / max(norm, 1e-300)) * (model.astype(np.float64) - own)
        return mixed.astype(np.float32)


@dataclass(frozen=True)
class Median:
    """Coordinate median of own and neighbours' models (Yin et al. 2018), for up to f bad of `2 f` neighbours or more.

    Every coordinate then lies between two sound ones. Weights count only as heard or not.
    """

    f: int = 1

    def __post_init__(self) -> None:
        _check_f(self.f)

    @property
    def least(self) -> int:
        """With the own model 2 f + 1 votes."""
        return 2 * self.f

    def __call__(self, own: np.ndarray, theirs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Median of each coordinate; of an even number the mean of the middle two."""
        _check(self, own, theirs)
        return np.median(np.vstack([own, theirs]), axis=0).astype(np.float32)


@dataclass(frozen=True)
class TrimmedMean:
    """Mean of each coordinate without its f largest and f smallest (Yin et al. 2018); needs `2 f` neighbours."""

    f: int = 1

    def __post_init__(self) -> None:
        _check_f(self.f)

    @property
    def least(self) -> int:
        """With the own model 2 f + 1 votes."""
        return 2 * self.f

    def __call__(self, own: np.ndarray, theirs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Mean of what is left of each coordinate."""
        _check(self, own, theirs)
        votes = np.sort(np.vstack([own, theirs]), axis=0)
        return votes[self.f : len(votes) - self.f].mean(axis=0, dtype=np.float64).astype(np.float32)


@dataclass(frozen=True)
class MultiKrum:
    """Mean of the models closest to their own nearest (Blanchard et al. 2017), for up to f bad of n >= 2 f + 3.

    A model's score is the sum of squared distances to its n - f - 2 nearest; the n - f - 2 models of lowest score are
    averaged (El Mhamdi et al. 2018 prove it for as many). n counts the silo itself.
    """

    f: int = 1

    def __post_init__(self) -> None:
        _check_f(self.f)

    @property
    def least(self) -> int:
        """With the own model 2 f + 3."""
        return 2 * self.f + 2

    def __call__(self, own: np.ndarray, theirs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Mean of the chosen models."""
        _check(self, own, theirs)
        models = np.vstack([own, theirs])
        keep = len(models) - self.f - 2
        apart = models - own.astype(np.float64)  # small near agreement, so that the products below do not cancel
        products = apart @ apart.T
        squared = np.diag(products)[:, None] + np.diag(products) - 2 * products
        np.fill_diagonal(squared, np.inf)
        scores = np.sort(np.maximum(squared, 0), axis=1)[:, :keep].sum(axis=1)
        return models[np.argsort(scores, kind="stable")[:keep]].mean(axis=0, dtype=np.float64).astype(np.float32)


def _check_f(f: int) -> None:
    if f < 1:
        raise InputError(f"f, the neighbours that may be bad, is {f}: expected 1 or more. For none leave the rule out.")


def _check(rule: Clipping | Median | TrimmedMean | MultiKrum, own: np.ndarray, theirs: np.ndarray) -> None:
    if own.ndim != 1 or theirs.ndim != 2 or theirs.shape[1] != len(own):
        raise InputError(f"expected models (m, d) beside the own (d,); got {theirs.shape} beside {own.shape}.")
    if len(theirs) < rule.least:
        raise InputError(f"{rule} needs {rule.least} neighbours, got {len(theirs)}: keep the own model.")
    for model in (own, *theirs):
        if not np.isfinite(model).all():
            raise InputError("a model holds NaN or infinity: drop it and go on with the models that are sound.")


def robust_rule(text: str) -> Clipping | Median | TrimmedMean | MultiKrum:
    """Rule by name, with its number of faulty neighbours or radius behind a colon: `median:1`, `clipping:radius=0.5`.

    Raises
    ------
    InputError
        No such rule, or its number is none.
    """
    name, _, number = text.partition(":")
    kinds = {"clipping": Clipping, "median": Median, "trimmed_mean": TrimmedMean, "multi_krum": MultiKrum}
    key, _, value = number.rpartition("=")
    try:
        if name == "clipping" and key == "radius":
            return Clipping(radius=float(value))
        if key:
            raise ValueError
        return kinds[name](int(value)) if value else kinds[name]()
    except (KeyError, ValueError) as error:
        raise InputError(
            f"no robust rule '{text}': expected {', '.join(kinds)}, each with :F, the number of faulty neighbours, or "
            "clipping:radius=R."
        ) from error
