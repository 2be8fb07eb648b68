"""`edgeflock register`: warp one NIfTI scan onto another, with the flow, a report and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.figures import new_figure
from edgeflock.runtime.files import check_outputs, left_over, replacing
from edgeflock.runtime.options import Keys, next_command, refuse_unused

PICTURE = "register.png"
DEMO, DEMO_SIDE = (101, 102), 128
"""Bodies of --demo, which no training draws, and the voxels along each side."""
FEW = 0.01
"""Share of the voxels within --window below which it is doubted: a liver fills about 2 % of an abdomen."""


def register(
    context: typer.Context,
    fixed: Annotated[Path | None, typer.Argument(help="Scan that stays, .nii or .nii.gz.", show_default=False)] = None,
    moving: Annotated[Path | None, typer.Argument(help="Scan that is warped onto it.", show_default=False)] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Registration bundle; by default the one that ships with edgeflock.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for warped.nii.gz, flow.nii.gz, report.json and register.png.")
    ] = Path("registered"),
    labels: Annotated[
        Path | None, typer.Option(help="Segmentation of moving, becomes warped_labels.nii.gz (nearest voxel).")
    ] = None,
    fixed_labels: Annotated[
        Path | None, typer.Option(help="Segmentation of fixed with the same values: the report gets the Dice of both.")
    ] = None,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Intensities that become black and white, such as -25 265 (HU) for the liver."),
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring moving onto fixed's grid, as the headers place both in the world.")
    ] = False,
    affine: Annotated[
        bool, typer.Option("--affine", help="Align the two by an affine map first; --resample is part of it.")
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Register two phantoms (synthetic), which are drawn into --out.")
    ] = False,
    precision: Annotated[str | None, typer.Option(help="One of the bundle's; by default its own choice.")] = None,
    engine: Annotated[str | None, typer.Option(help="Engine; by default what `edgeflock tune` found.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    key: Keys = None,
) -> None:
    """Warp a scan onto another.

    flow.nii.gz holds displacements in mm along the world's axes (RAS), as a NIfTI displacement vector: the tissue at a
    voxel of the fixed scan was there in the moving one.

    Example:

      edgeflock register fixed.nii.gz moving.nii.gz --out registered
      edgeflock register --demo
    """
    from rich.console import Console

    from edgeflock.runtime.prepare.volume import check_window, nibabel
    from edgeflock.runtime.tasks.registration import Registration
    from edgeflock.runtime.tasks.scans import (
        WRITTEN,
        Scans,
        check_out,
        deformation,
        read_pair,
        register_scans,
        write_registered,
    )

    if window is not None:
        check_window(window)
    console = Console()
    nibabel()
    if demo:
        if fixed or moving:
            raise InputError("--demo draws its own scans: leave out the files, or --demo.")
        refuse_unused(
            context, "with --demo, which has scans of its own", "labels", "fixed_labels", "window", "resample", "affine"
        )
        fixed, moving, labels = draw_demo(out)
    if fixed is None or moving is None:
        raise InputError("expected two scans, FIXED and MOVING: edgeflock register --demo shows it without any.")
    if fixed_labels is not None and labels is None:
        raise InputError("--fixed-labels is compared with moving's segmentation: give --labels, too.")
    scans, picture = Scans(fixed, moving, labels, fixed_labels), out / PICTURE
    made = check_out(out, scans, bundle)
    check_outputs([picture], inputs=scans)
    pair = read_pair(scans, resample or affine)
    if affine:
        with console.status("aligning"):
            pair = pair.align()
    with console.status("opening the bundle"):
        task = Registration(bundle, precision, threads, engine, key)
    if bundle is None and task.bundle.manifest.training.synthetic:
        console.print("The shipped net was trained on synthetic bodies: see docs/registration.md before real use.")
    with console.status("registering"):
        done = register_scans(task, pair, window)
    with console.status("writing"):
        write_registered(done, made)
    written = list(made.values())
    result = done.result
    try:
        with replacing(picture) as draft:
            flow = deformation(result.flow, pair.onto)
            draw(draft, pair.fixed, pair.before(pair.moving), result.warped, flow)
        written.append(picture)
    except MissingExtra as missing:
        console.print(f"No picture: {missing}")
    for line in left_over(out, written, *WRITTEN, PICTURE):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if window is not None:
        shares = done.report["window"]["within"]
        console.print(
            "within the window: "
            + ", ".join(f"{share:.1%} of {name}" for name, share in shares.items())
            + (", the rest is black or white: is it the right one?" if min(shares.values()) < FEW else ""),
            highlight=False,
        )
    times, correlation = done.report["ms"], done.report["correlation"]
    found = {when: "none" if value is None else f"{value:.4f}" for when, value in correlation.items()}
    if "dice" in done.report:
        overlap = done.report["dice"]
        console.print(f"Dice {overlap['before']:.4f} before, {overlap['after']:.4f} after", highlight=False)
    console.print(
        f"{out}: correlation {found['before']} before, {found['after']} after; folded voxels "
        f"{result.jacobian.folded:.2%}; net {times['net']:.0f} ms, all {sum(times.values()):.0f} ms "
        f"({task.engine.name} {task.precision})",
        highlight=False,
        soft_wrap=True,
    )
    then = next_command("tune", task.bundle.path, keys=key)
    if demo:
        then = next_command("register", "fixed.nii.gz", "moving.nii.gz", "--out", "registered")
    console.print(then, highlight=False, markup=False, soft_wrap=True)


def draw_demo(out: Path) -> tuple[Path, Path, Path]:
    """Draw two phantoms and the organs of the second, voxels of 2 mm: fixed, moving, moving_labels."""
    from edgeflock.runtime.prepare.phantom import draw_phantom
    from edgeflock.runtime.prepare.volume import nibabel

    nib, paths = nibabel(), [out / f"{name}.nii.gz" for name in ("fixed", "moving", "moving_labels")]
    check_outputs(paths, [out])
    (fixed, _), (moving, labels) = (draw_phantom(seed, DEMO_SIDE) for seed in DEMO)
    for path, voxels in zip(paths, (fixed, moving, labels), strict=True):
        with replacing(path) as draft:
            nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2, 2, 1])), draft)
    return paths[0], paths[1], paths[2]


def draw(path: Path, fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, flow: np.ndarray) -> None:
    """Middle slices along the three axes: checkerboards of fixed with moving and with warped, and the Jacobian.

    All are on the grid of fixed, the flow in its voxels.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    """
    from edgeflock.runtime.prepare.volume import jacobian_determinant
    from edgeflock.runtime.tasks.scans import checkerboards

    boards = [checkerboards(fixed, other) for other in (moving, warped)]
    figure = new_figure(9, 9, "The picture")
    axes = figure.subplots(3, 3, squeeze=False)
    for axis, row in enumerate(axes):
        for plot, board in zip(row, boards, strict=False):
            plot.imshow(board[axis], cmap="gray", vmin=0, vmax=1, origin="lower")
        middle = flow.shape[axis + 1] // 2 - 1
        determinant = jacobian_determinant(flow.take([middle, middle + 1], axis + 1))
        shown = row[2].imshow(determinant.squeeze(axis).T, cmap="RdBu", vmin=0, vmax=2, origin="lower")
    for plot, title in zip(axes[0], ("fixed and moving", "fixed and warped", "Jacobian determinant"), strict=True):
        plot.set_title(title)
    for plot in axes.flat:
        plot.set_axis_off()
    figure.colorbar(shown, ax=list(axes[:, 2]), shrink=0.5, label="1 keeps the volume, 0 folds")
    figure.savefig(path, dpi=100, format="png")
