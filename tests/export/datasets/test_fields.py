"""A teacher's fields on disk: ours go on where they stopped, the authors' pickles are read and can run nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from edgeflock.export.datasets.fields import Fields, read_authors_fields, write_fields
from edgeflock.export.datasets.volumes import Volume, VolumeDataset
from edgeflock.runtime.errors import DataError, InputError

SCANS = {f"lits/{i}": Volume(np.full((4, 4, 4), i, np.uint8), None) for i in range(3)}
DATA = VolumeDataset(list(SCANS), (1,), 4, SCANS.__getitem__)


def answer(pair: tuple[int, int]) -> np.ndarray:
    return np.full((3, 4, 4, 4), pair[0] - pair[1], np.float32)


def write(folder: Path, origin: str = "teacher", answer=answer) -> Fields:
    return write_fields(folder, DATA, DATA.pairs, 4, origin, answer)


def test_fields_are_kept_as_they_were_answered(tmp_path: Path) -> None:
    fields = write(tmp_path)
    assert fields[(0, 2)].dtype == np.float32 and (fields[(0, 2)] == -2).all() and (fields[(2, 1)] == 1).all()
    assert fields.rms == pytest.approx(np.sqrt(np.mean([1, 4, 1, 1, 4, 1])))


def test_an_interrupted_call_goes_on_and_a_finished_one_asks_nothing(tmp_path: Path) -> None:
    asked = []

    def interrupted(pair: tuple[int, int]) -> np.ndarray:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(pair)
        return answer(pair)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, answer=interrupted)
    left: list[tuple[int, int]] = []
    write(tmp_path, answer=lambda pair: left.append(pair) or answer(pair))
    assert asked + left == DATA.pairs
    assert write(tmp_path, answer=lambda _: pytest.fail("asked again")).rms > 0


def test_fields_of_another_teacher_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(InputError, match="fields of other origin: name another folder"):
        write(tmp_path, "another")


@pytest.mark.parametrize("value", [np.nan, 1e6])
def test_what_float16_cannot_hold_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(DataError, match="lits/1 onto lits/0 is not finite"), np.errstate(over="ignore"):
        write(tmp_path, answer=lambda _: np.full((3, 4, 4, 4), value))


def test_a_damaged_field_is_named(tmp_path: Path) -> None:
    fields = write(tmp_path)
    (tmp_path / "00000-00001.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(DataError, match=r"00000-00001\.npy: expected a field"):
        fields[(0, 1)]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_the_authors_pickles_are_read_by_the_ids_in_the_names(tmp_path: Path, protocol: int) -> None:
    """Channels last, in voxels of 8^3: half of that in voxels of 4^3."""
    flow = np.zeros((8, 8, 8, 3), np.float16)
    flow[..., 1] = np.arange(8)[:, None, None]
    path = tmp_path / "liver_teacher_deformation_c_1.pkl"
    path.write_bytes(pickle.dumps({"1-0": flow, "7-9": flow}, protocol=protocol))
    fields = read_authors_fields(path, DATA, 4, tmp_path / "fields")
    assert fields.pairs == [(1, 0)]
    assert (fields[(1, 0)][1, :, 0, 0] == [0.25, 1.25, 2.25, 3.25]).all() and not fields[(1, 0)][[0, 2]].any()


class Evil:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"1-0": Evil()}), r"it holds \w+\.mkdir, and only numpy's arrays are read"),
        (pickle.dumps({"1-0": np.zeros((8, 8, 8, 3))})[:-40], "reading it failed"),
        (b"", "reading it failed"),
        (pickle.dumps([np.zeros(3)]), "expected a dict of numpy arrays, got list"),
        (pickle.dumps({"a-b": np.zeros(3)}), "none of its 1 pairs"),
        (pickle.dumps({"1-0": np.zeros((8, 8, 8))}), r"1-0 is float64 \(8, 8, 8\)"),
        (pickle.dumps({"1-0": np.zeros((6, 6, 6, 3))}), r"expected \(S, S, S, 3\) of 4\^3"),
    ],
)
def test_other_pickles_are_refused_and_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fields.pkl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_authors_fields(tmp_path / "fields.pkl", DATA, 4, tmp_path / "out")
    assert not (tmp_path / "ran").exists()
