"""Registration: two scans in, the flow that warps one onto the other out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeflock.runtime.bundle.manifest import Manifest, OutputSpec, VolumeInput
from edgeflock.runtime.errors import BundleError, InputError
from edgeflock.runtime.prepare.volume import (
    check_same_space,
    check_volume,
    jacobian_determinant,
    nifti_data,
    normalise,
    read_nifti,
    resample,
    warp,
)
from edgeflock.runtime.tasks.base import NetTask

SIDE = 128

REGISTRATION_INPUTS = [
    VolumeInput(
        name=name,
        shape=(1, 1, SIDE, SIDE, SIDE),
        interpolation="linear, averaged where an axis shrinks",
        range=(0, 255),
    )
    for name in ("fixed", "moving")
]

REGISTRATION_OUTPUT = OutputSpec(
    name="flow",
    shape=(1, 3, SIDE, SIDE, SIDE),
    unit="voxels",
    positive="towards larger indices; warped(x) = moving(x + flow(x)), channel k along array axis k",
    tolerance=1.0,
    vector_stride=8,
)


@dataclass(frozen=True)
class Jacobian:
    """What the determinant of d(x + flow(x))/dx says of a flow; 1 keeps the volume, 0 and less is a fold."""

    folded: float
    """Share of the voxels where it is not positive."""
    std: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, flow: np.ndarray) -> Jacobian:
        """Of a flow (3, D, H, W)."""
        determinant = jacobian_determinant(flow)
        folded = np.count_nonzero(determinant <= 0) / determinant.size
        return cls(folded, float(determinant.std()), float(determinant.min()), float(determinant.max()))


@dataclass(frozen=True)
class RegistrationResult:
    """Answer to one pair.

    Attributes
    ----------
    flow : ndarray
        float32 (3, D, H, W) on the grid of the volumes, in their voxels, channel k along array axis k:
        warped(x) = moving(x + flow(x)). `edgeflock.runtime.prepare.volume.warp` applies it to other volumes and labels.
    warped : ndarray
        float32 (D, H, W), moving in its own intensities.
    jacobian : Jacobian
        On the net's grid; on another one its values are the same up to interpolation.
    prepare_ns, inference_ns, finish_ns : int
        Intensities and resampling; the net; flow to the volumes' grid, warp and determinant.
    """

    flow: np.ndarray
    warped: np.ndarray
    jacobian: Jacobian
    prepare_ns: int
    inference_ns: int
    finish_ns: int


class Registration(NetTask):
    """Register by a bundle; parameters, attributes and errors as for `NetTask`."""

    task = "registration"

    def check(self, manifest: Manifest) -> None:
        """Fixed and moving in, a flow in voxels out, on one grid."""
        grid = manifest.inputs[0].shape[2:]
        shapes = {spec.name: spec.shape for spec in manifest.inputs} | {o.name: o.shape for o in manifest.outputs}
        wanted = {"fixed": (1, 1, *grid), "moving": (1, 1, *grid), "flow": (1, 3, *grid)}
        scans = all(isinstance(spec, VolumeInput) for spec in manifest.inputs)
        if not scans or len(grid) != 3 or shapes != wanted or manifest.outputs[0].unit != REGISTRATION_OUTPUT.unit:
            raise BundleError(
                f"the bundle {manifest.name} has {shapes}, output in {manifest.outputs[0].unit}; registration needs "
                f"scans fixed and moving (1, 1, D, H, W) in and flow (1, 3, D, H, W) in {REGISTRATION_OUTPUT.unit} out."
            )

    def __call__(
        self,
        fixed: np.ndarray | str | Path,
        moving: np.ndarray | str | Path,
        window: tuple[float, float] | None = None,
        names: tuple[str, str] = ("fixed", "moving"),
    ) -> RegistrationResult:
        """Register moving onto fixed.

        Parameters
        ----------
        fixed, moving : ndarray or path
            Volumes (D, H, W) of the same shape, integers or floats, or NIfTI files on the same grid. The net sees them
            resampled to its own grid.
        window : (float, float), optional
            Intensities that become black and white, such as (-25, 265) Hounsfield units for the liver; see
            `edgeflock.runtime.prepare.volume.normalise`.
        names : (str, str)
            Of the two in messages, where they are arrays.

        Raises
        ------
        InputError
            Not such volumes, NaN in them, a constant one, or two that do not lie on one grid.
        ResultError
            No voxel of a volume lies within the window.
        MissingExtra
            nibabel is not installed and a path was given.
        EngineError
            The engine failed.
        """
        if isinstance(fixed, (str, Path)) and isinstance(moving, (str, Path)):
            names = (str(fixed), str(moving))
            images = read_nifti(fixed), read_nifti(moving)
            check_same_space(*images, names)
            fixed, moving = (nifti_data(image, name) for image, name in zip(images, names, strict=True))
        if not isinstance(fixed, np.ndarray) or not isinstance(moving, np.ndarray):
            raise InputError(
                f"expected two arrays or two paths, got {type(fixed).__name__} and {type(moving).__name__}."
            )
        started = time.perf_counter_ns()
        volumes = {"fixed": check_volume(fixed, names[0]), "moving": check_volume(moving, names[1])}
        shape = volumes["fixed"].shape
        if volumes["moving"].shape != shape:
            raise InputError(
                f"fixed and moving must have the same shape, got {shape} and {volumes['moving'].shape}: resample one "
                f"onto the other's grid first."
            )
        named = dict(zip(("fixed", "moving"), names, strict=True))
        for spec in self.bundle.manifest.inputs:
            assert isinstance(spec, VolumeInput)  # `check` saw to it
            low, high = spec.range
            buffer = self.inputs[spec.name][0, 0]
            buffer[:] = resample(normalise(volumes[spec.name], window, named[spec.name]), buffer.shape)
            buffer *= high - low
            buffer += low
        prepared = time.perf_counter_ns()
        inference_ns = self.run()
        flow = self.outputs["flow"][0]
        jacobian = Jacobian.of(flow)
        scale = np.array(shape, np.float32) / np.array(flow.shape[1:], np.float32)
        flow = resample(flow, shape) * scale[:, None, None, None]
        warped = warp(volumes["moving"], flow)
        finished = time.perf_counter_ns()
        return RegistrationResult(
            flow, warped, jacobian, prepared - started, inference_ns, finished - prepared - inference_ns
        )

    def example(self) -> tuple[np.ndarray, np.ndarray]:
        """The first reference pair of the bundle."""
        vectors = self.bundle.vectors()
        fixed, moving = (vectors[name][0, 0] for name in ("fixed", "moving"))
        return fixed, moving
