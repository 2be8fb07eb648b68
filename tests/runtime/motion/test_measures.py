"""Measures on dances whose order is known, and formations nobody collides in."""

import numpy as np
import pytest

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.motion.formations import FORMATIONS, assigned, eased, formation
from edgeflock.runtime.motion.group import group_of_rows
from edgeflock.runtime.motion.judging import judge, seams, windows
from edgeflock.runtime.motion.measures import (
    beat_match,
    diversity,
    foot_contact,
    frechet,
    group_beat_match,
    group_correlation,
    kinetic_features,
    motion_beats,
    skate,
    synchrony,
    touches,
)
from edgeflock.runtime.motion.skeleton import BODY

moves = pytest.importorskip("edgeflock.export.datasets.synthetic.dances.moves", reason="laboratory side")
BEATS = np.arange(0.25, 5, 0.5)


def danced(mode, seeds=range(3), dancers=3):
    return [moves.choreograph(BEATS, 150, dancers, mode, "groove", seed)[0] for seed in seeds]


@pytest.fixture(scope="module")
def places():
    return {mode: [group.joints() for group in danced(mode)] for mode in moves.MODES}


def mean(measure, places):
    return float(np.mean([measure(at) for at in places]))


def test_synchrony_tells_unison_from_diverse_and_finds_a_canon_by_its_lag(places):
    assert mean(synchrony, places["unison"]) > 0.99
    assert abs(mean(synchrony, places["diverse"])) < 0.4
    assert mean(lambda at: synchrony(at, 45), places["canon"]) > 0.9 > mean(synchrony, places["canon"])
    assert synchrony(places["unison"][0][:1]) == 1


def test_the_beat_is_met_by_who_dances_on_it_and_not_by_chance(places):
    def above(at):
        return group_beat_match(at, BEATS, 30)[1]

    assert mean(above, places["unison"]) > 0.8
    assert mean(above, places["diverse"]) > 0.8
    assert abs(mean(above, places["random"])) < 0.25
    assert group_beat_match(places["frozen"][0], BEATS, 30)[0] == 0
    late = group_beat_match(places["unison"][0], BEATS + 0.25, 30)
    assert late[0] < 0.2 and late[1] < 0


def test_beats_match_themselves():
    assert beat_match(np.array([3, 40]), np.array([3, 40])) == 1
    assert beat_match(np.array([]), np.array([3])) == beat_match(np.array([3]), np.array([])) == 0


def test_a_motion_beat_is_where_all_stand_still():
    t = np.arange(60)
    at = np.zeros((60, 2, 3))
    at[:, :, 0] = np.cos(2 * np.pi * t / 40)[:, None]  # stands at 0, 20, 40
    np.testing.assert_allclose(motion_beats(at), [20, 40], atol=1)


def test_frechet_is_zero_of_the_same_and_the_squared_shift_of_shifted_ones():
    x = np.random.default_rng(0).normal(0, 1, (400, 5))
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x, x + 2 * x.std(0)) == pytest.approx(5 * 4, rel=1e-6)


def test_kinetic_features_do_not_depend_on_where_the_stage_is(places):
    at = places["unison"][0]
    np.testing.assert_allclose(
        kinetic_features(at + np.array([30, 0, -9]), 30), kinetic_features(at, 30), rtol=1e-6, atol=1e-9
    )


def test_kinetic_features_of_even_motion_are_its_speed():
    at = np.arange(60)[:, None, None] * np.array([0.1, 0.2, 0.0])
    np.testing.assert_allclose(kinetic_features(at, 10)[:2], [1.0, 4.0], rtol=0.15)


def test_diversity_within_unison_is_none(places):
    features = kinetic_features(places["unison"][0] - places["unison"][0][:, :, :1], 30)
    assert diversity(features) < 1e-6 < diversity(kinetic_features(places["diverse"][0], 30))


def test_group_correlation_measures_energy_before_it_measures_likeness(places):
    wild = moves.noisy(danced("diverse", [0])[0], 0.05, 0).joints()
    assert group_correlation(wild, 30) > group_correlation(places["unison"][0], 30) > 0


def test_feet_that_stand_cost_nothing_and_a_body_that_slides_does(places):
    assert foot_contact(places["frozen"][0][0], BODY.feet, 30) == 0
    assert skate(places["frozen"][0], BODY.feet, 30) == 0
    sliding = places["frozen"][0] + np.arange(150)[:, None, None] * np.array([0.01, 0, 0])
    assert skate(sliding, BODY.feet, 30) == pytest.approx(0.3)


