"""Which calibration method makes a form."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgeflock.export.quantise import quantiser
from edgeflock.export.quantise.quantiser import Quantiser
from edgeflock.runtime.errors import GateError

FLOATS_ALLOWED, NO_FLOATS = "int8", "int8-qnn"


def tried(form, passing):
    """Methods that were tried, the one that was chosen, and whether the gate let it through."""
    methods = []

    class Counted(Quantiser):
        def _by(self, method, name, blame=True):
            if not blame or form == FLOATS_ALLOWED:
                methods.append(method)
            return SimpleNamespace(judgement=SimpleNamespace(passed=method in passing))

    order = ("entropy", "minmax", "mse")
    found, method = Counted(None, None, None, None, None, order, None).form(form)
    return methods, method, found.judgement.passed


@pytest.mark.parametrize("form", [FLOATS_ALLOWED, NO_FLOATS])
def test_the_preferred_method_is_the_only_one_where_it_passes(form):
    assert tried(form, {"entropy", "minmax"}) == (["entropy"], "entropy", True)


def test_a_form_that_may_hold_no_float_is_tried_with_the_other_methods_until_one_passes():
    assert tried(NO_FLOATS, {"minmax"}) == (["entropy", "minmax"], "minmax", True)


def test_where_no_method_passes_the_preferred_one_is_judged():
    assert tried(NO_FLOATS, set()) == (["entropy", "minmax", "mse"], "entropy", False)


def test_a_form_that_may_hold_float_was_searched_already():
    assert tried(FLOATS_ALLOWED, {"minmax"}) == (["entropy"], "entropy", False)


def test_the_method_that_answers_best_is_preferred_where_none_is_named():
    quality = {"entropy": 20.0, "minmax": 30.0, "mse": 25.0}

    class Ranked(Quantiser):
        def _ranked(self, name):
            return sorted(self.methods, key=quality.__getitem__, reverse=True)

        def _by(self, method, name, blame=True):
            return SimpleNamespace(judgement=SimpleNamespace(passed=method == "mse"))

    ranked = Ranked(None, None, None, None, None, tuple(quality), None, rank=True)
    assert [ranked.form(form)[1] for form in (FLOATS_ALLOWED, NO_FLOATS)] == ["minmax", "mse"]


def test_a_rewritten_graph_is_held_to_what_the_recipe_calls_the_same_net(monkeypatch):
    monkeypatch.setattr(quantiser, "prepare", lambda graph, name: graph)
    monkeypatch.setattr(quantiser, "predict", lambda graph, feeds: {"y": np.float32([1.00005])})

    class Held(Quantiser):
        _few, _reference = SimpleNamespace(feeds={}), {"y": np.float32([1.0])}

    def held(parity):
        Held(SimpleNamespace(net="n", parity=parity), None, None, None, None, (), None)._check_rewrites(None, "int8")

    held(1e-4)
    with pytest.raises(GateError, match="off by 5e-05, expected at most 1e-05"):
        held(1e-5)
