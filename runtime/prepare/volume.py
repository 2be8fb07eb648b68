"""Volumes (D, H, W) in numpy alone: intensities, resampling, warp, Jacobian determinant; NIfTI files through nibabel.

Conventions of flows as in docs/nets.md: (3, D, H, W), displacement in voxels, channel k along array axis k,
warped(x) = moving(x + flow(x)).
"""

from __future__ import annotations

import gzip
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgeflock.runtime.errors import InputError, ResultError
from edgeflock.runtime.extras import needs

SLAB = 2
"""Planes computed at a time: the work of two fits the caches."""
PRODUCTS = 1 << 18
"""Multiplications in one matrix product, for which OpenBLAS wakes no thread: on a busy robot its threads, which wait in
a loop, took ten times what they saved (docs/registration.md)."""


def check_volume(volume: np.ndarray, name: str) -> np.ndarray:
    """The volume without axes of length 1 at its end; InputError unless it is (D, H, W), numeric and finite."""
    volume = np.asarray(volume)
    while volume.ndim > 3 and volume.shape[-1] == 1:
        volume = volume[..., 0]
    if volume.ndim != 3 or min(volume.shape) < 2 or volume.dtype.kind not in "uif":
        raise InputError(
            f"{name}: expected a volume (D, H, W) of numbers with at least 2 voxels along each axis, got "
            f"{volume.dtype} {volume.shape}; take one time step or channel of a series."
        )
    if volume.dtype.kind == "f" and not np.isfinite(volume).all():
        count = int(np.size(volume) - np.isfinite(volume).sum())
        raise InputError(f"{name}: expected finite values, {count} voxels are NaN or infinite; numpy.nan_to_num helps.")
    return volume


def normalise(volume: np.ndarray, window: tuple[float, float] | None = None, name: str = "the volume") -> np.ndarray:
    """Intensities as float32 in 0..1.

    Parameters
    ----------
    volume : ndarray
    window : (float, float), optional
        What becomes 0 and 1, such as (-25, 265) Hounsfield units for the liver, or (0, 255) for voxels that are shades
        already: the type of the numbers does not tell. By default the 0.5 and 99.5 percentile; where they are equal,
        since nearly all is background, the smallest and largest value.
    name : str
        Of the volume, for messages.

    Raises
    ------
    InputError
        The volume is constant, or the window does not rise.
    ResultError
        No voxel lies within the window, so all would be black and white.
    """
    if window is None:
        # of a large scan every n-th voxel: sorting all of them would take longer than a small net does
        low, high = np.percentile(volume.ravel()[:: max(1, volume.size >> 18) | 1], (0.5, 99.5))
        if low == high:
            low, high = float(volume.min()), float(volume.max())
        if low == high:
            raise InputError(f"{name}: expected a scan, got {low:g} in every voxel: name another file.")
    else:
        low, high = check_window(window)
        if not ((volume > low) & (volume < high)).any():
            raise ResultError(
                f"{name}: no voxel lies within the window {low:g}..{high:g}, its values are {volume.min():g}.."
                f"{volume.max():g}, so all of it would be black or white. Choose a window of these values (a CT stored "
                f"without its intercept is 1024 above Hounsfield units), or leave it out."
            )
    scaled = volume.astype(np.float32)
    scaled -= np.float32(low)
    scaled *= np.float32(1 / (high - low))
    return np.clip(scaled, 0, 1, out=scaled)


def check_window(window: tuple[float, float]) -> tuple[float, float]:
    """The window, InputError unless it rises."""
    low, high = window
    if not (np.isfinite([low, high]).all() and high > low):
        raise InputError(f"expected a window of two intensities that rise, such as -25 265, got {low:g} {high:g}.")
    return low, high


def within(volume: np.ndarray, window: tuple[float, float]) -> float:
    """Share of the voxels that lie within a window."""
    return float(((volume > window[0]) & (volume < window[1])).mean())


