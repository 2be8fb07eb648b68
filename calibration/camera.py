"""Intrinsics of a camera from views of a checkerboard or ChArUco board (Zhang 2000, through OpenCV).

A small reprojection error alone proves little: a board that was never tilted, or that stayed in the middle, fits well
and gives a wrong lens. So tilt and coverage are judged as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.figures import new_figure
from edgeflock.runtime.files import replacing, write_atomically
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

_SAME_VIEW = 0.02  # of the image's diagonal, mean distance of the corners: a video shows one pose many times
_OUTLIER = 3.0  # times the median error of a view
_REGIONS = [f"{row} {column}".strip() for row in ("top", "", "bottom") for column in ("left", "", "right")]
_REGIONS[4] = "centre"


@dataclass(frozen=True)
class Board:
    """A printed checkerboard, or a ChArUco board where `marker_m` is given (its views may be partial).

    Attributes
    ----------
    columns, rows : int
        Inner corners, where four squares meet: a board of 10x7 squares has 9x6.
    square_m : float
        Side of a square in metres.
    marker_m : float, optional
        Side of a ChArUco marker in metres.
    dictionary : str
        Of the markers, by OpenCV's name.
    legacy : bool
        The ChArUco was printed by OpenCV before 4.6, or by calib.io: with an even number of rows of squares it begins
        with a white square and not with a black one.
    """

    columns: int
    rows: int
    square_m: float
    marker_m: float | None = None
    dictionary: str = "DICT_5X5_100"
    legacy: bool = False

    def __post_init__(self) -> None:
        """Check what a ruler or a typing error gets wrong."""
        if min(self.columns, self.rows) < 3 or not 0 < self.square_m < 10:
            raise InputError(
                f"expected a board of at least 3x3 inner corners and a square of (0, 10) m, got {self.columns}x"
                f"{self.rows} and {self.square_m} m."
            )
        if self.marker_m is not None:
            if not 0 < self.marker_m < self.square_m:
                raise InputError(
                    f"expected a marker smaller than its square, got {self.marker_m} in {self.square_m} m."
                )
            if not isinstance(getattr(cv2.aruco, self.dictionary, None), int):
                raise InputError(f"expected a dictionary of cv2.aruco such as DICT_5X5_100, got {self.dictionary!r}.")

    @property
    def points(self) -> np.ndarray:
        """float32 (rows * columns, 3) m: the corners, row by row, in the board's plane."""
        grid = np.mgrid[0 : self.columns, 0 : self.rows].T.reshape(-1, 2) * self.square_m
        return np.column_stack([grid, np.zeros(len(grid))]).astype(np.float32)

    def find(self, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Indices into `points` (n,) and pixels (n, 2) of the corners in a uint8 (H, W) image; None without a board."""
        if not isinstance(grey, np.ndarray) or grey.dtype != np.uint8 or grey.ndim != 2 or min(grey.shape) < 32:
            got = f"{grey.dtype} {grey.shape}" if isinstance(grey, np.ndarray) else type(grey).__name__
            raise InputError(f"expected a grey image uint8 (H, W) of at least 32 pixels a side, got {got}.")
        if self.marker_m is not None:
            corners, ids, _, _ = self._charuco(self.marker_m).detectBoard(grey)
            if ids is None or len(ids) < max(self.columns, self.rows) + 1:  # more than one line of corners
                return None
            return ids.ravel(), corners.reshape(-1, 2)
        flags = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_ACCURACY
        found, corners = cv2.findChessboardCornersSB(grey, (self.columns, self.rows), flags=flags)
        if not found:
            return None
        # Its own subpixel steps leave a bias: 18 rendered pictures of 480x360 gave a focal length 0.7 % long, with the
        # gradients of a third of a square around each corner 0.1 %.
        grid = corners.reshape(self.rows, self.columns, 2)
        spacing = min(float(np.linalg.norm(np.diff(grid, axis=axis), axis=2).min()) for axis in (0, 1))
        window = int(np.clip(0.35 * spacing, 2, 11))
        until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-3)
        corners = cv2.cornerSubPix(grey, corners, (window, window), (-1, -1), until)
        return np.arange(self.columns * self.rows), corners.reshape(-1, 2)

    def _charuco(self, marker_m: float) -> cv2.aruco.CharucoDetector:
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))
        size = self.columns + 1, self.rows + 1
        board = cv2.aruco.CharucoBoard(size, self.square_m, marker_m, dictionary)
        board.setLegacyPattern(self.legacy)
        return cv2.aruco.CharucoDetector(board)


@dataclass(frozen=True)
class View:
    """The corners of one image: its name, indices into `Board.points` (n,), pixels (n, 2)."""

    name: str
    ids: np.ndarray
    corners: np.ndarray


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
    views : list of View
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
    views: list[View]
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


def distinct(views: Iterable[View], size: tuple[int, int]) -> tuple[list[View], dict[str, str]]:
    """Views that show the board elsewhere than those before them, and which one each of the others repeats."""
    kept: list[View] = []
    repeated: dict[str, str] = {}
    for view in views:
        twin = next((other for other in kept if _distance(view, other) < _SAME_VIEW * math.hypot(*size)), None)
        if twin is None:
            kept.append(view)
        else:
            repeated[view.name] = f"shows the board as {twin.name} does"
    return kept, repeated


def calibrate(
    views: Sequence[View], size: tuple[int, int], board: Board, model: Model = "plumb_bob"
) -> CameraCalibration:
    """Fit a lens to views of a board. Views whose error stands out are dropped, which the result says.

    Parameters
    ----------
    views : sequence of View
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


def _fit(views: list[View], size: tuple[int, int], board: Board, model: Model) -> tuple:
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


def _distance(a: View, b: View) -> float:
    """Mean distance of the corners that both views have, px."""
    _, in_a, in_b = np.intersect1d(a.ids, b.ids, return_indices=True)
    if not in_a.size:
        return math.inf
    return float(np.linalg.norm(a.corners[in_a] - b.corners[in_b], axis=1).mean())


def _mask(views: Iterable[View], size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W): 1 inside the hull of a view."""
    mask = np.zeros(size[::-1], np.uint8)
    for view in views:
        cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(view.corners).astype(np.int32)), 1)
    return mask


def uncovered(views: Iterable[View], camera: Intrinsics) -> list[str]:
    """Ninths of the image of which less than half was covered, such as "top left"."""
    mask = _mask(views, (camera.width, camera.height))
    ninths = [part for rows in np.array_split(mask, 3, 0) for part in np.array_split(rows, 3, 1)]
    return [name for name, part in zip(_REGIONS, ninths, strict=True) if part.mean() < 0.5]


def camera_info_yaml(camera: Intrinsics, name: str = "camera") -> str:
    """YAML as ROS's camera_calibration_parsers and camera_info_manager read it; JSON lists are YAML."""
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    size = camera.width, camera.height
    rectified, _ = cv2.getOptimalNewCameraMatrix(matrix, np.array(camera.coeffs), size, 0)  # as cameracalibrator.py
    projection = np.column_stack([rectified, np.zeros(3)])
    text = f"image_width: {camera.width}\nimage_height: {camera.height}\ncamera_name: {json.dumps(name)}\n"
    for field, array in (
        ("camera_matrix", matrix),
        ("distortion_coefficients", np.array([camera.coeffs])),
        ("rectification_matrix", np.eye(3)),
        ("projection_matrix", projection),
    ):
        if field.startswith("distortion"):
            text += f"distortion_model: {camera.model}\n"
        rows, columns = array.shape
        text += f"{field}:\n  rows: {rows}\n  cols: {columns}\n  data: {json.dumps(array.ravel().tolist())}\n"
    return text


def check_file_name(path: Path) -> None:
    """InputError for a name that `write_camera` would refuse, before the work."""
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise InputError(f"expected a file name ending in .yaml or .json, got {path}.")


def write_camera(path: Path, camera: Intrinsics, name: str = "camera") -> None:
    """Write intrinsics as ROS's camera_info YAML, or as JSON where the name ends in .json."""
    check_file_name(path)
    as_json = path.suffix == ".json"
    write_atomically(path, json.dumps(asdict(camera), indent=2) + "\n" if as_json else camera_info_yaml(camera, name))


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
