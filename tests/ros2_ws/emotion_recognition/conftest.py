"""A small emotion bundle for four faces at once, and frames with rendered faces in them."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from edgeflock_lab.emotion_bars import crowd

LABELS = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


@pytest.fixture(scope="session")
def bundle(signed):
    """A signed bundle that answers up to four faces at once by their mean colours, with valence and arousal."""
    onnx = pytest.importorskip("onnx")
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import save

    from edgeflock.runtime.bundle.bundle import Artefact, Manifest
    from edgeflock.runtime.prepare.face import face_input
    from edgeflock.runtime.tasks.emotion import affect_output, probabilities_output

    rng, batch, size = np.random.default_rng(3), 4, 32
    weights = {
        "labels": rng.normal(0, 4, (3, len(LABELS))).astype(np.float32),
        "axes": rng.normal(0, 1, (3, 2)).astype(np.float32),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["face"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colour"]),
        helper.make_node("MatMul", ["colour", "labels"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
        helper.make_node("MatMul", ["colour", "axes"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["affect"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("face", TensorProto.FLOAT, [batch, 3, size, size])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, len(LABELS)]),
            helper.make_tensor_value_info("affect", TensorProto.FLOAT, [batch, 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    faces = rng.random((batch, 3, size, size)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    probabilities, affect = session.run(None, {"face": faces})
    manifest = Manifest(
        name="colours",
        net="none",
        task="emotion",
        inputs=[face_input(size, (0, 1), batch)],
        outputs=[probabilities_output(LABELS, batch), affect_output(batch)],
        artefacts={"fp32": Artefact(file="net.onnx", opset=17, ir=8)},
        default_precision="fp32",
        training={},
    )
    vectors = {"face": faces, "probabilities_fp32": probabilities, "affect_fp32": affect}
    return signed(manifest, {"net.onnx": model.SerializeToString(), "vectors.safetensors": save(vectors)})


@pytest.fixture(scope="session")
def four():
    """640x480 RGB with four rendered faces that the cascade finds."""
    return crowd(4)


@pytest.fixture(scope="session")
def empty():
    """640x480 RGB without a face."""
    return np.full((480, 640, 3), 120, np.uint8)
