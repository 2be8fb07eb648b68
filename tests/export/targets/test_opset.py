"""Operator set 17 to 13: the same graph, the same answers."""

import numpy as np
import onnx
import pytest
import torch
from onnx import version_converter

from edgeflock.export.graph import predict
from edgeflock.export.nets import EMOTION_NETS, NETS, STEERING_NETS
from edgeflock.export.onnx import export_onnx
from edgeflock.export.targets.opset import to_opset
from edgeflock.runtime.errors import InputError


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def exported(name):
    torch.manual_seed(0)
    if name in STEERING_NETS:
        return export_onnx(NETS[name]().eval(), {"image": (1, 1, 200, 200)}, ["steering"])
    if name in EMOTION_NETS:
        inputs = {"face": (1, 3, 96, 96), "context": (1, 3, 112, 112)}
        return export_onnx(NETS[name]().eval(), inputs, ["emotion", "attention"])
    return export_onnx(NETS[name]().eval(), {"fixed": (1, 1, 32, 32, 32), "moving": (1, 1, 32, 32, 32)}, ["flow"])


@pytest.mark.parametrize("name", ["fadnet", "mobilenet-v2", "glamor", "ldr", "ldr-2", "voxelmorph"])
def test_nets_answer_bit_for_bit_the_same_in_operator_set_13(name):
    model = exported(name)
    rng = np.random.default_rng(0)
    feeds = {
        value.name: rng.random([2, *(d.dim_value for d in value.type.tensor_type.shape.dim[1:])], np.float32)
        for value in model.graph.input
    }

    older = to_opset(model, 13)

    assert (older.opset_import[0].version, older.ir_version) == (13, 7)
    assert model.opset_import[0].version == 17
    got = predict(older, feeds)
    for output, expected in predict(model, feeds).items():
        np.testing.assert_array_equal(got[output], expected)


def test_the_converter_of_onnx_cannot_do_it():
    with pytest.raises(RuntimeError, match="No Adapter"):
        version_converter.convert_version(exported("fadnet"), 13)


@pytest.mark.parametrize(
    ("operator", "attributes"), [("LayerNormalization", {}), ("BatchNormalization", {"training_mode": 1})]
)
def test_what_set_13_does_not_have_is_refused_by_name(operator, attributes):
    given = ["x", "s"] if operator.startswith("Layer") else ["x", "s", "s", "s", "s"]
    made = ["y"] if operator.startswith("Layer") else ["y", "m", "v"]
    node = onnx.helper.make_node(operator, given, made, name="norm", **attributes)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, [1, 4]), value("s", 1, [4])], [value("y", 1, [1, 4])])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)

    with pytest.raises(InputError, match=f"'norm' is a {operator}"):
        to_opset(model, 13)


def test_only_13_to_17_is_offered():
    with pytest.raises(InputError, match="got 17 to 12"):
        to_opset(exported("fadnet"), 12)
