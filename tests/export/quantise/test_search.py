"""Which layer costs how much, and as few layers as possible in float so that the gate holds."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from edgeflock.calibration.ranges import activation_ranges
from edgeflock.export.graph import predict
from edgeflock.export.onnx import export_onnx
from edgeflock.export.quantise import search as search_module
from edgeflock.export.quantise.forms import check_form, quantize
from edgeflock.export.quantise.search import search
from edgeflock.export.quantise.sensitivity import float_gains, scores, sensitivity, sqnr_db
from edgeflock.export.recipe import Judgement
from edgeflock.runtime.bundle.manifest import Criterion

LAYERS = 5


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """Five convolutions in a row. The second and the fourth hand on one huge channel that leaves the others no bits."""
    torch.manual_seed(0)
    layers = []
    for i in range(LAYERS):
        layers += [nn.Conv2d(1 if i == 0 else 8, 8, 3, padding=1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)]
    chain = nn.Sequential(*layers).eval()
    for loud, by in ((2, 60), (6, 500)):
        with torch.no_grad():
            layers[loud].weight[0] *= by
            layers[loud].bias[0] = by
            layers[loud + 2].weight[:, 0] /= by**2
    fp32 = export_onnx(chain, {"image": (1, 1, 12, 12)}, ["answer"])
    rng = np.random.default_rng(0)
    calibration, held_out = ({"image": rng.random((12, 1, 12, 12), np.float32)} for _ in range(2))
    ranges = activation_ranges(fp32, calibration, "minmax", cache=tmp_path_factory.mktemp("ranges"))
    reference = predict(fp32, held_out)
    convolutions = [node.name for node in fp32.graph.node if node.op_type == "Conv"]

    def quality(kept, form="int8"):
        return sqnr_db(reference, predict(quantize(fp32, ranges, form, kept), held_out))

    return SimpleNamespace(
        fp32=fp32,
        ranges=ranges,
        feeds=calibration,
        reference=reference,
        held_out=held_out,
        convolutions=convolutions,
        quality=quality,
    )


class Gate:
    """Demands an SQNR on the held-out samples, and counts how often it is asked."""

    def __init__(self, net, limit):
        self.net, self.limit, self.asked = net, limit, 0

    def __call__(self, model):
        self.asked += 1
        value = sqnr_db(self.net.reference, predict(model, self.net.held_out))
        criterion = Criterion(name="SQNR", value=value, limit=self.limit, at="least", unit="dB")
        return Judgement(metric="SQNR", unit="dB", value=value, fp32=200.0, constant=0.0, criteria=[criterion])


def test_the_layers_that_cost_most_alone_explain_what_all_cost_together(net):
    rows = sensitivity(net.fp32, net.ranges, "int8", net.held_out)
    assert [row.node for row in rows] == net.convolutions
    assert {row.op for row in rows} == {"Conv"}
    first, second, *others = sorted(rows, key=lambda row: row.sqnr_db)
    assert {first.node, second.node} == set(net.convolutions[3:])  # what hands on and takes in the huge channel
    assert first.sqnr_db == pytest.approx(net.quality([]), abs=2)
    assert min(row.sqnr_db for row in others) > second.sqnr_db + 20


def test_the_score_is_the_task_metric_of_the_answers(net):
    rows = sensitivity(
        net.fp32, net.ranges, "int8", net.held_out, score=lambda answers: sqnr_db(net.reference, answers)
    )
    assert [row.score for row in rows] == [row.sqnr_db for row in rows]


def test_a_layer_alone_in_float_gains_what_it_costs_among_the_others(net):
    rows = sensitivity(net.fp32, net.ranges, "int8", net.held_out)
    gained = float_gains(rows, net.fp32, net.ranges, "int8", net.held_out)
    whole = net.quality([])
    for row in gained:
        assert row.gain_db == pytest.approx(net.quality([row.node]) - whole)


def test_every_operator_is_a_layer_for_a_dsp(net):
    rows = sensitivity(net.fp32, net.ranges, "int8-qnn", net.held_out)
    assert {"Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"} == {row.op for row in rows}


def test_progress_is_told(net):
    told = []
    sensitivity(net.fp32, net.ranges, "int8", net.feeds, on_progress=lambda *all: told.append(all))
    assert told == [(i + 1, LAYERS, name) for i, name in enumerate(net.convolutions)]


def test_nothing_stays_float_where_the_gate_holds(net):
    gate = Gate(net, net.quality([]) - 1)
    found = search(net.fp32, net.ranges, "int8", gate, net.feeds)
    assert (found.kept, gate.asked, found.judgement.passed) == ([], 1, True)
    assert found.model.SerializeToString() == quantize(net.fp32, net.ranges, "int8").SerializeToString()
    assert len(found.table) == LAYERS


@pytest.mark.parametrize("share", [0.15, 0.5, 0.85])
def test_no_layer_in_float_could_be_quantised(net, share):
    whole = net.quality([])
    best = max(net.quality(kept) for kept in combinations(net.convolutions, LAYERS - 1))
    limit = whole + share * (best - whole)
    found = search(net.fp32, net.ranges, "int8", Gate(net, limit), net.feeds)
    assert found.judgement.passed
    assert found.kept
    assert check_form(found.model, "int8", found.kept) == []
    for node in found.kept:
        assert net.quality([other for other in found.kept if other != node]) < limit
    assert found.judgement.value == pytest.approx(net.quality(found.kept))
    assert found.steps[0].kept == []
    assert not found.steps[0].passed


def test_two_layers_that_share_a_rounded_tensor_are_left_in_float_together(net):
    """Each alone gains nothing, since the other still rounds what is between them."""
    whole, pair = net.quality([]), net.convolutions[3:]
    assert all(net.quality([node]) < whole + 1 for node in pair)
    found = search(net.fp32, net.ranges, "int8", Gate(net, whole + 3), net.feeds)
    assert found.judgement.passed
    assert set(pair) <= set(found.kept)


def test_no_candidate_is_judged_twice(net):
    whole = net.quality([])
    gate = Gate(net, whole + 0.5)
    found = search(net.fp32, net.ranges, "int8", gate, net.feeds)
    tried = [tuple(step.kept) for step in found.steps]
    assert len(set(tried)) == len(tried) == gate.asked


def test_the_gate_runs_a_bounded_number_of_times(net, monkeypatch):
    monkeypatch.setattr(search_module, "TRIALS", 1)
    whole = net.quality([])
    best = max(net.quality(kept) for kept in combinations(net.convolutions, LAYERS - 1))
    gate = Gate(net, whole + 0.85 * (best - whole))
    found = search(net.fp32, net.ranges, "int8", gate, net.feeds)
    assert found.judgement.passed
    assert gate.asked <= 1 + 2 * 4  # two rankings of five: doubled twice, bisected once


def test_where_nothing_helps_the_whole_is_given_back_with_the_verdict(net):
    found = search(net.fp32, net.ranges, "int8", Gate(net, 1000), net.feeds)
    assert not found.judgement.passed
    assert found.kept == []
    assert all(row.gain_db is not None for row in found.table)
    assert not any(step.passed for step in found.steps)


@pytest.mark.parametrize("passing", [True, False])
def test_a_dsp_gets_all_or_nothing(net, passing):
    gate = Gate(net, net.quality([], "int8-qnn") + (-1 if passing else 1))
    found = search(net.fp32, net.ranges, "int8-qnn", gate, net.feeds)
    assert (found.kept, gate.asked, found.judgement.passed) == ([], 1, passing)
    assert check_form(found.model, "int8-qnn") == []
    assert bool(found.table) is not passing  # which layers are to blame


def test_what_the_recipe_keeps_in_float_is_not_tried(net):
    first, *others = net.convolutions
    found = search(net.fp32, net.ranges, "int8", Gate(net, 0), net.feeds, [first])
    assert [row.node for row in found.table] == others
    assert check_form(found.model, "int8", [first]) == []


def test_sqnr_is_that_of_the_worst_output():
    reference = {"a": np.array([[3.0], [4.0]]), "b": np.array([[1.0], [1.0]])}
    noisy = {"a": reference["a"] + 0.05, "b": reference["b"] + 0.1}
    assert sqnr_db(reference, noisy) == pytest.approx(20)
    assert sqnr_db(reference, {**noisy, "b": reference["b"]}) == pytest.approx(10 * np.log10(12.5 / 0.0025))
    assert sqnr_db(reference, reference) == 200


def test_of_a_saturating_answer_the_scores_are_compared():
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["s"]), helper.make_node("Softmax", ["s"], ["p"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2))],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, (1, 2))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert scores(model, {"x": np.array([[90.0, -3.0]], np.float32)})["p"].tolist() == [[90, 0]]
