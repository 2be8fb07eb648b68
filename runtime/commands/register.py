"""`edgeflock register`: warp one NIfTI scan onto another, with the flow, a report and a picture."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.figures import new_figure
from edgeflock.runtime.files import check_outputs, left_over, replacing
from edgeflock.runtime.options import Keys, next_command, refuse_unused

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

    from edgeflock.runtime.bundle.bundle import default_bundle
    from edgeflock.runtime.prepare.volume import check_window, nibabel, warp, within
    from edgeflock.runtime.tasks.registration import Registration

    if window is not None:
        check_window(window)
    console, nib = Console(), nibabel()
    if demo:
        if fixed or moving:
            raise InputError("--demo draws its own scans: leave out the files, or --demo.")
        refuse_unused(context, "with --demo, which has scans of its own", "labels", "window", "resample", "affine")
        fixed, moving, labels = draw_demo(out)
    if fixed is None or moving is None:
        raise InputError("expected two scans, FIXED and MOVING: edgeflock register --demo shows it without any.")
    made = {name: out / name for name in WRITTEN if labels or name != LABELS}
    check_outputs(made.values(), [out], [fixed, moving, labels], whole=[bundle])
    pair = read_pair(fixed, moving, labels, resample or affine)
    volumes = {"fixed": pair.fixed, "moving": pair.moving}
    onto = pair.onto
    if affine:
        from edgeflock.runtime.prepare.affine import align

        assert onto is not None
        with console.status("aligning"):
            onto = align(pair.fixed, pair.moving, onto, np.linalg.norm(pair.images["fixed"].affine[:3, :3], axis=0))
    with console.status("opening the bundle"):
        task = Registration(bundle, precision, threads, engine, key)
    if bundle is None and task.bundle.manifest.training.synthetic:
        console.print("The shipped net was trained on synthetic bodies: see docs/registration.md before real use.")
    with console.status("registering"):
        result = task(pair.fixed, pair.moving, window, (str(fixed), str(moving)), onto)

    affines = {name: image.affine for name, image in pair.images.items()}
    report = _report(task, result, pair, onto)
    report["files"] = {"fixed": str(fixed), "moving": str(moving), "bundle": str(bundle or default_bundle(task.task))}
    if affine:
        assert onto is not None
        report["affine"] = (affines["moving"] @ onto @ np.linalg.inv(affines["fixed"])).tolist()
    if window is not None:
        shares = {name: within(volume, window) for name, volume in volumes.items()}
        report["window"] = {"low": window[0], "high": window[1], "within": shares}
    with console.status("writing"), ExitStack() as all_or_none:
        drafts = {name: all_or_none.enter_context(replacing(path)) for name, path in made.items() if name != PICTURE}
        _save(nib, result.warped, pair.images["moving"], affines["fixed"], drafts[WARPED])
        field = nib.Nifti1Image(in_world(result.flow, affines["fixed"], affines["moving"]), affines["fixed"])
        field.header.set_intent("displacement vector", name="edgeflock flow, mm, RAS")
        nib.save(field, drafts[FLOW])
        if pair.labels is not None:
            outside = None if onto is None else 0
            warped = warp(pair.labels, result.flow, nearest=True, outside=outside)
            _save(nib, warped, pair.images["labels"], affines["fixed"], drafts[LABELS])
        drafts[REPORT].write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    try:
        with replacing(made[PICTURE]) as draft:
            draw(draft, pair.fixed, before(pair, onto), result.warped, deformation(result.flow, onto))
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
    then = next_command("tune", task.bundle.path, keys=key)
    if demo:
        then = next_command("register", "fixed.nii.gz", "moving.nii.gz", "--out", "registered")
    console.print(then, highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Pair:
    """Two scans as they were read, and the segmentation of the second where there is one.

    Attributes
    ----------
    images : dict
        The NIfTI images fixed, moving and labels.
    fixed, moving : ndarray
    labels : ndarray or None
    onto : ndarray or None
        (4, 4), voxel of fixed to voxel of moving; None where they lie on one grid.
    """

    images: dict[str, Any]
    fixed: np.ndarray
    moving: np.ndarray
    labels: np.ndarray | None
    onto: np.ndarray | None


def read_pair(fixed: Path, moving: Path, labels: Path | None, grids: bool) -> Pair:
    """Read two scans, which may lie on two grids if `grids`.

    Raises
    ------
    InputError
        What is wrong with a file, or they lie on two grids.
    """
    from edgeflock.runtime.prepare.volume import check_placed, check_same_space, nifti_data, read_nifti

    images = {"fixed": read_nifti(fixed), "moving": read_nifti(moving)}
    onto = None
    if grids:
        for name, path in (("fixed", fixed), ("moving", moving)):
            check_placed(images[name], str(path))
        onto = np.linalg.inv(images["moving"].affine) @ images["fixed"].affine
    else:
        check_same_space(images["fixed"], images["moving"], (str(fixed), str(moving)))
    segmentation = None
    if labels is not None:
        images["labels"] = read_nifti(labels)
        way_out = "A segmentation must lie on the grid of its scan, moving."
        check_same_space(images["moving"], images["labels"], (str(moving), str(labels)), way_out)
        segmentation = nifti_data(images["labels"], str(labels))
    voxels = [nifti_data(images[name], str(path)) for name, path in (("fixed", fixed), ("moving", moving))]
    return Pair(images, voxels[0], voxels[1], segmentation, onto)


def in_world(flow: np.ndarray, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Displacements (D, H, W, 1, 3) in mm of a flow (3, D, H, W) in voxels; the affines (4, 4) of both scans."""
    world = np.tensordot(moving[:3, :3].astype(np.float32), flow, 1)
    if not np.allclose(fixed, moving, rtol=0, atol=1e-6):  # then the same voxel is another place in each
        ramps = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in flow.shape[1:]), indexing="ij", sparse=True)
        difference = (moving - fixed).astype(np.float32)
        for axis in range(3):
            world[axis] += difference[axis, 3] + sum(difference[axis, k] * ramps[k] for k in range(3))
    return np.moveaxis(world, 0, -1)[:, :, :, None]


