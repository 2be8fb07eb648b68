"""Updates that tell less of the data behind them: clipped and noised before they leave a robot, and what that gives.

A robot releases the difference of its trained model to the last mixed one, scaled down to the norm `clip` at most,
plus Gaussian noise of the standard deviation `noise * clip` on every weight (McMahan et al., "Learning Differentially
Private Recurrent Language Models", ICLR 2018, with the noise added by each robot itself). Whoever sees all that it
sends in T rounds, neighbours included, sees T Gaussian mechanisms of sensitivity `clip`: epsilon at delta is about
whether this robot took part with its data at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.fleet.mixing.layout import STATISTICS
from edgeflock.runtime.fleet.peer.config import PeerConfig


class Privacy:
    """Clips and noises what a robot learnt, and counts what it released, over restarts.

    Parameters
    ----------
    config : PeerConfig
        With `clip`.
    ledger : Path
        Keeps the count; written before each release, so that none is forgotten.
    rng : numpy.random.Generator, optional
        By default from the system's entropy. A seed that others know takes the noise away.
    """

    def __init__(self, config: PeerConfig, ledger: Path, rng: np.random.Generator | None = None) -> None:
        assert config.clip is not None
        self._clip, self._noise, self._delta = config.clip, config.noise, config.delta
        self._ledger = ledger
        self._rng = rng or np.random.default_rng()
        self._spent: list[tuple[float, int]] = []
        if self._noise:
            epsilon([(self._noise, 1)], self._delta)  # what is missing shows up now
        if ledger.exists():
            try:
                self._spent = [(float(noise), int(count)) for noise, count in json.loads(ledger.read_text())]
            except (ValueError, TypeError) as error:
                raise DataError(
                    f"{ledger} does not say what was released before ({error}): without it epsilon is unknown. Take "
                    "another --out, or a copy of the file."
                ) from error

    def release(self, base: np.ndarray, model: np.ndarray) -> np.ndarray:
        """What may leave of a trained model, float32 (d,); `base` is the mixed model that training began from.

        A model with NaN or infinity is given back as it is: a peer never sends it.
        """
        change = model.astype(np.float64) - base
        norm = float(np.linalg.norm(change))
        if not np.isfinite(norm):
            return model
        self._count()
        change *= min(1.0, self._clip / norm) if norm else 1.0
        if self._noise:
            change += self._rng.normal(0.0, self._noise * self._clip, change.shape)
        return (base + change).astype(np.float32)

    def status(self) -> dict[str, float | int | None]:
        """Releases so far, and the epsilon that they add up to at delta; None without noise: no bound."""
        bound = epsilon(self._spent, self._delta) if all(noise for noise, _ in self._spent) else None
        return {"epsilon": bound, "delta": self._delta, "releases": sum(count for _, count in self._spent)}

    def said(self) -> str:
        """The bound for a person, to follow other words."""
        bound = self.status()["epsilon"]
        return f", epsilon {bound:.2f} at delta {self._delta:g}" if bound is not None else ", clipped without noise"

    def _count(self) -> None:
        if self._spent and self._spent[-1][0] == self._noise:
            self._spent[-1] = self._noise, self._spent[-1][1] + 1
        else:
            self._spent.append((self._noise, 1))
        write_atomically(self._ledger, json.dumps(self._spent) + "\n")


def epsilon(spent: Iterable[tuple[float, int]], delta: float) -> float:
    """Epsilon at delta of Gaussian mechanisms: (noise multiplier, how often).

    By Google's dp-accounting, privacy loss distributions.

    Raises
    ------
    MissingExtra
        It is not installed.
    """
    return _epsilon(tuple(spent), delta)


@lru_cache(maxsize=8)
def _epsilon(spent: tuple[tuple[float, int], ...], delta: float) -> float:
    with needs("The privacy accountant", "privacy"):
        from dp_accounting import GaussianDpEvent
        from dp_accounting.pld import PLDAccountant
    accountant = PLDAccountant()
    for noise, count in spent:
        accountant.compose(GaussianDpEvent(noise), count)
    return float(accountant.get_epsilon(delta)) if spent else 0.0


def check_private(config: PeerConfig, tensors: Iterable[str], layers: str) -> None:
    """Refuse clipping and noise for a net that they break.

    Parameters
    ----------
    config : PeerConfig
    tensors : iterable of str
        Names of the whole net's.
    layers : str
        How the names of what is trained and exchanged begin.

    Raises
    ------
    InputError
        What is exchanged has batch normalisation, or noise is asked for without a clip.
    """
    if config.noise and config.clip is None:
        raise InputError("noise is measured in units of clip: set both, such as --set clip=1.0 --set noise=1.0.")
    if config.clip is None:
        return
    normed = next((n for n in tensors if n.startswith(layers) and n.rpartition(".")[2] in STATISTICS), None)
    if normed is not None:
        raise InputError(
            f"clip and noise do not go with batch normalisation ('{normed}'): its statistics dwarf the weights within "
            "the clip, noise makes variances negative, and every sample of a batch shows in the others' answers. Train "
            "layers without it, such as --set layers=NAME of the head, or a net without it."
        )
