"""Affine alignment of two scans before they are registered, by SimpleITK: mutual information, so also CT onto MR."""

from __future__ import annotations

import numpy as np

from edgeflock.runtime.errors import ResultError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.prepare.volume import placed, resample, warp

__all__ = ["align"]

GRID = 64
"""Voxels along the longest side of the scans that are compared: an affine map needs no more."""

ITERATIONS, BINS, SAMPLED, SEED = 200, 32, 0.3, 1


def align(fixed: np.ndarray, moving: np.ndarray, onto: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Improve a map from the voxels of one scan to those of another.

    Mattes' mutual information, a regular-step gradient descent, three resolutions (Yoo et al., the ITK Software Guide).

    Parameters
    ----------
    fixed, moving : ndarray
        (D, H, W) and (d, h, w), finite.
    onto : ndarray
        (4, 4), voxel of fixed to voxel of moving, as their headers say.
    spacing : ndarray
        (3,), size of fixed's voxels, mm.

    Returns
    -------
    ndarray
        (4, 4), voxel of fixed to voxel of moving.

    Raises
    ------
    MissingExtra
        SimpleITK is not installed.
    ResultError
        The two do not overlap, or no map was found.
    """
    with needs("--affine"):
        import SimpleITK as sitk

    seen = warp(moving, placed(onto, np.zeros((3, *fixed.shape), np.float32)), outside=float(moving.min()))
    if np.ptp(seen) == 0:
        raise ResultError(
            "by their headers the scans do not overlap, so there is nothing to align: set the origins in the headers "
            "so that both lie around the same point."
        )
    shape = [max(2, round(n * min(1, GRID / max(fixed.shape)))) for n in fixed.shape]
    step = np.array(fixed.shape) / np.array(shape)
    images = []
    for volume in (fixed, seen):
        image = sitk.GetImageFromArray(resample(volume, tuple(shape)).T)  # ITK's first axis is the array's last
        image.SetSpacing((spacing * step).tolist())
        image.SetOrigin((spacing * (step - 1) / 2).tolist())
        images.append(image)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(SAMPLED, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, ITERATIONS)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SetInitialTransform(
        sitk.CenteredTransformInitializer(
            *images, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
        )
    )
    try:
        found = sitk.AffineTransform(method.Execute(*images))
    except RuntimeError as error:
        raise ResultError(f"no affine map was found: {str(error).strip().splitlines()[-1]}") from None
    matrix, centre = np.array(found.GetMatrix()).reshape(3, 3), np.array(found.GetCenter())
    shift = centre + np.array(found.GetTranslation()) - matrix @ centre
    world = np.eye(4)
    world[:3, :3] = matrix * spacing / spacing[:, None]
    world[:3, 3] = shift / spacing
    return onto @ world
