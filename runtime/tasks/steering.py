"""Steering: a camera frame in, the front wheels' angle out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgeflock.runtime.bundle import Bundle, default_bundle
from edgeflock.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgeflock.runtime.errors import BundleError, ParityError
from edgeflock.runtime.manifest import VECTORS, OutputSpec
from edgeflock.runtime.preprocess import Encoding, FramePreprocess

FP32_TOLERANCE = 1e-5
"""Relative to max(1, |y|); ONNX Runtime on x86 and ARM CPUs differs by up to 4.8e-7 (facts/checks.md 1.3)."""

QUANTISED_TOLERANCE = 1e-2
"""Radians. INT8 is bit-equal within one ONNX Runtime version and CPU class; across old versions a rounding step can
fall the other way (9.2e-3 seen, facts/checks.md 6.1). A saturating CPU is off by 0.3 and more."""


class Steering(NamedTuple):
    """Answer to one frame."""

    angle: float
    """Front wheel angle of the bicycle model, rad, positive to the left (REP 103). NaN where the net gave NaN."""
    inference_ns: int
    """Time for preparation and net together."""


class SteeringPolicy:
    """Steer by a bundle.

    Parameters
    ----------
    bundle : Bundle or path, optional
        By default the one that ships with the package.
    precision : str, optional
        By default the manifest's own choice.
    threads : int
        CPU threads of the engine.

    Attributes
    ----------
    bundle : Bundle
    engine : OnnxRuntimeEngine
    precision : str
    deviation : float
        Largest distance of this board's answers from the bundle's reference answers, rad.

    Raises
    ------
    BundleError
        And its subclasses: the bundle is refused, or it is not one for steering.
    InputError
        The bundle has no such precision.
    EngineError
        The engine does not take the net.
    ParityError
        This board answers the reference images differently.
    """

    def __init__(
        self, bundle: Bundle | str | Path | None = None, precision: str | None = None, threads: int = 1
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle or default_bundle())
        manifest = self.bundle.manifest
        if manifest.task != "steering" or len(manifest.inputs) != 1 or manifest.outputs != [OutputSpec()]:
            raise BundleError(
                f"the bundle {manifest.name} is for task '{manifest.task}' with outputs "
                f"{[output.model_dump() for output in manifest.outputs]}; steering needs one image in and "
                f"{OutputSpec().model_dump()} out."
            )
        self.precision = precision or manifest.default_precision
        self._preprocess = FramePreprocess(manifest.inputs[0])
        self.engine = OnnxRuntimeEngine(self.bundle.artefact(self.precision), self.precision, threads)
        outputs = self.engine.bind({manifest.inputs[0].name: self._preprocess.buffer})
        if {name: array.shape for name, array in outputs.items()} != {OutputSpec().name: OutputSpec().shape}:
            raise BundleError(f"{self.bundle.artefact(self.precision)} has other outputs than its manifest says.")
        self._angle = outputs[OutputSpec().name]
        self.deviation = self._replay()

    def __call__(self, image: np.ndarray, encoding: Encoding = "rgb8") -> Steering:
        """Answer one frame; no array is allocated.

        Parameters
        ----------
        image : ndarray
            uint8, (H, W, 3) for rgb8 and bgr8 or (H, W) for mono8.
        encoding : {"rgb8", "bgr8", "mono8"}

        Raises
        ------
        InputError
            The image is none of these.
        EngineError
            The engine failed.
        """
        start = time.perf_counter_ns()
        self._preprocess(image, encoding)
        self.engine.run()
        return Steering(self._angle.item(), time.perf_counter_ns() - start)

    def _replay(self) -> float:
        """Answer the reference images and compare; this warms the engine up as well."""
        vectors = self.bundle.vectors()
        images, expected = vectors.get("image"), vectors.get(f"steering_{self.precision}")
        shape = self._preprocess.buffer.shape[1:]
        if images is None or expected is None or images.shape[1:] != shape or expected.shape != (len(images) or -1, 1):
            held = {name: array.shape for name, array in vectors.items()}
            raise BundleError(
                f"{VECTORS} of the bundle {self.bundle.manifest.name} needs image (N, {', '.join(map(str, shape))}) "
                f"and steering_{self.precision} (N, 1), it holds {held}: export the bundle again."
            )
        answers = np.empty(len(images))
        for i, image in enumerate(images):
            self._preprocess.buffer[0] = image
            self.engine.run()
            answers[i] = self._angle.item()
        reference = expected[:, 0].astype(np.float64)
        deviation = np.abs(answers - reference)
        if self.precision == "fp32":
            limit = FP32_TOLERANCE * np.maximum(1, np.abs(reference))
        else:
            limit = np.full(len(images), QUANTISED_TOLERANCE)
        if not np.all(deviation <= limit):  # this way round, NaN fails
            worst = int(np.argmax(np.where(np.isnan(deviation), np.inf, deviation / limit)))
            raise ParityError(
                f"{self.engine.name} {self.precision} answers reference image {worst} of the bundle "
                f"{self.bundle.manifest.name} with {answers[worst]:.6g} rad, the bundle says {reference[worst]:.6g} "
                f"(limit {limit[worst]:.1g}): this CPU or ONNX Runtime computes the net differently. Use another "
                f"precision ({', '.join(self.bundle.manifest.artefacts)}) or another onnxruntime version."
            )
        return float(deviation.max())