def test_bodies_touch_when_they_are_near_and_the_distance_says_how_near():
    body = np.tile(danced("frozen", [0], 1)[0].frames(0, 1).joints(), (2, 1, 1, 1))
    body[1, ..., 2] += 3
    apart = body[1, 0, :, 2].min() - body[0, 0, :, 2].max()
    count, gap = touches(body, BODY.parents)
    assert count == 0 and apart - 0.14 <= gap < 3
    body[1, ..., 2] -= 3
    assert touches(body, BODY.parents) == (1, pytest.approx(-0.14))
    assert touches(body[:1], BODY.parents) == (0, np.inf)


def test_drawn_groups_keep_apart(places):
    assert max(touches(at, BODY.parents)[0] for mode in moves.DANCED for at in places[mode][:1]) == 0


def test_judging_orders_what_it_must():
    reference = [(group, BEATS) for group in danced("diverse", [10, 11]) + danced("unison", [14, 15])]
    figures = {
        mode: judge([(group, BEATS) for group in danced(mode, [0, 1])], reference)
        for mode in ("unison", "diverse", "frozen")
    }
    assert figures["unison"]["synchrony"] > figures["diverse"]["synchrony"]
    assert figures["unison"]["within-group diversity"] < figures["diverse"]["within-group diversity"]
    assert figures["frozen"]["GMR"] > figures["unison"]["GMR"]
    with pytest.raises(InputError, match="at least 5 s"):
        windows([(danced("unison", [0])[0].frames(0, 149), BEATS)])


@pytest.mark.parametrize("name", FORMATIONS)
@pytest.mark.parametrize("dancers", [1, 2, 5, 10])
def test_in_a_formation_any_two_are_a_space_apart(name, dancers):
    at = formation(name, dancers, 2.0)
    apart = np.linalg.norm(at[:, None] - at[None], axis=-1) + 9 * np.eye(dancers)
    assert at.shape == (dancers, 2) and apart.min() >= 2.0 - 1e-9
    np.testing.assert_allclose(at.mean(0), 0, atol=1e-9)


def test_on_the_way_of_10_000_random_formations_nobody_comes_nearer_than_the_guarantee():
    """Spacing over the root of two; the same ways walked by chance collide."""
    pytest.importorskip("scipy")
    rng = np.random.default_rng(7)

    def least(starts, goals):
        """Smallest distance of any two on straight ways (cases, N, 2) that they walk in step."""
        one, other = np.triu_indices(starts.shape[1], 1)
        a, b = (at[:, one] - at[:, other] for at in (starts, goals))
        way = b - a
        part = np.clip(-(a * way).sum(-1) / np.maximum((way**2).sum(-1), 1e-12), 0, 1)
        return np.linalg.norm(a + part[..., None] * way, axis=-1).min(1)

    for count in (2, 3, 5, 8):
        cells = rng.random((2, 2500, 9)).argsort(-1)[..., :count]  # of a grid, each place shaken in its cell
        starts, goals = np.stack([cells % 3, cells // 3], -1) * 1.5 + rng.uniform(0, 0.5, (2, 2500, count, 2))
        spacing = np.minimum(least(starts, starts), least(goals, goals))
        safe = np.stack([assigned(*ends) for ends in zip(starts, goals, strict=True)])
        assert (least(starts, safe) >= spacing / np.sqrt(2) - 1e-9).all()
        assert (least(starts, goals) < spacing / 2).mean() > 0.2


def test_a_way_begins_and_ends_at_rest():
    part = eased(np.linspace(-0.5, 1.5, 2001))
    assert (part[:500] == 0).all() and (part[-500:] == 1).all() and (np.diff(part) >= 0).all()
    assert np.abs(np.diff(part, 2)).max() < 1e-5


def test_as_many_goals_as_dancers_are_needed():
    with pytest.raises(InputError, match="for each of 3"):
        assigned(np.zeros((3, 2)), np.zeros((2, 2)))


def test_a_jump_at_the_border_of_chunks_is_seen():
    still = np.zeros((1, 240, 151))
    still[..., 3:147] = np.tile([1, 0, 0, 0, 1, 0], 24)
    assert seams(group_of_rows(still)) == (0, 0)
    still[:, 150:, 0] = 2
    assert seams(group_of_rows(still)) == (pytest.approx(2), 0)
