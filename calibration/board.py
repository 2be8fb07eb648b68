"""A checkerboard or ChArUco board, and the corners of it that an image shows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from edgeflock.runtime.errors import InputError

_SAME_VIEW = 0.02  # of the image's diagonal, mean distance of the corners: a video shows one pose many times


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
class BoardView:
    """The corners of one image: its name, indices into `Board.points` (n,), pixels (n, 2)."""

    name: str
    ids: np.ndarray
    corners: np.ndarray


def distinct(views: Iterable[BoardView], size: tuple[int, int]) -> tuple[list[BoardView], dict[str, str]]:
    """Views that show the board elsewhere than those before them, and which one each of the others repeats."""
    kept: list[BoardView] = []
    repeated: dict[str, str] = {}
    for view in views:
        twin = next((other for other in kept if _distance(view, other) < _SAME_VIEW * math.hypot(*size)), None)
        if twin is None:
            kept.append(view)
        else:
            repeated[view.name] = f"shows the board as {twin.name} does"
    return kept, repeated


def _distance(a: BoardView, b: BoardView) -> float:
    """Mean distance of the corners that both views have, px."""
    _, in_a, in_b = np.intersect1d(a.ids, b.ids, return_indices=True)
    if not in_a.size:
        return math.inf
    return float(np.linalg.norm(a.corners[in_a] - b.corners[in_b], axis=1).mean())
