"""QNN: an NPU is never pretended, and every refusal has the way out."""

import sys
from types import SimpleNamespace

import pytest

from edgeflock.runtime.engines import engine_problems, qnn
from edgeflock.runtime.engines.qnn import npu_problem, open_qnn
from edgeflock.runtime.errors import EngineError


def test_the_hexagon_of_the_rb5_is_refused_with_its_ways_out(nets):
    with pytest.raises(EngineError, match=r"htp_arch 66.*v66.*onnxruntime-cpu with int8.*QAIRT"):
        open_qnn(nets.int8, "int8-qnn", htp_arch="66")


def test_unknown_hexagons_are_refused_with_the_known_ones(nets):
    with pytest.raises(EngineError, match=r"htp_arch must be one of 0, 68, 69, 73, 75, 81"):
        open_qnn(nets.int8, "int8-qnn", htp_arch="67")


@pytest.mark.parametrize("model", ["Qualcomm Technologies, Inc. Robotics RB5", "QRB5165"])
def test_an_rb5_is_told_so_whatever_is_installed(monkeypatch, model):
    monkeypatch.setattr(qnn, "board_model", lambda: model)
    assert "v66" in npu_problem() and "v66" in engine_problems()["onnxruntime-qnn"]


def test_a_board_of_a_later_generation_is_not_taken_for_an_rb5(monkeypatch):
    monkeypatch.setattr(qnn, "board_model", lambda: "Qualcomm Technologies, Inc. Robotics RB3gen2")
    assert "v66" not in npu_problem()


@pytest.fixture
def plugin(monkeypatch):
    """A package onnxruntime_qnn whose library is not one, on an ONNX Runtime that lists the given devices."""
    onnxruntime = pytest.importorskip("onnxruntime", minversion="1.24")
    kinds = onnxruntime.OrtHardwareDeviceType

    def install(*kinds_listed):
        module = SimpleNamespace(get_library_path=lambda: "/nowhere/libonnxruntime_providers_qnn.so", __spec__=object())
        monkeypatch.setitem(sys.modules, "onnxruntime_qnn", module)
        devices = [
            SimpleNamespace(ep_name="QNNExecutionProvider", device=SimpleNamespace(type=getattr(kinds, kind)))
            for kind in kinds_listed
        ]
        monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: devices)

    return install


def test_a_library_that_does_not_register_is_an_error_with_both_versions(plugin):
    plugin()
    problem = npu_problem()
    assert "refuses the QNN provider (onnxruntime-qnn" in problem and "1.24.2" in problem


def test_an_npu_is_taken(plugin):
    plugin("CPU", "NPU")
    assert npu_problem() is None


def test_the_placeholder_that_2_3_0_lists_on_the_cpu_is_not_taken_for_an_npu(plugin, monkeypatch):
    plugin("CPU")
    monkeypatch.setattr("onnxruntime.register_execution_provider_library", lambda name, path: None)
    assert "sees no NPU" in npu_problem() and "onnxruntime-cpu with int8" in npu_problem()
