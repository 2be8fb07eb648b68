"""The board profile: holds for this board and these versions only, and says why it is ignored."""

import json
import logging
import re

import pytest

from edgeflock.runtime.board import profile
from edgeflock.runtime.board.profile import Choice, choice, save, this_board
from edgeflock.runtime.errors import DataError, EdgeflockError

DIGEST, OTHER = "a" * 64, "b" * 64
FASTEST = Choice(engine="openvino", precision="int8", threads=1)


@pytest.fixture(autouse=True)
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEFLOCK_BOARD_PROFILE", str(tmp_path / "config" / "board.json"))
    return tmp_path / "config" / "board.json"


def change(path, **fields):
    document = json.loads(path.read_text())
    document["board"] |= fields
    path.write_text(json.dumps(document))


def test_without_a_profile_there_is_no_choice_and_no_warning(caplog):
    assert choice(DIGEST) is None and not caplog.records


def test_what_was_saved_is_chosen_for_that_bundle_only(path):
    assert save(DIGEST, FASTEST) == path
    assert choice(DIGEST) == FASTEST and choice(OTHER) is None


def test_a_second_bundle_joins_the_first():
    save(DIGEST, FASTEST)
    save(OTHER, Choice(engine="onnxruntime-cpu", precision="fp32", threads=2))
    assert choice(DIGEST) == FASTEST and choice(OTHER).threads == 2


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("machine", "riscv64", "machine was riscv64, is "),
        ("cpu", "Cortex-A78AE", "cpu was Cortex-A78AE, is "),
        ("flags", [], r"flags was \[\], is "),
        ("engines", {"onnxruntime": "1.16.3"}, "onnxruntime was 1.16.3, is 1"),
        ("engines", {"ncnn": "1.0"}, "ncnn was 1.0, is not there; onnxruntime was not there, is 1"),
    ],
)
def test_a_profile_of_another_board_or_other_versions_is_ignored_and_the_field_named(path, caplog, field, value, says):
    save(DIGEST, FASTEST)
    change(path, **{field: value})
    with caplog.at_level(logging.WARNING):
        assert choice(DIGEST) is None
    (record,) = caplog.records
    assert re.search(says, record.getMessage()) and "edgeflock tune" in record.getMessage()


def test_saving_over_another_boards_profile_begins_anew(path):
    save(OTHER, FASTEST)
    change(path, cpu="Cortex-A78AE")
    save(DIGEST, FASTEST)
    assert choice(DIGEST) == FASTEST and choice(OTHER) is None


@pytest.mark.parametrize("content", ["", "[]", '{"schema_version": 99}', "\x00"])
def test_a_file_that_is_not_a_profile_is_ignored_with_a_warning(path, caplog, content):
    path.parent.mkdir()
    path.write_text(content)
    assert choice(DIGEST) is None
    assert "cannot be read" in caplog.text


def test_a_folder_that_cannot_be_written_is_an_error_with_the_way_out(path):
    path.parent.write_text("a file")
    with pytest.raises(DataError, match=r"cannot be written.*EDGEFLOCK_BOARD_PROFILE"):
        save(DIGEST, FASTEST)


def test_one_that_cannot_be_written_is_refused_before_anything_is_measured(path):
    path.parent.write_text("a file")
    with pytest.raises(EdgeflockError, match=r"cannot write.*EDGEFLOCK_BOARD_PROFILE"):
        profile.check_writable()


def test_the_file_is_the_users_unless_the_environment_names_one(monkeypatch, tmp_path):
    monkeypatch.delenv("EDGEFLOCK_BOARD_PROFILE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert profile.profile_path() == tmp_path / ".config" / "edgeflock" / "board.json"


def test_the_fingerprint_names_what_engines_depend_on():
    board = this_board()
    assert board.cpu and board.cores >= 1 and "onnxruntime" in board.engines
    assert board == this_board()
