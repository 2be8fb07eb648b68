"""From bundle to record: real engines, the shipped bundle, short measurements."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeflock.runtime.bench import measure as measuring
from edgeflock.runtime.bench.cli import bench_app
from edgeflock.runtime.bench.latency import Latency
from edgeflock.runtime.bench.machine import board_state, commit, forget_peak_rss, peak_rss_mib, this_board
from edgeflock.runtime.bench.measure import EMPTY_NET, Cell, Chain, digest, example_video, measure, measure_apart
from edgeflock.runtime.bench.plan import plans
from edgeflock.runtime.bench.record import BenchFile, Measured, Missing
from edgeflock.runtime.bundle.bundle import Bundle, default_bundle
from edgeflock.runtime.errors import EdgeflockError, InputError, MissingExtra

CPU = "onnxruntime-cpu"
SHORT = {"seconds": 0.15, "warm_up_s": 0.2}


def plan(**fields):
    return Cell(**({"bundle": default_bundle(), "engine": CPU, "precision": "int8"} | SHORT | fields))


@pytest.fixture
def empty(tmp_path):
    path = tmp_path / "empty.onnx"
    path.write_bytes(EMPTY_NET)
    return path


def test_the_empty_net_is_what_the_onnx_package_builds():
    onnx = pytest.importorskip("onnx")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "empty", values[:1], values[1:])
    net = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    assert net == onnx.load_from_string(EMPTY_NET)


def test_a_net_is_measured_and_described():
    cell = measure(plan())
    assert (cell.net, cell.engine, cell.precision, cell.scope) == ("fadnet", CPU, "int8", "net")
    assert cell.bundle_sha256 == Bundle.open(default_bundle()).digest
    assert cell.frames == cell.latency.samples > 10
    assert 0 < cell.harness_ms < cell.latency.min_ms
    assert cell.peak_rss_mib > 20 and cell.cpu_ms_per_frame > 0
    assert set(cell.placement) == {"CPUExecutionProvider"}
    assert cell.before.clocks_mhz.keys() == cell.after.clocks_mhz.keys()
    assert cell.response is None and cell.rate_hz is None


def test_a_task_runs_its_net_on_an_input_of_its_own():
    net, task = measure(plan(seconds=0.5)), measure(plan(scope="task", seconds=0.5))
    assert task.input_sha256 != net.input_sha256 and task.net_sha256 == net.net_sha256


def test_a_paced_cell_has_the_time_from_the_slot_as_well():
    cell = measure(plan(mode="paced", rate_hz=50.0, seconds=0.4))
    assert cell.frames + cell.dropped == 20
    assert cell.fps == 50 * cell.frames / 20
    assert cell.response.mean_ms >= cell.latency.mean_ms


def test_a_file_is_fed_with_the_same_noise_every_time(empty):
    first, second = (measure(plan(bundle=None, net=empty, precision="fp32")) for _ in range(2))
    assert first.input_sha256 == second.input_sha256
    assert (first.bundle, first.net) == (None, "empty")


def test_a_cell_in_a_process_of_its_own_is_the_same_cell(empty):
    cell = measure_apart(plan(bundle=None, net=empty, precision="fp32"), "empty")
    assert isinstance(cell, Measured) and cell.frames > 10


def test_what_goes_wrong_in_that_process_is_the_reason(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a net")
    cell = measure_apart(plan(bundle=None, net=broken, precision="fp32"), "broken")
    assert isinstance(cell, Missing) and "does not load" in cell.reason


def test_a_process_that_is_killed_is_a_missing_cell(monkeypatch, empty):
    monkeypatch.setattr(measuring.sys, "executable", "/bin/sh")
    real = measuring.subprocess.run
    monkeypatch.setattr(measuring.subprocess, "run", lambda command, **how: real(["sh", "-c", "kill -9 $$"], **how))
    assert measure_apart(plan(bundle=None, net=empty), "empty").reason == "the process was killed by signal 9"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mode": "paced"}, "--rate"),
        ({"bundle": None}, "bundle or an ONNX file"),
        ({"scope": "chain", "mode": "back-to-back"}, "camera sets the pace"),
        ({"precision": "int4"}, "int4"),
        ({"engine": "tvm"}, "tvm"),
    ],
)
def test_what_cannot_be_measured_says_why(fields, says):
    with pytest.raises(EdgeflockError, match=says):
        measure(plan(**fields))


def test_the_chain_comes_through_an_entry_point(monkeypatch):
    asked = {}

    def chain(bundle, engine, precision, source, rate_hz, seconds, settle_s, keys):
        asked.update(source=source, rate_hz=rate_hz, settle_s=settle_s)
        return Chain(np.full(90, 4_000_000), 3.0, 2, 90_000_000, 300.0, CPU, precision)

    entry = SimpleNamespace(load=lambda: chain)
    monkeypatch.setattr(measuring, "entry_points", lambda group, name: [entry])
    cell = measure(plan(scope="chain", mode="paced", rate_hz=30.0, seconds=0.1))
    assert asked["source"].endswith(".avi") and asked["settle_s"] == 0.2
    assert (cell.latency.mean_ms, cell.fps, cell.dropped, cell.cpu_ms_per_frame) == (4.0, 30.0, 2, 1.0)


def test_without_ros_the_chain_says_what_to_install(monkeypatch):
    monkeypatch.setattr(measuring, "entry_points", lambda group, name: [])
    with pytest.raises(MissingExtra, match=r"edgeflock\[drive\]"):
        measure(plan(scope="chain", mode="paced", rate_hz=30.0))


def test_the_example_becomes_a_video_of_the_right_rate(tmp_path):
    import cv2

    video = cv2.VideoCapture(str(example_video(Bundle.open(default_bundle()), tmp_path, 60.0, 1.0)))
    assert (video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)) == (60, 360)


def test_the_input_digest_knows_bytes_shape_and_type():
    a = np.arange(6, dtype=np.uint8)
    found = {digest([x]) for x in (a, a.reshape(2, 3), a.astype(np.int8), a + 1, "rgb8")}
    assert len(found) == 5 and digest([a.copy()]) in found


def test_the_peak_of_memory_is_of_this_cell_only():
    block = np.ones(30_000_000)
    before = peak_rss_mib()
    del block
    forget_peak_rss()
    assert peak_rss_mib() < before - 100


def test_the_board_is_named():
    board = this_board()
    assert board.processor and board.cores >= 1 and board.versions["onnxruntime"]
    assert this_board("kitchen").name == "kitchen"
    assert 0 <= board_state().busy_percent <= 100
    assert commit() is None or len(commit().removesuffix("-dirty")) == 40


def all_plans(**fields):
    known = {"bundle": None, "net": None, "engines": [CPU], "precisions": None, "scopes": ["net"]}
    return plans(**(known | {"modes": ["back-to-back"], "rates": [30.0], "keys": []} | fields))


def test_every_combination_is_a_cell():
    name, found = all_plans(scopes=["net", "task"], modes=["back-to-back", "paced"], rates=[10.0, 30.0])
    precisions = {p.precision for p in found}
    assert name == "fadnet" and {"fp32", "int8"} <= precisions
    assert len(found) == len(precisions) * 2 * (1 + 2)


def test_the_chain_is_paced_and_runs_the_bundles_default_unless_named():
    _, (default,) = all_plans(engines=None, scopes=["chain"])
    assert (default.engine, default.mode, default.rate_hz) == (CPU, "paced", 30.0)
    _, found = all_plans(scopes=["chain"], precisions=["fp32", "int8"], rates=[30.0, 60.0])
    assert len(found) == 4


def test_an_engine_that_is_not_usable_is_a_missing_cell_with_its_reason(monkeypatch):
    from edgeflock.runtime.bench import plan as planning

    monkeypatch.setattr(planning, "engine_problems", lambda: {CPU: "broken wheel"})
    monkeypatch.setattr(planning, "ENGINES", (CPU,))
    _, found = all_plans(engines=["all"])
    assert {type(cell) for cell in found} == {Missing} and found[0].reason == "broken wheel"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"engines": ["tvm"]}, "no engine tvm, only onnxruntime-cpu"),
        ({"scopes": ["net", "galaxy"]}, "no scope galaxy, only net, task, chain"),
        ({"modes": ["sprint"]}, "no mode sprint"),
        ({"precisions": ["int4"]}, "not int4"),
        ({"engines": ["onnxruntime-qnn"], "precisions": ["fp32"]}, "onnxruntime-qnn takes int8-qnn"),
        ({"net": default_bundle() / "nothing.onnx"}, "no file"),
        ({"net": default_bundle(), "bundle": default_bundle()}, "got both"),
    ],
)
def test_plans_that_make_no_sense_are_refused(fields, says):
    with pytest.raises(InputError, match=says):
        all_plans(**fields)


def test_run_report_and_diff_on_the_command_line(tmp_path, empty):
    run = CliRunner()
    asked = ["run", "--net", str(empty), "--engine", CPU, "--seconds", "0.1", "--warm-up", "0.1", "--board", "desk 1"]
    done = run.invoke(bench_app, [*asked, "--mode", "back-to-back", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    file = tmp_path / "desk-1-empty.json"
    content = BenchFile.read(file)
    assert content.board.name == "desk 1" and len(content.cells) == 1
    assert f"next: edgeflock bench report '{file}'".replace("'", "") in done.output.replace("'", "")
    slower = json.loads(file.read_text())
    latency = slower["cells"][0]["latency"]
    slower["cells"][0]["latency"] = Latency.of(np.full(1000, int(latency["max_ms"] * 3e6))).model_dump()
    (tmp_path / "slower.json").write_text(json.dumps(slower))
    done = run.invoke(bench_app, ["diff", str(file), str(tmp_path / "slower.json"), "--fail-above", "1.5"])
    assert done.exit_code == 1 and "worse" in done.output
    assert run.invoke(bench_app, ["diff", str(file), str(file), "--fail-above", "1.5"]).exit_code == 0
    pytest.importorskip("matplotlib")
    done = run.invoke(bench_app, ["report", str(file), "--out", str(tmp_path / "site")])
    assert done.exit_code == 0 and (tmp_path / "site/benchmark.html").is_file()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_file_is_recorded_as_what_it_is_whatever_it_is_called(tmp_path, precision):
    (tmp_path / "net.onnx").write_bytes((default_bundle() / f"fadnet_{precision}.onnx").read_bytes())
    _, found = all_plans(net=tmp_path / "net.onnx")
    assert [cell.precision for cell in found] == [precision]
    other = {"fp32": "int8", "int8": "fp32"}[precision]
    with pytest.raises(InputError, match=f"is a net in {precision}, not {other}: leave --precision out"):
        all_plans(net=tmp_path / "net.onnx", precisions=[other])


def test_which_form_of_int8_a_file_has_is_the_users_to_say():
    with pytest.raises(InputError, match="onnxruntime-qnn takes int8-qnn"):
        all_plans(net=default_bundle() / "fadnet_int8.onnx", engines=["onnxruntime-qnn"])
    _, found = all_plans(
        net=default_bundle() / "fadnet_int8.onnx", engines=["onnxruntime-qnn"], precisions=["int8-qnn"]
    )
    assert found[0].precision == "int8-qnn"


@pytest.mark.parametrize(("kind", "shape"), [("FLOAT", ["n", 3]), ("INT64", [1, 3]), ("FLOAT16", [1, 3])])
def test_an_input_that_noise_does_not_fit_has_a_way_out(tmp_path, kind, shape):
    onnx = pytest.importorskip("onnx")
    h, kind = onnx.helper, getattr(onnx.TensorProto, kind)
    values = [h.make_tensor_value_info(name, kind, shape) for name in "xy"]
    net = h.make_model(h.make_graph([h.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:]), ir_version=8)
    net.opset_import[0].version = 17
    onnx.save(net, tmp_path / "net.onnx")
    with pytest.raises(InputError, match=r"net\.onnx: expected inputs of float32 .* got x, .*make_dynamic_shape_fixed"):
        all_plans(net=tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--scope", "task"], "no effect with --net, which measures scope net: --scope"),
        (["--source", "sim"], "no effect with --net"),
        (["--mode", "back-to-back", "--rate", "10"], "no effect without --mode paced: --rate"),
    ],
)
def test_options_that_would_be_dropped_are_refused(empty, options, says):
    assert says in str(CliRunner().invoke(bench_app, ["run", "--net", str(empty), *options]).exception)


@pytest.mark.parametrize("out", ["/proc/new", "{net}", "{bundle}/record.json", "{file}/x"])
def test_a_record_that_cannot_be_written_is_refused_before_measuring(tmp_path, empty, monkeypatch, out):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(measuring, "measure_apart", None)
    net = empty.rename(tmp_path / "net.json")
    out = out.format(net=net, bundle=default_bundle(), file=tmp_path / "file")
    options = [str(default_bundle())] if "bundles" in out else ["--net", str(net)]
    done = CliRunner().invoke(bench_app, ["run", *options, "--engine", CPU, "--out", out])
    assert isinstance(done.exception, EdgeflockError), done.output
    assert net.read_bytes() == EMPTY_NET and not (default_bundle() / "record.json").exists()
