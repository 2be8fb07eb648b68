"""Histograms that travel between robots: what comes back is what was shared, and nothing else is taken."""

import hashlib
import json

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402
from safetensors.numpy import load, save  # noqa: E402

from edgeflock.calibration.observe import observe  # noqa: E402
from edgeflock.calibration.ranges import activation_ranges  # noqa: E402
from edgeflock.calibration.shared import DOMAIN, MOST_BYTES, read_shared, write_shared  # noqa: E402
from edgeflock.runtime.errors import DataError, InputError  # noqa: E402
from edgeflock.runtime.files import canonical_json  # noqa: E402

KEY = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
KEYS = {"r1": {KEY.public_key().public_bytes_raw()}}


def net(slope=2.0):
    nodes = [helper.make_node("Mul", ["x", "slope"], ["scaled"]), helper.make_node("Relu", ["scaled"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 6]) for name in "xy"]
    constant = helper.make_tensor("slope", TensorProto.FLOAT, [1], [slope])
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [constant])
    return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def samples(scale, count=9):
    return {"x": (scale * np.random.default_rng(int(scale)).normal(size=(count, 6))).astype(np.float32)}


@pytest.fixture
def shared(tmp_path):
    """Writes the file of r1, whose arrays `change` may spoil before they are signed."""

    def shared(change=lambda arrays: None, scale=3.0, robot="r1", **content):
        path = tmp_path / "r1.hist"
        write_shared(path, observe(net(), samples(scale), cache=tmp_path), net(), "lab", robot, KEY)
        header, body = path.read_bytes().split(b"\n", 1)
        arrays = load(body)
        change(arrays)
        body = save(arrays)
        signed = json.loads(header)
        signed["content"] |= {"sha256": hashlib.sha256(body).hexdigest()} | content
        signed["signature"] = KEY.sign(DOMAIN + canonical_json(signed["content"])).hex()
        path.write_bytes(canonical_json(signed) + b"\n" + body)
        return path

    return shared


def test_ranges_with_the_histograms_of_another_are_those_of_all_samples_in_one_place(shared, tmp_path):
    other = read_shared(shared(scale=3.0), "lab", KEYS)
    both = {"x": np.concatenate([samples(1.0)["x"], samples(3.0)["x"]])}
    merged = activation_ranges(net(), samples(1.0), others=[other], cache=tmp_path)
    central = activation_ranges(net(), both, cache=tmp_path)
    own = activation_ranges(net(), samples(1.0), cache=tmp_path)
    ends = [{name: data.range_value for name, data in found.items()} for found in (merged, central, own)]
    assert ends[0] == ends[1] != ends[2]


def test_a_file_is_small_and_holds_no_sample(shared):
    content = shared().read_bytes()
    assert len(content) < 3 * 66_000 + 2_000
    assert all(row.tobytes() not in content for row in samples(3.0)["x"])


def set_to(key, at, value):
    def change(arrays):
        arrays[key] = arrays[key].copy()
        arrays[key][at] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_to("counts/y", 0, -1), "counts from -1"),
        (set_to("counts/y", 0, 1 << 50), "to 1125899906842624"),
        (set_to("extremes/y", (1, -1), np.nan), "NaN or infinite"),
        (set_to("extremes/y", (1, -1), np.inf), "NaN or infinite"),
        (set_to("extremes/y", (1, -1), 1e6), "do not fit the extremes"),
        (set_to("extremes/y", (0, 0), 1e6), "out of order"),
        (set_to("bins/y", 1, 1 << 40), "bins from"),
        (set_to("bins/y", 0, -5000), "do not fit"),
        (lambda arrays: arrays.update({"counts/y": arrays["counts/y"].astype(np.float32)}), "counts float32"),
        (lambda arrays: arrays.update({"counts/y": arrays["counts/y"][None]}), "counts int64"),
        (lambda arrays: arrays.pop("counts/y"), "do not belong together"),
        (lambda arrays: arrays.clear(), "do not belong together"),
    ],
)
def test_what_no_histogram_is_is_not_taken_although_it_is_signed(shared, change, said):
    with pytest.raises(DataError, match=said):
        read_shared(shared(change), "lab", KEYS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: [arrays.pop(f"{part}/y") for part in ("bins", "counts", "extremes")], "differ from"),
        (set_to("counts/x", 0, 7_000), "counts 7,0"),
    ],
)
def test_histograms_that_this_net_cannot_have_given_are_refused(shared, change, said):
    with pytest.raises(InputError, match=said):
        read_shared(shared(change), "lab", KEYS).check(net())


def test_histograms_of_another_net_or_of_more_samples_than_they_hold_are_refused(shared):
    with pytest.raises(InputError, match="of the net"):
        read_shared(shared(), "lab", KEYS).check(net(slope=2.5))
    with pytest.raises(InputError, match="of 10"):
        read_shared(shared(samples=10), "lab", KEYS).check(net())


def test_a_stranger_a_changed_file_another_run_and_a_cut_or_huge_file_are_refused(shared):
    path = shared()
    whole = path.read_bytes()
    with pytest.raises(DataError, match="roster"):
        read_shared(path, "lab", {"r1": {b"\2" * 32}})
    with pytest.raises(DataError, match="roster"):
        read_shared(shared(robot="r9"), "lab", KEYS)
    with pytest.raises(DataError, match="run 'lab'"):
        read_shared(path, "hall", KEYS) if path.write_bytes(whole) else None
    path.write_bytes(whole.replace(b'"samples":9', b'"samples":8'))
    with pytest.raises(DataError, match="changed after"):
        read_shared(path, "lab", KEYS)
    path.write_bytes(whole[:-9])
    with pytest.raises(DataError, match="damaged or cut"):
        read_shared(path, "lab", KEYS)
    path.write_bytes(b"\0" * 9)
    with pytest.raises(DataError, match="calibrate share"):
        read_shared(path, "lab", KEYS)
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(DataError, match="at most"):
        read_shared(path, "lab", KEYS)
