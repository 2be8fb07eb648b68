"""Dealing training data to silos: every sample once, and unlike in the way that the split's name says."""

import numpy as np
import pytest

from edgeflock.export.datasets.splits import deal
from edgeflock.runtime.errors import DataError, InputError

N = 600
ANGLES = np.random.default_rng(0).normal(0, 0.3, N).astype(np.float32)
WORLDS = np.repeat(np.arange(12, dtype=np.int32), N // 12)
CLASSES = np.arange(N) % 7


@pytest.mark.parametrize("silos", [1, 4, 11, 22])
@pytest.mark.parametrize("split", ["iid", "environment", "sign", "dirichlet", "dirichlet:5"])
def test_every_sample_goes_to_one_silo(split, silos):
    shares = deal(split, ANGLES, WORLDS, silos, 1, seed=3)
    assert len(shares) == silos
    assert np.array_equal(np.sort(np.concatenate(shares)), np.arange(N))


@pytest.mark.parametrize("split", ["iid", "sign", "dirichlet"])
def test_the_seed_decides(split):
    first, again, other = (deal(split, ANGLES, WORLDS, 5, 1, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_environment_gives_whole_worlds_and_neighbours_together():
    shares = deal("environment", ANGLES, WORLDS, 4, 1, 0)
    assert [set(WORLDS[share]) for share in shares] == [{0, 1, 2}, {3, 4, 5}, {6, 7, 8}, {9, 10, 11}]


def test_fewer_worlds_than_silos_are_cut_in_their_order():
    shares = deal("environment", ANGLES, WORLDS, 24, 1, 0)
    assert all(len(set(WORLDS[share])) == 1 and np.ptp(share) == len(share) - 1 for share in shares)


def test_sign_sets_left_turns_apart_from_the_rest():
    shares = deal("sign", ANGLES, WORLDS, 5, 1, 0)
    assert [bool((ANGLES[share] > 0).all()) for share in shares] == [True, True, False, False, False]
    assert [bool((ANGLES[share] <= 0).all()) for share in shares] == [False, False, True, True, True]


def test_dirichlet_is_the_more_uneven_the_smaller_alpha():
    def unevenness(alpha):
        shares = deal(f"dirichlet:{alpha}", CLASSES, WORLDS, 6, 1, 0)
        mixes = np.array([np.bincount(CLASSES[share], minlength=7) / len(share) for share in shares])
        return np.abs(mixes - 1 / 7).mean()

    assert unevenness(0.1) > 1.5 * unevenness(1) > 3 * unevenness(100)


@pytest.mark.parametrize("split", ["weather", "iid:2", "dirichlet:0", "dirichlet:many", "dirichlet:nan"])
def test_unknown_splits_are_refused(split):
    with pytest.raises(InputError, match="expected"):
        deal(split, ANGLES, WORLDS, 4, 1, 0)


def test_sign_needs_numbers():
    with pytest.raises(InputError, match="take dirichlet"):
        deal("sign", CLASSES, WORLDS, 4, 1, 0)


def test_a_silo_without_a_batch_is_an_error_with_the_way_out():
    with pytest.raises(DataError, match="leaves a silo 50 of 600 samples, and it needs 64"):
        deal("environment", ANGLES, WORLDS, 12, 64, 0)
