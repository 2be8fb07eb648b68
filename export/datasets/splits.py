"""How a fleet's training data is dealt to its silos: every way gives the indices of each silo's samples.

Robots see different places, so what they learn from is not alike (non-IID); each way makes them differ in one respect.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeflock.runtime.errors import DataError, InputError

BINS = 5  # of equal count, for answers that are no classes
DRAWS = 100
ALPHA = 0.5

Shares = list[np.ndarray]


def deal(split: str, labels: np.ndarray, groups: np.ndarray, silos: int, least: int, seed: int) -> Shares:
    """Deal samples to silos.

    Parameters
    ----------
    split : str
        `iid`: by chance. `environment`: whole groups (places, recordings), neighbours in their order together.
        `sign`: the silos before the middle get those with labels above 0, the others the rest; of numbers only.
        `dirichlet` or `dirichlet:ALPHA`: every class in shares drawn from a Dirichlet distribution, the more uneven the
        smaller ALPHA (0.5 by default; Hsu et al. 2019). Numbers are put into 5 bins of equal count first.
    labels : ndarray (N,)
        Classes (whole numbers) or answers (floating point).
    groups : ndarray of int (N,)
        Place or recording of each sample.
    silos, least : int
        How many silos, and how many samples each must have.
    seed : int
        Of what is left to chance.

    Returns
    -------
    list of ndarray of int
        Per silo, sorted; together every sample once.

    Raises
    ------
    InputError
        No such split, or ALPHA is not above 0.
    DataError
        A silo would get fewer than `least` samples.
    """
    name, _, parameter = split.partition(":")
    if name not in SPLITS or (parameter and name != "dirichlet"):
        raise InputError(f"no split '{split}': expected one of {', '.join(SPLITS)}, or dirichlet:ALPHA.")
    rng = np.random.default_rng([seed, silos])
    if name == "dirichlet":
        shares = _dirichlet(labels, silos, least, rng, parameter)
    else:
        shares = SPLITS[name](labels, groups, silos, rng)
    smallest = min(map(len, shares))
    if smallest < least:
        raise DataError(
            f"split '{split}' leaves a silo {smallest} of {len(labels)} samples, and it needs {least} for a batch: "
            "take more data, fewer silos, a smaller batch or another split."
        )
    return [np.sort(share) for share in shares]


def _iid(labels: np.ndarray, groups: np.ndarray, silos: int, rng: np.random.Generator) -> Shares:
    return np.array_split(rng.permutation(len(labels)), silos)


def _environment(labels: np.ndarray, groups: np.ndarray, silos: int, rng: np.random.Generator) -> Shares:
    there = np.unique(groups)
    if len(there) < silos:  # then recordings are cut, in their order in time
        return np.array_split(np.argsort(groups, kind="stable"), silos)
    return [np.flatnonzero(np.isin(groups, some)) for some in np.array_split(there, silos)]


def _sign(labels: np.ndarray, groups: np.ndarray, silos: int, rng: np.random.Generator) -> Shares:
    if labels.dtype.kind != "f":
        raise InputError("the split 'sign' is for answers that are numbers, these are classes: take dirichlet.")
    order = rng.permutation(len(labels))
    if silos == 1:
        return [order]
    above = labels[order] > 0
    return [*np.array_split(order[above], silos // 2), *np.array_split(order[~above], silos - silos // 2)]


def _dirichlet(labels: np.ndarray, silos: int, least: int, rng: np.random.Generator, parameter: str) -> Shares:
    try:
        alpha = float(parameter or ALPHA)
    except ValueError:
        alpha = 0.0
    if not (np.isfinite(alpha) and alpha > 0):
        raise InputError(f"dirichlet:{parameter}: expected a number above 0, such as dirichlet:{ALPHA}.")
    if labels.dtype.kind == "f":
        labels = np.digitize(labels, np.quantile(labels, np.arange(1, BINS) / BINS))
    for _ in range(DRAWS):  # the usual way to see to it that every silo can learn at all
        shares: list[list[np.ndarray]] = [[] for _ in range(silos)]
        for label in np.unique(labels):
            its = rng.permutation(np.flatnonzero(labels == label))
            cuts = np.cumsum(rng.dirichlet(np.full(silos, alpha)))[:-1] * len(its)
            for share, part in zip(shares, np.split(its, cuts.astype(int)), strict=True):
                share.append(part)
        found = [np.concatenate(share) for share in shares]
        if min(map(len, found)) >= least:
            break
    return found


SPLITS: dict[str, Callable[..., Shares]] = {
    "iid": _iid,
    "environment": _environment,
    "sign": _sign,
    "dirichlet": _dirichlet,
}
"""Ways to deal by name."""