def before(pair: Pair, onto: np.ndarray | None) -> np.ndarray:
    """Moving on the grid of fixed, before it is warped."""
    from edgeflock.runtime.prepare.volume import placed, warp

    if onto is None:
        return pair.moving
    still = np.zeros((3, *pair.fixed.shape), np.float32)
    return warp(pair.moving, placed(onto, still), outside=float(pair.moving.min()))


def deformation(flow: np.ndarray, onto: np.ndarray | None) -> np.ndarray:
    """What of a flow is the net's own and not the way from grid to grid, in voxels of fixed."""
    from edgeflock.runtime.prepare.volume import placed

    if onto is None:
        return flow
    linear = np.linalg.inv(onto[:3, :3]).astype(np.float32)
    return np.tensordot(linear, flow - placed(onto, np.zeros_like(flow)), 1)


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


def _save(nib: Any, data: np.ndarray, like: Any, affine: np.ndarray, path: Path) -> None:
    """With the header of `like`; whole numbers stay whole where they were stored so without a slope."""
    from edgeflock.runtime.prepare.volume import holds_whole_numbers

    stored = like.get_data_dtype() if holds_whole_numbers(like) else np.dtype(np.float32)
    if stored.kind in "ui" and data.dtype.kind == "f":
        limits = np.iinfo(stored)
        data = np.clip(np.rint(data), limits.min, limits.max)
    image = nib.Nifti1Image(data.astype(stored), affine, like.header, dtype=stored)
    nib.save(image, path)


def _report(task: Any, result: RegistrationResult, pair: Pair, onto: np.ndarray | None) -> dict[str, Any]:
    was, now = (_correlation(pair.fixed, other) for other in (before(pair, onto), result.warped))
    length = np.sqrt((deformation(result.flow, onto) ** 2).sum(0))
    return {
        "bundle": task.bundle.manifest.name,
        "precision": task.precision,
        "engine": task.engine.name,
        "shape": list(result.warped.shape),
        "correlation": {"before": was, "after": now},
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


def draw(path: Path, fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, flow: np.ndarray) -> None:
    """Middle slices along the three axes: checkerboards of fixed with moving and with warped, and the Jacobian.

    All are on the grid of fixed, the flow in its voxels.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    """
    from edgeflock.runtime.prepare.volume import jacobian_determinant, normalise

    grey = [normalise(v) if np.ptp(v) else np.zeros(v.shape, np.float32) for v in (fixed, moving, warped)]
    figure = new_figure(9, 9, "The picture")
    axes = figure.subplots(3, 3, squeeze=False)
    for axis, row in enumerate(axes):
        still, before, after = (np.take(volume, volume.shape[axis] // 2, axis).T for volume in grey)
        rows, columns = (np.arange(n) * SQUARE // n for n in still.shape)
        board = (rows[:, None] + columns) % 2 == 0
        for plot, other in zip(row, (before, after), strict=False):
            plot.imshow(np.where(board, still, other), cmap="gray", vmin=0, vmax=1, origin="lower")
        middle = flow.shape[axis + 1] // 2 - 1
        determinant = jacobian_determinant(flow.take([middle, middle + 1], axis + 1))
        shown = row[2].imshow(determinant.squeeze(axis).T, cmap="RdBu", vmin=0, vmax=2, origin="lower")
    for plot, title in zip(axes[0], ("fixed and moving", "fixed and warped", "Jacobian determinant"), strict=True):
        plot.set_title(title)
    for plot in axes.flat:
        plot.set_axis_off()
    figure.colorbar(shown, ax=list(axes[:, 2]), shrink=0.5, label="1 keeps the volume, 0 folds")
    figure.savefig(path, dpi=100, format="png")
