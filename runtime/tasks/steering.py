"""Steering: a camera frame in, the front wheels' angle out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from edgeflock.runtime.bundle.bundle import Bundle, default_bundle
from edgeflock.runtime.bundle.manifest import ImageInput, Manifest, OutputSpec
from edgeflock.runtime.errors import BundleError, InputError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount
from edgeflock.runtime.prepare.frame import Encoding, FramePreprocess
from edgeflock.runtime.prepare.image import preparation
from edgeflock.runtime.prepare.view import CanonicalView
from edgeflock.runtime.tasks.base import NetTask

STEERING_OUTPUT = OutputSpec(name="steering", shape=(1, 1), unit="rad", positive="left", tolerance=1e-2)
"""INT8 is bit-equal within one ONNX Runtime version and CPU class; across old versions a rounding step can fall the
other way (9.2e-3 rad seen, docs/decisions/0002). A saturating CPU is off by 0.3 and more."""


class Steering(NamedTuple):
    """Answer to one frame."""

    angle: float
    """Front wheel angle of the bicycle model, rad, positive to the left (REP 103). NaN where the net gave NaN."""
    inference_ns: int
    """Time for preparation and net together."""


class SteeringPolicy(NetTask):
    """Steer by a bundle; parameters, attributes and errors as for `NetTask`.

    Parameters
    ----------
    bundle : Bundle or path, optional
        By default the one that ships with the package.

    Attributes
    ----------
    others : list of InputSpec
        Inputs besides the picture, such as a speed or a command.
    """

    task = "steering"

    def __init__(
        self,
        bundle: Bundle | str | Path | None = None,
        precision: str | None = None,
        threads: int | None = None,
        engine: str | None = None,
        keys: Iterable[str | Path] | None = None,
    ) -> None:
        super().__init__(bundle or default_bundle(), precision, threads, engine, keys)
        specs = self.bundle.manifest.inputs
        [spec] = [spec for spec in specs if isinstance(spec, ImageInput)]
        self.others = [other for other in specs if other is not spec]
        self._preprocess = preparation(spec, self.inputs[spec.name])
        self._angle = self.outputs[STEERING_OUTPUT.name]

    def check(self, manifest: Manifest) -> None:
        """One image of any size and colour in, and numbers; an angle in rad with left positive out, before all else."""
        first = manifest.outputs[0].model_copy(update={"tolerance": STEERING_OUTPUT.tolerance})
        images = [spec for spec in manifest.inputs if spec.kind != "vector"]
        if len(images) != 1 or first != STEERING_OUTPUT:
            raise BundleError(
                f"the bundle {manifest.name} has outputs {[output.model_dump() for output in manifest.outputs]}; "
                f"steering needs one image in, beside it only numbers, and {STEERING_OUTPUT.model_dump()} out first."
            )
        preparation(images[0])

    def look_through(self, camera: Intrinsics, mount: Mount) -> CanonicalView:
        """Bring the frames of this camera at this mount to the view that the net was trained with, from now on.

        Until then frames are taken as they are: as if the trained camera had made them.

        Returns
        -------
        CanonicalView
            Its `coverage` says how much of the net's view this camera sees.

        Raises
        ------
        InputError
            The bundle does not name its trained camera, the camera is not calibrated or its lens model not known.
        """
        trained = self.bundle.manifest.trained_camera
        if trained is None or not isinstance(self._preprocess, FramePreprocess):
            raise InputError(
                f"the bundle {self.bundle.manifest.name} does not say which camera its net was trained with: frames "
                "are taken as they are. `edgeflock export steering --trained-camera` writes it, for nets of edgeflock."
            )
        return self._preprocess.look_through(trained, camera, mount)

    def __call__(
        self, image: np.ndarray, encoding: Encoding = "rgb8", values: Mapping[str, Any] = MappingProxyType({})
    ) -> Steering:
        """Answer one frame; no array is allocated. What else the net answers is in `outputs`, by name.

        Parameters
        ----------
        image : ndarray
            uint8, (H, W, 3) for rgb8 and bgr8 or (H, W) for mono8.
        encoding : {"rgb8", "bgr8", "mono8"}
        values : mapping
            Of each of `others`, by its name.

        Raises
        ------
        InputError
            The image is none of these, or not of the size of the camera that it looks through, or a value is missing.
        EngineError
            The engine failed.
        """
        start = time.perf_counter_ns()
        self._preprocess(image, encoding)
        for spec in self.others:
            if spec.name not in values:
                raise InputError(f"this net steers by {spec.name!r} as well: give values={{{spec.name!r}: ...}}.")
            given = np.asarray(values[spec.name], spec.dtype)
            self.write(spec, given.reshape(spec.shape) if given.size == 1 else given)
        self.engine.run()
        return Steering(self._angle.item(), time.perf_counter_ns() - start)

    def example(self) -> tuple[np.ndarray, Encoding, dict[str, np.ndarray]]:
        """A 640x480 frame of noise, as a RealSense colour stream would bring it, and zeros."""
        values = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in self.others}
        return np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8), "rgb8", values
