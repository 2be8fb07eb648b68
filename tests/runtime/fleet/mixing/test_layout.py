"""The flat model: what each batch-norm policy mixes, and what it refuses."""

import numpy as np
import pytest

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.mixing.layout import POLICIES, FlatLayout, check_statistics


def state(seed=0, batches=3):
    rng = np.random.default_rng(seed)
    return {
        "conv.weight": rng.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "bn.weight": rng.normal(size=4).astype(np.float32),
        "bn.running_mean": rng.normal(size=4).astype(np.float32),
        "bn.running_var": rng.uniform(1, 2, 4).astype(np.float32),
        "bn.num_batches_tracked": np.array(batches),
    }


@pytest.mark.parametrize(("policy", "size"), [("average", 36 + 4 + 8), ("local", 36 + 4), ("re-estimate", 36 + 4)])
def test_statistics_are_mixed_under_average_only_and_counters_never(policy, size):
    layout = FlatLayout.of(state(), policy)
    flat = layout.flatten(state())
    assert layout.size == size and flat.shape == (size,) and flat.dtype == np.float32


@pytest.mark.parametrize("policy", POLICIES)
def test_a_flat_model_restores_what_it_was_made_of(policy):
    layout = FlatLayout.of(state(), policy)
    restored = layout.restore(layout.flatten(state(1)), state(2))
    for name, value in restored.items():
        mixed = name in dict(layout.entries)
        assert np.array_equal(value, state(1 if mixed else 2)[name])
        assert value.dtype == state()[name].dtype
    assert ("bn.running_mean" in dict(layout.entries)) == (policy == "average")


def test_a_variance_cannot_fall_to_nothing():
    layout, own = FlatLayout.of(state()), state()
    negative = layout.restore(-layout.flatten(own), own)
    assert negative["bn.running_var"] == pytest.approx(0.1 * own["bn.running_var"])
    assert negative["bn.running_mean"] == pytest.approx(-own["bn.running_mean"])


def test_a_new_nets_variance_of_one_bounds_nothing():
    small = state() | {"bn.running_var": np.full(4, 1e-4, np.float32)}
    layout, fresh = FlatLayout.of(small), state(1, batches=0)
    assert np.array_equal(layout.restore(layout.flatten(small), fresh)["bn.running_var"], small["bn.running_var"])


def test_untrained_statistics_are_refused_where_they_would_be_used():
    fresh = state(batches=0)
    with pytest.raises(InputError, match="'bn' have seen no batch"):
        check_statistics(fresh)
    layout = FlatLayout.of(fresh, "local")
    with pytest.raises(InputError, match="no batch"):
        layout.restore(layout.flatten(state()), fresh)
    averaged = FlatLayout.of(fresh)
    averaged.restore(averaged.flatten(state()), fresh)


def test_other_nets_lengths_and_policies_are_refused():
    layout = FlatLayout.of(state())
    with pytest.raises(InputError, match="same net"):
        layout.restore(np.zeros(5, np.float32), state())
    with pytest.raises(InputError, match="'conv"):
        layout.flatten(state() | {"conv.weight": np.zeros((4, 1, 5, 5), np.float32)})
    with pytest.raises(InputError, match="'bn"):
        layout.flatten({name: value for name, value in state().items() if name != "bn.weight"})
    with pytest.raises(InputError, match="average, local, re-estimate"):
        FlatLayout.of(state(), "fedbn")


def test_only_some_layers_can_be_mixed():
    layout = FlatLayout.of(state(), layers="bn.")
    assert [name for name, _ in layout.entries] == ["bn.weight", "bn.running_mean", "bn.running_var"]
    own, theirs = state(0), state(1)
    mixed = layout.restore(layout.flatten(theirs), own)
    assert np.array_equal(mixed["conv.weight"], own["conv.weight"])
    assert np.array_equal(mixed["bn.weight"], theirs["bn.weight"])
    with pytest.raises(InputError, match="no layer's name begins with 'head': this net has conv, bn"):
        FlatLayout.of(state(), layers="head")
