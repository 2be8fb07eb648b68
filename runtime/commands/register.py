"""`edgeflock register`: warp one NIfTI scan onto another, with the flow, a report and a picture."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from edgeflock.runtime.errors import MissingExtra
from edgeflock.runtime.figures import new_figure
from edgeflock.runtime.options import Keys

if TYPE_CHECKING:
    from edgeflock.runtime.tasks.registration import RegistrationResult

SQUARE = 8
"""Squares of the checkerboard along each side."""


def register(
    fixed: Annotated[Path, typer.Argument(help="Scan that stays, .nii or .nii.gz.")],
    moving: Annotated[Path, typer.Argument(help="Scan that is warped onto it, on the same grid.")],
    bundle: Annotated[Path, typer.Option(help="Registration bundle.")],
    out: Annotated[Path, typer.Option(help="Folder for warped.nii.gz, flow.nii.gz, report.json and register.png.")],
    labels: Annotated[
        Path | None, typer.Option(help="Segmentation of moving, becomes warped_labels.nii.gz (nearest voxel).")
    ] = None,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Intensities that become black and white, such as -25 265 (HU) for the liver."),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="One of the bundle's; by default its own choice.")] = None,
    engine: Annotated[str | None, typer.Option(help="Engine; by default what `edgeflock tune` found.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    key: Keys = None,
) -> None:
    """Warp a scan onto another.

    Both must lie on the same grid. flow.nii.gz holds displacements in mm along the world's axes (RAS), as a NIfTI
    displacement vector: the tissue at a voxel of the fixed scan was there in the moving one.

    Example:

      edgeflock register fixed.nii.gz moving.nii.gz --bundle bundles/ldr --out registered
    """
    from rich.console import Console

    from edgeflock.runtime.prepare.volume import check_same_space, nibabel, nifti_data, read_nifti, warp
    from edgeflock.runtime.tasks.registration import Registration

    console, nib = Console(), nibabel()
    images = {name: read_nifti(path) for name, path in (("fixed", fixed), ("moving", moving))}
    check_same_space(images["fixed"], images["moving"], (str(fixed), str(moving)))
    segmentation = None if labels is None else read_nifti(labels)
    if segmentation is not None:
        check_same_space(images["moving"], segmentation, (str(moving), str(labels)))
    volumes = {
        name: nifti_data(image, str(path)) for (name, image), path in zip(images.items(), (fixed, moving), strict=True)
    }
    with console.status("opening the bundle"):
        task = Registration(bundle, precision, threads, engine, key)
    with console.status("registering"):
        result = task(volumes["fixed"], volumes["moving"], window)

    out.mkdir(parents=True, exist_ok=True)
    affine = images["fixed"].affine
    with console.status("writing"):
        _save(nib, result.warped, images["moving"], affine, out / "warped.nii.gz")
        world = np.tensordot(affine[:3, :3].astype(np.float32), result.flow, 1)
        field = nib.Nifti1Image(np.moveaxis(world, 0, -1)[:, :, :, None], affine)
        field.header.set_intent("displacement vector", name="edgeflock flow, mm, RAS")
        nib.save(field, out / "flow.nii.gz")
        if segmentation is not None:
            moved = warp(nifti_data(segmentation, str(labels)), result.flow, nearest=True)
            _save(nib, moved, segmentation, affine, out / "warped_labels.nii.gz")
        report = _report(task, result, volumes)
        report["files"] = {"fixed": str(fixed), "moving": str(moving), "bundle": str(bundle)}
        (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        try:
            draw(out / "register.png", volumes["fixed"], volumes["moving"], result)
        except MissingExtra as missing:
            console.print(f"No picture: {missing}")
    found, times = report["correlation"], report["ms"]
    console.print(
        f"{out}: correlation {found['before']:.4f} before, {found['after']:.4f} after; folded voxels "
        f"{result.jacobian.folded:.2%}; net {times['net']:.0f} ms, all {sum(times.values()):.0f} ms "
        f"({task.engine.name} {task.precision})",
        highlight=False,
        soft_wrap=True,
    )


def _save(nib: Any, data: np.ndarray, like: Any, affine: np.ndarray, path: Path) -> None:
    """With the header of `like`; whole numbers stay whole where they were stored so without a slope."""
    stored = like.get_data_dtype()
    slope, intercept = like.dataobj.slope, like.dataobj.inter
    if stored.kind not in "ui" or (slope, intercept) != (1, 0):
        stored = np.dtype(np.float32)
    if stored.kind in "ui" and data.dtype.kind == "f":
        limits = np.iinfo(stored)
        data = np.clip(np.rint(data), limits.min, limits.max)
    image = nib.Nifti1Image(data.astype(stored), affine, like.header)
    image.set_data_dtype(stored)
    nib.save(image, path)


def _report(task: Any, result: RegistrationResult, volumes: dict[str, np.ndarray]) -> dict[str, Any]:
    fixed = volumes["fixed"].ravel()
    before, after = (float(np.corrcoef(fixed, other.ravel())[0, 1]) for other in (volumes["moving"], result.warped))
    length = np.sqrt((result.flow**2).sum(0))
    return {
        "bundle": task.bundle.manifest.name,
        "precision": task.precision,
        "engine": task.engine.name,
        "shape": list(result.warped.shape),
        "correlation": {"before": before, "after": after},
        "jacobian": asdict(result.jacobian),
        "displacement_voxels": {"mean": float(length.mean()), "largest": float(length.max())},
        "ms": {
            "prepare": result.prepare_ns / 1e6,
            "net": result.inference_ns / 1e6,
            "warp": result.finish_ns / 1e6,
        },
        "edgeflock": version("edgeflock"),
    }


def draw(path: Path, fixed: np.ndarray, moving: np.ndarray, result: RegistrationResult) -> None:
    """Middle slices along the three axes: checkerboards of fixed with moving and with warped, and the Jacobian.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    """
    from edgeflock.runtime.prepare.volume import jacobian_determinant, normalise

    grey = [normalise(volume) for volume in (fixed, moving, result.warped)]
    figure = new_figure(9, 9, "The picture")
    axes = figure.subplots(3, 3, squeeze=False)
    for axis, row in enumerate(axes):
        still, before, after = (np.take(volume, volume.shape[axis] // 2, axis).T for volume in grey)
        rows, columns = (np.arange(n) * SQUARE // n for n in still.shape)
        board = (rows[:, None] + columns) % 2 == 0
        for plot, other in zip(row, (before, after), strict=False):
            plot.imshow(np.where(board, still, other), cmap="gray", vmin=0, vmax=1, origin="lower")
        middle = result.flow.shape[axis + 1] // 2 - 1
        determinant = jacobian_determinant(result.flow.take([middle, middle + 1], axis + 1))
        shown = row[2].imshow(determinant.squeeze(axis).T, cmap="RdBu", vmin=0, vmax=2, origin="lower")
    for plot, title in zip(axes[0], ("fixed and moving", "fixed and warped", "Jacobian determinant"), strict=True):
        plot.set_title(title)
    for plot in axes.flat:
        plot.set_axis_off()
    figure.colorbar(shown, ax=list(axes[:, 2]), shrink=0.5, label="1 keeps the volume, 0 folds")
    figure.savefig(path, dpi=100)
