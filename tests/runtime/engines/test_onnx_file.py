"""A file's precision is read from the file, whatever its name says."""

import numpy as np
import pytest

from edgeflock.runtime.bundle.bundle import default_bundle
from edgeflock.runtime.engines.onnx_file import precision_of
from edgeflock.runtime.errors import InputError


@pytest.mark.parametrize("task", ["steering", "emotion"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_shipped_nets_are_what_their_names_say(task, precision):
    (path,) = default_bundle(task).glob(f"*_{precision}.onnx")
    assert precision_of(path) == precision


@pytest.mark.parametrize(("dtype", "precision"), [("float32", "fp32"), ("float16", "fp16"), ("float64", "fp64")])
@pytest.mark.parametrize("place", ["initializer", "constant", "branch"])
def test_the_type_of_most_weights_counts_wherever_they_stand(tmp_path, dtype, precision, place):
    onnx = pytest.importorskip("onnx")
    h = onnx.helper
    kind = h.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = onnx.numpy_helper.from_array(np.ones((4, 4), dtype), "w")
    constant = h.make_node("Constant", [], ["w"], value=weights)
    multiply = h.make_node("MatMul", ["x", "w"], ["y"])
    x, y = (h.make_tensor_value_info(name, kind, [4, 4]) for name in "xy")
    few = onnx.numpy_helper.from_array(np.ones(2, np.float32), "few")
    if place == "initializer":
        graph = h.make_graph([multiply], "g", [x], [y], [weights, few])
    elif place == "constant":
        graph = h.make_graph([constant, multiply], "g", [x], [y], [few])
    else:
        branch = h.make_graph([constant, multiply], "b", [], [y])
        inside = h.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        condition = h.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])
        graph = h.make_graph([inside], "g", [x, condition], [y], [few])
    onnx.save(h.make_model(graph), tmp_path / "net.onnx")
    assert precision_of(tmp_path / "net.onnx") == precision


@pytest.mark.parametrize("content", [b"not a net", b"\x3a\xff\xff\xff\x7f", b"\x80" * 20, b"\x38\x01"])
def test_something_else_is_refused_by_name(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"net\.onnx: expected an ONNX file"):
        precision_of(tmp_path / "net.onnx")
