"""Emotion: a camera frame and the boxes of the faces in it in, a distribution over emotions for each out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgeflock.runtime.bundle.bundle import Bundle, default_bundle
from edgeflock.runtime.bundle.manifest import Manifest, OutputSpec
from edgeflock.runtime.errors import BundleError, EngineError
from edgeflock.runtime.prepare.face import EmotionPreprocess
from edgeflock.runtime.prepare.frame import Encoding
from edgeflock.runtime.tasks.base import NetTask

TOLERANCE = 0.05
"""Of a probability. INT8 is bit-equal within one ONNX Runtime version and CPU class; elsewhere a rounding step of the
last layers can fall the other way."""


def probabilities_output(labels: Sequence[str], batch: int = 1) -> OutputSpec:
    """What every emotion net gives: a distribution over its labels."""
    return OutputSpec(
        name="probabilities", shape=(batch, len(labels)), unit="probability", labels=list(labels), tolerance=TOLERANCE
    )


def attention_output(rows: int, columns: int, batch: int = 1) -> OutputSpec:
    """Which part of the context GLAMOR-Net looked at: weights of the cells, which sum to 1."""
    return OutputSpec(name="attention", shape=(batch, 1, rows, columns), unit="share", tolerance=TOLERANCE)


def affect_output(batch: int = 1) -> OutputSpec:
    """Valence and arousal, each -1..1, of the nets that give them."""
    return OutputSpec(
        name="affect", shape=(batch, 2), unit="of -1..1", labels=["valence", "arousal"], tolerance=TOLERANCE
    )


class Emotion(NamedTuple):
    """Answer to one face."""

    distribution: dict[str, float]
    """Probability by label, in the order of the bundle's labels."""
    label: str
    """The most probable one."""
    confidence: float
    """Its probability."""
    attention: np.ndarray | None
    """float32 (rows, columns) over the centre 112x112 of the frame shrunk to 171x128; None for nets without context."""
    affect: tuple[float, float] | None
    """Valence and arousal, -1..1; None for nets that do not give them."""
    inference_ns: int
    """Its share of the time for preparation and net of the batch that it was in."""


class EmotionRecognizer(NetTask):
    """Read faces by a bundle; parameters, attributes and errors as for `NetTask`.

    Parameters
    ----------
    bundle : Bundle or path, optional
        By default the one that ships with the package, trained on synthetic faces.

    Attributes
    ----------
    labels : list of str
        In the order of the net's output; nets differ, so match by name.
    batch : int
        Faces that the net reads at once.
    prepare_ns, net_ns : int
        What the faces of the last frame cost.
    """

    task = "emotion"

    def __init__(
        self,
        bundle: Bundle | str | Path | None = None,
        precision: str | None = None,
        threads: int | None = None,
        engine: str | None = None,
        keys: Iterable[str | Path] | None = None,
    ) -> None:
        super().__init__(bundle or default_bundle("emotion"), precision, threads, engine, keys)
        manifest = self.bundle.manifest
        self.labels = manifest.outputs[0].labels or []
        self._preprocess = EmotionPreprocess(manifest.inputs, self.inputs)
        self.batch = self._preprocess.batch
        self.prepare_ns = self.net_ns = 0

    def check(self, manifest: Manifest) -> None:
        """Faces and possibly their contexts in; distributions over named labels, and what else emotion nets give."""
        batch = EmotionPreprocess(manifest.inputs).batch
        given = {output.name: output for output in manifest.outputs}
        labels = manifest.outputs[0].labels or []
        known = [probabilities_output(labels, batch)]
        if "attention" in given:
            rows, columns = (0, 0, *given["attention"].shape)[-2:]
            known.append(attention_output(rows, columns, batch))
        if "affect" in given:
            known.append(affect_output(batch))
        same = [output.model_copy(update={"tolerance": TOLERANCE}) for output in manifest.outputs]
        if not labels or len(set(labels)) != len(labels) or same != known:
            raise BundleError(
                f"the bundle {manifest.name} has outputs {[output.model_dump() for output in manifest.outputs]}; "
                f"emotion needs, for batches of {batch}, 'probabilities' ({batch}, n) with n labels, and at most an "
                f"'attention' ({batch}, 1, h, w) and an 'affect' ({batch}, 2)."
            )

    def __call__(
        self,
        image: np.ndarray,
        boxes: Sequence[Sequence[float] | np.ndarray | None],
        encoding: Encoding = "rgb8",
        rolls: Sequence[float] | None = None,
    ) -> list[Emotion]:
        """Answer the faces of one frame, in batches; no image is copied.

        Parameters
        ----------
        image : ndarray
            The whole frame, uint8, (H, W, 3) for rgb8 and bgr8 or (H, W) for mono8.
        boxes : sequence
            Of each face x1, y1, x2, y2 in pixels of the frame, x2 and y2 excluded; it may reach beyond the frame. None
            or (0, 0, 0, 0) where no face was found: nets with context then answer from the context alone.
        encoding : {"rgb8", "bgr8", "mono8"}
        rolls : sequence of float, optional
            Of each head, rad, positive clockwise in the image: heads that are tilted much are turned upright.

        Returns
        -------
        list of Emotion
            In the order of the boxes.

        Raises
        ------
        InputError
            The image or a box is none of these, or a net that sees nothing but the face was given none.
        EngineError
            The engine failed, or answered what is not a number.
        """
        answers: list[Emotion] = []
        self.prepare_ns = self.net_ns = 0
        begun = time.perf_counter_ns()
        for count in self._preprocess.batches(image, boxes, encoding, rolls):
            prepared_ns, net_ns = time.perf_counter_ns() - begun, self.run()
            self.prepare_ns += prepared_ns
            self.net_ns += net_ns
            for slot in range(count):
                answers.append(self._answer(slot, (prepared_ns + net_ns) // count))
            begun = time.perf_counter_ns()
        return answers

    def _answer(self, slot: int, spent_ns: int) -> Emotion:
        values = {name: array[slot] for name, array in self.outputs.items()}
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise EngineError(
                    f"{self.engine.name} {self.precision} answered {name} {value.ravel()[:7]} to a face, expected "
                    f"numbers: use another precision or engine, and check the board with `edgeflock bundle verify`."
                )
        probabilities = values["probabilities"].tolist()
        best = int(values["probabilities"].argmax())
        return Emotion(
            distribution=dict(zip(self.labels, probabilities, strict=True)),
            label=self.labels[best],
            confidence=probabilities[best],
            attention=values["attention"][0].copy() if "attention" in values else None,
            affect=tuple(values["affect"].tolist()) if "affect" in values else None,
            inference_ns=spent_ns,
        )

    def example(self) -> tuple[np.ndarray, list[tuple[int, int, int, int]], Encoding]:
        """A 640x480 frame of noise and as many faces of usual size in it as the net reads at once."""
        frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
        return frame, [(240, 120, 400, 310)] * self.batch, "rgb8"
