"""Weights on disk: what is recognised, what is refused, and that a crash leaves no half file."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgeflock.export.nets import NETS, STEERING_NETS
from edgeflock.export.training.loop.checkpoint import load_checkpoint, read_torch
from edgeflock.runtime.errors import DataError


def test_every_net_has_its_own_tensors() -> None:
    with torch.device("meta"):
        tensors = [frozenset((k, v.shape) for k, v in build().state_dict().items()) for build in NETS.values()]
    assert len(set(tensors)) == len(NETS)


@pytest.mark.parametrize("name", [*STEERING_NETS, "ldr", "ldr-2"])
@pytest.mark.parametrize("layout", ["round", "epoch", "bare", "safetensors"])
def test_variant_is_recognised_by_its_tensors(tmp_path: Path, name: str, layout: str) -> None:
    state = NETS[name]().state_dict()
    path = tmp_path / ("weights.safetensors" if layout == "safetensors" else "model_global.pth")
    if layout == "safetensors":
        save_file(state, path)
    else:
        torch.save(state if layout == "bare" else {layout: 960, "model_state": state}, path)
    found, net = load_checkpoint(path)
    assert found == name and not net.training
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_step_counters_of_batch_norm_may_be_missing(tmp_path: Path) -> None:
    state = {k: v for k, v in NETS["fadnet-released"]().state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    assert load_checkpoint(tmp_path / "old.pth")[0] == "fadnet-released"


class Evil:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("owned",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model_state": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(DataError, match=name):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", bytes(100)])
def test_other_files_are_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        load_checkpoint(tmp_path / name)


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    torch.save(NETS["dronet"]().state_dict(), tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"w\.pth"):
        load_checkpoint(tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_torch_files_are_refused_whatever_the_unpickler_raises(tmp_path: Path, zipped: bool) -> None:
    whole, path, rng = io.BytesIO(), tmp_path / "damaged.pth", np.random.default_rng(1)
    torch.save({"a": torch.ones(3), "b": {"c": [1, "x", None]}}, whole, _use_new_zipfile_serialization=zipped)
    refused = set()
    for _ in range(400):
        content = bytearray(whole.getvalue())
        content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(content[: rng.integers(len(content) // 2, 2 * len(content))])
        try:
            read_torch(path)
        except DataError as error:
            refused.add(type(error.__cause__).__name__)
    assert len(refused) >= 3


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.pth: no such file"):
        load_checkpoint(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("content", [{"model_state": 3}, {"a": "text"}, [torch.zeros(1)], {}])
def test_other_contents_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(DataError, match="expected a state dict"):
        load_checkpoint(tmp_path / "w.pth")


def test_unknown_net_names_the_tensors_that_differ(tmp_path: Path) -> None:
    state = NETS["fadnet-plus"]().state_dict()
    state["fc.weight"] = torch.zeros(1, 100)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"nearest is fadnet-plus.*fc\.weight \(expected \(1, 6272\), got \(1, 100\)\)"):
        load_checkpoint(tmp_path / "w.pth")


def test_nan_weights_are_refused(tmp_path: Path) -> None:
    state = NETS["fadnet"]().state_dict()
    state["conv1.bias"][0] = torch.nan
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"conv1\.bias"):
        load_checkpoint(tmp_path / "w.pth")
