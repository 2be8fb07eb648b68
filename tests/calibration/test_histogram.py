"""Histograms count every value once and merge exactly, in any order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeflock.calibration.histogram import HALF, Histogram, from_arrays, merge, to_arrays
from edgeflock.runtime.errors import InputError

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SAMPLES = st.lists(arrays(np.float32, st.integers(1, 20), elements=FLOATS), min_size=1, max_size=6)


def histogram(samples):
    made = Histogram()
    for sample in samples:
        made.add(sample)
    return made


def same(a, b):
    return (a.exponent, a.lows, a.highs) == (b.exponent, b.lows, b.highs) and np.array_equal(a.counts, b.counts)


def test_every_value_lies_in_its_bin():
    values = np.random.default_rng(0).normal(1, 4, 5000).astype(np.float32)
    made = histogram([values[:100], values[100:]])
    index = np.trunc(values.astype(np.float64) / made.width).astype(int)
    np.testing.assert_array_equal(made.counts, np.bincount(index + HALF - 1, minlength=2 * HALF - 1))
    assert (made.low, made.high, made.samples) == (values.min(), values.max(), 2)
    assert made.high / made.width >= HALF / 2
    near = np.abs(values[:, None] - made.centres[index + HALF - 1][:, None]).max()
    assert near <= made.width


def test_magnitudes_fold_both_signs():
    made = histogram([np.array([-3, 3, 2.5, -1e-9, 0], np.float32)])
    counts = made.magnitudes
    assert counts.sum() == 5
    assert counts[0] == 2
    assert counts[int(3 / made.width)] == 2


@settings(deadline=None, max_examples=60)
@given(SAMPLES, st.randoms())
def test_shards_merged_in_any_order_are_one_pass(samples, random):
    whole = histogram(samples)
    shards = [histogram([sample]) for sample in samples]
    while len(shards) > 1:  # any order, any nesting
        random.shuffle(shards)
        shards.append(merge(shards.pop(), shards.pop()))
    assert same(shards[0], whole)
    random.shuffle(samples)
    assert same(histogram(samples), whole)


def test_merging_with_nothing_changes_nothing_and_leaves_both_as_they_were():
    a, b = histogram([np.float32([1, 2])]), histogram([np.float32([-1000])])
    before = histogram([np.float32([1, 2])])
    assert same(merge(a, Histogram()), a)
    merge(a, b)
    assert same(a, before)


def test_values_of_every_size_fit():
    tiny, huge = np.float32(1e-45), np.finfo(np.float32).max
    assert histogram([np.zeros(3, np.float32)]).counts[HALF - 1] == 3
    for value in (tiny, -tiny, huge, -huge):
        made = histogram([np.array([value, 0, 1], np.float32), np.zeros(2, np.float32)])
        assert made.counts.sum() == 5
        assert made.low == min(value, 0) and made.high == max(value, 1)


@pytest.mark.parametrize("bad", [[], [1, np.nan], [np.inf, 0], [-np.inf, np.inf]])
def test_values_that_are_no_numbers_are_refused_and_change_nothing(bad):
    made = histogram([np.float32([1])])
    with pytest.raises(InputError, match="expected finite values"):
        made.add(np.array(bad, np.float32))
    assert same(made, histogram([np.float32([1])]))


@settings(deadline=None, max_examples=20)
@given(SAMPLES)
def test_stored_and_read_again_is_the_same(samples):
    made = {"a/b": histogram(samples), "c": Histogram()}
    read = from_arrays(to_arrays(made))
    assert list(read) == ["a/b", "c"]
    assert same(read["a/b"], made["a/b"]) and same(read["c"], made["c"])
