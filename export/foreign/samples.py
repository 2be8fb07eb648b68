"""What FRAMES of `edgeflock export net` have in common, and pictures as the bundle takes them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edgeflock.calibration.frames import representative
from edgeflock.export.foreign.meaning import Taken
from edgeflock.export.recipe import Samples
from edgeflock.runtime.bundle.manifest import ImageInput
from edgeflock.runtime.cameras.encodings import Encoding
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.image import ImagePreprocess

_SPARE = 4
"""Samples that are looked at for each that is chosen."""


class Frames(ABC):
    """Samples that were found at a path; read when they are asked for.

    Attributes
    ----------
    path : Path
    arrays : dict
        By input, shape (N, ...) and type of arrays; empty for pictures.
    """

    path: Path
    arrays: dict[str, tuple[tuple[int, ...], np.dtype]]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def feeds(self, inputs: Sequence[Taken], index: np.ndarray) -> dict[str, np.ndarray]:
        """By input (n, ...), the samples at an index as the bundle takes them."""

    @abstractmethod
    def labels(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """What is known of them, each (n, ...)."""

    @abstractmethod
    def names(self, index: np.ndarray) -> list[str]:
        """For messages."""

    def of(self, names: Sequence[str]) -> Frames:
        """The same for a net with these inputs; InputError where arrays are named otherwise."""
        return self

    def fit(self, inputs: Sequence[Taken]) -> None:  # noqa: B027  # most need not
        """Learn from what the net takes how many samples there are."""

    def samples(self, inputs: Sequence[Taken], count: int | None = None) -> Samples:
        """At most `count` samples, chosen by coverage of brightness and contrast; all where none is said."""
        self.fit(inputs)
        index = np.arange(len(self))
        if count is not None and len(index) > count:
            index = np.unique(np.linspace(0, len(self) - 1, min(len(self), _SPARE * count)).astype(int))
        feeds = self.feeds(inputs, index)
        if count is not None and len(index) > count:
            first = next(iter(feeds.values())).reshape(len(index), -1)
            chosen = representative(np.stack([first.mean(1), first.std(1)], 1), count, (8, 4))
            index, feeds = index[chosen], {name: feed[chosen] for name, feed in feeds.items()}
        sha = hashlib.sha256()
        for name in sorted(feeds):
            sha.update(np.ascontiguousarray(feeds[name]).data)
        return Samples(feeds, self.labels(index), self.names(index), sha.hexdigest())


def only_picture(path: Path, inputs: Sequence[Taken]) -> ImageInput:
    """The input that pictures are for; InputError where the net takes anything else."""
    specs = [taken.spec for taken in inputs]
    if len(specs) != 1 or not isinstance(specs[0], ImageInput):
        raise InputError(
            f"{path} holds pictures, the net takes {'; '.join(map(str, inputs))}: expected one picture. Give an npz "
            f"with arrays named {', '.join(spec.name for spec in specs)}, or say --kind image."
        )
    return specs[0]


def prepared(spec: ImageInput, images: Iterable[np.ndarray], count: int, encoding: Encoding) -> np.ndarray:
    """uint8 (count, C, H, W) of pictures as the bundle takes them; one of two dimensions is grey in any case."""
    prepare, found = ImagePreprocess(spec), np.empty((count, *spec.shape[1:]), np.uint8)
    for row, image in zip(found, images, strict=True):
        flat = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
        row[...] = prepare(flat, "mono8" if flat.ndim == 2 else encoding)[0]
    return found
