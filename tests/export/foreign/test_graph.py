"""The graph of a bundle begins with pixels, ends with a batch of 1, and answers what the net does."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeflock.export.foreign.graph import deviation, framed, shapes_of
from edgeflock.export.foreign.meaning import Meaning, Taken, meanings, read_meanings, taken_of
from edgeflock.export.foreign.onnx_file import answers_of
from edgeflock.export.graph import predict
from edgeflock.runtime.errors import InputError, ParityError


def net(kinds, nodes, outputs):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in kinds.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def same(model, told, feeds):
    """Both graphs answer alike; gives the bundle's inputs."""
    inputs = taken_of(shapes_of(model), told, {})
    made = framed(model, inputs)
    for name, got in predict(made, feeds).items():
        expected = answers_of(model, {t.spec.name: t.for_net(feeds[t.spec.name][0]) for t in inputs})[name]
        assert deviation(got[0].reshape(expected.shape), expected, name) < 1e-6
    return {taken.spec.name: taken for taken in inputs}, made


@pytest.mark.parametrize("shape", [(1, 3, 8, 10), (1, 8, 10, 3), (1, 1, 8, 10)])
def test_mean_deviation_and_layout_become_part_of_the_graph(shape):
    model = net({"x": (TensorProto.FLOAT, shape)}, [helper.make_node("Neg", ["x"], ["y"])], {"y": shape})
    channels = 1 if 1 in shape[1:] else 3
    told = Meaning(mean="0.5" if channels == 1 else "0.4,0.5,0.6", std="0.25")
    pixels = np.random.default_rng(0).integers(0, 256, (1, channels, 8, 10), np.uint8)
    inputs, _ = same(model, {"x": told}, {"x": pixels})
    spec = inputs["x"].spec
    assert (spec.kind, spec.shape, spec.range) == ("image", (1, channels, 8, 10), (0, 255))


def test_bytes_that_the_net_casts_itself_are_float_in_the_bundle():
    shape = (1, 3, 8, 8)
    cast = helper.make_node("Cast", ["x"], ["pixels"], to=TensorProto.FLOAT)
    model = net({"x": (TensorProto.UINT8, shape)}, [cast, helper.make_node("Neg", ["pixels"], ["y"])], {"y": shape})
    _, made = same(model, {}, {"x": np.full(shape, 200, np.uint8)})
    assert [node.op_type for node in made.graph.node] == ["Neg"]


def test_a_state_whose_batch_is_not_first_gets_one_at_both_ends():
    model = net({"h": (TensorProto.FLOAT, (2, 1, 4))}, [helper.make_node("Neg", ["h"], ["hn"])], {"hn": (2, 1, 4)})
    inputs, made = same(model, {}, {"h": np.random.default_rng(0).random((1, 2, 1, 4), np.float32)})
    assert (inputs["h"].spec.shape, inputs["h"].shape) == ((1, 2, 1, 4), (2, 1, 4))
    assert [d.dim_value for d in made.graph.output[0].type.tensor_type.shape.dim] == [1, 2, 1, 4]


def test_another_net_is_no_parity():
    with pytest.raises(ParityError, match=r"off by 0\.5"):
        deviation(np.array([1.0]), np.array([2.0]), "y")


def test_what_is_not_told_is_guessed_from_shape_and_samples():
    def kind(shape, given=None, **told):
        return Taken.of("x", shape, "float32", Meaning(**told), given and np.dtype(given)).spec.kind

    assert kind((1, 3, 8, 8)) == kind((1, 8, 8, 1)) == kind((1, 3, 8, 8), "uint8") == "image"
    assert kind((1, 3, 8, 8), "float32") == kind((1, 8, 20)) == kind((1, 4, 8, 8)) == "vector"
    assert kind((1, 3, 8, 8), kind="vector") == "vector"
    assert Meaning(mean="0.5").affine[0] == 1 / 255 and Meaning(mean="127.5").affine[0] == 1 == Meaning().affine[0]


def test_several_inputs_are_told_in_a_file(tmp_path):
    file = tmp_path / "inputs.yaml"
    file.write_text("image: {size: 10x8, mean: [1, 2, 3]}\nspeed: {shape: [1, 1]}\n")
    assert read_meanings(file) == {"image": Meaning(size="10x8", mean="1,2,3"), "speed": Meaning(shape="1x1")}
    assert read_meanings(file)["image"].wanted == (1, 3, 8, 10)
    assert set(meanings(Meaning(), file, ["image", "speed", "other"])) == {"image", "speed"}
    for one, names, said in (
        (Meaning(), ["image"], "no input speed"),
        (Meaning(scale=2), ["image", "speed"], "not in both"),
    ):
        with pytest.raises(InputError, match=said):
            meanings(one, file, names)
    file.write_text("image: {colour: red}\n")
    with pytest.raises(InputError, match="colour"):
        read_meanings(file)
