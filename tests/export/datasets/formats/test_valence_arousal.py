"""Pseudo valence and arousal: nets of many kinds, known values stay, what is no estimator is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeflock.export.datasets.emotion import EmotionDataset, open_emotion
from edgeflock.export.datasets.formats.valence_arousal import NORMALISATIONS, estimate_affect, with_affect, write_affect
from edgeflock.export.nets import NETS
from edgeflock.runtime.errors import DataError, InputError

FIVE = np.random.default_rng(3).integers(0, 256, (5, 24, 20, 3), np.uint8)
WEIGHTS = np.array([[0.9, -0.5], [-0.6, 0.2], [-0.1, 0.7]], np.float32)  # of mean red, green, blue


def network(
    file: Path,
    weights: np.ndarray = WEIGHTS,
    shape: tuple = ("N", 3, 8, 8),
    split: tuple[str, str] | None = None,
    kind: int = TensorProto.FLOAT,
    twice: bool = False,
) -> Path:
    """Write a net whose outputs are weighted means of the image's colours."""
    axes = [2, 3] if shape[1] == 3 else [1, 2]
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    constants = [
        numpy_helper.from_array(np.array(axes, np.int64), "axes"),
        numpy_helper.from_array(weights.astype(dtype), "weights"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["scores"]),
    ]
    names = ["scores"]
    if split:
        nodes.append(helper.make_node("Split", ["scores"], list(split), axis=1, num_outputs=2))
        names = list(split)[::-1]  # the order of the outputs says nothing
    if twice:
        nodes.append(helper.make_node("Identity", ["scores"], ["again"]))
        names.append("again")
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in names]
    inputs = [helper.make_tensor_value_info("image", kind, shape)]
    graph = helper.make_graph(nodes, "colours", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    return file


def expected(images: np.ndarray, normalise: str = "0..1", weights: np.ndarray = WEIGHTS) -> np.ndarray:
    mean, deviation = NORMALISATIONS[normalise]
    small = np.stack([cv2.resize(image, (8, 8), interpolation=cv2.INTER_LINEAR) for image in images])
    return ((small - np.array(mean)) / np.array(deviation)).mean((1, 2)) @ weights


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"shape": ("N", 8, 8, 3)},
        {"shape": (2, 3, 8, 8)},
        {"shape": (1, 8, 8, 3)},
        {"split": ("valence", "arousal")},
        {"split": ("Valence", "Arousal"), "shape": (4, 3, 8, 8)},
    ],
)
def test_every_input_layout_batch_and_pair_of_outputs_is_understood(tmp_path: Path, kind: dict) -> None:
    affect = estimate_affect(network(tmp_path / "m.onnx", **kind), FIVE)
    assert affect.dtype == np.float32 and affect.shape == (5, 2)
    assert np.allclose(affect, expected(FIVE), atol=1e-6) and np.ptp(affect, axis=0).min() > 1e-3


def test_half_precision_is_fed_as_such(tmp_path: Path) -> None:
    affect = estimate_affect(network(tmp_path / "m.onnx", kind=TensorProto.FLOAT16), FIVE)
    assert np.allclose(affect, expected(FIVE), atol=5e-3)


@pytest.mark.parametrize("normalise", ["-1..1", "imagenet"])
def test_pixels_are_scaled_as_the_net_was_trained(tmp_path: Path, normalise: str) -> None:
    affect = estimate_affect(network(tmp_path / "m.onnx"), FIVE, normalise=normalise)
    assert np.allclose(affect, expected(FIVE, normalise), atol=1e-5)
    assert not np.allclose(affect, expected(FIVE), atol=0.05)


def test_columns_of_a_longer_vector_are_taken_by_number(tmp_path: Path) -> None:
    wide = np.concatenate([np.full((3, 8), 9.0, np.float32), WEIGHTS], 1)
    model = network(tmp_path / "m.onnx", wide)
    for columns in ((8, 9), (-2, -1)):
        assert np.allclose(estimate_affect(model, FIVE, columns=columns), expected(FIVE), atol=1e-5)
    assert np.allclose(estimate_affect(model, FIVE, columns=(9, 8)), expected(FIVE)[:, ::-1], atol=1e-5)


def test_a_little_beyond_one_is_cut_off(tmp_path: Path) -> None:
    white = np.full((1, 8, 8, 3), 255, np.uint8)
    weights = np.array([[1.2, -1.4], [0, 0], [0, 0]], np.float32)
    assert estimate_affect(network(tmp_path / "m.onnx", weights), white).tolist() == [[1, -1]]


