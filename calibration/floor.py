"""Where a camera is above the floor it sees: from a board that lies there, or from the floor in its depth images.

Both find one plane in the camera's optical frame: its distance is the camera's height, and its normal, which points up,
says how the camera is turned. Turning about the vertical (yaw) leaves no trace in a floor, so it stays unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from edgeflock.calibration.board import Board, BoardView
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount
from edgeflock.runtime.prepare.view import FISHEYE

MAX_SPREAD_M, MAX_SPREAD = 0.01, math.radians(1.0)
"""Standard deviation of height and angles over the images above which they are of different mounts, or of no floor."""
MIN_FLOOR = 0.15
"""Share of a depth image that has to lie in the floor's plane."""

_NEAR = 0.01  # m: within it a point lies in a plane ...
_NEAR_SLOPE = 0.01  # ... plus this per metre: a stereo camera's error grows with the distance
_TRIES = 300
_STEEPEST = math.radians(60)  # of the camera against the level: a wall's normal is level, a ceiling's points down
_POINTS = 6000  # of a depth image that are looked at


@dataclass(frozen=True)
class Floor:
    """One image's answer.

    Attributes
    ----------
    height, pitch, roll : float
        As `Mount` has them.
    share : float
        Of the points that fit, board corners within 2 px or depth within about a centimetre.
    """

    height: float
    pitch: float
    roll: float
    share: float


@dataclass(frozen=True)
class FoundMount:
    """What the images say together.

    Attributes
    ----------
    mount : Mount
        Medians; yaw 0.
    spread : tuple of three floats
        Standard deviation of height (m), pitch and roll (rad) over the images.
    images : int
        In which the floor was found.
    share : float
        Median of the points that fit.
    """

    mount: Mount
    spread: tuple[float, ...]
    images: int
    share: float

    def problems(self) -> list[str]:
        """Why it should not be used, with the way out; empty where it may."""
        height, pitch, roll = self.spread
        found = []
        if height > MAX_SPREAD_M or max(pitch, roll) > MAX_SPREAD:
            found.append(
                f"expected images that agree within {100 * MAX_SPREAD_M:g} cm and {math.degrees(MAX_SPREAD):g} degree, "
                f"they differ by {100 * height:.1f} cm, {math.degrees(pitch):.1f} and {math.degrees(roll):.1f} degrees "
                "(standard deviations): let the robot stand still on a level floor, and only floor or board before it"
            )
        return found


def floor_from_board(board: Board, view: BoardView, camera: Intrinsics) -> Floor:
    """From one view of a board that lies flat on the floor.

    Raises
    ------
    InputError
        The camera is not calibrated, or the corners make no plane under the camera.
    """
    _check(camera)
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    points, pixels = board.points[view.ids].astype(np.float64), view.corners.astype(np.float64)
    undistort = cv2.fisheye.undistortPoints if camera.model in FISHEYE else cv2.undistortPoints
    flat = undistort(pixels[:, None], matrix, np.array(camera.coeffs))[:, 0]
    solved, rotation, translation = cv2.solvePnP(points, flat, np.eye(3), None, flags=cv2.SOLVEPNP_IPPE)
    if solved:
        solved, rotation, translation = cv2.solvePnP(
            points, flat, np.eye(3), None, rotation, translation, useExtrinsicGuess=True
        )
    if not solved:
        raise InputError(f"{view.name}: the corners fit no board in space.")
    back = cv2.projectPoints(points, rotation, translation, np.eye(3), None)[0][:, 0]
    near = np.linalg.norm((back - flat) * (camera.fx, camera.fy), axis=1) < 2
    normal = cv2.Rodrigues(rotation)[0][:, 2]
    return _floor(normal, float(normal @ translation[:, 0]), float(near.mean()), view.name)


