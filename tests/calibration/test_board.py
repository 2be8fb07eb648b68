"""A board is found to a fraction of a pixel, and what is none is refused."""

import math

import numpy as np
import pytest

from edgeflock.calibration.board import Board
from edgeflock.runtime.errors import InputError

BOARD = Board(9, 6, 0.025)


def test_corners_are_found_to_a_fraction_of_a_pixel(studio):
    pose = studio.poses(1)[0]
    ids, corners = BOARD.find(studio.picture(pose))
    true = studio.corners(BOARD.points, pose)
    error = min(np.abs(corners[order] - true).max() for order in (slice(None), slice(None, None, -1)))  # 180 degrees
    assert ids.tolist() == list(range(54))
    assert error < 0.3


@pytest.mark.parametrize(
    "picture", [np.zeros((480, 640, 3), np.uint8), np.full((480, 640), np.nan), np.zeros((0, 0), np.uint8), None]
)
def test_what_is_no_grey_picture_is_refused(picture):
    with pytest.raises(InputError, match=r"expected a grey image uint8 \(H, W\)"):
        BOARD.find(picture)


def test_a_picture_without_a_board_gives_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (240, 320), np.uint8)
    assert BOARD.find(noise) is None
    assert Board(9, 6, 0.025, 0.018).find(noise) is None


@pytest.mark.parametrize(
    ("board", "message"),
    [
        ((2, 6, 0.025), "3x3 inner corners"),
        ((9, 6, 25), r"25 m"),
        ((9, 6, math.nan), "nan m"),
        ((9, 6, 0.02, 0.03), "marker smaller than its square"),
        ((9, 6, 0.02, 0.01, "DICT_9"), "got 'DICT_9'"),
    ],
)
def test_a_board_that_cannot_be_is_refused(board, message):
    with pytest.raises(InputError, match=message):
        Board(*board)
