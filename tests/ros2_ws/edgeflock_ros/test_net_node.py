"""The net node over the real middleware: answers as arrays with their shape, classes by name, other inputs."""

import os
import signal
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float32MultiArray, Header

from edgeflock.runtime.bundle.bundle import Artefact, Manifest
from edgeflock.runtime.bundle.manifest import ImageInput, OutputSpec, VectorInput
from edgeflock.runtime.errors import InputError
from edgeflock_ros import topics
from edgeflock_ros.messages import to_ns, to_stamp
from edgeflock_ros.net_node import classes, vision_msgs

LABELS = ["left", "straight", "right"]


@pytest.fixture(scope="module")
def bundle(signed):
    """A signed bundle of a net that adds a picture's mean to three numbers."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper
    from safetensors.numpy import save

    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Add", ["offset", "mean"], ["head/scores:0"]),
        ],
        "net",
        [
            helper.make_tensor_value_info("pixels", TensorProto.FLOAT, (1, 3, 8, 8)),
            helper.make_tensor_value_info("offset", TensorProto.FLOAT, (1, 3)),
        ],
        [helper.make_tensor_value_info("head/scores:0", TensorProto.FLOAT, (1, 3))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    image = ImageInput(
        name="pixels", shape=(1, 3, 8, 8), color="rgb", resize=(8, 8), interpolation="linear_exact", range=(0, 255)
    )
    manifest = Manifest(
        name="adds",
        net="adds",
        task="generic",
        inputs=[image, VectorInput(name="offset", shape=(1, 3))],
        outputs=[OutputSpec(name="head/scores:0", shape=(1, 3), unit="", labels=LABELS, tolerance=0.1)],
        artefacts={"fp32": Artefact(file="adds.onnx", opset=17, ir=8)},
        default_precision="fp32",
    )
    vectors = {
        "pixels": np.full((1, 3, 8, 8), 10, np.uint8),
        "offset": np.array([[1, 2, 3]], np.float32),
        "head/scores:0_fp32": np.array([[11, 12, 13]], np.float32),
    }
    return signed(manifest, {"adds.onnx": model.SerializeToString(), "vectors.safetensors": save(vectors)})


def image(brightness):
    made = Image(height=24, width=32, encoding="rgb8", step=96, data=bytes([brightness]) * (24 * 96))
    made.header.frame_id, made.header.stamp = "eye", to_stamp(time.time_ns())
    return made


def test_a_frame_and_the_newest_other_inputs_are_answered_with_shape_labels_and_stamp(graph, bundle):
    node = graph.start("edgeflock_ros.net_node", bundle=bundle)
    scores = graph.listen(Float32MultiArray, "/net/outputs/head_scores_0")
    answered = graph.listen(Header, "/net/answered")
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    named = graph.listen(vision_msgs.Classification if vision_msgs else JointState, "/net/classes")
    camera = graph.node.create_publisher(Image, "camera/color/image_raw", 1)
    offset = graph.node.create_publisher(Float32MultiArray, "/net/inputs/offset", 1)
    sent = []

    def send():
        sent.append(image(50))
        camera.publish(sent[-1])

    graph.node.create_timer(0.05, send)
    said = lambda: [status.message for _, report in reports for status in report.status]  # noqa: E731
    waits = "frames wait for a message on /net/inputs/offset"
    assert graph.until(lambda: waits in said()), node.log.read_text()
    assert not scores
    graph.node.create_timer(0.05, lambda: offset.publish(Float32MultiArray(data=[1.0, 3.0, 2.0])))
    assert graph.until(lambda: len(answered) > 2 and named), node.log.read_text()
    message = scores[-1][1]
    assert [(dim.size, dim.stride, dim.label) for dim in message.layout.dim] == [(1, 3, "batch"), (3, 3, "classes")]
    assert list(message.data) == [51, 53, 52]
    assert answered[-1][1].frame_id == "eye"
    assert to_ns(answered[-1][1].stamp) in {to_ns(frame.header.stamp) for frame in sent}
    if vision_msgs is None:
        assert named[-1][1].name == ["straight", "right", "left"]
        assert named[-1][1].position == pytest.approx(np.exp([0, -1, -2]) / np.exp([0, -1, -2]).sum())
    assert "answering" in said()
    complaint = "/net/inputs/offset: expected 3 numbers, got 1"

    def complains():  # again and again: the newest of the right ones may take its place before it is read
        offset.publish(Float32MultiArray(data=[1.0]))
        return complaint in said()

    assert graph.until(complains), said()


def test_the_launch_file_starts_the_net_on_the_images_of_another_driver(graph, installed, bundle):
    """Needs launch and launch_ros, which are on a robot but on no package index."""
    pytest.importorskip("launch_ros")
    scores = graph.listen(Float32MultiArray, "/robot1/net/outputs/head_scores_0")
    camera = graph.node.create_publisher(Image, "/eye/image_raw", 1)
    launched = graph.launch(
        installed, "edgeflock_ros", "net", bundle=bundle, camera="none", image_topic="/eye/image_raw",
        start_at_zero="true", namespace="robot1",
    )  # fmt: skip
    assert graph.until(lambda: camera.publish(image(50)) or scores), launched.log.read_text()
    os.killpg(launched.pid, signal.SIGINT)
    assert launched.wait(60) == 0


def test_probabilities_are_sent_as_they_are():
    spec = OutputSpec(name="p", shape=(1, 3), unit="probability", labels=LABELS, tolerance=0.1)
    if vision_msgs is None:
        sent = classes(Header(frame_id="eye"), spec, np.array([[0.2, 0.1, 0.7]], np.float32))
        assert (sent.name, sent.header.frame_id) == (["right", "left", "straight"], "eye")
        assert sent.position == pytest.approx([0.7, 0.2, 0.1])


@pytest.mark.skipif(vision_msgs is None, reason="vision_msgs comes from apt")
def test_vision_msgs_have_the_classes_by_name():
    spec = OutputSpec(name="p", shape=(1, 3), unit="probability", labels=LABELS, tolerance=0.1)
    sent = classes(Header(frame_id="eye"), spec, np.array([[0.2, 0.1, 0.7]], np.float32))
    assert [result.class_id for result in sent.results] == ["right", "left", "straight"]


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("logits", "logits"),
        ("head/Add:0", "head_Add_0"),
        ("683", "n683"),
        ("a__b", "a_b"),
    ],
)
def test_a_tensor_of_any_name_has_a_topic(name, topic):
    assert topics.net_output(name) == f"~/outputs/{topic}"


def test_without_a_bundle_the_way_to_one_is_named(graph):
    node = graph.start("edgeflock_ros.net_node")
    assert node.wait(60) == InputError.exit_code and "edgeflock export net" in node.log.read_text()