def floor_from_depth(depth: np.ndarray, camera: Intrinsics, seed: int = 0) -> Floor | None:
    """From the largest plane under the camera in a depth image (RANSAC, Fischler and Bolles 1981); None without one.

    Parameters
    ----------
    depth : ndarray
        uint16 (h, w), mm along the optical axis, 0 where nothing was measured.
    camera : Intrinsics
        Of the depth image.
    seed : int
        Of the draws: the same image gives the same answer.

    Raises
    ------
    InputError
        The camera is not calibrated, or the image is not of its size.
    """
    _check(camera)
    if depth.dtype != np.uint16 or depth.shape != (camera.height, camera.width):
        raise InputError(
            f"expected depth as uint16 ({camera.height}, {camera.width}), got {depth.dtype} {depth.shape}: image and "
            "camera_info must be of one stream."
        )
    step = max(1, round(math.sqrt(depth.size / _POINTS)))
    v, u = np.mgrid[0 : camera.height : step, 0 : camera.width : step]
    z = depth[::step, ::step].astype(np.float64) / 1000
    points = np.stack([(u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z, z], axis=-1)[z > 0]
    if len(points) < 100:
        return None
    rng = np.random.default_rng(seed)
    best = np.zeros(len(points), bool)
    for a, b, c in points[rng.integers(0, len(points), (_TRIES, 3))]:
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal)
        if length > 1e-6:
            inside = _inside(points, normal / length, normal @ a / length)
            if inside is not None and inside.sum() > best.sum():
                best = inside
    for share in (0.7, 0.5, 0.5):  # least squares, each time over what fits closer: the foot of a wall does not
        if best.sum() < MIN_FLOOR * z.size:
            return None
        centre = points[best].mean(0)
        normal = np.linalg.svd(points[best] - centre, full_matrices=False)[2][2]
        refined = _inside(points, normal, normal @ centre, share)
        if refined is None:
            return None
        best = refined
    return _floor(normal, float(normal @ centre), float(best.sum() / z.size), "depth")


def _inside(points: np.ndarray, normal: np.ndarray, distance: float, share: float = 1.0) -> np.ndarray | None:
    """Which points lie in a plane n x = d; None where it cannot be a floor: not below, or too steep."""
    up = normal * -np.sign(distance)
    if abs(distance) < 0.02 or up @ (0, -1, 0) < math.cos(_STEEPEST):
        return None
    return np.abs(points @ normal - distance) < share * (_NEAR + _NEAR_SLOPE * points[:, 2])


def _floor(normal: np.ndarray, distance: float, share: float, name: str) -> Floor:
    """Angles of a camera from a plane n x = d in its optical frame (right, down, ahead)."""
    right, down, ahead = -normal * np.sign(distance)  # what points up
    if down > -math.cos(_STEEPEST):
        raise InputError(
            f"{name}: expected a floor under the camera, got a plane that stands upright: lay the board down."
        )
    # Up in the optical frame is (-cos p sin r, -cos p cos r, -sin p), the third row of Mount.axes.
    return Floor(abs(distance), math.asin(min(1.0, max(-1.0, -ahead))), math.atan2(-right, -down), share)


def _check(camera: Intrinsics) -> None:
    if not (camera.fx > 0 and camera.fy > 0):
        raise InputError(
            "expected a calibrated camera (fx > 0), got fx = 0: `edgeflock calibrate camera` first (--camera)."
        )


def together(floors: list[Floor]) -> FoundMount:
    """Medians over the images.

    Raises
    ------
    InputError
        There is none.
    """
    if not floors:
        raise InputError(
            "expected a floor in the images, found none: let the camera see an empty level floor in front of it, at "
            f"least {MIN_FLOOR:.0%} of its depth image, or lay a board on it and give --board."
        )
    each = np.array([(f.height, f.pitch, f.roll, f.share) for f in floors])
    height, pitch, roll, share = np.median(each, axis=0).tolist()
    spread = tuple(each[:, :3].std(axis=0).tolist())
    return FoundMount(Mount(height=height, pitch=pitch, roll=roll), spread, len(floors), share)
