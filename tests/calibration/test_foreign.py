"""Nets from elsewhere give ranges and forms that answer like them, or end in words of ours."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeflock.calibration.foreign import adopted
from edgeflock.calibration.ranges import activation_ranges
from edgeflock.export.graph import predict
from edgeflock.export.quantise.forms import FORMS, quantize
from edgeflock.export.quantise.fp16 import to_fp16
from edgeflock.runtime.errors import EdgeflockError, InputError

IMAGE = [1, 3, 16, 16]
rng = np.random.default_rng(0)
WEIGHTS = {
    "w": (0.2 * rng.standard_normal((8, 3, 3, 3))).astype(np.float32),
    "b": (0.1 * rng.standard_normal(8)).astype(np.float32),
    "w2": (0.2 * rng.standard_normal((8, 8, 3, 3))).astype(np.float32),
}


def value(name, kind=TensorProto.FLOAT, shape=IMAGE):
    return helper.make_tensor_value_info(name, kind, shape)


def net(nodes, inputs=(), initializers=(), opset=17, ir=8, image=TensorProto.FLOAT):
    """Two convolutions with one bias, pooled, after `nodes` and before nothing."""
    body = [
        *nodes,
        helper.make_node("Conv", ["x" if image == TensorProto.FLOAT else "f", "w", "b"], ["a"], "c1"),
        helper.make_node("Relu", ["a"], ["r"], "r"),
        helper.make_node("Conv", ["r", "w2", "b"], ["c"], "c2"),
        helper.make_node("GlobalAveragePool", ["c"], ["z"], "g"),
    ]
    graph = helper.make_graph(
        body, "g", [value("x", image), *inputs], [value("z", shape=[1, 8, 1, 1])], list(initializers)
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def tensors():
    return [numpy_helper.from_array(array, name) for name, array in WEIGHTS.items()]


def constants():
    return [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in tensors()]


def aliases():
    return [helper.make_node("Identity", [f"{name}0"], [name]) for name in WEIGHTS]


NETS = {
    "shared bias": net([], initializers=tensors()),
    "Constant nodes": net(constants()),
    "Identity of weights": net(
        aliases(), initializers=[numpy_helper.from_array(array, f"{name}0") for name, array in WEIGHTS.items()]
    ),
    "operator set 9, weights among the inputs": net(
        [], [value(name, shape=array.shape) for name, array in WEIGHTS.items()], tensors(), opset=9, ir=3
    ),
    "operator set 21": net([], initializers=tensors(), opset=21, ir=10),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("form", [*FORMS, "fp16"])
def test_nets_from_elsewhere_keep_their_answers(name, form, tmp_path):
    feeds = {"x": rng.random((8, *IMAGE[1:]), np.float32)}
    reference = predict(adopted(NETS["shared bias"]), feeds)["z"]
    if form == "fp16":
        made = to_fp16(NETS[name])
    else:
        ranges = activation_ranges(NETS[name], feeds, symmetric=FORMS[form].symmetric, cache=tmp_path)
        made = quantize(NETS[name], ranges, form)
    np.testing.assert_allclose(predict(made, feeds)["z"], reference, atol=0.03 * np.ptp(reference))


def test_a_dense_layer_with_a_bias_of_two_axes_is_quantised_as_well(tmp_path):
    weights = {"w": rng.normal(0, 1, (6, 8)), "b": rng.normal(0, 1, (1, 8)), "v": rng.normal(0, 1, (8, 3))}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "v"], ["z"]),
        ],
        "dense",
        [value("x", shape=[1, 6])],
        [value("z", shape=[1, 3])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    dense = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feeds = {"x": rng.random((8, 6), np.float32)}
    made = quantize(dense, activation_ranges(dense, feeds, symmetric=True, cache=tmp_path), "int8-trt")
    reference = predict(dense, feeds)["z"]
    np.testing.assert_allclose(predict(made, feeds)["z"], reference, atol=0.03 * np.ptp(reference))


def test_a_net_that_is_ours_already_stays_as_it_is():
    once = adopted(NETS["shared bias"])
    assert adopted(once) == once


def test_pixels_go_in_as_the_net_takes_them(tmp_path):
    cast = helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)
    pixels = net([cast], initializers=tensors(), image=TensorProto.UINT8)
    images = rng.integers(0, 256, (4, *IMAGE[1:])).astype(np.uint8)
    ranges = activation_ranges(pixels, {"x": images}, "minmax", cache=tmp_path)
    assert tuple(map(float, ranges["f"].range_value)) == (images.min(), images.max())


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.lstm = torch.nn.Conv1d(4, 8, 3, padding=1), torch.nn.LSTM(8, 8, batch_first=True)

    def forward(self, x):
        return self.lstm(self.convolution(x).transpose(1, 2))[0]


def test_an_lstm_of_fixed_sizes_has_them_all_known(tmp_path):
    path = tmp_path / "lstm.onnx"
    arguments = {"input_names": ["x"], "output_names": ["z"], "opset_version": 17, "dynamo": False}
    torch.onnx.export(Recurrent().eval(), (torch.zeros(1, 4, 12),), path, **arguments)
    model, feeds = onnx.load(path), {"x": rng.random((4, 4, 12), np.float32)}
    made = quantize(model, activation_ranges(model, feeds, cache=tmp_path), "int8")
    reference = predict(model, feeds)["z"]
    np.testing.assert_allclose(predict(made, feeds)["z"], reference, atol=0.05 * np.ptp(reference))


@pytest.mark.parametrize("form", [*FORMS, "fp16"])
@pytest.mark.parametrize("node", ["NonZero", "Sequence", "Foreign"])
def test_what_cannot_be_taken_ends_in_our_words(form, node, tmp_path):
    nodes = {
        "NonZero": [helper.make_node("NonZero", ["x"], ["n"])],
        "Sequence": [helper.make_node("SequenceConstruct", ["x"], ["n"])],
        "Foreign": [helper.make_node("Magic", ["x"], ["n"], domain="com.example")],
    }[node]
    odd = net(nodes, initializers=tensors())
    if node == "Foreign":
        odd.opset_import.append(helper.make_opsetid("com.example", 1))
    feeds = {"x": rng.random((2, *IMAGE[1:]), np.float32)}
    try:
        if form == "fp16":
            to_fp16(odd)
        else:
            quantize(odd, activation_ranges(odd, feeds, cache=tmp_path, symmetric=FORMS[form].symmetric), form)
    except EdgeflockError as error:
        assert len(str(error)) > 40


def test_shapes_that_do_not_fit_are_refused_with_the_way_out():
    wrong = net([], initializers=tensors())
    del wrong.graph.input[0].type.tensor_type.shape.dim[2:]
    with pytest.raises(InputError, match=r"operator set 13 or newer whose shapes fit, got .*opset_version=17"):
        adopted(wrong)
