"""Files that survive a crash, and runs that go on from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeflock.runtime.errors import InputError


def write_atomically(path: Path, content: bytes) -> None:
    """Write so that after a crash, kill -9 or loss of power `path` holds either the old content or the new."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:  # the disk is full: it is not filled with half a file
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself
    finally:
        os.close(directory)


def check_same_run(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to go on from a file of another run: `InputError` with the first setting that differs."""
    for key, value in wanted.items():
        if saved.get(key) != value:
            raise InputError(
                f"{path} belongs to a run with {key}={saved.get(key)!r}, this one has {value!r}: use the same settings "
                "and data to go on, another --out, or --fresh to start anew."
            )
