"""Registration: two scans in, the flow that warps one onto the other out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeflock.runtime.bundle.bundle import Bundle, default_bundle
from edgeflock.runtime.bundle.manifest import Manifest, OutputSpec, VolumeInput
from edgeflock.runtime.errors import BundleError, InputError
from edgeflock.runtime.prepare.volume import (
    check_same_space,
    check_volume,
    jacobian_determinant,
    nifti_data,
    normalise,
    placed,
    read_nifti,
    resample,
    to_grid,
    warp,
)
from edgeflock.runtime.tasks.base import NetTask

SIDE = 128


def registration_inputs(side: int = SIDE) -> list[VolumeInput]:
    """Fixed and moving on a grid of side^3."""
    return [
        VolumeInput(
            name=name,
            shape=(1, 1, side, side, side),
            interpolation="linear, averaged where an axis shrinks",
            range=(0, 255),
        )
        for name in ("fixed", "moving")
    ]


def registration_output(side: int = SIDE) -> OutputSpec:
    """The flow on a grid of side^3, in voxels of that grid."""
    return OutputSpec(
        name="flow",
        shape=(1, 3, side, side, side),
        unit="voxels",
        positive="towards larger indices; warped(x) = moving(x + flow(x)), channel k along array axis k",
        tolerance=1.0,
        vector_stride=8,
    )


REGISTRATION_INPUTS, REGISTRATION_OUTPUT = registration_inputs(), registration_output()


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
        float32 (3, D, H, W) on the grid of fixed, in voxels of moving, channel k along array axis k:
        warped(x) = moving(x + flow(x)). `edgeflock.runtime.prepare.volume.warp` applies it to other volumes and labels.
    warped : ndarray
        float32 (D, H, W), moving in its own intensities.
    jacobian : Jacobian
        Of the net's flow on its own grid; on another one its values are the same up to interpolation.
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
    """Register by a bundle, by default the one that ships; parameters, attributes and errors as for `NetTask`."""

    task = "registration"

    def __init__(
        self,
        bundle: Bundle | str | Path | None = None,
        precision: str | None = None,
        threads: int | None = None,
        engine: str | None = None,
        keys: Iterable[str | Path] | None = None,
    ) -> None:
        super().__init__(default_bundle(self.task) if bundle is None else bundle, precision, threads, engine, keys)

    def check(self, manifest: Manifest) -> None:
        """Fixed and moving in on one grid, a flow in voxels of its own grid out, which may be coarser."""
        grid, coarse = manifest.inputs[0].shape[2:], manifest.outputs[0].shape[2:]
        shapes = {spec.name: spec.shape for spec in manifest.inputs} | {o.name: o.shape for o in manifest.outputs}
        wanted = {"fixed": (1, 1, *grid), "moving": (1, 1, *grid), "flow": (1, 3, *coarse)}
        scans = all(isinstance(spec, VolumeInput) for spec in manifest.inputs)
        if (
            not scans
            or len(grid) != 3
            or len(coarse) != 3
            or shapes != wanted
            or manifest.outputs[0].unit != REGISTRATION_OUTPUT.unit
        ):
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
        onto: np.ndarray | None = None,
    ) -> RegistrationResult:
        """Register moving onto fixed.

        Parameters
        ----------
        fixed, moving : ndarray or path
            Volumes (D, H, W), integers or floats, or NIfTI files on the same grid. The net sees them resampled to its
            own grid. Without `onto` they have the same shape.
        window : (float, float), optional
            Intensities that become black and white, such as (-25, 265) Hounsfield units for the liver; see
            `edgeflock.runtime.prepare.volume.normalise`.
        names : (str, str)
            Of the two in messages, where they are arrays.
        onto : ndarray, optional
            (4, 4), voxel of fixed to voxel of moving, where they lie on two grids. What moving has not is its smallest
            value.

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
        seen = dict(volumes)
        outside = None
        if onto is not None:
            outside = float(volumes["moving"].min())
            seen["moving"] = warp(volumes["moving"], placed(onto, np.zeros((3, *shape), np.float32)), outside=outside)
        elif volumes["moving"].shape != shape:
            raise InputError(
                f"fixed and moving must have the same shape, got {shape} and {volumes['moving'].shape}: resample one "
                f"onto the other's grid first."
            )
        named = dict(zip(("fixed", "moving"), names, strict=True))
        for spec in self.bundle.manifest.inputs:
            assert isinstance(spec, VolumeInput)  # `check` saw to it
            low, high = spec.range
            buffer = self.inputs[spec.name][0, 0]
            buffer[:] = resample(normalise(seen[spec.name], window, named[spec.name]), buffer.shape)
            buffer *= high - low
            buffer += low
        prepared = time.perf_counter_ns()
        inference_ns = self.run()
        flow = self.outputs["flow"][0]
        jacobian = Jacobian.of(flow)
        flow = to_grid(flow, shape)
        if onto is not None:
            flow = placed(onto, flow)
        warped = warp(volumes["moving"], flow, outside=outside)
        finished = time.perf_counter_ns()
        return RegistrationResult(
            flow, warped, jacobian, prepared - started, inference_ns, finished - prepared - inference_ns
        )

    def example(self) -> tuple[np.ndarray, np.ndarray]:
        """The first reference pair of the bundle."""
        vectors = self.bundle.vectors()
        fixed, moving = (vectors[name][0, 0] for name in ("fixed", "moving"))
        return fixed, moving
