"""Emotion: a camera frame and the box of a face in, a distribution over emotions out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgeflock.runtime.errors import BundleError
from edgeflock.runtime.manifest import Manifest, OutputSpec
from edgeflock.runtime.preprocess import Encoding
from edgeflock.runtime.preprocess_face import EmotionPreprocess
from edgeflock.runtime.tasks.base import NetTask

TOLERANCE = 0.05
"""Of a probability. INT8 is bit-equal within one ONNX Runtime version and CPU class; elsewhere a rounding step of the
last layers can fall the other way."""


def probabilities_output(labels: Sequence[str]) -> OutputSpec:
    """What every emotion net gives: a distribution over its labels."""
    return OutputSpec(
        name="probabilities", shape=(1, len(labels)), unit="probability", labels=list(labels), tolerance=TOLERANCE
    )


def attention_output(rows: int, columns: int) -> OutputSpec:
    """Which part of the context GLAMOR-Net looked at: weights of the cells, which sum to 1."""
    return OutputSpec(name="attention", shape=(1, 1, rows, columns), unit="share", tolerance=TOLERANCE)


class Emotion(NamedTuple):
    """Answer to one face."""

    distribution: dict[str, float]
    """Probability by label, in the order of the bundle's labels."""
    label: str
    """The most probable one."""
    confidence: float
    """Its probability. NaN where the net gave NaN."""
    attention: np.ndarray | None
    """float32 (rows, columns) over the centre 112x112 of the frame shrunk to 171x128; None for nets without context."""
    inference_ns: int
    """Time for preparation and net together."""


class EmotionRecognizer(NetTask):
    """Read faces by a bundle; parameters, attributes and errors as for `NetTask`.

    Attributes
    ----------
    labels : list of str
        In the order of the net's output; nets differ, so match by name.
    """

    task = "emotion"

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        manifest = self.bundle.manifest
        self.labels = manifest.outputs[0].labels or []
        self._preprocess = EmotionPreprocess(manifest.inputs, self.inputs)
        self._probabilities = self.outputs["probabilities"][0]
        self._attention = self.outputs["attention"][0, 0] if "attention" in self.outputs else None

    def check(self, manifest: Manifest) -> None:
        """A face and possibly its context in, a distribution over named labels and possibly an attention map out."""
        first, *rest = manifest.outputs
        known = [probabilities_output(first.labels or [])]
        if rest:
            known.append(attention_output(*rest[0].shape[-2:]))
        same = [output.model_copy(update={"tolerance": TOLERANCE}) for output in manifest.outputs]
        if not first.labels or len(set(first.labels)) != len(first.labels) or same != known:
            raise BundleError(
                f"the bundle {manifest.name} has outputs {[output.model_dump() for output in manifest.outputs]}; "
                f"emotion needs 'probabilities' (1, n) with n labels, and at most an 'attention' (1, 1, h, w)."
            )
        EmotionPreprocess(manifest.inputs)

    def __call__(
        self, image: np.ndarray, box: Sequence[float] | np.ndarray | None, encoding: Encoding = "rgb8"
    ) -> Emotion:
        """Answer one face; no image is copied.

        Parameters
        ----------
        image : ndarray
            The whole frame, uint8, (H, W, 3) for rgb8 and bgr8 or (H, W) for mono8.
        box : sequence of 4 float or None
            x1, y1, x2, y2 of the face in pixels of the frame, x2 and y2 excluded; it may reach beyond the frame. None
            or (0, 0, 0, 0) where no face was found: nets with context then answer from the context alone.
        encoding : {"rgb8", "bgr8", "mono8"}

        Raises
        ------
        InputError
            The image or the box is none of these, or a net that sees nothing but the face was given none.
        EngineError
            The engine failed.
        """
        start = time.perf_counter_ns()
        self._preprocess(image, box, encoding)
        self.engine.run()
        values = self._probabilities.tolist()
        best = int(self._probabilities.argmax())
        return Emotion(
            distribution=dict(zip(self.labels, values, strict=True)),
            label=self.labels[best],
            confidence=values[best],
            attention=None if self._attention is None else self._attention.copy(),
            inference_ns=time.perf_counter_ns() - start,
        )

    def example(self) -> tuple[np.ndarray, tuple[int, int, int, int], Encoding]:
        """A 640x480 frame of noise and a face of usual size in it."""
        return np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8), (240, 120, 400, 310), "rgb8"
