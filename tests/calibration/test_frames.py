"""Frames are chosen by coverage: rare turns and rare light count as much as the straight road at noon."""

import numpy as np
import pytest

from edgeflock.calibration.frames import representative, representative_frames
from edgeflock.runtime.errors import InputError


@pytest.fixture
def drive():
    """A drive as it is: 970 straight frames in daylight, 20 sharp left, 8 sharp right, 2 at night."""
    rng = np.random.default_rng(3)
    angles = np.concatenate([rng.normal(0, 0.02, 970), rng.uniform(0.4, 0.5, 20), rng.uniform(-0.5, -0.4, 8), [0, 0]])
    light = np.concatenate([rng.integers(120, 180, 998), [5, 8]])
    frames = np.repeat(light.astype(np.uint8), 64).reshape(-1, 8, 8)
    return frames, angles


def test_rare_turns_and_rare_light_are_covered(drive):
    frames, angles = drive
    chosen = representative_frames(frames, angles, 24)
    assert (angles[chosen] > 0.3).sum() >= 4
    assert (angles[chosen] < -0.3).sum() >= 4
    assert (frames[chosen].mean((1, 2)) < 50).sum() == 2
    assert (np.abs(angles[chosen]) < 0.1).sum() >= 4


def test_every_bin_gives_a_frame_before_any_gives_its_second():
    angles = np.concatenate([np.full(500, -0.2), np.full(500, 0.0), [0.2]])
    frames = np.full((1001, 4, 4), 100, np.uint8)
    for count, expected in ((3, (1, 1, 1)), (5, (2, 2, 1)), (9, (4, 4, 1))):
        picked = np.round(angles[representative_frames(frames, angles, count, angle_bins=3)], 1)
        assert tuple(int((picked == angle).sum()) for angle in (-0.2, 0.0, 0.2)) == expected


def test_choice_is_ascending_without_repetition_and_repeats_with_the_seed(drive):
    chosen = representative_frames(*drive, 100, seed=5)
    assert len(chosen) == 100
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, representative_frames(*drive, 100, seed=5))
    assert set(chosen) != set(representative_frames(*drive, 100, seed=6))


def test_fewer_frames_than_wanted_are_all_taken(drive):
    frames, angles = drive
    np.testing.assert_array_equal(representative_frames(frames[:7], angles[:7], 100), np.arange(7))


def test_one_angle_and_one_light_still_give_frames():
    chosen = representative_frames(np.full((50, 4, 4), 9, np.uint8), np.zeros(50), 10)
    assert len(set(chosen)) == 10


@pytest.mark.parametrize(
    ("frames", "angles", "count", "message"),
    [
        ((0, 4, 4), (0,), 1, "N >= 1"),
        ((3, 4, 4), (2,), 1, r"\(3, 4, 4\) and \(2,\)"),
        ((3, 4), (3,), 1, r"expected grey frames \(N, H, W\)"),
        ((3, 4, 4), (3,), 0, "count must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(frames, angles, count, message):
    with pytest.raises(InputError, match=message):
        representative_frames(np.zeros(frames, np.uint8), np.zeros(angles), count)


def test_an_angle_that_is_no_number_is_named():
    with pytest.raises(InputError, match="angle of frame 1 is not finite"):
        representative_frames(np.zeros((3, 4, 4), np.uint8), np.array([0, np.nan, 0]), 2)


def test_any_features_are_covered():
    """Labels by brightness, as the emotion nets want them: a class of three samples is not lost among 900."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.repeat(np.arange(6), 150), [6, 6, 6]])
    chosen = representative(np.column_stack([labels, rng.uniform(40, 200, labels.size)]), 70, (7, 4))
    counts = np.bincount(labels[chosen], minlength=7)
    assert counts[6] == 3
    assert counts[:6].min() >= 10


@pytest.mark.parametrize(
    ("features", "count", "bins", "message"),
    [
        (np.zeros((0, 2)), 1, (3, 3), "N >= 1"),
        (np.zeros((5, 2)), 1, (3,), r"got \(5, 2\) and \(3,\)"),
        (np.zeros((5, 1)), 1, (0,), "bins >= 1"),
        (np.zeros(5), 1, (3,), r"expected features \(N, k\)"),
        (np.array([[0.0], [np.inf]]), 1, (3,), "feature 0 of sample 1 is not finite"),
        (np.zeros((5, 1)), 0, (3,), "count must be at least 1, got 0"),
    ],
)
def test_features_that_cannot_be_covered_are_refused(features, count, bins, message):
    with pytest.raises(InputError, match=message):
        representative(features, count, bins)
