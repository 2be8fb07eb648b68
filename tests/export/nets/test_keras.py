"""The authors' Keras weights: the same net as an independent numpy forward, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeflock.export.nets.keras import keras_state
from edgeflock.export.training.loop.checkpoint import load_checkpoint
from edgeflock.runtime.errors import DataError

REFERENCE = Path(__file__).parents[3] / "../shared/reference/glamor_original.npz"

torch.set_num_threads(1)


def random_variables(seed: int = 0) -> list[tuple[str, np.ndarray]]:
    """The variables of the authors' net as Keras names and lays them out, in order of creation."""
    rng = np.random.default_rng(seed)
    variables: list[tuple[str, np.ndarray]] = []
    counts = {"conv2d": 0, "dense": 0, "batch_normalization": 0}

    def add(kind: str, *parts: tuple[str, np.ndarray]) -> None:
        number = f"_{counts[kind]}" if counts[kind] else ""
        counts[kind] += 1
        variables.extend((f"{kind}{number}/{leaf}:0", array.astype(np.float32)) for leaf, array in parts)

    def norm(n: int) -> None:
        add(
            "batch_normalization",
            ("gamma", rng.uniform(0.5, 1.5, n)),
            ("beta", rng.normal(0, 0.2, n)),
            ("moving_mean", rng.normal(0, 0.2, n)),
            ("moving_variance", rng.uniform(0.5, 1.5, n)),
        )

    def dense(n: int, out: int) -> None:
        add("dense", ("kernel", rng.normal(0, 1.4 / n**0.5, (n, out))), ("bias", rng.normal(0, 0.1, out)))

    for _encoder in ("face", "context"):
        for n, out in ((3, 32), (32, 64), (64, 128), (128, 256), (256, 256)):
            kernel = rng.normal(0, 1.4 / (9 * n) ** 0.5, (3, 3, n, out))
            add("conv2d", ("kernel", kernel), ("bias", rng.normal(0, 0.1, out)))
            norm(out)
    dense(512, 128)
    norm(128)
    dense(128, 1)
    for n, out in ((256, 128), (128, 1), (256, 128), (128, 1), (512, 128), (128, 7)):
        dense(n, out)
    return variables


def write(path: Path, variables: list[tuple[str, np.ndarray]], **more: np.ndarray) -> Path:
    np.savez(path, **{f"{i:03d}|{name}": array for i, (name, array) in enumerate(variables)}, **more)
    return path


def forward(variables: list[tuple[str, np.ndarray]], face: np.ndarray, context: np.ndarray) -> np.ndarray:
    """GLAMOR-Net in numpy, channels last, float64, taking the variables one after the other."""
    left = iter(array.astype(np.float64) for _, array in variables)

    def norm(x: np.ndarray) -> np.ndarray:
        gamma, beta, mean, variance = (next(left) for _ in range(4))
        return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta

    def dense(x: np.ndarray) -> np.ndarray:
        return x @ next(left) + next(left)

    def encode(x: np.ndarray) -> np.ndarray:
        for layer in range(5):
            kernel, bias = next(left), next(left)
            padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
            x = bias + sum(
                padded[i : i + x.shape[0], j : j + x.shape[1]] @ kernel[i, j] for i in range(3) for j in range(3)
            )
            x = np.maximum(norm(x), 0)
            if layer < 4:
                x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max((1, 3))
        return x

    v_f = encode(face).mean((0, 1))
    cells = encode(context).reshape(49, 256)
    hidden = np.maximum(dense(np.concatenate([np.tile(v_f, (49, 1)), cells], 1)), 0)
    a = np.exp(dense(np.maximum(norm(hidden), 0))[:, 0])
    v_c = (a / a.sum()) @ cells
    s_f = np.exp(dense(np.maximum(dense(v_f), 0)))
    s_c = np.exp(dense(np.maximum(dense(v_c), 0)))
    both = np.concatenate([v_f * s_f / (s_f + s_c), v_c * s_c / (s_f + s_c)])
    p = np.exp(dense(np.maximum(dense(both), 0)))
    assert next(left, None) is None
    return p / p.sum()


def answers(net: torch.nn.Module, face: np.ndarray, context: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        inputs = (torch.from_numpy(x).permute(0, 3, 1, 2).float() for x in (face, context))
        return net(*inputs)[0].numpy()


def test_imported_net_equals_a_numpy_forward(tmp_path: Path) -> None:
    variables, rng = random_variables(), np.random.default_rng(1)
    face, context = rng.random((2, 96, 96, 3)), rng.random((2, 112, 112, 3))
    expected = np.stack([forward(variables, f, c) for f, c in zip(face, context, strict=True)])
    name, net = load_checkpoint(write(tmp_path / "glamor.npz", variables, face=face, probabilities=expected))
    assert name == "glamor" and np.ptp(expected) > 0.05
    np.testing.assert_allclose(answers(net, face, context), expected, atol=1e-5)


def test_names_of_layers_and_where_batch_statistics_stand_do_not_matter(tmp_path: Path) -> None:
    variables = random_variables()
    expected = keras_state(write(tmp_path / "a.npz", variables))
    statistics = [v for v in variables if "moving" in v[0]]
    moved = [v for v in variables if "moving" not in v[0]] + statistics  # as Model.weights gives them
    renamed = [(f"model_1/layer_{i}/{name.split('/')[-1].removesuffix(':0')}", a) for i, (name, a) in enumerate(moved)]
    state = keras_state(write(tmp_path / "b.npz", renamed))
    assert state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in expected)


