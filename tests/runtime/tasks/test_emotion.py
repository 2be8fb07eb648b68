"""The recogniser: frame and box in, distribution and attention out, and clear refusals."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import save

from edgeflock.runtime.bundle.bundle import Artefact, Bundle, Manifest, sign_bundle, write_bundle
from edgeflock.runtime.errors import BundleError, InputError
from edgeflock.runtime.prepare.face import CONTEXT_INPUT, EmotionPreprocess, context_input, face_input
from edgeflock.runtime.tasks import open_task
from edgeflock.runtime.tasks.emotion import EmotionRecognizer, affect_output, attention_output, probabilities_output

LABELS = ("Anger", "Fear", "Happy")
BOX = (40, 20, 110, 100)


def scene_net(batch: int = 1) -> bytes:
    """A small net with GLAMOR-Net's inputs and outputs, and valence and arousal: convolve, attend to cells, softmax."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)

    def tensor(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 1 / np.prod(shape[1:]) ** 0.5, shape).astype(np.float32), name)

    shapes = {"flat": np.array([batch, 49]), "map": np.array([batch, 1, 7, 7])}
    nodes = [
        helper.make_node("Conv", ["face", "wf"], ["f"], strides=[16, 16]),
        helper.make_node("GlobalAveragePool", ["f"], ["fp"]),
        helper.make_node("Conv", ["context", "wc"], ["c"], strides=[16, 16]),
        helper.make_node("Conv", ["c", "ws"], ["s"]),
        helper.make_node("Reshape", ["s", "flat"], ["sf"]),
        helper.make_node("Softmax", ["sf"], ["a"]),
        helper.make_node("Reshape", ["a", "map"], ["attention"]),
        helper.make_node("Mul", ["c", "attention"], ["ca"]),
        helper.make_node("GlobalAveragePool", ["ca"], ["cp"]),
        helper.make_node("Concat", ["fp", "cp"], ["both"], axis=1),
        helper.make_node("Flatten", ["both"], ["v"]),
        helper.make_node("Gemm", ["v", "wh"], ["z"], alpha=8.0),
        helper.make_node("Softmax", ["z"], ["probabilities"]),
        helper.make_node("Gemm", ["v", "wa"], ["va"]),
        helper.make_node("Tanh", ["va"], ["affect"]),
    ]
    graph = helper.make_graph(
        nodes,
        "scene",
        [
            helper.make_tensor_value_info("face", TensorProto.FLOAT, [batch, 3, 96, 96]),
            helper.make_tensor_value_info("context", TensorProto.FLOAT, [batch, 3, 112, 112]),
        ],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, 3]),
            helper.make_tensor_value_info("attention", TensorProto.FLOAT, [batch, 1, 7, 7]),
            helper.make_tensor_value_info("affect", TensorProto.FLOAT, [batch, 2]),
        ],
        [
            *(
                tensor("wf", 8, 3, 16, 16),
                tensor("wc", 8, 3, 16, 16),
                tensor("ws", 1, 8, 1, 1),
                tensor("wh", 16, 3),
                tensor("wa", 16, 2),
            ),
            *(numpy_helper.from_array(value, name) for name, value in shapes.items()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def frame(seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (120, 160, 3), np.uint8)


@pytest.fixture(scope="module")
def net():
    content = scene_net()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    prepared = EmotionPreprocess([face_input(96, (0, 1)), CONTEXT_INPUT])
    vectors: dict[str, list[np.ndarray]] = {}
    for seed in range(3):
        list(prepared.batches(frame(seed), [BOX]))
        outputs = session.run(None, prepared.inputs)
        names = [*prepared.inputs, "probabilities_fp32", "attention_fp32", "affect_fp32"]
        for name, array in zip(names, [*prepared.inputs.values(), *outputs], strict=True):
            vectors.setdefault(name, []).append(array[0].copy())
    return SimpleNamespace(content=content, session=session, vectors={k: np.stack(v) for k, v in vectors.items()})


def manifest(**changes) -> Manifest:
    fields = {
        "name": "test",
        "net": "glamor",
        "task": "emotion",
        "inputs": [face_input(96, (0, 1)), CONTEXT_INPUT],
        "outputs": [probabilities_output(LABELS), attention_output(7, 7), affect_output()],
        "artefacts": {"fp32": Artefact(file="net_fp32.onnx", opset=17, ir=8)},
        "default_precision": "fp32",
    }
    return Manifest(**{**fields, **changes})


@pytest.fixture
def bundle(tmp_path, key, net):
    def make(content: bytes = net.content, **changes) -> Bundle:
        contents = {"net_fp32.onnx": content, "vectors.safetensors": save(net.vectors)}
        folder = sign_bundle(write_bundle(tmp_path / "emotion", manifest(**changes), contents), key)
        return Bundle.open(folder, [key.with_suffix(".pub")])

    return make


def test_the_distribution_is_the_nets_answer_to_the_prepared_face(bundle, net) -> None:
    recognizer = open_task(bundle())
    assert isinstance(recognizer, EmotionRecognizer) and recognizer.labels == list(LABELS)
    prepared = EmotionPreprocess(recognizer.bundle.manifest.inputs)
    list(prepared.batches(frame(), [BOX]))
    probabilities, attention, affect = net.session.run(None, prepared.inputs)
    [answer] = recognizer(frame(), [BOX])
    assert list(answer.distribution) == list(LABELS)
    assert list(answer.distribution.values()) == pytest.approx(probabilities[0].tolist(), abs=1e-6)
    assert answer.label == LABELS[int(probabilities.argmax())] and answer.confidence == max(
        answer.distribution.values()
    )
    assert sum(answer.distribution.values()) == pytest.approx(1) and type(answer.confidence) is float
    np.testing.assert_allclose(answer.attention, attention[0, 0], atol=1e-6)
    assert answer.affect == pytest.approx(affect[0].tolist(), abs=1e-6) and type(answer.affect) is tuple
    assert 0 < answer.inference_ns < 1e9


def test_the_faces_of_a_frame_run_in_batches_with_the_same_answers(bundle) -> None:
    boxes = [(10 * i, 5 * i, 10 * i + 60, 5 * i + 70) for i in range(7)] + [None]
    one_by_one = EmotionRecognizer(bundle())(frame(), boxes)
    recognizer = EmotionRecognizer(
        bundle(
            scene_net(3),
            inputs=[face_input(96, (0, 1), 3), context_input(3)],
            outputs=[probabilities_output(LABELS, 3), attention_output(7, 7, 3), affect_output(3)],
        )
    )
    assert recognizer.batch == 3 and recognizer.deviation < 1e-6  # 3 reference vectors, one in each slot
    runs, run = [], recognizer.engine.run
    recognizer.engine.run = lambda: (runs.append(recognizer.inputs["face"].copy()), run())
    for _ in range(2):  # what the padding of the last batch held does not matter
        answers = recognizer(frame(), boxes)
        assert len(answers) == 8
        for got, expected in zip(answers, one_by_one, strict=True):
            assert list(got.distribution.values()) == pytest.approx(list(expected.distribution.values()), abs=1e-6)
            assert got.affect == pytest.approx(expected.affect, abs=1e-6)
            np.testing.assert_allclose(got.attention, expected.attention, atol=1e-6)
    assert len(runs) == 6  # 3 + 3 + 2, twice
    assert recognizer.prepare_ns > 0 and recognizer.net_ns > 0
    assert recognizer(frame(), []) == [] and len(runs) == 6


def test_an_answer_keeps_its_attention_when_the_next_frame_comes(bundle) -> None:
    recognizer = EmotionRecognizer(bundle())
    [first] = recognizer(frame(1), [BOX])
    kept = first.attention.copy()
    recognizer(frame(2), [BOX])
    assert np.array_equal(first.attention, kept)


def test_without_a_face_the_context_answers(bundle) -> None:
    recognizer = EmotionRecognizer(bundle())
    assert recognizer(frame(), [None])[0][:3] == recognizer(frame(), [(0, 0, 0, 0)])[0][:3]
    assert not recognizer.inputs["face"].any() and recognizer.inputs["context"].any()


def test_a_face_cut_by_the_border_is_answered(bundle) -> None:
    [answer] = EmotionRecognizer(bundle())(frame(), [(-30, 60, 40, 150)])
    assert answer.label in LABELS and np.isfinite(answer.confidence)


@pytest.mark.parametrize(
    ("image", "box", "encoding", "message"),
    [
        (np.zeros((1, 1, 3), np.uint8), (0, 0, 1, 1), "rgb8", "at least 8"),
        (np.zeros((120, 160), np.uint8), BOX, "rgb8", r"shape \(H, W, 3\)"),
        (np.zeros((120, 160, 3), np.float32), BOX, "rgb8", "uint8"),
        (np.zeros((120, 160, 3), np.uint8), BOX, "yuv422", "encoding must be one of"),
        (np.zeros((120, 160, 3), np.uint8), (200, 20, 210, 30), "rgb8", "lies outside"),
        (np.zeros((120, 160, 3), np.uint8), (10, 20, float("nan"), 30), "rgb8", "finite"),
    ],
)
def test_bad_input_is_refused_and_the_next_frame_is_answered(bundle, image, box, encoding, message) -> None:
    recognizer = EmotionRecognizer(bundle())
    [before] = recognizer(frame(), [BOX])
    with pytest.raises(InputError, match=message):
        recognizer(image, [box], encoding)
    assert recognizer(frame(), [BOX])[0].distribution == before.distribution


def test_no_image_is_allocated_per_frame(bundle) -> None:
    recognizer, image = EmotionRecognizer(bundle()), frame()
    recognizer(image, [BOX])
    tracemalloc.start()
    try:
        for _ in range(5):
            recognizer(image, [BOX])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8192


def test_the_example_is_answered(bundle) -> None:
    recognizer = EmotionRecognizer(bundle())
    assert recognizer(*recognizer.example())[0].label in LABELS


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([attention_output(7, 7), probabilities_output(LABELS), affect_output()], "for batches of 1, 'probabilities'"),
        ([probabilities_output(("Happy", "Happy", "Sad")), attention_output(7, 7), affect_output()], "n labels"),
        (
            [probabilities_output(LABELS).model_copy(update={"labels": None}), attention_output(7, 7), affect_output()],
            "n labels",
        ),
        ([probabilities_output(LABELS), attention_output(7, 7), affect_output(2)], "for batches of 1"),
        (
            [probabilities_output(LABELS), attention_output(4, 4), affect_output()],
            "other outputs than its manifest says",
        ),
    ],
)
def test_bundles_with_other_answers_are_refused(bundle, outputs, message) -> None:
    with pytest.raises(BundleError, match=message):
        EmotionRecognizer(bundle(outputs=outputs))


def test_a_bundle_for_another_task_is_refused(bundle) -> None:
    with pytest.raises(BundleError, match="task 'steering', not for 'emotion'"):
        EmotionRecognizer(bundle(task="steering"))
