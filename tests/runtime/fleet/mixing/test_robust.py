"""Robust rules: exact on small cases, sound among hostile neighbours, refusing where their condition fails."""

import numpy as np
import pytest

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.mixing.robust import Clipping, Median, MultiKrum, TrimmedMean, robust_rule

RULES = [Clipping(), Clipping(radius=1.0), Median(), TrimmedMean(), MultiKrum()]


def f32(*rows):
    return np.array(rows, dtype=np.float32)


def third(m):
    return np.full(m, 1 / 3, dtype=np.float32)


def test_a_neighbour_within_the_radius_is_mixed_plainly_and_one_beyond_is_pulled_to_it():
    own, near, far = f32(0, 0), f32(0.3, 0.4), f32(30, 40)
    assert Clipping(radius=1.0)(own, f32(near), third(1)) == pytest.approx(near / 3)
    assert Clipping(radius=1.0)(own, f32(far), third(1)) == pytest.approx(f32(0.6, 0.8) / 3)


def test_without_a_radius_the_nearest_set_it():
    own, theirs = f32(0, 0), f32([3, 4], [0, 5], [300, 400])
    radius = np.sqrt((25 + 25) / 3 / (1 / 3))
    clipped = np.array([3, 4]) + np.array([0, 5]) + np.array([0.6, 0.8]) * radius
    assert Clipping(f=1)(own, theirs, third(3)) == pytest.approx(clipped / 3)


def test_a_hostile_model_of_any_size_moves_a_clipping_silo_by_weight_times_radius_at_most():
    for size in (1e3, 3e38):
        mixed = Clipping(radius=2.0)(f32(0, 0, -1), f32([size, -size, size]), third(1))
        assert np.linalg.norm(mixed - f32(0, 0, -1)) == pytest.approx(2 / 3, rel=1e-5)


def test_median_and_trimmed_mean_by_hand():
    own, theirs = f32(1, 10), f32([2, 20], [3, -90], [4, 40])
    assert Median()(own, theirs, third(3)) == pytest.approx([2.5, 15])
    assert TrimmedMean()(own, theirs, third(3)) == pytest.approx([2.5, 15])
    five = f32([2, 20], [3, -90], [4, 40], [1e30, 0])
    assert TrimmedMean()(own, five, third(4)) == pytest.approx([3, 10])
    assert Median()(own, five, third(4)) == pytest.approx([3, 10])


@pytest.mark.parametrize("rule", [Median, TrimmedMean])
@pytest.mark.parametrize("f", [1, 2])
def test_every_coordinate_stays_between_sound_ones(rule, f):
    rng = np.random.default_rng(f)
    for m in (2 * f, 2 * f + 1, 2 * f + 4):
        sound = rng.normal(size=(m + 1 - f, 50)).astype(np.float32)
        bad = (rng.normal(size=(f, 50)) * 1e6).astype(np.float32)
        mixed = rule(f)(sound[0], np.vstack([bad, sound[1:]]), third(m))
        assert (sound.min(axis=0) - 1e-6 <= mixed).all() and (mixed <= sound.max(axis=0) + 1e-6).all()


def test_multi_krum_averages_the_models_in_the_middle_of_the_crowd():
    own, theirs = f32(0.0), f32([0.1], [-0.1], [0.2], [50.0])
    # n = 5, f = 1: scores over the 2 nearest; 0 (0.02) and 0.1 (0.02) win
    assert MultiKrum()(own, theirs, third(4)) == pytest.approx([0.05], abs=1e-6)


@pytest.mark.parametrize("f", [1, 2])
def test_multi_krum_leaves_out_what_f_liars_send_together(f):
    rng = np.random.default_rng(0)
    sound = rng.normal(size=(f + 3, 40)).astype(np.float32)
    liars = np.full((f, 40), 7, np.float32)  # agreeing exactly, so near to each other
    mixed = MultiKrum(f)(sound[0], np.vstack([liars, sound[1:]]), third(2 * f + 2))
    assert np.abs(mixed).max() < np.abs(sound).max() < 7


def test_multi_krum_tells_models_apart_that_almost_agree_beside_one_of_any_size():
    base = np.random.default_rng(1).normal(size=30).astype(np.float32)
    close = np.tile(base, (5, 1))
    close[3:, 0] += 1e-2
    mixed = MultiKrum()(close[0], np.vstack([close[1:], np.full(30, 3e38, np.float32)]), third(5))
    assert np.array_equal(mixed, base)  # the three equal ones of n - f - 2 = 3


@pytest.mark.parametrize(("f", "n"), [(1, 4), (2, 6), (3, 8)])
def test_multi_krum_holds_to_n_of_at_least_2f_plus_3(f, n):
    models = np.zeros((n, 3), np.float32)
    with pytest.raises(InputError, match=f"needs {2 * f + 2} neighbours, got {n - 1}"):
        MultiKrum(f)(models[0], models[1:], third(n - 1))
    more = np.zeros((n + 1, 3), np.float32)
    assert not MultiKrum(f)(more[0], more[1:], third(n)).any()


@pytest.mark.parametrize("rule", RULES)
def test_too_few_neighbours_are_refused_not_averaged(rule):
    models = np.zeros((rule.least, 3), np.float32)
    with pytest.raises(InputError, match="keep the own model"):
        rule(models[0], models[1:], third(len(models) - 1))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_a_number_is_refused_not_sorted(rule, value):
    theirs = np.zeros((5, 3), np.float32)
    theirs[2, 1] = value
    with pytest.raises(InputError, match="NaN"):
        rule(np.zeros(3, np.float32), theirs, third(5))


@pytest.mark.parametrize("rule", RULES)
def test_wrong_shapes_are_refused(rule):
    with pytest.raises(InputError, match="expected models"):
        rule(np.zeros(3, np.float32), np.zeros((5, 4), np.float32), third(5))


@pytest.mark.parametrize("rule", RULES)
def test_models_that_agree_stay_as_they_are(rule):
    own = np.random.default_rng(0).normal(size=20).astype(np.float32)
    assert rule(own, np.tile(own, (6, 1)), third(6)) == pytest.approx(own, abs=1e-6)


@pytest.mark.parametrize("make", [Clipping, Median, TrimmedMean, MultiKrum])
def test_f_is_one_or_more(make):
    with pytest.raises(InputError, match="1 or more"):
        make(0)
    with pytest.raises(InputError, match="radius"):
        Clipping(radius=0.0)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("median", Median()),
        ("median:2", Median(2)),
        ("trimmed_mean:1", TrimmedMean(1)),
        ("multi_krum:3", MultiKrum(3)),
        ("clipping:2", Clipping(2)),
        ("clipping:radius=0.5", Clipping(radius=0.5)),
    ],
)
def test_rules_by_name(text, rule):
    assert robust_rule(text) == rule


@pytest.mark.parametrize("text", ["mean", "median:few", "median:radius=1", "clipping:f=1", "clipping:radius=far", ""])
def test_no_such_rule(text):
    with pytest.raises(InputError, match="no robust rule"):
        robust_rule(text)
