"""Sampling: the identities of the diffusion, and chunks that agree where they overlap."""

import numpy as np
import pytest

from edgeflock.runtime.motion.diffusion import alpha_bars, assembled, blend, chunk_starts, joined, noised, sample
from edgeflock.runtime.motion.group import Group, group_of_rows, rows_of
from edgeflock.runtime.motion.rotations import quaternion_of_axis_angle

RNG = np.random.default_rng(5)


def rows(dancers, frames):
    turns = quaternion_of_axis_angle(RNG.normal(0, 0.7, (dancers, frames, 24, 3)))
    return rows_of(Group(RNG.normal(0, 1, (dancers, frames, 3)), turns))


def test_the_schedule_begins_clean_and_ends_in_noise():
    left = alpha_bars()
    assert left[0] == pytest.approx(0.999959, abs=1e-6) and left[-1] == pytest.approx(2.43e-9, rel=0.01)
    assert (np.diff(left) < 0).all()


def test_noise_has_the_moments_that_the_schedule_says():
    clean, left = np.full(200_000, 1.5), alpha_bars()[500]
    noisy = noised(clean, RNG.normal(size=clean.shape), 500)
    assert noisy.mean() == pytest.approx(np.sqrt(left) * 1.5, abs=0.01)
    assert noisy.var() == pytest.approx(1 - left, abs=0.01)


@pytest.mark.parametrize("order", [1, 2])
def test_a_net_that_knows_the_answer_is_followed_to_it(order):
    answer = RNG.normal(size=(1, 2, 3, 151)).astype(np.float32)
    got = sample(lambda x, step: answer, RNG.normal(size=answer.shape), steps=7, order=order)
    np.testing.assert_array_equal(got, answer)


@pytest.mark.parametrize("order", [1, 2])
def test_a_gaussian_is_sampled_with_its_own_spread(order):
    """The best guess of x0 of a Gaussian is known, so whole samples have a known law; no chance but the first noise."""
    left = alpha_bars()

    def best_guess(x, step):
        return 2 + np.sqrt(left[step]) * 0.25 / (left[step] * 0.25 + 1 - left[step]) * (x - np.sqrt(left[step]) * 2)

    noise = RNG.normal(size=(1, 1, 100, 151))
    got = sample(best_guess, noise, steps=100, order=order)
    assert got.mean() == pytest.approx(2, abs=0.03) and got.std() == pytest.approx(0.5, rel=0.05)
    np.testing.assert_array_equal(got, sample(best_guess, noise, steps=100, order=order))


def test_fewer_steps_of_the_second_order_come_nearer_to_the_limit():
    left = alpha_bars()

    def best_guess(x, step):
        return np.tanh(x * np.sqrt(left[step]) / (1 - left[step] + 1e-3))  # of two points, -1 and 1, about

    noise = RNG.normal(size=(1, 1, 20, 151))
    limit = sample(best_guess, noise, steps=500)
    errors = [np.abs(sample(best_guess, noise, steps=10, order=order) - limit).mean() for order in (1, 2)]
    assert errors[1] < errors[0]


def test_a_second_chunk_in_another_order_of_dancers_is_put_into_the_order_of_the_first():
    first, order = rows(3, 225), np.array([2, 0, 1])
    clean = np.stack([first[:, :150], first[order][:, 75:225]])
    x, joint = joined(np.arange(6.0).reshape(2, 3, 1, 1) * np.ones_like(clean), clean)
    np.testing.assert_array_equal(x[1, :, 0, 0], [4, 5, 3])
    np.testing.assert_allclose(group_of_rows(assembled(joint, 225)).joints(), group_of_rows(first).joints(), atol=1e-5)


def test_shared_frames_are_blended_from_one_chunk_to_the_next_and_agree():
    clean = np.stack([rows(2, 150) for _ in range(3)])
    _, joint = joined(np.zeros_like(clean), clean)
    for k in (0, 1):
        np.testing.assert_array_equal(joint[k][:, 75:], joint[k + 1][:, :75])
    np.testing.assert_array_equal(joint[0][:, :75], clean[0][:, :75])
    assert assembled(joint, 290).shape == (2, 290, 151)


def test_a_blend_of_the_same_is_the_same_and_begins_and_ends_near_its_ends():
    one, other = rows(1, 75), rows(1, 75)
    np.testing.assert_allclose(blend(one, one), one, atol=1e-5)
    places = [group_of_rows(r).joints() for r in (one, blend(one, other), other)]
    assert np.abs(places[1] - places[0])[:, 0].max() < 0.05 and np.abs(places[1] - places[2])[:, -1].max() < 0.05


@pytest.mark.parametrize(
    ("frames", "starts"), [(30, [0]), (150, [0]), (151, [0, 75]), (225, [0, 75]), (226, [0, 75, 150])]
)
def test_chunks_cover_all_frames(frames, starts):
    assert chunk_starts(frames) == starts and starts[-1] + 150 >= frames
