"""Files that survive a crash, and outputs that destroy no input."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from edgeflock.runtime.errors import FileError, InputError
from edgeflock.runtime.files import (
    cache_folder,
    check_outputs,
    config_folder,
    in_order,
    left_over,
    parse_json,
    replacing,
    sole_writer,
    write_atomically,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- writing


def test_safetensors_of_equal_content_are_equal_bytes_whatever_the_library_s_order() -> None:
    tensors = {"a": np.arange(3, dtype=np.float32), "b": np.ones((2, 2), np.int64)}
    notes = {f"key {n}": "é" * n for n in range(9)}
    made = {in_order(save(tensors, notes)) for _ in range(20)}
    assert len(made) == 1
    content = made.pop()
    assert all(np.array_equal(value, tensors[name]) for name, value in load(content).items())
    size = int.from_bytes(content[:8], "little")
    assert size % 8 == 0 and json.loads(content[8 : 8 + size])["__metadata__"] == notes


def test_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as failed:
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"] and failed.value.filename == str(path)


FULL = """
import resource, sys
from pathlib import Path
from edgeflock.runtime.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_atomically(Path(sys.argv[1]), bytes(5000))
"""

FULL_BEFORE = """
import resource, sys
from pathlib import Path
from edgeflock.runtime.files import check_outputs
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
check_outputs(folders=[Path(sys.argv[1]) / "new"])
"""


def test_a_disk_that_is_full_keeps_the_old_file_and_leaves_nothing_half_written(tmp_path):
    """A file-size limit answers as a full disk does, in the middle of the write."""
    (tmp_path / "best").write_bytes(b"old")
    ended = subprocess.run([sys.executable, "-c", FULL, tmp_path / "best"], capture_output=True, text=True)
    assert "OSError" in ended.stderr and f"'{tmp_path / 'best'}'" in ended.stderr
    assert names(tmp_path) == ["best"] and (tmp_path / "best").read_bytes() == b"old"


def test_missing_folders_are_made_and_text_is_utf8(tmp_path):
    write_atomically(tmp_path / "a/b/file.txt", "µ")
    assert (tmp_path / "a/b/file.txt").read_bytes() == "µ".encode() and names(tmp_path / "a/b") == ["file.txt"]


def test_a_library_writes_to_a_draft_with_the_same_suffixes(tmp_path):
    with replacing(tmp_path / "scan.nii.gz") as draft:
        assert draft.name.endswith(".nii.gz") and draft.parent == tmp_path
        draft.write_bytes(b"x")
        assert not (tmp_path / "scan.nii.gz").exists()
    assert names(tmp_path) == ["scan.nii.gz"]


def test_files_that_belong_together_are_all_replaced_or_none(tmp_path):
    def write_both(second):
        with contextlib.ExitStack() as stack:
            drafts = [stack.enter_context(replacing(tmp_path / name)) for name in ("a", "b")]
            drafts[0].write_text("new a")
            second(drafts[1])

    (tmp_path / "a").write_text("old a")
    with pytest.raises(ZeroDivisionError):
        write_both(lambda draft: 1 / 0)
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old a"
    write_both(lambda draft: draft.write_text("new b"))
    assert [(tmp_path / name).read_text() for name in "ab"] == ["new a", "new b"]


def test_a_link_keeps_pointing_where_it_does_and_permissions_stay(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


def test_a_pipe_is_written_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE)
    write_atomically(tmp_path / "pipe", b"through")
    assert reader.communicate(timeout=30)[0] == b"through" and (tmp_path / "pipe").is_fifo()


# ---- looking before


def test_an_output_that_can_be_written_passes_and_nothing_is_made(tmp_path):
    (tmp_path / "in").write_bytes(b"x")
    check_outputs(
        [tmp_path / "new/out.json", Path("/dev/null"), None], [tmp_path / "a/b", None], [tmp_path / "in", None]
    )
    assert names(tmp_path) == ["in"]


@pytest.mark.parametrize("link", [None, "symbolic", "hard"])
def test_an_output_that_is_an_input_is_refused_through_links_too(tmp_path, link):
    read = tmp_path / "video.mp4"
    read.write_bytes(b"x")
    output = tmp_path / "other.mp4" if link else read
    if link == "symbolic":
        output.symlink_to(read)
    elif link == "hard":
        output.hardlink_to(read)
    with pytest.raises(InputError, match=r"is read by this command.*overwritten"):
        check_outputs([output], inputs=[read])


def test_a_folder_that_is_read_is_not_written_into(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match="is read by this command"):
        check_outputs(folders=[tmp_path / "x" / ".."], inputs=[tmp_path])


def test_a_file_where_a_folder_must_be_and_the_reverse_are_named(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for arguments in (
        {"folders": [tmp_path / "file"]},
        {"files": [tmp_path / "file/x"]},
        {"folders": [tmp_path / "file/x"]},
    ):
        with pytest.raises(InputError, match=f"{tmp_path / 'file'}.*Choose|choose"):
            check_outputs(**arguments)
    with pytest.raises(InputError, match="expected a file to write, got the folder"):
        check_outputs([tmp_path])


def test_two_outputs_of_one_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="written twice"):
        check_outputs([tmp_path / "a", tmp_path / "b/../a"])


def test_a_place_that_may_not_be_written_is_refused(tmp_path):
    """Of /proc not even root makes anything, whatever the permissions say."""
    for arguments in ({"files": [Path("/proc/new/out.json")]}, {"folders": [Path("/proc/new")]}):
        with pytest.raises(FileError, match=r"cannot write /proc/new.*/proc:"):
            check_outputs(**arguments)
    (tmp_path / "kept").write_bytes(b"x")


def test_a_file_that_is_protected_is_refused(tmp_path, monkeypatch):
    """As root nothing is forbidden, so the system's answer is given here."""
    (tmp_path / "kept").write_bytes(b"x")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FileError, match="may not change it"):
        check_outputs([tmp_path / "kept"])


