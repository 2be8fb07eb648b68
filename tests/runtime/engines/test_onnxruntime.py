"""ONNX Runtime: the CPU is chosen on purpose, sleeps between frames, and computes INT8 exactly where it must."""

import onnxruntime
import pytest

from edgeflock.runtime.engines import onnxruntime as engine_module
from edgeflock.runtime.engines.base import check_placement
from edgeflock.runtime.engines.onnxruntime import OnnxRuntimeEngine, lacks_vnni
from edgeflock.runtime.errors import EngineError


def entry(engine, key):
    try:
        return engine._session.get_session_options().get_session_config_entry(key)
    except Exception:
        return None


def test_one_thread_that_does_not_spin_is_the_default(nets):
    engine = OnnxRuntimeEngine(nets.fp32, "fp32")
    assert engine._session.get_session_options().intra_op_num_threads == 1
    assert entry(engine, "session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize(
    ("precision", "lacks", "exact"), [("int8", True, True), ("int8", False, False), ("fp32", True, False)]
)
def test_exact_integers_only_for_quantised_nets_on_cpus_without_vnni(nets, monkeypatch, precision, lacks, exact):
    monkeypatch.setattr(engine_module, "lacks_vnni", lambda: lacks)
    engine = OnnxRuntimeEngine(getattr(nets, precision), precision)
    assert (entry(engine, "session.x64quantprecision") == "1") == exact


@pytest.mark.parametrize(
    ("machine", "flags", "lacks"),
    [
        ("x86_64", "fpu sse4_2 avx2", True),
        ("x86_64", "fpu avx2 avx512f avx512_vnni", False),
        ("x86_64", "fpu avx2 avx_vnni", False),
        ("AMD64", "fpu avx2 avx_vnni_int8_of_the_future", True),
        ("aarch64", "asimd", False),
    ],
)
def test_vnni_is_read_from_the_flags_of_the_cpu(tmp_path, monkeypatch, machine, flags, lacks):
    monkeypatch.setattr("platform.machine", lambda: machine)
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: avx_vnni inside\nflags\t\t: {flags}\n\n")
    assert lacks_vnni(tmp_path / "cpuinfo") is lacks


def test_an_x86_cpu_whose_flags_cannot_be_read_computes_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert lacks_vnni(tmp_path / "nothing")


def test_a_provider_that_is_not_there_is_an_error_and_not_the_cpu(nets):
    with pytest.raises(EngineError, match=r"no NoSuchExecutionProvider, only .*CPUExecutionProvider"):
        OnnxRuntimeEngine(nets.fp32, "fp32", provider="NoSuchExecutionProvider")


@pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers(), reason="this wheel has the CPU provider only"
)
def test_nodes_that_would_fall_back_are_an_error_unless_allowed(nets):
    # The Azure provider of the PyPI wheels takes no node of an ordinary net: a real fall-back.
    with pytest.raises(EngineError, match="CPU"):
        OnnxRuntimeEngine(nets.fp32, "fp32", provider="AzureExecutionProvider")
    engine = OnnxRuntimeEngine(nets.fp32, "fp32", provider="AzureExecutionProvider", allow_fallback=True)
    assert set(engine.placement().values()) == {"CPUExecutionProvider"}


def test_the_refusal_counts_the_nodes_and_names_one():
    placement = {"conv1": "QNNExecutionProvider", "det": "CPUExecutionProvider"}
    with pytest.raises(EngineError, match=r"1 of 2 nodes.*'det' on CPUExecutionProvider.*allow_fallback"):
        check_placement(placement, "QNNExecutionProvider", allow_fallback=False)
    check_placement(placement, "QNNExecutionProvider", allow_fallback=True)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_older_versions_tell_the_placement_from_a_profile_that_leaves_no_file(nets, tmp_path, monkeypatch, precision):
    monkeypatch.chdir(tmp_path)
    engine = OnnxRuntimeEngine(getattr(nets, precision), precision)
    placed = engine._profiled_placement()
    assert set(placed.values()) == {"CPUExecutionProvider"} and any(name.startswith("head") for name in placed)
    assert list(tmp_path.iterdir()) == []
    assert not engine._options.enable_profiling


def test_open_shapes_are_refused_with_the_way_out(tmp_path, nets):
    import onnx

    model = onnx.load(nets.fp32)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, tmp_path / "open.onnx")
    with pytest.raises(EngineError, match=r"'image'.*open shape \['batch', 1, 200, 200\].*fixed sizes"):
        OnnxRuntimeEngine(tmp_path / "open.onnx", "fp32")
