"""TensorFlow checkpoints, written here byte by byte as the format is described: TensorFlow is no dependency.

The authors' released index and string file of GLAMOR-Net were read with this reader once by hand: 81 entries, all
checksums right; they are not in this repository.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflock.export.nets.tf_checkpoint import OBJECT_GRAPH, read_tf_checkpoint, variable_names
from edgeflock.runtime.errors import DataError

KEY = "layer/{}/kernel/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture
def tensors(proto_field) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {KEY.format(i): rng.normal(size=(3, 3, i + 1, 2)).astype(np.float32) for i in range(12)}
    names = proto_field(1, b"VALUE") + proto_field(2, b"conv2d_3/kernel") + proto_field(3, KEY.format(0).encode())
    graph = proto_field(1, proto_field(2, names))
    return found | {
        "step": np.array(300, np.int64),
        "half": np.zeros((0, 4), np.float16),
        OBJECT_GRAPH: np.array(graph, object),
        "words": np.array([b"", b"x" * 200], object),
    }


def test_every_tensor_comes_back(tmp_path: Path, tensors: dict[str, np.ndarray], write_tf_checkpoint) -> None:
    got = read_tf_checkpoint(write_tf_checkpoint(tmp_path / "Model", tensors))
    assert list(got) == sorted(tensors)
    for key, array in tensors.items():
        assert got[key].dtype == array.dtype and got[key].shape == array.shape and np.array_equal(got[key], array)


def test_the_object_graph_tells_the_variables_names(
    tmp_path: Path, tensors: dict[str, np.ndarray], write_tf_checkpoint
) -> None:
    got = read_tf_checkpoint(write_tf_checkpoint(tmp_path / "Model", tensors))
    assert variable_names(got[OBJECT_GRAPH].item()) == {KEY.format(0): "conv2d_3/kernel"}


def test_a_missing_file_is_named(tmp_path: Path, tensors: dict[str, np.ndarray], write_tf_checkpoint) -> None:
    with pytest.raises(DataError, match=r"Model\.index: no such file; expected the prefix"):
        read_tf_checkpoint(tmp_path / "Model")
    prefix = write_tf_checkpoint(tmp_path / "Model", tensors)
    (tmp_path / "Model.data-00001-of-00002").unlink()
    with pytest.raises(DataError, match=r"data-00001-of-00002: no such file; .* all 2 \.data"):
        read_tf_checkpoint(prefix)


def test_damage_is_noticed(tmp_path: Path, tensors: dict[str, np.ndarray], write_tf_checkpoint) -> None:
    prefix = write_tf_checkpoint(tmp_path / "Model", tensors)
    index, data = tmp_path / "Model.index", tmp_path / "Model.data-00000-of-00002"
    whole = index.read_bytes()
    index.write_bytes(whole[:30] + bytes([whole[30] ^ 1]) + whole[31:])
    with pytest.raises(DataError, match="checksum at byte 0 is wrong"):
        read_tf_checkpoint(prefix)
    for cut in (0, 20, len(whole) - 60):
        index.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="not the index of a TensorFlow checkpoint, or cut off"):
            read_tf_checkpoint(prefix)
    index.write_bytes(whole[100:])  # blocks are not where the footer says
    with pytest.raises(DataError, match=r"checksum|damaged"):
        read_tf_checkpoint(prefix)
    index.write_bytes(whole)
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"does not fit its .* bytes: cut off"):
        read_tf_checkpoint(prefix)


def test_what_it_does_not_read_is_said(
    tmp_path: Path, tensors: dict[str, np.ndarray], write_tf_checkpoint, proto_field
) -> None:
    with pytest.raises(DataError, match=r"the index is compressed \(kind 1\)"):
        read_tf_checkpoint(write_tf_checkpoint(tmp_path / "a", tensors, compression=1))
    with pytest.raises(DataError, match="is stored in slices"):
        read_tf_checkpoint(write_tf_checkpoint(tmp_path / "b", tensors, extra=proto_field(7, b"")))