def test_a_full_disk_is_said_before_the_work(tmp_path):
    ended = subprocess.run([sys.executable, "-c", FULL_BEFORE, tmp_path], capture_output=True, text=True)
    assert f"FileError: cannot write {tmp_path / 'new'}: {tmp_path}: " in ended.stderr and names(tmp_path) == []


@pytest.mark.parametrize("link", [False, True])
def test_nothing_is_written_into_a_folder_that_is_read_whole(tmp_path, link):
    (tmp_path / "data/train").mkdir(parents=True)
    where = tmp_path / "data"
    if link:
        where = tmp_path / "link"
        where.symlink_to("data")
    for arguments in ({"files": [where / "new/a.json"]}, {"folders": [where / "train"]}, {"folders": [where]}):
        with pytest.raises(InputError, match=r"all of which this command reads|would be overwritten"):
            check_outputs(**arguments, whole=[tmp_path / "data"])
    check_outputs([tmp_path / "data2/a.json"], whole=[tmp_path / "data", None])


def test_a_device_that_is_full_is_named():
    with pytest.raises(OSError, match="No space") as failed:
        write_atomically(Path("/dev/full"), "x")
    assert failed.value.filename == "/dev/full"


# ---- folders


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEFLOCK_CACHE", str(tmp_path / "ours"))
    assert cache_folder("pixels") == tmp_path / "ours/pixels"
    monkeypatch.delenv("EDGEFLOCK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("pixels") == tmp_path / "xdg/edgeflock/pixels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("pixels") == tmp_path / ".cache/edgeflock/pixels"
    assert config_folder() == tmp_path / ".config/edgeflock"


def test_a_user_without_home_is_told_what_to_set(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    for name in ("EDGEFLOCK_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FileError, match="no home folder: set EDGEFLOCK_CACHE"):
        cache_folder("pixels")
    with pytest.raises(FileError, match="no home folder: set HOME"):
        config_folder()


def test_a_pipe_that_has_a_link_only_is_written(tmp_path):
    """/dev/stdout leads to a name such as pipe:[123], at which nothing is."""
    reader, writer = os.pipe()
    path = Path(f"/proc/self/fd/{writer}")
    check_outputs([path])
    write_atomically(path, "line")
    os.close(writer)
    with os.fdopen(reader) as stream:
        assert stream.read() == "line"


def test_a_hyphen_is_no_file():
    with pytest.raises(InputError, match="expected a file to write, got '-': name a file; /dev/stdout prints"):
        check_outputs([Path("-")])


def test_a_folder_has_one_writer_at_a_time_and_the_next_when_it_has_ended(tmp_path):
    refused = pytest.raises(
        InputError, match=r"another command of edgeflock writes into .*run: wait until it has ended"
    )
    with sole_writer(tmp_path / "run"), refused, sole_writer(tmp_path / "run"):
        pass
    with sole_writer(tmp_path / "run"):
        assert list((tmp_path / "run").iterdir()) == []


def test_what_an_earlier_run_left_is_named_and_from_the_sixth_on_counted(tmp_path):
    for n in range(8):
        (tmp_path / f"{n}.png").touch()
    (tmp_path / "notes.txt").touch()
    said = left_over(tmp_path, [tmp_path / "3.png"], "*.png")
    assert said[:2] == [f"{tmp_path}/{n}.png is not of this run: it was there before." for n in (0, 1)]
    assert said[5:] == [f"... and 2 more in {tmp_path}."]


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_of_any_editor_is_read(form):
    assert parse_json('{"ü": [1]}'.encode(form)) == {"ü": [1]}


def test_a_key_that_stands_twice_is_refused_at_any_depth():
    with pytest.raises(ValueError, match="the key 'a' stands twice in one object"):
        parse_json(b'[{"x": {"a": 1, "b": 2, "a": 3}}]')
