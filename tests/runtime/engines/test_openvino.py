"""OpenVINO: fp32 is fp32, INT8 really runs in 8 bits, and not where it would saturate."""

import time

import numpy as np
import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install edgeflock[openvino]")
from edgeflock.runtime.engines import openvino as engine_module
from edgeflock.runtime.engines.openvino import OpenVinoEngine
from edgeflock.runtime.errors import EngineError


@pytest.mark.parametrize("threads", [1, 2])
def test_it_computes_in_float32_for_latency_on_the_threads_asked_for(nets, threads):
    compiled = OpenVinoEngine(nets.fp32, "fp32", threads)._compiled
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


def test_one_thread_means_the_callers(nets):
    engine = OpenVinoEngine(nets.fp32, "fp32")
    engine.bind({"image": nets.images[:1].copy()})
    engine.run()
    own, all_threads = time.thread_time(), time.process_time()
    for _ in range(200):
        engine.run()
    assert time.thread_time() - own > 0.9 * (time.process_time() - all_threads)


def test_no_layer_of_fp32_runs_in_less(nets):
    assert {unit.split()[-1] for unit in OpenVinoEngine(nets.fp32, "fp32").placement().values()} == {"f32"}


def test_the_convolutions_of_int8_run_in_8_bits(nets):
    placed = OpenVinoEngine(nets.int8, "int8").placement()
    convolutions = [unit for unit in placed.values() if "conv" in unit]
    assert len(convolutions) == 2 and all(unit.endswith(("u8", "i8")) for unit in convolutions), placed


def test_int8_is_refused_where_it_would_saturate(nets, monkeypatch):
    monkeypatch.setattr(engine_module, "lacks_vnni", lambda: True)
    with pytest.raises(EngineError, match=r"no VNNI.*onnxruntime-cpu.*fp32"):
        OpenVinoEngine(nets.int8, "int8")
    OpenVinoEngine(nets.fp32, "fp32")


def test_bound_memory_is_shared_and_not_copied(nets):
    engine = OpenVinoEngine(nets.fp32, "fp32")
    image = np.zeros((1, 1, 200, 200), np.float32)
    answer = engine.bind({"image": image})["steering"]
    assert engine._request.get_tensor("image").data.ctypes.data == image.ctypes.data
    assert engine._request.get_tensor("steering").data.ctypes.data == answer.ctypes.data
