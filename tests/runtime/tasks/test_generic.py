"""Any net's bundle answers arrays and pictures by name."""

import numpy as np
import pytest

from edgeflock.runtime import load
from edgeflock.runtime.bundle.bundle import Artefact, Manifest, sign_bundle, write_bundle
from edgeflock.runtime.bundle.manifest import ImageInput, OutputSpec, VectorInput
from edgeflock.runtime.errors import InputError

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def opened(tmp_path_factory, key):
    """A bundle of a net that adds a picture's mean to each of two numbers."""
    from onnx import TensorProto, helper
    from safetensors.numpy import save

    folder = tmp_path_factory.mktemp("generic") / "bundle"
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Add", ["speed", "mean"], ["y"]),
        ],
        "net",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8, 8)),
            helper.make_tensor_value_info("speed", TensorProto.FLOAT, (1, 2)),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    image = ImageInput(
        name="image", shape=(1, 3, 8, 8), color="rgb", resize=(8, 8), interpolation="linear_exact", range=(0, 255)
    )
    manifest = Manifest(
        name="adds",
        net="adds",
        task="generic",
        inputs=[image, VectorInput(name="speed", shape=(1, 2), unit="m/s")],
        outputs=[OutputSpec(name="y", shape=(1, 2), unit="", tolerance=0.1)],
        artefacts={"fp32": Artefact(file="adds.onnx", opset=17, ir=8)},
        default_precision="fp32",
    )
    vectors = {
        "image": np.full((1, 3, 8, 8), 10, np.uint8),
        "speed": np.array([[1, 2]], np.float32),
        "y_fp32": np.array([[11, 12]], np.float32),
    }
    write_bundle(folder, manifest, {"adds.onnx": model.SerializeToString(), "vectors.safetensors": save(vectors)})
    sign_bundle(folder, key)
    return load(folder, keys=[key.with_suffix(".pub")])


def test_pictures_of_any_size_and_arrays_with_or_without_batch(opened):
    picture = np.full((24, 32, 3), 50, np.uint8)
    assert opened({"image": picture, "speed": np.array([1.0, 2.0])})["y"].tolist() == [[51, 52]]
    assert opened({"image": picture[..., 0], "speed": np.array([[3, 4]])})["y"].tolist() == [[53, 54]]


def test_answers_stay_as_they_were_when_the_next_ones_come(opened):
    first = opened({"image": np.zeros((8, 8, 3), np.uint8), "speed": np.zeros(2)})["y"]
    opened({"image": np.full((8, 8, 3), 9, np.uint8), "speed": np.zeros(2)})
    assert first.tolist() == [[0, 0]]


def test_the_example_is_what_it_takes(opened):
    assert opened(*opened.example())["y"].shape == (1, 2)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (np.zeros((8, 8, 3), np.uint8), r"each of the inputs \['image', 'speed'\], got ndarray"),
        ({"image": np.zeros((8, 8, 3), np.uint8)}, r"got \['image'\]"),
        ({"image": np.zeros((8, 8, 3)), "speed": np.zeros(2)}, "uint8"),
        ({"image": np.zeros((8, 8, 3), np.uint8), "speed": np.zeros(3)}, r"'speed': expected float32 \[1, 2\] m/s"),
    ],
)
def test_other_inputs_are_refused(opened, inputs, said):
    with pytest.raises(InputError, match=said):
        opened(inputs)
