"""Which detector a name opens, and what is said where "auto" takes the cascade."""

from __future__ import annotations

import pytest

from edgeflock.runtime.errors import FileError, InputError
from edgeflock.runtime.faces import open_detector, yunet_file
from edgeflock.runtime.faces.haar import HaarDetector
from edgeflock.runtime.faces.yunet import YuNetDetector
from edgeflock.runtime.files import sha256_of


def test_auto_is_yunet_where_its_file_is_whatever_its_name(faces_folder, known) -> None:
    known.rename(faces_folder / "anything.onnx")
    said: list[str] = []
    assert isinstance(open_detector("auto", say=said.append), YuNetDetector) and said == []
    assert isinstance(open_detector("cascade"), HaarDetector)


def test_auto_is_the_cascade_elsewhere_and_says_how_yunet_comes_here(faces_folder) -> None:
    said: list[str] = []
    assert isinstance(open_detector(say=said.append), HaarDetector)
    assert "edgeflock faces get" in said[0] and str(faces_folder) in said[0]


def test_a_file_that_was_cut_off_is_named_and_not_taken(faces_folder) -> None:
    (faces_folder / "yunet.onnx").write_bytes(b"half")
    said: list[str] = []
    assert isinstance(open_detector(say=said.append), HaarDetector)
    assert "only yunet.onnx with another SHA-256" in said[0]


def test_auto_works_for_a_user_without_a_home(monkeypatch) -> None:
    def homeless():
        raise FileError("this user has no home.")

    monkeypatch.setattr(yunet_file, "folder", homeless)
    said: list[str] = []
    assert isinstance(open_detector(say=said.append), HaarDetector)
    assert "this user has no home" in said[0]


def test_a_file_that_this_opencv_does_not_run_is_said_and_the_cascade_taken(faces_folder, monkeypatch) -> None:
    place = faces_folder / "older.onnx"
    place.write_bytes(b"a net of another time")
    monkeypatch.setitem(yunet_file.KNOWN, sha256_of(place), yunet_file.ZOO)
    said: list[str] = []
    assert isinstance(open_detector(say=said.append), HaarDetector)
    assert "does not run as such" in said[0]


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(InputError, match="expected a face detector"):
        open_detector("")
