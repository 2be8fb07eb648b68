"""Registration of scans in NIfTI files: read, align, register, say how it went, write.

What `edgeflock register` and the ROS 2 node `registration` have in common.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeflock.runtime.files import check_outputs, replacing
from edgeflock.runtime.prepare.volume import (
    check_placed,
    check_same_space,
    dice,
    holds_whole_numbers,
    nibabel,
    nifti_data,
    normalise,
    placed,
    read_nifti,
    warp,
    within,
)
from edgeflock.runtime.tasks.registration import Registration, RegistrationResult

WRITTEN = WARPED, FLOW, REPORT, LABELS = "warped.nii.gz", "flow.nii.gz", "report.json", "warped_labels.nii.gz"
"""Names of the files that `register_scans` leads to."""
SQUARE = 8
"""Squares of a checkerboard along each side."""


@dataclass(frozen=True)
class Scans:
    """Files of two scans: the one that stays, the one that is warped onto it, and their segmentations if there are."""

    fixed: Path
    moving: Path
    labels: Path | None = None
    fixed_labels: Path | None = None

    def __iter__(self) -> Iterator[Path | None]:
        """All four."""
        return iter((self.fixed, self.moving, self.labels, self.fixed_labels))


@dataclass(frozen=True)
class Pair:
    """Two scans as they were read.

    Attributes
    ----------
    scans : Scans
    images : dict
        The NIfTI images fixed, moving, labels and fixed_labels.
    fixed, moving : ndarray
    labels, fixed_labels : ndarray or None
        Segmentations of moving and of fixed.
    onto : ndarray or None
        (4, 4), voxel of fixed to voxel of moving; None where they lie on one grid.
    aligned : bool
        Whether `onto` is more than the headers say.
    """

    scans: Scans
    images: dict[str, Any]
    fixed: np.ndarray
    moving: np.ndarray
    labels: np.ndarray | None
    fixed_labels: np.ndarray | None
    onto: np.ndarray | None
    aligned: bool = False

    def align(self) -> Pair:
        """The pair with an affine map found; it was read with `grids`. Errors as of `prepare.affine.align`."""
        from edgeflock.runtime.prepare.affine import align

        assert self.onto is not None
        spacing = np.linalg.norm(self.images["fixed"].affine[:3, :3], axis=0)
        return replace(self, onto=align(self.fixed, self.moving, self.onto, spacing), aligned=True)

    def before(self, volume: np.ndarray, nearest: bool = False) -> np.ndarray:
        """A volume on moving's grid brought to fixed's, not registered; with `nearest` for labels."""
        if self.onto is None:
            return volume
        still = np.zeros((3, *self.fixed.shape), np.float32)
        outside = 0.0 if nearest else float(volume.min())
        return warp(volume, placed(self.onto, still), nearest, outside)


@dataclass(frozen=True)
class Registered:
    """A pair, what the net says of it, moving's warped segmentation, and the content of report.json."""

    pair: Pair
    result: RegistrationResult
    labels: np.ndarray | None
    report: dict[str, Any]


def check_out(out: Path, scans: Scans, bundle: Path | None = None) -> dict[str, Path]:
    """Where each file goes, by its name; errors as of `edgeflock.runtime.files.check_outputs`."""
    made = {name: out / name for name in WRITTEN if scans.labels or name != LABELS}
    check_outputs(made.values(), [out], scans, whole=[bundle])
    return made


def read_pair(scans: Scans, grids: bool) -> Pair:
    """Read two scans, which may lie on two grids if `grids`.

    Raises
    ------
    InputError
        What is wrong with a file, or they lie on two grids.
    """
    files = {name: path for name, path in vars(scans).items() if path is not None}
    images = {name: read_nifti(path) for name, path in files.items()}
    onto = None
    if grids:
        for name in ("fixed", "moving"):
            check_placed(images[name], str(files[name]))
        onto = np.linalg.inv(images["moving"].affine) @ images["fixed"].affine
    else:
        check_same_space(images["fixed"], images["moving"], (str(scans.fixed), str(scans.moving)))
    for name, scan in (("labels", "moving"), ("fixed_labels", "fixed")):
        if name in images:
            way_out = f"A segmentation must lie on the grid of its scan, {scan}."
            check_same_space(images[scan], images[name], (str(files[scan]), str(files[name])), way_out)
    voxels = {name: nifti_data(image, str(files[name])) for name, image in images.items()}
    return Pair(
        scans, images, voxels["fixed"], voxels["moving"], voxels.get("labels"), voxels.get("fixed_labels"), onto
    )


