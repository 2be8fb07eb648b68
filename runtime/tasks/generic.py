"""Any net: its inputs in, its outputs out, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeflock.runtime.bundle.manifest import ImageInput, Manifest, OutputSpec
from edgeflock.runtime.cameras.encodings import Encoding
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.image import ImagePreprocess
from edgeflock.runtime.tasks.base import NetTask

PROBABILITY = "probability"
"""Unit of an output that is a distribution over its labels; where it has labels and no unit, they are scores."""

Inputs = np.ndarray | Mapping[str, np.ndarray]


class GenericTask(NetTask):
    """Run a net of one's own (`edgeflock export net`); parameters, attributes and errors as for `NetTask`.

    Examples
    --------
    >>> from edgeflock.runtime import load
    >>> net = load("bundles/net")  # doctest: +SKIP
    >>> net(picture)["logits"].argmax()  # doctest: +SKIP
    """

    task = "generic"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        specs = self.bundle.manifest.inputs
        self._images = {s.name: ImagePreprocess(s, self.inputs[s.name]) for s in specs if isinstance(s, ImageInput)}

    def check(self, manifest: Manifest) -> None:
        """Every kind of input goes as it is, pictures through a preparation that this version knows."""
        for spec in manifest.inputs:
            if isinstance(spec, ImageInput):
                ImagePreprocess(spec)

    def __call__(self, inputs: Inputs, encoding: Encoding = "rgb8") -> dict[str, np.ndarray]:
        """Answer.

        Parameters
        ----------
        inputs : ndarray or mapping
            Array by input name, or the array of the only one. For an image input a picture, uint8 (H, W, 3) or, as
            mono8, (H, W), of any size; else an array of the input's shape, with or without its batch of 1.
        encoding : {"rgb8", "bgr8", "mono8"}
            Of the pictures; one of two dimensions is mono8 in any case.

        Returns
        -------
        dict of str to ndarray
            By output name, newly allocated.

        Raises
        ------
        InputError
            An input is missing, not known, or of another shape.
        EngineError
            The engine failed.
        """
        if isinstance(inputs, np.ndarray) and len(self.inputs) == 1:
            inputs = {next(iter(self.inputs)): inputs}
        if not isinstance(inputs, Mapping) or inputs.keys() != self.inputs.keys():
            got = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise InputError(f"expected an array for each of the inputs {sorted(self.inputs)}, got {got}.")
        for spec in self.bundle.manifest.inputs:
            given = inputs[spec.name]
            if spec.name in self._images:
                flat = isinstance(given, np.ndarray) and given.ndim == 2
                self._images[spec.name](given, "mono8" if flat else encoding)
            else:
                self.write(spec, np.asarray(given))
        self.run()
        return {name: array.copy() for name, array in self.outputs.items()}

    def example(self) -> tuple[dict[str, np.ndarray]]:
        """Noise as 640x480 pictures, and the first reference vector of every other input."""
        noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
        vectors = self.bundle.vectors()
        return ({name: noise if name in self._images else vectors[name][0] for name in self.inputs},)


def distribution(spec: OutputSpec, answer: np.ndarray) -> dict[str, float]:
    """Probability by label, in the order of the output; scores (`PROBABILITY` is not the unit) go through a softmax.

    Parameters
    ----------
    spec : OutputSpec
        With labels.
    answer : ndarray
        Of its shape.
    """
    values = answer.ravel().astype(np.float64)
    if spec.unit != PROBABILITY:
        values = np.exp(values - values.max())
        values /= values.sum()
    return dict(zip(spec.labels or (), values.tolist(), strict=True))
