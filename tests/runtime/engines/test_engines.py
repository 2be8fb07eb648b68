"""Engines by name: what each takes, and why one cannot be used."""

import pytest

from edgeflock.runtime.board.known_bad import KnownBad, known_bad_here
from edgeflock.runtime.engines import ENGINES, REFERENCE, engine_problems, open_engine
from edgeflock.runtime.errors import EngineError


def test_the_reference_engine_can_always_be_used():
    problems = engine_problems()
    assert tuple(problems) == ENGINES and problems["onnxruntime-cpu"] is None


def test_every_problem_ends_with_what_to_do():
    for name, problem in engine_problems().items():
        assert problem is None or any(way in problem for way in ("install", "Replace", "use ")), name


def test_unknown_engines_are_refused_with_the_known_ones(nets):
    with pytest.raises(EngineError, match=r"no engine 'ncnn', only onnxruntime-cpu, openvino, "):
        open_engine("ncnn", nets.fp32, "fp32")


def test_a_precision_that_is_for_other_engines_is_refused_with_their_names(nets):
    with pytest.raises(EngineError, match=r"openvino takes int8, fp32, not 'int8-trt', which is for tensorrt, "):
        open_engine("openvino", nets.int8, "int8-trt")
    with pytest.raises(EngineError, match=r"not 'int4', which is for no engine"):
        open_engine("openvino", nets.int8, "int4")


def test_the_reference_engine_runs_what_is_made_for_others(nets):
    assert open_engine(REFERENCE, nets.int8, "int8-trt").precision == "int8-trt"


@pytest.mark.parametrize(("stops", "usable"), [(("int8",), True), (("int8", "fp32"), False)])
def test_versions_known_to_fail_stop_the_precisions_they_fail_in(nets, monkeypatch, stops, usable):
    entry = KnownBad("onnxruntime", ">=1", "it fails (measured)", "use another", stops=stops)
    monkeypatch.setattr("edgeflock.runtime.board.known_bad.KNOWN_BAD", (entry,))
    with pytest.raises(EngineError, match=r"cannot be used here with int8: onnxruntime .*measured.*use another"):
        open_engine("onnxruntime-cpu", nets.int8, "int8")
    assert (engine_problems()["onnxruntime-cpu"] is None) == usable


@pytest.mark.parametrize(
    ("board", "version", "stops"),
    [
        ("NVIDIA Jetson Nano Developer Kit", "8.5.2", {"int8-trt"}),
        ("NVIDIA Jetson Orin Nano Developer Kit", "10.3.0", set()),
        ("NVIDIA Jetson AGX Orin", "10.2.0.19", {"fp32", "fp16", "int8-trt"}),
    ],
)
def test_tensorrt_is_stopped_where_hardware_or_version_fails(board, version, stops):
    found = known_bad_here(lambda package: version, board, "tensorrt")
    assert {precision for entry, _ in found for precision in entry.stops} == stops
