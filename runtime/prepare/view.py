"""The canonical view: a frame of any camera at any mount, as the camera that the net was trained with would see it.

A pixel of the trained camera looks along a ray. Where that ray meets the floor, the robot's camera, at another height,
looks along another one: its part along the vertical grows with the ratio of the heights. That is the homography which
the ground plane induces between two cameras above one point (Hartley and Zisserman, Multiple View Geometry, 13.1),
carried on above the horizon. It is exact for floor and lane lines and stretches what stands up. The lens, distortion
included, is taken out on the way.

All of it is one table of fixed-point coordinates, made once in float64, into the net's own 200x200 pixels. Per frame
there are integer operations only, so ARM and x86 give the same bytes (docs/decisions/0007-exact-preparation.md).
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from edgeflock.runtime.bundle.manifest import TrainedCamera
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount

PINHOLE, FISHEYE = ("plumb_bob", "rational_polynomial", ""), ("equidistant", "fisheye")
"""Distortion models of sensor_msgs/CameraInfo; a driver that knows of none leaves the name empty."""

_STEP = cv2.INTER_TAB_SIZE  # of cv2.remap's fixed-point tables: a pixel has 32 steps
_WIDEST = math.radians(89)  # from the axis: projectPoints divides by the depth


class CanonicalView:
    """Table from the pixels of the net's input to those of one camera at one mount.

    Parameters
    ----------
    trained : TrainedCamera
        Of the bundle's manifest.
    camera : Intrinsics
        Of the frames that will come.
    mount : Mount
    window : (int, int, int, int)
        Left, top, width and height of what is wanted, px of the trained camera's picture.
    size : (int, int)
        Width and height of that picture.

    Attributes
    ----------
    seen : (slice, slice)
        Rows and columns of a frame that are looked at.
    coverage : float
        Share of the wanted pixels that lie in the frame; the others repeat its edge.

    Raises
    ------
    InputError
        The camera is not calibrated, its distortion model is not known, or the mount has no height.
    """

    def __init__(
        self,
        trained: TrainedCamera,
        camera: Intrinsics,
        mount: Mount,
        window: tuple[int, int, int, int],
        size: tuple[int, int],
    ) -> None:
        if not (camera.fx > 0 and camera.fy > 0):
            raise InputError(
                "expected a calibrated camera (fx > 0) for the canonical view, got fx = 0: calibrate it with "
                "`edgeflock calibrate camera`."
            )
        if not mount.height > 0:
            raise InputError("expected a camera above the ground, got a height of 0 m: `edgeflock calibrate mount`.")
        self.camera = camera
        pixels = _project(_rays(trained, mount, window, size), camera)
        last = np.array([camera.width - 1, camera.height - 1])
        inside = np.clip(pixels, 0, last)
        # Half a pixel: the outermost pixels reach that far beyond their centres.
        self.coverage = float(np.mean(np.all(np.abs(pixels - inside) <= 0.5, axis=-1)))
        fixed = np.rint(inside * _STEP).astype(np.int32)
        whole, part = fixed // _STEP, fixed % _STEP
        (left, top), (right, bottom) = whole.min((0, 1)), np.minimum(whole.max((0, 1)) + 1, last)
        self.seen = slice(top, bottom + 1), slice(left, right + 1)
        self._whole = (whole - (left, top)).astype(np.int16)
        self._part = (part[..., 1] * _STEP + part[..., 0]).astype(np.uint16)

    def __call__(self, grey: np.ndarray, out: np.ndarray) -> None:
        """Bring `grey[seen]` of a frame (uint8) into the view: `out`, uint8 (height, width) of the window."""
        cv2.remap(grey, self._whole, self._part, cv2.INTER_LINEAR, dst=out, borderMode=cv2.BORDER_REPLICATE)


def _rays(trained: TrainedCamera, mount: Mount, window: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """Where to look with the robot's camera: (height, width, 3), right, down, ahead of its optical frame."""
    left, top, width, height = window
    lens = Intrinsics.of_lens(*size, trained.fovy)
    v, u = np.mgrid[top : top + height, left : left + width].astype(np.float64)
    rays = np.stack([(u - lens.cx) / lens.fx, (v - lens.cy) / lens.fy, np.ones_like(u)], axis=-1)
    level = rays @ Mount(height=trained.height, pitch=trained.pitch).axes.T  # ahead, left, up
    level[..., 2] *= mount.height / trained.height
    return level @ mount.axes


def _project(rays: np.ndarray, camera: Intrinsics) -> np.ndarray:
    """Pixels (..., 2) of rays (..., 3); those beyond what the lens model describes land at its limit."""
    fisheye = camera.model in FISHEYE
    if not fisheye and camera.model not in PINHOLE:
        raise InputError(
            f"expected a distortion model of {', '.join(filter(None, PINHOLE + FISHEYE))}, got {camera.model!r}."
        )
    coeffs = np.zeros(4 if fisheye else 8)  # a plumb_bob is a rational polynomial over 1
    given = camera.coeffs[: len(coeffs)]
    coeffs[: len(given)] = given
    sideways = np.linalg.norm(rays[..., :2], axis=-1)
    angle = np.minimum(np.arctan2(sideways, rays[..., 2]), _limit(coeffs, fisheye))
    reach = np.tan(angle) / np.maximum(sideways, 1e-12)
    points = np.concatenate([rays[..., :2] * reach[..., None], np.ones((*reach.shape, 1))], axis=-1).reshape(-1, 1, 3)
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    project = cv2.fisheye.projectPoints if fisheye else cv2.projectPoints
    return project(points, np.zeros(3), np.zeros(3), matrix, coeffs)[0].reshape(*reach.shape, 2)


def _limit(coeffs: np.ndarray, fisheye: bool) -> float:
    """Largest angle from the axis, rad, up to which the lens model still goes outwards; polynomials turn back."""
    angle = np.linspace(0, _WIDEST, 2000)
    polynomial = np.polynomial.polynomial.polyval
    if fisheye:
        radius = angle * polynomial(angle**2, [1, *coeffs])
    else:
        r = np.tan(angle)
        radius = r * polynomial(r**2, [1, *coeffs[[0, 1, 4]]]) / polynomial(r**2, [1, *coeffs[5:]])
    back = np.flatnonzero(np.diff(radius) <= 0)
    return float(angle[back[0]]) if back.size else _WIDEST
