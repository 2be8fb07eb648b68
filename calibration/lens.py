"""Intrinsics of a camera from views of a checkerboard or ChArUco board (Zhang 2000, through OpenCV).

A small reprojection error alone proves little: a board that was never tilted, or that stayed in the middle, fits well
and gives a wrong lens. So tilt and coverage are judged as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import cv2
import numpy as np

from edgeflock.calibration.board import Board, BoardView, distinct
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.intrinsics import Intrinsics

Model = Literal["plumb_bob", "rational_polynomial"]
"""Names of sensor_msgs/CameraInfo: 5 coefficients (k1 k2 p1 p2 k3), or 8 for lenses wider than about 90 degrees."""

MIN_VIEWS = 8
MIN_TILT = 15.0
"""Degrees between the two most different board planes. From parallel ones focal length and distance cannot be told
apart: nine rendered views without tilt gave an RMS of 0.08 px and a focal length 26 % off."""
MIN_COVERAGE = 0.4
"""Share of the image in which the inner corners of the board were seen; the distortion beyond is a guess. OpenCV's own
13 photographs (left*.jpg of its samples) reach 0.43, and fx is known to 0.42 px from them."""
MAX_RMS = 0.5
"""px."""

_OUTLIER = 3.0  # times the median error of a view
_REGIONS = [f"{row} {column}".strip() for row in ("top", "", "bottom") for column in ("left", "", "right")]
_REGIONS[4] = "centre"


@dataclass(frozen=True)
class CameraCalibration:
    """What the views say about the lens, and how far that can be trusted.

    Attributes
    ----------
    intrinsics : Intrinsics
    rms : float
        Reprojection error over all corners of the views used, px.
    deviations : tuple of four floats
        Standard deviations of fx, fy, cx, cy as the fit estimates them, px.
    views : list of BoardView
        Those that were used.
    errors : list of float
        RMS of each of them, px.
    residuals : list of ndarray
        (n, 2) px of each of them: seen minus projected.
    dropped : dict
        Why the others were not used, by name.
    coverage : float
        Share of the image inside the hull of the corners of at least one view.
    tilt : float
        Degrees between the two most different board planes.
    """

    intrinsics: Intrinsics
    rms: float
    deviations: tuple[float, ...]
    views: list[BoardView]
    errors: list[float]
    residuals: list[np.ndarray]
    dropped: dict[str, str]
    coverage: float
    tilt: float

    def problems(self, max_rms: float = MAX_RMS, min_coverage: float = MIN_COVERAGE) -> list[str]:
        """Why it should not be used, with the way out; empty where it may."""
        found = []
        if not self.rms <= max_rms:
            worst = max(zip(self.errors, (view.name for view in self.views), strict=True))
            found.append(
                f"expected a reprojection RMS of at most {max_rms:g} px, got {self.rms:.3f} (worst view {worst[1]}, "
                f"{worst[0]:.2f}): glue the board to something flat, hold it still, check its number of corners"
            )
        if not self.tilt >= MIN_TILT:
            found.append(
                f"expected views tilted by at least {MIN_TILT:g} degrees against each other, got {self.tilt:.1f}: tilt "
                "the board to the left, right, front and back"
            )
        if not self.coverage >= min_coverage:
            empty = ", ".join(uncovered(self.views, self.intrinsics)) or "at the borders"
            found.append(
                f"expected the board's inner corners in at least {min_coverage:.0%} of the image (--min-coverage), got "
                f"{self.coverage:.0%}: show it there too: {empty}"
            )
        return found


def calibrate(
    views: Sequence[BoardView], size: tuple[int, int], board: Board, model: Model = "plumb_bob"
) -> CameraCalibration:
    """Fit a lens to views of a board. Views whose error stands out are dropped, which the result says.

    Parameters
    ----------
    views : sequence of BoardView
        At least `MIN_VIEWS` distinct ones.
    size : tuple
        Width and height of the images.
    board : Board
    model : {"plumb_bob", "rational_polynomial"}

    Returns
    -------
    CameraCalibration
        Ask it for its `problems` before using it.

    Raises
    ------
    InputError
        Too few distinct views, or corners that are not finite or not in the image.
    """
    for view in views:
        inside = np.all((view.corners > -1) & (view.corners < np.array(size) + 1))  # NaN is not
        if not inside:
            raise InputError(f"expected corners in an image of {size[0]}x{size[1]}, got others in view {view.name!r}.")
    used, dropped = distinct(views, size)
    if len(used) < MIN_VIEWS:
        raise InputError(
            f"expected at least {MIN_VIEWS} views that differ, got {len(used)} among {len(views)}: move and tilt the "
            "board between the pictures."
        )
    while True:
        fit = _fit(used, size, board, model)
        errors = fit[-1]
        worst = int(errors.argmax())
        if errors[worst] <= _OUTLIER * np.median(errors) or len(used) == MIN_VIEWS:
            break
        dropped[used[worst].name] = (
            f"its error of {errors[worst]:.2f} px stands out"  # one at a time: it bends the rest
        )
        del used[worst]
    rms, matrix, coeffs, rotations, translations, deviations, errors = fit
    points = board.points
    residuals = [
        view.corners - cv2.projectPoints(points[view.ids], r, t, matrix, coeffs)[0][:, 0]
        for view, r, t in zip(used, rotations, translations, strict=True)
    ]
    normals = [cv2.Rodrigues(rotation)[0][:, 2] for rotation in rotations]
    tilt = max(math.degrees(math.acos(min(abs(float(a @ b)), 1.0))) for a, b in combinations(normals, 2))
    fx, fy, cx, cy = (float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    lens = tuple(float(c) for c in coeffs.ravel()[: 5 if model == "plumb_bob" else 8])  # OpenCV pads with zeros
    return CameraCalibration(
        Intrinsics(*size, fx, fy, cx, cy, model, lens),
        float(rms),
        tuple(float(d) for d in deviations.ravel()[:4]),
        used,
        [float(error) for error in errors],
        residuals,
        dropped,
        float(_mask(used, size).mean()),
        tilt,
    )


def _fit(views: list[BoardView], size: tuple[int, int], board: Board, model: Model) -> tuple:
    points = board.points
    flags = cv2.CALIB_RATIONAL_MODEL if model == "rational_polynomial" else 0
    rms, matrix, coeffs, rotations, translations, deviations, _, errors = cv2.calibrateCameraExtended(
        [points[view.ids] for view in views],
        [view.corners.astype(np.float32) for view in views],
        size,
        np.zeros((3, 3)),
        np.zeros(8 if flags else 5),
        flags=flags,
    )
    return rms, matrix, coeffs, rotations, translations, deviations, errors.ravel()


def _mask(views: Iterable[BoardView], size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W): 1 inside the hull of a view."""
    mask = np.zeros(size[::-1], np.uint8)
    for view in views:
        cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(view.corners).astype(np.int32)), 1)
    return mask


def uncovered(views: Iterable[BoardView], camera: Intrinsics) -> list[str]:
    """Ninths of the image of which less than half was covered, such as "top left"."""
    mask = _mask(views, (camera.width, camera.height))
    ninths = [part for rows in np.array_split(mask, 3, 0) for part in np.array_split(rows, 3, 1)]
    return [name for name, part in zip(_REGIONS, ninths, strict=True) if part.mean() < 0.5]
