"""Nets are parsed and built by TensorRT-RTX, which needs no GPU for it: once, and with lines of progress."""

import re
import sys

import pytest

from edgeflock.runtime.engines import tensorrt_build
from edgeflock.runtime.engines.cache import EngineCache
from edgeflock.runtime.engines.tensorrt_build import build_engine, cached_engine, import_tensorrt
from edgeflock.runtime.errors import EngineError

# TensorRT-RTX keeps the timing cache of TensorRT's API without using it.
pytestmark = pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
KEY = {"onnx": "0" * 64, "precision": "fp32", "tensorrt": "1.7.1", "sm": "8.6"}


@pytest.fixture(scope="module")
def trt():
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install edgeflock[trt-rtx]")
    return import_tensorrt("tensorrt_rtx")


@pytest.fixture
def build(trt, tmp_path):
    """``build(path, precision="fp32", **key)`` through the cache; `build.lines` is what was said."""
    lines = []

    def run(path, precision="fp32", **key):
        cache = EngineCache("tensorrt", tmp_path)
        return cached_engine(path, precision, trt, cache, KEY | key, lines.append, capability="SM86")

    run.lines = lines
    return run


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-trt"])
def test_each_form_for_nvidia_is_parsed_and_built(trt, form, precision):
    engine, timings = build_engine(form(precision)[0], precision, trt, capability="SM86")
    assert len(engine) > 1000 and timings


def test_a_net_of_volumes_is_parsed_and_built(trt, volumes):
    assert len(build_engine(volumes.path, "fp32", trt, capability="SM86")[0]) > 1000


def test_the_form_for_cpus_is_refused_with_the_node_and_nvidias_words(trt, form):
    with pytest.raises(EngineError, match=r"does not parse .*int8\.onnx: DequantizeLinear '.+': .+"):
        build_engine(form("int8")[0], "int8-trt", trt, capability="SM86")


def test_an_operator_that_tensorrt_lacks_is_refused_by_name(trt, save_net):
    path = save_net("det", [("Det", ["x"], "y", {})], {"x": [1, 4, 4]}, {"y": [1]}, {})
    with pytest.raises(EngineError, match=r"does not parse .*det\.onnx: .*Det"):
        build_engine(path, "fp32", trt, capability="SM86")


def test_open_shapes_are_refused_with_the_way_out(trt, save_net):
    path = save_net("open", [("Relu", ["x"], "y", {})], {"x": ["batch", 4]}, {"y": ["batch", 4]}, {})
    with pytest.raises(EngineError, match=r"'x' of .*open shape.*fixed sizes"):
        build_engine(path, "fp32", trt, capability="SM86")


def test_an_engine_is_built_once(build, nets):
    built = build(nets.fp32)
    said = len(build.lines)
    assert build(nets.fp32) == built
    assert len(build.lines) == said == 2


def test_a_second_build_says_which_field_made_it_necessary(build, nets):
    build(nets.fp32)
    build(nets.fp32, sm="8.9")
    assert build.lines[0].startswith("TensorRT ") and "no engine yet" in build.lines[0]
    assert build.lines[2].endswith("differs in: sm was 8.6, is 8.9.")


def test_a_build_tells_how_far_it_is(build, nets, monkeypatch):
    monkeypatch.setattr(tensorrt_build, "PROGRESS_S", 0.002)
    build(nets.fp32)
    steps = [line for line in build.lines if re.match(r"building fp32\.onnx: \d+ s, .+ \d+ of \d+", line)]
    assert steps


def test_a_version_without_a_monitor_tells_the_time(trt, nets, monkeypatch):
    monkeypatch.setattr(tensorrt_build, "PROGRESS_S", 0.002)
    monkeypatch.delattr(trt, "IProgressMonitor")
    lines = []
    build_engine(nets.fp32, "fp32", trt, progress=lines.append, capability="SM86")
    assert lines and all(re.fullmatch(r"building fp32\.onnx: \d+ s", line) for line in lines)


def test_timings_of_another_version_are_ignored(trt, nets):
    assert build_engine(nets.fp32, "fp32", trt, timings=b"not a timing cache", capability="SM86")[0]


def test_timings_are_shared_between_nets_and_kept_apart_between_gpus(build, nets, volumes, tmp_path):
    build(nets.fp32)
    build(volumes.path, onnx="1" * 64)
    assert len(list((tmp_path / "tensorrt").glob("*.timing"))) == 1
    build(nets.fp32, sm="8.9")
    assert len(list((tmp_path / "tensorrt").glob("*.timing"))) == 2


def test_a_tensorrt_that_is_not_there_or_too_old_is_refused_with_the_way_out(tmp_path, monkeypatch):
    with pytest.raises(EngineError, match=r"no_such_tensorrt cannot be imported.*docs/engines\.md"):
        import_tensorrt("no_such_tensorrt")
    (tmp_path / "tensorrt.py").write_text("__version__ = '8.2.1.8'\n")  # JetPack 4.6
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EngineError, match=r"8\.2\.1\.8 is older than 8\.5.*onnxruntime-tensorrt"):
        import_tensorrt()
    del sys.modules["tensorrt"]