def register_scans(task: Registration, pair: Pair, window: tuple[float, float] | None = None) -> Registered:
    """Register a pair; `window` and errors as of `Registration`."""
    result = task(pair.fixed, pair.moving, window, (str(pair.scans.fixed), str(pair.scans.moving)), pair.onto)
    labels = None
    if pair.labels is not None:
        labels = warp(pair.labels, result.flow, nearest=True, outside=None if pair.onto is None else 0)
    length = np.sqrt((deformation(result.flow, pair.onto) ** 2).sum(0))
    volumes = {"before": pair.before(pair.moving), "after": result.warped}
    report: dict[str, Any] = {
        "bundle": task.bundle.manifest.name,
        "precision": task.precision,
        "engine": task.engine.name,
        "shape": list(result.warped.shape),
        "correlation": {when: _correlation(pair.fixed, volume) for when, volume in volumes.items()},
        "jacobian": asdict(result.jacobian),
        "displacement_voxels": {"mean": float(length.mean()), "largest": float(length.max())},
        "ms": {
            "prepare": result.prepare_ns / 1e6,
            "net": result.inference_ns / 1e6,
            "warp": result.finish_ns / 1e6,
        },
        "edgeflock": version("edgeflock"),
    }
    if pair.labels is not None and labels is not None and pair.fixed_labels is not None:
        classes = tuple(value for value in np.union1d(pair.labels, pair.fixed_labels).tolist() if value)
        organs = {"before": pair.before(pair.labels, nearest=True), "after": labels}
        report["dice"] = {when: dice(pair.fixed_labels, volume, classes) for when, volume in organs.items()}
    files = {name: str(path) for name, path in vars(pair.scans).items() if path is not None}
    report["files"] = {**files, "bundle": str(task.bundle.path)}
    if pair.aligned:
        assert pair.onto is not None
        moving, fixed = (pair.images[name].affine for name in ("moving", "fixed"))
        report["affine"] = (moving @ pair.onto @ np.linalg.inv(fixed)).tolist()
    if window is not None:
        shares = {"fixed": within(pair.fixed, window), "moving": within(pair.moving, window)}
        report["window"] = {"low": window[0], "high": window[1], "within": shares}
    return Registered(pair, result, labels, report)


def write_registered(done: Registered, made: dict[str, Path]) -> None:
    """Write all files or none; `made` as `check_out` gave it. Errors as of `edgeflock.runtime.files.replacing`."""
    nib, images = nibabel(), done.pair.images
    affine = images["fixed"].affine
    with ExitStack() as all_or_none:
        drafts = {name: all_or_none.enter_context(replacing(path)) for name, path in made.items()}
        _save(nib, done.result.warped, images["moving"], affine, drafts[WARPED])
        field = nib.Nifti1Image(in_world(done.result.flow, affine, images["moving"].affine), affine)
        field.header.set_intent("displacement vector", name="edgeflock flow, mm, RAS")
        nib.save(field, drafts[FLOW])
        if done.labels is not None:
            _save(nib, done.labels, images["labels"], affine, drafts[LABELS])
        drafts[REPORT].write_text(json.dumps(done.report, indent=2) + "\n", "utf-8")


def _save(nib: Any, data: np.ndarray, like: Any, affine: np.ndarray, path: Path) -> None:
    """With the header of `like`; whole numbers stay whole where they were stored so without a slope."""
    stored = like.get_data_dtype() if holds_whole_numbers(like) else np.dtype(np.float32)
    if stored.kind in "ui" and data.dtype.kind == "f":
        limits = np.iinfo(stored)
        data = np.clip(np.rint(data), limits.min, limits.max)
    image = nib.Nifti1Image(data.astype(stored), affine, like.header, dtype=stored)
    nib.save(image, path)


def _correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """None where one of them is the same everywhere."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def in_world(flow: np.ndarray, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Displacements (D, H, W, 1, 3) in mm of a flow (3, D, H, W) in voxels; the affines (4, 4) of both scans."""
    world = np.tensordot(moving[:3, :3].astype(np.float32), flow, 1)
    if not np.allclose(fixed, moving, rtol=0, atol=1e-6):  # then the same voxel is another place in each
        ramps = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in flow.shape[1:]), indexing="ij", sparse=True)
        difference = (moving - fixed).astype(np.float32)
        for axis in range(3):
            world[axis] += difference[axis, 3] + sum(difference[axis, k] * ramps[k] for k in range(3))
    return np.moveaxis(world, 0, -1)[:, :, :, None]


def deformation(flow: np.ndarray, onto: np.ndarray | None) -> np.ndarray:
    """What of a flow is the net's own and not the way from grid to grid, in voxels of fixed."""
    if onto is None:
        return flow
    linear = np.linalg.inv(onto[:3, :3]).astype(np.float32)
    return np.tensordot(linear, flow - placed(onto, np.zeros_like(flow)), 1)


def checkerboards(fixed: np.ndarray, other: np.ndarray) -> list[np.ndarray]:
    """Squares of two volumes on one grid by turns in the middle slices along each axis.

    Returns
    -------
    list of ndarray
        float32 in 0..1, three slices, each with the array's first remaining axis along x.
    """
    grey = [normalise(v) if np.ptp(v) else np.zeros(v.shape, np.float32) for v in (fixed, other)]
    boards = []
    for axis in range(3):
        still, moved = (np.take(volume, volume.shape[axis] // 2, axis).T for volume in grey)
        rows, columns = (np.arange(n) * SQUARE // n for n in still.shape)
        boards.append(np.where((rows[:, None] + columns) % 2 == 0, still, moved))
    return boards
