"""The gate judges every form against fp32, and says why it refuses one."""

from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgeflock.export.gate import Gate, summary
from edgeflock.export.quantise.search import SearchResult
from edgeflock.export.recipe import Judgement, Recipe, Samples
from edgeflock.runtime.bundle.manifest import Criterion
from edgeflock.runtime.errors import GateError

NUMBERS = np.array([[1.0], [2.0], [3.0], [0.0]], np.float32)


def times(factor):
    """Net that multiplies its input; infinity times 0 is no number."""
    shape = [1, 1]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    held = helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "times", ends[:1], ends[1:], [held])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def judge(fp32, candidate, samples):
    apart = float(np.abs(candidate["y"] - fp32["y"]).max())
    criterion = Criterion(name="distance from fp32", value=apart, limit=0.5)
    return Judgement(
        metric="error", unit="", value=apart, fp32=0.0, constant=2.0, criteria=[criterion], options=["--max-apart"],
        worst=["sample c"],
    )  # fmt: skip


@pytest.fixture
def gate(tmp_path):
    samples = Samples({"x": NUMBERS}, {}, list("abcd"), "5" * 64)
    return Gate(SimpleNamespace(validation=samples, judge=judge, answers=Recipe.answers), times(1), tmp_path / "report")


def test_a_form_that_answers_like_fp32_goes_through_with_a_report(gate):
    model = times(1.1)
    verdict = gate.let_through("fp16", SearchResult(model, ["/head"], gate.judge(model), []))
    assert (verdict.precision, verdict.samples, verdict.data) == ("fp16", 4, "4 samples, SHA-256 5555555555555555")
    assert (gate.report / "fp16.json").exists()
    assert summary(verdict, ["/head"]) == "error 0.3000 (fp32 0.0000, constant 2.0000), kept in float: /head"


def test_a_form_that_does_not_leaves_its_report_and_the_ways_out(gate):
    model = times(2)
    with pytest.raises(GateError, match=r"refuses the int8 net\. .*Worst samples: sample c\.") as refused:
        gate.let_through("int8", SearchResult(model, [], gate.judge(model), []))
    ways = "train longer, or calibrate with other samples (--calib) or another --method, or ship another --precision "
    assert ways in str(refused.value) and "set --max-apart to what your data allows" in str(refused.value)
    assert (gate.report / "int8.json").exists()


def test_an_answer_that_is_no_number_is_never_judged(gate):
    with pytest.raises(GateError, match="y is not finite for a and 4 of 4 samples; expected numbers"):
        gate.judge(times(np.inf))
