"""An ONNX file from anywhere becomes the form that the export takes, or is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeflock.export.foreign.onnx_file import adopt_file, read_onnx
from edgeflock.runtime.errors import DataError, InputError


@pytest.fixture
def file(tmp_path):
    """``file(opset=17, shape=(1, 3, 8, 8), ...)`` writes a net of one convolution and a mean."""

    def write(opset=17, shape=(1, 3, 8, 8), kind=TensorProto.FLOAT, nodes=(), name="net.onnx", **external):
        rng = np.random.default_rng(0)
        dtype = helper.tensor_dtype_to_np_dtype(
            TensorProto.FLOAT16 if kind == TensorProto.FLOAT16 else TensorProto.FLOAT
        )
        weight = numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(dtype), "w")
        last = [helper.make_node("Conv", ["pixels", "w"], ["seen"]), helper.make_node("GlobalMaxPool", ["seen"], ["y"])]
        first = helper.make_node("Identity", ["x"], ["pixels"])
        if kind == TensorProto.UINT8:
            first = helper.make_node("Cast", ["x"], ["pixels"], to=TensorProto.FLOAT)
        ends = TensorProto.FLOAT16 if kind == TensorProto.FLOAT16 else TensorProto.FLOAT
        graph = helper.make_graph(
            [first, *nodes, *last],
            "net",
            [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info("y", ends, None)],
            [weight],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.save(model, tmp_path / name, **external)
        return tmp_path / name

    return write


def ends(model):
    return [
        ([d.dim_value for d in v.type.tensor_type.shape.dim], v.type.tensor_type.elem_type)
        for v in (*model.graph.input, *model.graph.output)
    ]


@pytest.mark.parametrize("opset", [9, 13, 17, 19])
def test_operator_sets_from_9_up_become_17(file, opset):
    model = adopt_file(file(opset), {})
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    assert ends(model) == [([1, 3, 8, 8], 1), ([1, 4, 1, 1], 1)]


def test_an_open_batch_becomes_1_and_other_open_sizes_are_asked_for(file):
    path = file(shape=("batch", 3, "height", 8))
    with pytest.raises(InputError, match=r"'x' is \?x3x\?x8, sizes are open: say them with --size"):
        adopt_file(path, {})
    assert ends(adopt_file(path, {"x": (1, 3, 16, 8)}))[0] == ([1, 3, 16, 8], 1)
    assert ends(adopt_file(file(shape=(-1, 3, 8, 8)), {}))[0] == ([1, 3, 8, 8], 1)  # as Paddle writes it
    for other, error, said in (
        ((1, 3, 16), InputError, "1x3x16 does not fit"),
        ((1, 4, 8, 8), DataError, "does not run it"),
    ):
        with pytest.raises(error, match=said):
            adopt_file(path, {"x": other})


def test_half_precision_is_widened(file):
    model = adopt_file(file(kind=TensorProto.FLOAT16), {})
    assert {kind for _, kind in ends(model)} == {TensorProto.FLOAT}
    assert {tensor.data_type for tensor in model.graph.initializer} == {TensorProto.FLOAT}


def test_external_data_are_read_from_the_files_own_folder_only(file, tmp_path):
    apart = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    assert ends(adopt_file(file(**apart), {}))
    (tmp_path / "inside").mkdir()
    outside = tmp_path / "inside" / "net.onnx"
    model = onnx.load(tmp_path / "net.onnx", load_external_data=False)
    for location in ("../net.data", str(tmp_path / "net.data"), "link.data"):
        model.graph.initializer[0].external_data[0].value = location
        outside.write_bytes(model.SerializeToString())
        if location == "link.data":
            (tmp_path / "inside" / location).symlink_to(tmp_path / "net.data")
        with pytest.raises(DataError, match="outside of the folder"):
            adopt_file(outside, {})
    (tmp_path / "net.data").write_bytes(b"short")
    with pytest.raises(DataError, match="which has 5"):
        adopt_file(tmp_path / "net.onnx", {})
    (tmp_path / "net.data").unlink()
    with pytest.raises(DataError, match="copy it beside the file"):
        adopt_file(tmp_path / "net.onnx", {})


@pytest.mark.parametrize(
    ("nodes", "error", "said"),
    [
        ([helper.make_node("Gelu", ["pixels"], ["g"], domain="com.microsoft")], InputError, "Gelu of com.microsoft"),
        ([helper.make_node("Relu", ["nowhere"], ["r"])], DataError, "nowhere"),
        ([helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])], DataError, "makes no sense"),
        ([helper.make_node("NonZero", ["pixels"], ["y"])], DataError, "makes no sense"),
    ],
)
def test_graphs_that_no_board_takes_are_refused(file, nodes, error, said):
    with pytest.raises(error, match=said):
        adopt_file(file(nodes=nodes), {})


def test_an_answer_whose_size_depends_on_the_picture_is_refused(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4))],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    with pytest.raises(InputError, match="depends on what the net sees"):
        adopt_file(tmp_path / "net.onnx", {})


def test_a_shape_without_a_name_is_of_the_only_input(tmp_path):
    pair = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, "n")) for name in ("a", "b")]
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "net", pair, [answer])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    with pytest.raises(InputError, match="has the inputs a, b: say what each is"):
        adopt_file(tmp_path / "net.onnx", {"": (1, 4)})


def test_what_is_no_net_is_named(file, tmp_path):
    path = file()
    with pytest.raises(DataError, match="git lfs pull"):
        (tmp_path / "lfs.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
        adopt_file(tmp_path / "lfs.onnx", {})
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="something else or a part of one"):
        adopt_file(tmp_path / "cut.onnx", {})


def test_files_are_read_in_a_process_of_their_own_which_says_the_same(file, tmp_path):
    path = file(shape=("batch", 3, 8, 8))
    assert read_onnx(path) == adopt_file(path, {})
    assert read_onnx(path, {"": (1, 3, 8, 8)}) == read_onnx(path)
    with pytest.raises(InputError, match="no input z, only x"):
        read_onnx(path, {"z": (1,)})
    with pytest.raises(DataError, match="nothing"):
        read_onnx(tmp_path / "none.onnx")


def test_mutated_files_end_in_a_net_or_in_our_words_within_bounds():
    script = Path(__file__).parents[2] / "fuzz" / "onnx_file.py"
    done = subprocess.run([sys.executable, script, "25"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("25 files"), done.stdout + done.stderr


@pytest.mark.parametrize(("signal", "said"), [("SEGV", "crashed onnx"), ("XCPU", "took too long")])
def test_an_end_of_the_reader_is_told_in_our_words(file, tmp_path, monkeypatch, signal, said):
    (tmp_path / "sitecustomize.py").write_text(f"import os, signal; os.kill(os.getpid(), signal.SIG{signal})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DataError, match=said):
        read_onnx(file())
