"""A bundle whose net answers with brightness, and recordings of a grey road."""

import numpy as np
import pytest

pytest.importorskip("rclpy")


@pytest.fixture(scope="session")
def bundle(signed):
    """A signed bundle whose net says mean brightness / 255 - 0.5 rad, and NaN to a black image."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import save

    from edgeflock.runtime.bundle.bundle import Artefact, Manifest
    from edgeflock.runtime.prepare.frame import STEERING_INPUT
    from edgeflock.runtime.tasks.steering import STEERING_OUTPUT

    constants = {"scale": np.array([[255.0]], np.float32), "offset": np.array([[0.5]], np.float32)}
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["mean"]),
        helper.make_node("Div", ["mean", "mean"], ["one"]),  # 0 / 0 for a black image
        helper.make_node("Div", ["mean", "scale"], ["brightness"]),
        helper.make_node("Sub", ["brightness", "offset"], ["angle"]),
        helper.make_node("Mul", ["angle", "one"], ["steering"]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 200, 200])],
        [helper.make_tensor_value_info("steering", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    images = np.stack([np.full((1, 200, 200), grey, np.float32) for grey in (100, 200)])
    vectors = {"image": images, "steering_fp32": images.mean((1, 2, 3))[:, None].astype(np.float32) / 255 - 0.5}
    manifest = Manifest(
        name="brightness",
        net="none",
        task="steering",
        inputs=[STEERING_INPUT],
        outputs=[STEERING_OUTPUT],
        artefacts={"fp32": Artefact(file="net.onnx", opset=17, ir=8)},
        default_precision="fp32",
        training={},
    )
    return signed(manifest, {"net.onnx": model.SerializeToString(), "vectors.safetensors": save(vectors)})


@pytest.fixture(scope="session")
def road_bag(write_bag, tmp_path_factory):
    """``road_bag(brightness)``: 3 s of grey frames with free depth at 30 Hz and calibration, to be looped."""
    from edgeflock.runtime.cameras.base import Intrinsics

    lens = Intrinsics(160, 120, 100.0, 100.0, 80.0, 60.0)
    color, depth = "camera/color", "camera/aligned_depth_to_color"
    free = np.full((120, 160), 6000, np.uint16)

    def make(brightness):
        image = np.full((120, 160, 3), brightness, np.uint8)
        messages = [(f"{topic}/camera_info", 10**18, lens) for topic in (color, depth)]
        for n in range(90):
            stamp = 10**18 + n * 33_333_333
            messages += [(f"{depth}/image_raw", stamp, ("16UC1", free)), (f"{color}/image_raw", stamp, ("rgb8", image))]
        return write_bag(tmp_path_factory.mktemp("road") / f"grey{brightness}", messages)

    return make