def resample(volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(..., D, H, W) to (..., *shape), float32: linear, and averaging where an axis shrinks."""
    volume = np.ascontiguousarray(volume, np.float32)
    for axis, length in zip((-3, -2, -1), shape, strict=True):
        if volume.shape[axis] != length:
            volume = _weighted(volume, _resampling(volume.shape[axis], length), axis)
    return volume


def _weighted(volume: np.ndarray, matrix: np.ndarray, axis: int) -> np.ndarray:
    """Each line along one of the last three axes times a matrix (new, old), mostly of zeros for axis -3; float32."""
    new, old = matrix.shape
    axis += volume.ndim
    before, after = volume.shape[:axis], volume.shape[axis + 1 :]
    result = np.empty((*before, new, *after), np.float32)
    step = max(1, PRODUCTS // matrix.size)
    if not after:
        rows, made = volume.reshape(-1, old), result.reshape(-1, new)
        for start in range(0, len(rows), step):
            np.matmul(rows[start : start + step], matrix.T, out=made[start : start + step])
        return result
    for part, made in zip(volume.reshape(-1, old, prod(after)), result.reshape(-1, new, prod(after)), strict=True):
        if len(after) == 2:
            for weights, plane in zip(matrix, made, strict=True):
                first, *others = np.flatnonzero(weights)
                np.multiply(part[first], weights[first], out=plane)
                for index in others:
                    plane += weights[index] * part[index]
        else:
            for start in range(0, prod(after), step):
                np.matmul(matrix, part[:, start : start + step], out=made[:, start : start + step])
    return result


def _resampling(old: int, new: int) -> np.ndarray:
    """(new, old): each row weights the old voxels around the centre of a new one with a triangle."""
    centres = (np.arange(new) + 0.5) * (old / new) - 0.5
    distance = np.abs(np.arange(old) - centres[:, None]) / max(old / new, 1)
    weights = np.maximum(1 - distance, 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _spline(old: int, new: int) -> np.ndarray:
    """(new, old): each row weights the old voxels around a new one with a cubic B-spline; the border goes on."""
    centres = (np.arange(new) + 0.5) * (old / new) - 0.5
    weights = np.zeros((new, old), np.float32)
    rows = np.arange(new)
    for offset in range(-1, 3):
        index = np.floor(centres).astype(int) + offset
        distance = np.abs(centres - index)
        value = np.where(distance < 1, 2 / 3 - distance**2 + distance**3 / 2, np.maximum(2 - distance, 0) ** 3 / 6)
        np.add.at(weights, (rows, np.clip(index, 0, old - 1)), value)
    return weights


def to_grid(flow: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Flow (3, d, h, w) in voxels of its grid -> float32 (3, *shape) in voxels of a finer grid of the same space.

    By cubic B-splines, whose second derivatives are continuous: between linear pieces the Jacobian determinant jumps,
    which shows as stripes of the coarse grid's voxels. They smooth a little, too: of what changes from voxel to voxel
    along an axis a third is left.
    """
    if flow.shape[1:] == tuple(shape):
        return flow.astype(np.float32)
    scale = np.array(shape, np.float32) / np.array(flow.shape[1:], np.float32)
    finer = flow.astype(np.float32) * scale[:, None, None, None]
    for axis, length in zip((-3, -2, -1), shape, strict=True):
        finer = _weighted(finer, _spline(finer.shape[axis], length), axis)
    return finer


def placed(onto: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The flow from the grid of one scan into that of another: onto(x + flow(x)) - x.

    Parameters
    ----------
    onto : ndarray
        (4, 4), voxel of fixed to voxel of moving.
    flow : ndarray
        float32 (3, D, H, W) on fixed's grid, in its voxels.
    """
    linear, shift = onto[:3, :3].astype(np.float32), onto[:3, 3].astype(np.float32)
    moved = np.empty(flow.shape, np.float32)
    ramps = [np.arange(size, dtype=np.float32) for size in flow.shape[1:]]
    for start in range(0, flow.shape[1], SLAB):
        planes = slice(start, start + SLAB)
        grid = np.stack(np.meshgrid(ramps[0][planes], ramps[1], ramps[2], indexing="ij"))
        moved[:, planes] = np.tensordot(linear, grid + flow[:, planes], 1) + shift[:, None, None, None] - grid
    return moved


def warp(volume: np.ndarray, flow: np.ndarray, nearest: bool = False, outside: float | None = None) -> np.ndarray:
    """Sample a volume at x + flow(x), coordinates clamped to its border.

    scipy.ndimage.map_coordinates and ONNX Runtime's GridSample take two to three times as long (docs/registration.md).

    Parameters
    ----------
    volume : ndarray
        (D, H, W).
    flow : ndarray
        float32 (3, d, h, w), voxels.
    nearest : bool
        Take the nearest voxel, for labels; else trilinear.
    outside : float, optional
        Value where x + flow(x) is more than half a voxel outside; by default the border's.

    Returns
    -------
    ndarray
        (d, h, w); float32, with `nearest` the dtype of `volume`.
    """
    shape, sizes = flow.shape[1:], volume.shape
    strides = (sizes[1] * sizes[2], sizes[2], 1)
    values = np.ascontiguousarray(volume).ravel()  # as they are: small numbers stay in the caches
    corners = [values[sum(corner) :] for corner in product(*((0, stride) for stride in strides))]
    ramps = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in shape), indexing="ij", sparse=True)
    counted = np.int32 if values.size < 2**31 else np.intp
    warped = np.empty(shape, values.dtype if nearest else np.float32)
    for plane in range(shape[0]):  # one at a time, for the caches
        index = np.zeros(shape[1:], counted)
        fractions = []
        beyond: Any = False
        for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
            where = flow[axis, plane] + ramps[axis][plane if axis == 0 else 0]
            if outside is not None:
                beyond = beyond | (where < -0.5) | (where > size - 0.5)
            np.clip(where, 0, size - 1, out=where)
            if nearest:
                where += 0.5
            low = where.astype(counted)
            if not nearest:
                np.minimum(low, size - 2, out=low)  # so that low + 1 is a voxel too
                where -= low
                fractions.append(where)
            low *= stride
            index += low
        chosen = index.astype(np.intp)
        if nearest:
            warped[plane] = values.take(chosen)
        else:
            found = [corner.take(chosen).astype(np.float32, copy=False) for corner in corners]
            for fraction in reversed(fractions):
                for low, high in zip(found[::2], found[1::2], strict=True):
                    high -= low
                    high *= fraction
                    high += low
                found = found[1::2]
            warped[plane] = found[0]
        if outside is not None:
            warped[plane][beyond] = outside
    return warped


def jacobian_determinant(flow: np.ndarray) -> np.ndarray:
    """Determinant of d(x + flow(x))/dx by forward differences, (3, D, H, W) -> (D-1, H-1, W-1); <= 0 is a fold."""
    depth, height, width = flow.shape[1:]
    determinant = np.empty((depth - 1, height - 1, width - 1), np.float32)
    for start in range(0, depth - 1, SLAB):
        slab = flow[:, start : start + SLAB + 1]
        here = slab[:, :-1, :-1, :-1]
        a, b, c = (slab[:, 1:, :-1, :-1] - here, slab[:, :-1, 1:, :-1] - here, slab[:, :-1, :-1, 1:] - here)
        for axis, column in enumerate((a, b, c)):
            column[axis] += 1
        part = a[0] * (b[1] * c[2] - b[2] * c[1])
        part += a[1] * (b[2] * c[0] - b[0] * c[2])
        part += a[2] * (b[0] * c[1] - b[1] * c[0])
        determinant[start : start + SLAB] = part
    return determinant


def dice(one: np.ndarray, other: np.ndarray, labels: tuple[int, ...]) -> float:
    """Mean over the labels of 2 |A and B| / (|A| + |B|); labels that neither volume has do not count."""
    scores = []
    for label in labels:
        a, b = one == label, other == label
        total = int(a.sum()) + int(b.sum())
        if total:
            scores.append(2 * int((a & b).sum()) / total)
    return float(np.mean(scores)) if scores else float("nan")


def nibabel() -> Any:
    """The module; MissingExtra where it is not installed."""
    with needs("Reading NIfTI files"):
        import nibabel
    return nibabel


def read_nifti(path: str | Path) -> Any:
    """A NIfTI image, its data not read yet; InputError if there is none."""
    nib = nibabel()
    try:
        image = nib.load(path)
    except Exception as error:  # its errors, zlib's and those of a damaged header have no common base
        raise InputError(f"{path}: expected a NIfTI file (.nii or .nii.gz), reading it failed: {error}") from None
    if not isinstance(image, nib.spatialimages.SpatialImage):
        raise InputError(f"{path}: expected a NIfTI file (.nii or .nii.gz) of voxels, got {type(image).__name__}.")
    return image


def holds_whole_numbers(image: Any) -> bool:
    """Whether an image stores integers that its header does not scale."""
    scale = getattr(image.dataobj, "slope", 1), getattr(image.dataobj, "inter", 0)
    return image.get_data_dtype().kind in "ui" and scale == (1, 0)


def nifti_data(image: Any, name: str) -> np.ndarray:
    """Checked voxels of an image: whole numbers as they are stored where the header has no slope, else float32."""
    stored = image.get_data_dtype()
    if stored.kind not in "uif":
        kind, way_out = (
            ("colours", "save one channel, or the grey values") if stored.fields else (stored, "save its magnitude")
        )
        raise InputError(f"{name}: expected one real number in each voxel, got {kind}: {way_out}.")
    try:
        _check_whole(image.get_filename())
        voxels = np.asarray(image.dataobj) if holds_whole_numbers(image) else image.get_fdata(dtype=np.float32)
    except Exception as error:  # as in `read_nifti`
        raise InputError(f"{name}: expected a whole NIfTI file, reading its voxels failed: {error}") from None
    return check_volume(voxels, name)


def _check_whole(path: str | None) -> None:
    """Read a .gz to its end, where its checksum stands: nibabel stops before and takes damaged voxels as they are."""
    if path is not None and path.endswith(".gz"):
        with gzip.open(path) as packed:
            while packed.read(1 << 20):
                pass


ON_TWO_GRIDS = (
    "`edgeflock register --resample` brings moving onto fixed's grid by their headers, --affine also aligns the two."
)


def check_placed(image: Any, name: str) -> None:
    """InputError unless a NIfTI image is a volume whose voxels lie somewhere in the world."""
    if len(image.shape) < 3:
        raise InputError(f"{name}: expected a volume of three axes, got {image.shape}: a slice alone is no scan.")
    if not (np.isfinite(image.affine).all() and np.linalg.det(image.affine)):
        raise InputError(
            f"{name}: expected an affine that places each voxel in the world, got {image.affine.tolist()}: "
            "nibabel.Nifti1Image(data, affine) sets one."
        )


def check_same_space(fixed: Any, moving: Any, names: tuple[str, str], way_out: str = ON_TWO_GRIDS) -> None:
    """InputError, which ends with `way_out`, unless two NIfTI images have the same orientation, shape and affine."""
    nib = nibabel()
    for image, name in zip((fixed, moving), names, strict=True):
        check_placed(image, name)
    for what, (a, b) in {
        "orientation": ["".join(nib.aff2axcodes(image.affine)) for image in (fixed, moving)],
        "shape": [image.shape[:3] for image in (fixed, moving)],
    }.items():
        if a != b:
            raise InputError(f"{names[0]} has the {what} {a}, {names[1]} has {b}. {way_out}")
    corner = np.array([*fixed.shape[:3], 1])
    voxel = np.linalg.norm(fixed.affine[:3, :3], axis=0).min()
    for point in (np.array([0, 0, 0, 1]), corner):
        distance = float(np.linalg.norm((fixed.affine - moving.affine) @ point))
        if distance > 0.5 * voxel:
            raise InputError(
                f"{names[0]} and {names[1]} place the voxel {tuple(int(i) for i in point[:3])} {distance:.2f} mm apart "
                f"(expected at most half a voxel, {0.5 * voxel:.2f} mm). {way_out}"
            )
