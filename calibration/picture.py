"""The picture of a camera's calibration."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgeflock.calibration.lens import CameraCalibration
from edgeflock.runtime.figures import new_figure
from edgeflock.runtime.files import replacing


def draw(path: Path, result: CameraCalibration) -> None:
    """Draw where the board was seen, how far the corners are from where the lens puts them, and the error per view.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    """
    figure = new_figure(14, 4.5, "The picture of the calibration")
    seen, residual, per_view = figure.subplots(1, 3)
    camera = result.intrinsics
    for view, error in zip(result.views, result.errors, strict=True):
        seen.plot(*view.corners.T, ".", markersize=2, color="tab:red" if error > 2 * result.rms else "tab:blue")
        hull = cv2.convexHull(view.corners.astype(np.float32))[:, 0]
        seen.fill(*hull.T, color="tab:blue", alpha=0.04)
    seen.set(xlim=(0, camera.width), ylim=(camera.height, 0), xlabel="px", ylabel="px", aspect="equal")
    seen.set_title(f"the board was seen in {result.coverage:.0%} of the image")
    residual.scatter(*np.concatenate(result.residuals).T, s=2)
    residual.axhline(0, color="0.7", linewidth=1)
    residual.axvline(0, color="0.7", linewidth=1)
    residual.set(xlabel="px", ylabel="px", aspect="equal", title=f"seen minus projected, RMS {result.rms:.3f} px")
    per_view.bar(range(len(result.errors)), result.errors)
    per_view.set(xlabel="view", ylabel="RMS, px", title=f"{len(result.views)} views, {len(result.dropped)} dropped")
    with replacing(path) as draft:
        figure.savefig(draft, dpi=120, format="png")
