"""A small real steering bundle, made on the spot: a net of two convolutions, its QDQ INT8 form, vectors, a key."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgeflock.runtime.bundle.bundle import Artefact, Manifest, generate_key, sign_bundle, write_bundle
from edgeflock.runtime.prepare.frame import STEERING_INPUT
from edgeflock.runtime.tasks.steering import STEERING_OUTPUT


def _steering_net(path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)

    def tensor(name, array):
        return numpy_helper.from_array(array.astype(np.float32), name)

    weights = [
        tensor("w1", rng.normal(0, 0.02 / 25, (8, 1, 5, 5))),
        tensor("b1", rng.normal(0, 0.1, 8)),
        tensor("w2", rng.normal(0, 0.1, (8, 8, 3, 3))),
        tensor("b2", rng.normal(0, 0.1, 8)),
        tensor("w3", rng.normal(0, 2, (8, 1))),
        tensor("b3", np.array([0.1])),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "conv1", strides=[4, 4]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", strides=[4, 4]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["steering"], "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "steering",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 200, 200])],
        [helper.make_tensor_value_info("steering", TensorProto.FLOAT, [1, 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


@pytest.fixture(scope="session")
def nets(tmp_path_factory):
    """`fp32` and `int8` ONNX files, `images` (4, 1, 200, 200) and what plain ONNX Runtime answers to them."""
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    folder = tmp_path_factory.mktemp("nets")
    fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
    _steering_net(fp32)
    images = np.random.default_rng(3).integers(0, 256, (4, 1, 200, 200)).astype(np.float32)
    images *= np.linspace(0.2, 1, 4, dtype=np.float32)[:, None, None, None]
    images = np.floor(images)

    class Reader(CalibrationDataReader):
        feeds = iter([{"image": image[None]} for image in images])

        def get_next(self):
            return next(self.feeds, None)

    quantize_static(
        fp32,
        int8,
        Reader(),
        QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )

    def answers(path):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])

    return SimpleNamespace(
        fp32=fp32, int8=int8, images=images, steering={p: answers(folder / f"{p}.onnx") for p in ("fp32", "int8")}
    )


@pytest.fixture(scope="session")
def key(tmp_path_factory):
    """Private key file; its public half is beside it as `.pub`."""
    path = tmp_path_factory.mktemp("keys") / "test.pem"
    generate_key(path)
    return path


@pytest.fixture
def manifest():
    return Manifest(
        name="test",
        net="FADNet",
        task="steering",
        inputs=[STEERING_INPUT],
        outputs=[STEERING_OUTPUT],
        artefacts={
            "fp32": Artefact(file="fadnet_fp32.onnx", opset=17, ir=8),
            "int8": Artefact(file="fadnet_int8.onnx", opset=17, ir=8),
        },
        default_precision="int8",
        training={"seeds": [1], "rmse_rad": 0.05},
    )


@pytest.fixture
def contents(nets):
    """Files of the bundle, by name."""
    from safetensors.numpy import save

    vectors = {"image": nets.images, **{f"steering_{p}": y for p, y in nets.steering.items()}}
    return {
        "fadnet_fp32.onnx": nets.fp32,
        "fadnet_int8.onnx": nets.int8.read_bytes(),
        "vectors.safetensors": save(vectors),
    }


@pytest.fixture
def bundle(tmp_path, manifest, contents, key):
    """A signed bundle folder."""
    return sign_bundle(write_bundle(tmp_path / "steering", manifest, contents), key)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """No test depends on, or touches, the keys of whoever runs it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def shift_bundle_folder(tmp_path_factory, key):
    """Registration bundle whose net answers every pair with the flow (1, -2, 0.5) voxels on a grid of 16^3."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import save

    from edgeflock.runtime.tasks.registration import REGISTRATION_INPUTS, REGISTRATION_OUTPUT

    side = 16
    volume, flow = (1, 1, side, side, side), (1, 3, side, side, side)
    graph = helper.make_graph(
        [
            helper.make_node("Concat", ["fixed", "moving"], ["pair"], axis=1),
            helper.make_node("Conv", ["pair", "zero", "shift"], ["flow"]),
        ],
        "shift",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, volume) for name in ("fixed", "moving")],
        [helper.make_tensor_value_info("flow", TensorProto.FLOAT, flow)],
        [
            numpy_helper.from_array(np.zeros((3, 2, 1, 1, 1), np.float32), "zero"),
            numpy_helper.from_array(np.array([1, -2, 0.5], np.float32), "shift"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    manifest = Manifest(
        name="shift",
        net="shift",
        task="registration",
        inputs=[spec.model_copy(update={"shape": volume}) for spec in REGISTRATION_INPUTS],
        outputs=[REGISTRATION_OUTPUT.model_copy(update={"shape": flow})],
        artefacts={"fp32": Artefact(file="shift_fp32.onnx", opset=17, ir=8)},
        default_precision="fp32",
    )
    pair = np.random.default_rng(5).integers(0, 256, (2, *volume), np.uint8)
    answer = np.broadcast_to(np.array([1, -2, 0.5], np.float32)[:, None, None, None], (1, 3, 2, 2, 2))
    vectors = {"fixed": pair[0], "moving": pair[1], "flow_fp32": np.ascontiguousarray(answer)}
    files = {"shift_fp32.onnx": model.SerializeToString(), "vectors.safetensors": save(vectors)}
    return sign_bundle(write_bundle(tmp_path_factory.mktemp("bundles") / "shift", manifest, files), key)


@pytest.fixture
def shift_bundle(shift_bundle_folder, key, home):
    """Its folder, signed by a key that the user of this machine trusts."""
    keys = home / ".config" / "edgeflock" / "keys"
    keys.mkdir(parents=True)
    (keys / "test.pub").write_text(key.with_suffix(".pub").read_text())
    return shift_bundle_folder