def test_a_dense_layer_may_be_a_1x1_convolution(tmp_path: Path) -> None:
    variables = random_variables()
    expected = keras_state(write(tmp_path / "a.npz", variables))["attention.hidden.weight"]
    as_convolution = [(n, a[None, None] if n == "dense/kernel:0" else a) for n, a in variables]
    assert torch.equal(keras_state(write(tmp_path / "b.npz", as_convolution))["attention.hidden.weight"], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v[:-1], r"no variable is left for head\.3\.bias"),
        (lambda v: [*v, ("dense_9/bias:0", np.zeros(7))], r"1 variables are not part.*dense_9/bias"),
        (lambda v: [*v, ("Adam/m/dense/kernel:0", np.zeros(7)), ("iterations", np.zeros(1))], "'iterations'"),
        (lambda v: v[6:], r"'000\|conv2d_1/kernel:0' should be face\.0\.weight .*\(32, 3, 3, 3\).*\(64, 32, 3, 3\)"),
        (lambda v: [], "expected arrays named 'NNN"),
    ],
)
def test_other_variables_are_named(tmp_path: Path, change, message: str) -> None:
    with pytest.raises(DataError, match=message):
        keras_state(write(tmp_path / "glamor.npz", change(random_variables())))


def test_pickles_and_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "pickle.npz", **{"000|kernel": np.array([object()])})
    (tmp_path / "text.npz").write_text("weights")
    for name in ("pickle.npz", "text.npz"):
        with pytest.raises(DataError, match=f"{name}: not a readable .npz"):
            load_checkpoint(tmp_path / name)


SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def checkpoint_tensors() -> dict[str, np.ndarray]:
    """The same variables under the keys of the authors' released checkpoint."""
    left = iter(random_variables())
    found: dict[str, np.ndarray] = {}

    def take(layer: str, count: int) -> None:
        for _ in range(count):
            name, array = next(left)
            found[f"{layer}/{name.split('/')[-1].removesuffix(':0')}{SUFFIX}"] = array

    for branch in ("FaceEncodingNet", "ContextEncodingNet"):
        for i in range(5):
            take(f"{branch}/blocks/{i}/conv", 2)
            take(f"{branch}/blocks/{i}/bn", 4)
    take("attention_fc1", 2)
    take("attention_fc1_bn", 4)
    heads = ["face_weight1", "face_weight2", "context_weight1", "context_weight2", "final_fc1", "final_classify"]
    for layer in ("attention_fc2", *heads):
        take(layer, 2)
    assert next(left, None) is None
    return found


@pytest.mark.parametrize("prefix", ["", "model/"])
def test_a_tensorflow_checkpoint_is_imported_by_name(tmp_path: Path, write_tf_checkpoint, prefix: str) -> None:
    """`prefix`: as `save_weights` writes it, or as the authors' training does, beside its optimiser."""
    tensors = {prefix + key: array for key, array in checkpoint_tensors().items()}
    if prefix:
        slot = f"model/final_fc1/bias/.OPTIMIZER_SLOT/optimizer/momentum{SUFFIX}"
        tensors |= {slot: np.zeros(128, np.float32), f"step{SUFFIX}": np.array(9, np.int64)}
    write_tf_checkpoint(tmp_path / "Model", tensors)
    name, net = load_checkpoint(tmp_path / "Model.index")
    expected = keras_state(write(tmp_path / "glamor.npz", random_variables()))
    assert name == "glamor"
    held = {key: tensor for key, tensor in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert held.keys() == expected.keys() and all(torch.equal(held[key], expected[key]) for key in held)


def test_what_a_checkpoint_lacks_is_named(tmp_path: Path, write_tf_checkpoint) -> None:
    tensors = checkpoint_tensors()
    kernel = tensors.pop(f"attention_fc2/kernel{SUFFIX}")
    write_tf_checkpoint(tmp_path / "Model", tensors)
    with pytest.raises(DataError, match=r"holds no 'attention_fc2/kernel', which is attention\.score\.weight"):
        load_checkpoint(tmp_path / "Model.index")
    write_tf_checkpoint(tmp_path / "Model", {**tensors, f"attention_fc2/kernel{SUFFIX}": kernel.T.copy()})
    with pytest.raises(DataError, match=r"'attention_fc2/kernel' should be attention\.score\.weight .*\(1, 128\)"):
        load_checkpoint(tmp_path / "Model.index")
    (tmp_path / "Model.data-00001-of-00002").unlink()
    with pytest.raises(DataError, match=r"a checkpoint is its \.index and all 2 \.data files"):
        load_checkpoint(tmp_path / "Model.index")
    with pytest.raises(DataError, match=r"Model: no such file; expected weights as .*\.index"):
        load_checkpoint(tmp_path / "Model")


@pytest.mark.skipif(not REFERENCE.is_file(), reason="needs ../shared/reference/glamor_original.npz")
def test_original_net_equals_the_authors_outputs() -> None:
    with np.load(REFERENCE, allow_pickle=False) as reference:
        face, context, expected = (reference[key] for key in ("face", "context", "probabilities"))
    name, net = load_checkpoint(REFERENCE)
    assert name == "glamor"
    np.testing.assert_allclose(answers(net, face, context), expected, atol=1e-5)
