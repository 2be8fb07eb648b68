"""`edgeflock register`: warp one NIfTI scan onto another, with the flow, a report and a picture."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from edgeflock.runtime.errors import MissingExtra
from edgeflock.runtime.figures import new_figure
from edgeflock.runtime.files import check_outputs, left_over, replacing
from edgeflock.runtime.options import Keys, next_command

if TYPE_CHECKING:
    from edgeflock.runtime.tasks.registration import RegistrationResult

WRITTEN = WARPED, FLOW, REPORT, LABELS, PICTURE = (
    "warped.nii.gz",
    "flow.nii.gz",
    "report.json",
    "warped_labels.nii.gz",
    "register.png",
)
"""Names of the files in --out."""
SQUARE = 8
"""Squares of the checkerboard along each side."""
FEW = 0.01
"""Share of the voxels within --window below which it is doubted: a liver fills about 2 % of an abdomen."""


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

    from edgeflock.runtime.prepare.volume import (
        check_same_space,
        check_window,
        nibabel,
        nifti_data,
        read_nifti,
        warp,
        within,
    )
    from edgeflock.runtime.tasks.registration import Registration

    if window is not None:
        check_window(window)
    made = {name: out / name for name in WRITTEN if labels or name != LABELS}
    check_outputs(made.values(), [out], [fixed, moving, labels], whole=[bundle])
    console, nib = Console(), nibabel()
    images = {name: read_nifti(path) for name, path in (("fixed", fixed), ("moving", moving))}
    check_same_space(images["fixed"], images["moving"], (str(fixed), str(moving)))
    volumes = {
        name: nifti_data(image, str(path)) for (name, image), path in zip(images.items(), (fixed, moving), strict=True)
    }
    segmentation = None if labels is None else read_nifti(labels)
    if segmentation is not None:
        check_same_space(images["moving"], segmentation, (str(moving), str(labels)))
        marked = nifti_data(segmentation, str(labels))
    with console.status("opening the bundle"):
        task = Registration(bundle, precision, threads, engine, key)
    with console.status("registering"):
        result = task(volumes["fixed"], volumes["moving"], window, (str(fixed), str(moving)))

    affine = images["fixed"].affine
    report = _report(task, result, volumes)
    report["files"] = {"fixed": str(fixed), "moving": str(moving), "bundle": str(bundle)}
    if window is not None:
        shares = {name: within(volume, window) for name, volume in volumes.items()}
        report["window"] = {"low": window[0], "high": window[1], "within": shares}
    with console.status("writing"), ExitStack() as all_or_none:
        drafts = {name: all_or_none.enter_context(replacing(path)) for name, path in made.items() if name != PICTURE}
        _save(nib, result.warped, images["moving"], affine, drafts[WARPED])
        world = np.tensordot(affine[:3, :3].astype(np.float32), result.flow, 1)
        field = nib.Nifti1Image(np.moveaxis(world, 0, -1)[:, :, :, None], affine)
        field.header.set_intent("displacement vector", name="edgeflock flow, mm, RAS")
        nib.save(field, drafts[FLOW])
        if segmentation is not None:
            _save(nib, warp(marked, result.flow, nearest=True), segmentation, affine, drafts[LABELS])
        drafts[REPORT].write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    try:
        with replacing(made[PICTURE]) as draft:
            draw(draft, volumes["fixed"], volumes["moving"], result)
    except MissingExtra as missing:
        console.print(f"No picture: {missing}")
        del made[PICTURE]
    for line in left_over(out, made.values(), *WRITTEN):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if window is not None:
        console.print(
            "within the window: "
            + ", ".join(f"{share:.1%} of {name}" for name, share in shares.items())
            + (", the rest is black or white: is it the right one?" if min(shares.values()) < FEW else ""),
            highlight=False,
        )
    times, found = report["ms"], {k: "none" if v is None else f"{v:.4f}" for k, v in report["correlation"].items()}
    console.print(
        f"{out}: correlation {found['before']} before, {found['after']} after; folded voxels "
        f"{result.jacobian.folded:.2%}; net {times['net']:.0f} ms, all {sum(times.values()):.0f} ms "
        f"({task.engine.name} {task.precision})",
        highlight=False,
        soft_wrap=True,
    )
    console.print(next_command("tune", bundle, keys=key), highlight=False, markup=False, soft_wrap=True)


def _save(nib: Any, data: np.ndarray, like: Any, affine: np.ndarray, path: Path) -> None:
    """With the header of `like`; whole numbers stay whole where they were stored so without a slope."""
    from edgeflock.runtime.prepare.volume import holds_whole_numbers

    stored = like.get_data_dtype() if holds_whole_numbers(like) else np.dtype(np.float32)
    if stored.kind in "ui" and data.dtype.kind == "f":
        limits = np.iinfo(stored)
        data = np.clip(np.rint(data), limits.min, limits.max)
    image = nib.Nifti1Image(data.astype(stored), affine, like.header, dtype=stored)
    nib.save(image, path)


def _report(task: Any, result: RegistrationResult, volumes: dict[str, np.ndarray]) -> dict[str, Any]:
    before, after = (_correlation(volumes["fixed"], other) for other in (volumes["moving"], result.warped))
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


def _correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """None where one of them is the same everywhere."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def draw(path: Path, fixed: np.ndarray, moving: np.ndarray, result: RegistrationResult) -> None:
    """Middle slices along the three axes: checkerboards of fixed with moving and with warped, and the Jacobian.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    """
    from edgeflock.runtime.prepare.volume import jacobian_determinant, normalise

    grey = [normalise(v) if np.ptp(v) else np.zeros(v.shape, np.float32) for v in (fixed, moving, result.warped)]
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
    figure.savefig(path, dpi=100, format="png")
