"""A lens that is known is found again from rendered pictures; views that do not determine it are refused."""

import cv2
import numpy as np
import pytest

from edgeflock.calibration.board import Board, BoardView, distinct
from edgeflock.calibration.lens import calibrate, uncovered
from edgeflock.calibration.picture import draw
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.intrinsics import Intrinsics

BOARD = Board(9, 6, 0.025)


@pytest.fixture(scope="module")
def photographed(studio):
    """Views found in 15 rendered pictures."""
    views = []
    for i, pose in enumerate(studio.poses(15, seed=3)):
        found = BOARD.find(studio.picture(pose, seed=i))
        if found is not None:
            views.append(BoardView(f"{i:02}.png", *found))
    return views


@pytest.fixture
def projected(studio):
    """``projected(count, noise=0.05, **poses)``: views by projection alone, which takes no time."""

    def make(count=20, noise=0.05, studio=studio, **poses):
        rng = np.random.default_rng(1)
        seen = [studio.corners(BOARD.points, pose) for pose in studio.poses(count, **poses)]
        return [BoardView(f"{i}", np.arange(54), c + rng.normal(0, noise, c.shape)) for i, c in enumerate(seen)]

    return make


def lens_error(found, studio):
    """Largest error of fx, fy, cx, cy as a share of each."""
    true = studio.matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
    return np.abs(np.array([found.fx, found.fy, found.cx, found.cy]) / true - 1).max()


def test_rendered_pictures_give_the_lens_back(photographed, studio):
    result = calibrate(photographed, studio.size, BOARD)
    assert len(photographed) == 15
    assert result.rms < 0.3
    assert lens_error(result.intrinsics, studio) < 0.005
    assert result.intrinsics.coeffs[0] == pytest.approx(-0.28, abs=0.02)
    assert result.problems() == []
    assert all(deviation < 3 for deviation in result.deviations)


def test_a_wide_lens_needs_the_rational_model(projected, make_studio):
    wide = make_studio(focal=(240, 240), coeffs=(6.0, 3.0, 0, 0, 0.2, 6.3, 4.5, 0.9))
    views = projected(30, studio=wide, distance=(0.15, 0.3), reach=0.42)
    rational = calibrate(views, wide.size, BOARD, "rational_polynomial")
    assert len(rational.intrinsics.coeffs) == 8 and rational.intrinsics.model == "rational_polynomial"
    assert lens_error(rational.intrinsics, wide) < 0.005
    assert rational.rms < calibrate(views, wide.size, BOARD).rms


def test_partial_charuco_views_give_the_lens_back(studio):
    board = Board(9, 6, 0.025, marker_m=0.018)
    paper = board._charuco(0.018).getBoard().generateImage((1000, 700), marginSize=0)
    views = []
    for i, pose in enumerate(studio.poses(20, reach=0.45, seed=5)):  # parts of the board are out of the picture
        turn, _ = cv2.Rodrigues(pose[0])
        to_pixels = studio.matrix @ np.column_stack([turn[:, 0], turn[:, 1], pose[1]])
        to_metres = np.array([[0.00025, 0, -0.025], [0, 0.00025, -0.025], [0, 0, 1]])
        picture = cv2.warpPerspective(paper, to_pixels @ to_metres, studio.size, flags=cv2.INTER_AREA, borderValue=200)
        found = board.find(picture)
        if found is not None:
            views.append(BoardView(str(i), *found))
    assert any(len(view.ids) < 54 for view in views)
    result = calibrate(views, studio.size, board)
    assert result.rms < 0.5
    assert lens_error(result.intrinsics, studio) < 0.01  # warped without smoothing: corners are a little off


# ---- what is dropped or refused


def test_a_view_that_stands_out_is_dropped(projected, studio):
    views = projected(24)
    rng = np.random.default_rng(0)
    views[5] = BoardView("moved", views[5].ids, views[5].corners + rng.normal(0, 2, (54, 2)))
    result = calibrate(views, studio.size, BOARD)
    assert list(result.dropped) == ["moved"] and "stands out" in result.dropped["moved"]
    assert lens_error(result.intrinsics, studio) < 0.005


def test_all_views_of_one_pose_are_too_few(projected, studio):
    view = projected(1)[0]
    rng = np.random.default_rng(0)
    views = [BoardView(f"{i}", view.ids, view.corners + rng.normal(0, 0.1, (54, 2))) for i in range(30)]
    with pytest.raises(InputError, match="at least 8 views that differ, got 1 among 30: move and tilt"):
        calibrate(views, studio.size, BOARD)
    kept, repeated = distinct(views, studio.size)
    assert len(kept) == 1 and repeated["7"] == "shows the board as 0 does"


def test_too_few_views_are_refused(projected, studio):
    with pytest.raises(InputError, match="got 7 among 7"):
        calibrate(projected(20)[:7], studio.size, BOARD)


def test_a_board_that_was_never_tilted_is_refused_although_it_fits(projected, studio):
    result = calibrate(projected(20, tilt=0), studio.size, BOARD)
    assert result.rms < 0.3
    assert any("tilt the board" in problem for problem in result.problems())


def test_a_board_that_stayed_in_the_middle_is_refused_with_where_to_show_it(projected, studio):
    result = calibrate(projected(20, reach=0.05, distance=(0.45, 0.6)), studio.size, BOARD)
    (problem,) = result.problems()
    assert "of the image" in problem and "top left" in problem and "centre" not in problem


def test_a_large_error_is_refused_with_its_worst_view(projected, studio):
    result = calibrate(projected(24, noise=1), studio.size, BOARD)
    assert any("RMS of at most 0.5 px" in p and "worst view" in p for p in result.problems())
    assert result.problems(max_rms=5) == []


def test_corners_that_are_no_numbers_or_not_in_the_picture_are_refused(projected, studio):
    views = projected(10)
    views[3].corners[7] = np.nan
    with pytest.raises(InputError, match="got others in view '3'"):
        calibrate(views, studio.size, BOARD)
    with pytest.raises(InputError, match="image of 100x80"):
        calibrate(projected(10), (100, 80), BOARD)


def test_uncovered_regions_have_names():
    camera = Intrinsics.uncalibrated(300, 300)
    assert uncovered([], camera)[:2] == ["top left", "top"] and "centre" in uncovered([], camera)
    all_but_right = BoardView("a", np.arange(4), np.float32([[0, 0], [199, 0], [199, 299], [0, 299]]))
    assert uncovered([all_but_right], camera) == ["top right", "right", "bottom right"]


def test_the_picture_is_drawn(photographed, studio, tmp_path):
    pytest.importorskip("matplotlib")
    draw(tmp_path / "camera.png", calibrate(photographed, studio.size, BOARD))
    assert cv2.imread(str(tmp_path / "camera.png")).std() > 5
