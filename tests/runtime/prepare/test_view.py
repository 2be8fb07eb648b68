"""The canonical view: whatever camera looks at a floor, wherever it is worn, the net sees the trained camera's picture.

The pictures are rendered from a pattern on the floor by ray casting, independently of the code under test.
"""

import hashlib
import math
import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgeflock.runtime.bundle.manifest import TrainedCamera
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount
from edgeflock.runtime.prepare.frame import FramePreprocess

TRAINED = TrainedCamera(height=0.40, pitch=math.radians(8.5), fovy=math.radians(86))
OWN = Mount(height=TRAINED.height, pitch=TRAINED.pitch)
LENS = Intrinsics.of_lens(640, 480, TRAINED.fovy)
FISHEYE = Intrinsics(640, 480, 300.0, 300.0, 322.0, 236.0, "equidistant", (-0.02, 0.004, -0.002, 0.0003))
BROWN = Intrinsics(640, 480, 330.0, 332.0, 315.0, 245.0, "plumb_bob", (-0.25, 0.06, 0.001, -0.0005, -0.006))
RATIONAL = replace(BROWN, model="rational_polynomial", coeffs=(0.4, 0.02, 0.0, 0.0, 0.001, 0.6, 0.1, 0.002))

GOLDEN = "1bbdf6b203aada98a6b878109554532fc625d2b69f6909ba5addda1d0e5364c0"


def floor(camera, mount):
    """What a camera sees of smooth stripes on an endless floor: uint8 (H, W)."""
    v, u = np.mgrid[0 : camera.height, 0 : camera.width].astype(np.float64)
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    undistort = cv2.fisheye.undistortPoints if camera.model == "equidistant" else cv2.undistortPoints
    flat = undistort(np.stack([u, v], -1).reshape(-1, 1, 2), matrix, np.array(camera.coeffs)).reshape(-1, 2)
    ray = mount.axes @ np.vstack([flat.T, np.ones(len(flat))])
    far = mount.height / np.maximum(-ray[2], 1e-3)
    x, y = np.minimum(ray[0] * far, 20), ray[1] * far
    grey = 128 + 50 * np.sin(3 * y) * np.exp(-(x / 4)) + 40 * np.sin(2 * x) * np.exp(-(x / 3))
    grey[ray[2] > -0.02] = 128
    return np.rint(grey).reshape(camera.height, camera.width).astype(np.uint8)


def seen(camera, mount, image=None):
    pre = FramePreprocess()
    view = pre.look_through(TRAINED, camera, mount)
    return pre(floor(camera, mount) if image is None else image, "mono8")[0, 0].copy(), view


WANTED = FramePreprocess()(floor(LENS, OWN), "mono8")[0, 0].copy()


def test_the_trained_camera_itself_gives_the_bytes_that_it_always_gave():
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    pre = FramePreprocess()
    plain = pre(noise).copy()
    view = pre.look_through(TRAINED, LENS, OWN)
    assert view.coverage == 1 and np.array_equal(pre(noise), plain)
    pre.view = None
    assert np.array_equal(pre(noise), plain)


@pytest.mark.parametrize(
    ("camera", "mount"),
    [
        (LENS, Mount(height=0.25, pitch=0.15)),
        (LENS, Mount(height=0.60, pitch=0.15)),
        (LENS, Mount(height=0.40, pitch=0.35)),
        (LENS, Mount(height=0.40, pitch=0.15, yaw=0.1, roll=-0.08)),
        (Intrinsics.of_lens(640, 480, math.radians(65)), Mount(height=0.25, pitch=math.radians(20))),
        (Intrinsics.of_lens(1280, 720, math.radians(70)), Mount(height=0.30, pitch=0.2)),
        (FISHEYE, Mount(height=0.30, pitch=0.1)),
        (BROWN, Mount(height=0.30, pitch=0.3, yaw=-0.05)),
        (RATIONAL, Mount(height=0.50, pitch=0.2)),
    ],
)
def test_the_floor_looks_as_the_trained_camera_sees_it(camera, mount):
    got, view = seen(camera, mount)
    unwarped = FramePreprocess()(floor(camera, mount), "mono8")[0, 0]
    assert view.coverage > 0.75
    near = np.s_[60:, 30:-30]  # under the horizon, inside every lens above
    off, unwarped_off = (np.abs(picture - WANTED)[near].mean() for picture in (got, unwarped))
    assert off < 2 and off < 0.2 * unwarped_off


def test_what_the_camera_does_not_see_repeats_its_edge_and_is_counted():
    narrow = Intrinsics.of_lens(640, 480, math.radians(42))
    got, view = seen(narrow, OWN, np.tile(np.linspace(10, 200, 640).astype(np.uint8), (480, 1)))
    assert 0.2 < view.coverage < 0.5
    assert (got[100, :20] == 10).all() and (got[100, -20:] == 200).all()


def test_a_lens_model_that_turns_back_far_outside_does_not_bring_the_picture_back():
    # r (1 - 0.3 r^2) turns back at r = 1.05, 47 degrees from the axis; the trained camera looks further out.
    barrel = replace(LENS, fx=500.0, fy=500.0, coeffs=(-0.3, 0.0, 0.0, 0.0, 0.0))
    ramp = np.tile(np.linspace(0, 255, 640).astype(np.uint8), (480, 1))
    got, _ = seen(barrel, OWN, ramp)
    assert (np.diff(got[100]) >= 0).all()


def test_bytes_are_the_recorded_ones_on_every_board():
    # A change of this digest means that a net sees another picture than the one that its gate judged.
    y, x = np.mgrid[0:480, 0:640]
    image = ((x * 7 + y * 3) ^ (x * x // 5 + y)).astype(np.uint8)
    got, _ = seen(FISHEYE, Mount(height=0.25, pitch=0.3, yaw=0.05, roll=0.02), image)
    assert hashlib.sha256(got.astype(np.uint8)).hexdigest() == GOLDEN


def test_nothing_is_allocated_per_frame():
    image, pre = np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8), FramePreprocess()
    pre.look_through(TRAINED, FISHEYE, Mount(height=0.25, pitch=0.3))
    first = pre(image)
    tracemalloc.start()
    try:
        for _ in range(3):
            assert pre(image) is first
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4096


@pytest.mark.parametrize(
    ("camera", "mount", "says"),
    [
        (Intrinsics.uncalibrated(640, 480), OWN, "fx > 0.*edgeflock calibrate camera"),
        (replace(LENS, model="ftheta"), OWN, "plumb_bob, rational_polynomial, equidistant.*'ftheta'"),
        (LENS, Mount(height=0.0, pitch=0.1), "height of 0 m.*edgeflock calibrate mount"),
    ],
)
def test_what_gives_no_view_is_refused_and_the_frames_stay_as_they_are(camera, mount, says):
    pre = FramePreprocess()
    with pytest.raises(InputError, match=says):
        pre.look_through(TRAINED, camera, mount)
    assert pre.view is None


def test_frames_of_another_size_than_the_cameras_are_refused():
    pre = FramePreprocess()
    pre.look_through(TRAINED, LENS, OWN)
    with pytest.raises(InputError, match="640x480, got 320x240: image and camera_info"):
        pre(np.zeros((240, 320, 3), np.uint8))
