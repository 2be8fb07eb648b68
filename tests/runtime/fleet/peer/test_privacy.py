"""Updates that are clipped and noised before they leave a robot, and what that gives."""

import math

import numpy as np
import pytest

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.peer.privacy import Privacy, check_private, epsilon

pytest.importorskip("dp_accounting")
SIZE = 200_000


@pytest.fixture
def change():
    return np.random.default_rng(0).normal(size=SIZE).astype(np.float32)


def private(folder, seed=1, **settings):
    return Privacy(PeerConfig(**settings), folder / "privacy.json", np.random.default_rng(seed))


@pytest.mark.parametrize("clip", [0.01, 1.0, 10.0])
def test_no_change_that_leaves_is_longer_than_the_clip(tmp_path, change, clip):
    base = np.full(SIZE, 0.5, np.float32)
    got = private(tmp_path, clip=clip).release(base, base + change)
    left = got.astype(np.float64) - base
    assert np.linalg.norm(left) == pytest.approx(clip, rel=1e-2)  # rounding to float32
    assert left @ change / np.linalg.norm(left) / np.linalg.norm(change) > 0.99 or clip < 0.1


def test_a_change_within_the_clip_is_left_as_it_is(tmp_path, change):
    base = np.zeros(SIZE, np.float32)
    assert np.array_equal(private(tmp_path, clip=1e6).release(base, change), change)


def test_the_noise_has_the_stated_deviation_on_every_weight(tmp_path, change):
    base = np.zeros(SIZE, np.float32)
    quiet = private(tmp_path, clip=2.0).release(base, change)
    noise = private(tmp_path, clip=2.0, noise=1.5).release(base, change).astype(np.float64) - quiet
    spread = 6 * 3.0 / math.sqrt(2 * SIZE)  # 6 standard errors of a deviation
    assert noise.std() == pytest.approx(3.0, abs=spread) and abs(noise.mean()) < 6 * 3.0 / math.sqrt(SIZE)


def test_noise_comes_from_the_seed_and_is_new_in_every_release(tmp_path, change):
    base = np.zeros(SIZE, np.float32)
    first, again, other = (private(tmp_path, seed, clip=1.0, noise=1.0) for seed in (1, 1, 2))
    released = first.release(base, change)
    assert np.array_equal(released, again.release(base, change))
    assert not np.array_equal(released, other.release(base, change))
    assert not np.array_equal(released, first.release(base, change))


def test_a_broken_model_is_handed_on_to_the_peer_that_refuses_it_and_counts_nothing(tmp_path, change):
    broken = change.copy()
    broken[3] = np.nan
    guard = private(tmp_path, clip=1.0, noise=1.0)
    assert np.isnan(guard.release(np.zeros(SIZE, np.float32), broken)[3])
    assert guard.status()["releases"] == 0


def test_releases_are_counted_over_restarts_under_the_noise_that_they_had(tmp_path):
    base = np.zeros(3, np.float32)
    for noise, releases in ((2.0, 3), (4.0, 2)):
        guard = private(tmp_path, clip=1.0, noise=noise)
        for _ in range(releases):
            guard.release(base, base)
    status = private(tmp_path, clip=1.0, noise=4.0).status()
    assert status["releases"] == 5
    assert status["epsilon"] == pytest.approx(epsilon([(2.0, 3), (4.0, 2)], 1e-5))


def test_without_noise_no_bound_is_claimed(tmp_path):
    guard = private(tmp_path, clip=1.0)
    guard.release(np.zeros(3, np.float32), np.ones(3, np.float32))
    assert guard.status()["epsilon"] is None and "without noise" in guard.said()


def test_a_ledger_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path):
    (tmp_path / "privacy.json").write_text("[[1.0")
    with pytest.raises(DataError, match="what was released before"):
        private(tmp_path, clip=1.0, noise=1.0)


def normal(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


@pytest.mark.parametrize(("noise", "count"), [(1.0, 1), (2.0, 10), (5.0, 100), (20.0, 400)])
def test_epsilon_is_that_of_the_analytic_gaussian_mechanism(noise, count):
    """Balle and Wang, ICML 2018, Theorem 8; T mechanisms of z are one of z / sqrt(T) (Dong et al. 2022)."""
    mu, bound = math.sqrt(count) / noise, epsilon([(noise, count)], 1e-5)
    delta = normal(mu / 2 - bound / mu) - math.exp(bound) * normal(-mu / 2 - bound / mu)
    assert delta == pytest.approx(1e-5, rel=2e-2)


def test_nets_with_batch_normalisation_are_refused_unless_it_is_neither_trained_nor_sent():
    config = PeerConfig(clip=1.0, noise=1.0)
    tensors = ["conv.weight", "bn.running_mean", "bn.running_var", "head.weight"]
    with pytest.raises(InputError, match=r"'bn.running_mean'.*layers=NAME"):
        check_private(config, tensors, "")
    check_private(config, tensors, "head")
    check_private(PeerConfig(), tensors, "")
    with pytest.raises(InputError, match="set both"):
        check_private(PeerConfig(noise=1.0), tensors, "")