def test_no_images_are_no_values(tmp_path: Path) -> None:
    assert estimate_affect(network(tmp_path / "m.onnx"), FIVE[:0]).shape == (0, 2)


def junk(file: Path) -> Path:
    file.write_bytes(b"not a net")
    return file


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda f: f, {}, r"m\.onnx: expected an ONNX file, there is none"),
        (junk, {}, r"m\.onnx: not a net that ONNX Runtime loads"),
        (lambda f: network(f, shape=("N", 3, "H", "W")), {}, "Export it with a fixed height and width"),
        (
            lambda f: network(f, shape=("N", 8, 8, 8, 3)),
            {},
            r"expected one float input \(N, 3, H, W\) or \(N, H, W, 3\)",
        ),
        (lambda f: network(f, np.ones((4, 2)), ("N", 8, 8, 4)), {}, "expected one float input"),
        (lambda f: network(f, kind=TensorProto.DOUBLE), {}, r"expected one float input .* got image tensor\(double\)"),
        (lambda f: network(f, np.ones((3, 10), np.float32)), {}, r"got scores \(5, 10\).*name their columns"),
        (lambda f: network(f, twice=True), {}, r"got scores \(5, 2\), again \(5, 2\)"),
        (network, {"columns": (8, 9)}, r"expected one output with the columns 8 and 9, got scores \(5, 2\)"),
        (network, {"columns": (0, -3)}, "expected one output with the columns 0 and -3"),
        (network, {"normalise": "0..255"}, "it gave values up to .*normalisation.*this was 0..255"),
        (lambda f: network(f, np.full((3, 2), np.nan, np.float32)), {}, "it gave values up to nan"),
        (network, {"normalise": "minmax"}, "expected 0..1, -1..1, 0..255, imagenet, got 'minmax'"),
    ],
)
def test_what_is_no_estimator_is_refused(tmp_path: Path, make, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate_affect(make(tmp_path / "m.onnx"), FIVE, **options)


def test_images_must_be_rgb_bytes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected uint8 \(N, h, w, 3\), got float32"):
        estimate_affect(network(tmp_path / "m.onnx"), FIVE.astype(np.float32))


@pytest.fixture(scope="module")
def rendered() -> EmotionDataset:
    with torch.device("meta"):
        net = NETS["fer-resnet50"]()
    return open_emotion(net, None, "train", 6)


def test_unknown_values_are_filled_in_and_known_ones_stay(tmp_path: Path, rendered: EmotionDataset) -> None:
    model = network(tmp_path / "m.onnx")
    every = with_affect(replace(rendered, affect=None), model)
    assert np.allclose(every.affect, expected(rendered.face), atol=1e-6) and every.labels is rendered.labels
    half = rendered.affect.copy()
    half[::2] = np.nan
    filled = with_affect(replace(rendered, affect=half), model).affect
    assert np.array_equal(filled[1::2], rendered.affect[1::2]) and np.array_equal(filled[::2], every.affect[::2])
    assert np.isnan(half[::2]).all()
    assert with_affect(rendered, tmp_path / "no net is needed") is rendered


def test_what_was_estimated_can_be_kept_and_given_instead_of_the_net(tmp_path: Path, rendered: EmotionDataset) -> None:
    bare, table = replace(rendered, affect=None), tmp_path / "new" / "affect.csv"
    estimated = with_affect(bare, network(tmp_path / "m.onnx"), keep=table)
    assert np.allclose(with_affect(bare, table).affect, estimated.affect, atol=1e-5)
    half = estimated.affect.copy()
    half[0] = np.nan
    write_affect(replace(rendered, affect=half), table)
    with pytest.raises(DataError, match=r"expected valence and arousal of synthetic face 1/0 of .*, found no such row"):
        with_affect(bare, table)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (
            b"name,valence\n",
            DataError,
            r"row 1: expected the columns name, valence, arousal, got \['name', 'valence'\]",
        ),
        (b"name,valence,arousal\na,0.1\n", DataError, r"row 2: expected valence and arousal in \[-1, 1\]"),
        (b"name,valence,arousal\na,2,0\n", DataError, r"row 2: expected valence and arousal in \[-1, 1\]"),
        (b"name,\xff\n", DataError, "expected comma-separated text"),
        (None, InputError, "cannot be read: No such file"),
    ],
)
def test_a_broken_table_is_named(
    tmp_path: Path, rendered: EmotionDataset, content: bytes | None, error: type, message: str
) -> None:
    table = tmp_path / "affect.csv"
    if content is not None:
        table.write_bytes(content)
    with pytest.raises(error, match=message):
        with_affect(replace(rendered, affect=None), table)
