"""Files that survive a crash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeflock.runtime.files import write_atomically


def test_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


FULL = """
import resource, sys
from pathlib import Path
from edgeflock.runtime.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_atomically(Path(sys.argv[1]), bytes(5000))
"""


def test_a_disk_that_is_full_keeps_the_old_file_and_leaves_nothing_half_written(tmp_path):
    """A file-size limit answers as a full disk does, in the middle of the write."""
    (tmp_path / "best").write_bytes(b"old")
    ended = subprocess.run([sys.executable, "-c", FULL, tmp_path / "best"], capture_output=True, text=True)
    assert "OSError" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["best"] and (tmp_path / "best").read_bytes() == b"old"
