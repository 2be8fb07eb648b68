"""A floor, in depth or with a board on it, says how high the camera is and where it looks."""

import math

import cv2
import numpy as np
import pytest

from edgeflock.calibration.board import Board, BoardView
from edgeflock.calibration.floor import floor_from_board, floor_from_depth, together
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount

LENS = Intrinsics.of_lens(320, 240, math.radians(58))
MOUNT = Mount(height=0.25, pitch=0.35, yaw=0.0, roll=-0.04)


def depth(mount, wall_m=1.5, noise_m=0.003, holes=0.2, floor=True, seed=0):
    """Depth of a floor that ends at a wall, with noise that grows with the distance, and holes."""
    v, u = np.mgrid[0:240, 0:320]
    rays = mount.axes @ np.stack([(u - LENS.cx) / LENS.fx, (v - LENS.cy) / LENS.fy, np.ones_like(u)]).reshape(3, -1)
    ahead = np.where(rays[0] > 0, wall_m / np.maximum(rays[0], 1e-6), np.inf)
    down = np.where(rays[2] < 0, mount.height / np.maximum(-rays[2], 1e-6), np.inf) if floor else np.inf
    rng, z = np.random.default_rng(seed), np.minimum(ahead, down)
    z = np.where(z < 8, z + rng.normal(0, noise_m, z.shape) * z, 0)
    z[rng.random(z.shape) < holes] = 0
    return (1000 * z).astype(np.uint16).reshape(240, 320)


@pytest.mark.parametrize(
    "mount",
    [MOUNT, Mount(height=0.4, pitch=0.15), Mount(height=1.0, pitch=0.6, roll=0.1), Mount(height=0.15, pitch=0.1)],
)
def test_the_floors_plane_in_depth_is_the_mount(mount):
    found = floor_from_depth(depth(mount), LENS)
    assert found.height == pytest.approx(mount.height, abs=0.004)
    assert found.pitch == pytest.approx(mount.pitch, abs=math.radians(0.4))
    assert found.roll == pytest.approx(mount.roll, abs=math.radians(0.4))


def test_neither_a_wall_nor_an_empty_image_is_a_floor():
    assert floor_from_depth(depth(MOUNT, wall_m=0.6, floor=False), LENS) is None
    assert floor_from_depth(np.zeros((240, 320), np.uint16), LENS) is None
    with pytest.raises(InputError, match=r"expected a floor in the images, found none.*--board"):
        together([])


def test_a_large_wall_does_not_pass_for_the_floor():
    found = floor_from_depth(depth(Mount(height=0.3, pitch=0.2), wall_m=0.7), LENS)
    assert found.height == pytest.approx(0.3, abs=0.005) and found.share < 0.5


@pytest.mark.parametrize(
    "camera",
    [
        Intrinsics(640, 480, 600.0, 601.0, 319.5, 239.5, "plumb_bob", (-0.1, 0.02, 0.0, 0.0, 0.0)),
        Intrinsics(640, 480, 300.0, 300.0, 322.0, 236.0, "equidistant", (-0.02, 0.004, -0.002, 0.0003)),
    ],
)
def test_a_board_on_the_floor_is_the_mount(camera):
    board, rng = Board(9, 6, 0.03), np.random.default_rng(1)
    lying = np.column_stack([0.55 + board.points[:, 1], 0.1 - board.points[:, 0], np.full(54, -MOUNT.height)])
    optical = lying @ MOUNT.axes
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    project = cv2.fisheye.projectPoints if camera.model == "equidistant" else cv2.projectPoints
    pixels = project(optical[:, None], np.zeros(3), np.zeros(3), matrix, np.array(camera.coeffs))[0].reshape(-1, 2)
    seen = BoardView("here", np.arange(54), pixels + rng.normal(0, 0.1, pixels.shape))
    found = floor_from_board(board, seen, camera)
    assert found.share == 1 and found.height == pytest.approx(MOUNT.height, abs=0.004)
    assert (found.pitch, found.roll) == (
        pytest.approx(MOUNT.pitch, abs=math.radians(0.5)),
        pytest.approx(MOUNT.roll, abs=math.radians(0.5)),
    )


def test_images_that_disagree_are_refused_with_the_way_out():
    still = together([floor_from_depth(depth(MOUNT, seed=n), LENS) for n in range(4)])
    assert still.problems() == [] and still.images == 4
    moved = [floor_from_depth(depth(Mount(height=0.2 + 0.02 * n, pitch=0.3)), LENS) for n in range(4)]
    (problem,) = together(moved).problems()
    assert "agree within 1 cm and 1 degree" in problem and "stand still on a level floor" in problem


def test_depth_of_another_size_or_an_unknown_lens_is_refused():
    with pytest.raises(InputError, match=r"uint16 \(240, 320\).*one stream"):
        floor_from_depth(np.zeros((120, 160), np.uint16), LENS)
    with pytest.raises(InputError, match="fx > 0"):
        floor_from_depth(np.zeros((240, 320), np.uint16), Intrinsics.uncalibrated(320, 240))
