"""What a robot keeps of a run on disk: after kill -9 or loss of power at any moment at most the running round is lost.

A folder has the newest checkpoints, `round-00000012-<16 hex digits of its SHA-256>.safetensors`, and `boot`, the number
of the last start. A file is written beside, synced and renamed; one whose content is not what its name says is passed
over, and the one before counts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from edgeflock.runtime.errors import DataError
from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.fleet.peer.actions import State

NAME = re.compile(r"round-(\d{8})-([0-9a-f]{16})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A robot after a round: the peer's state, the learner's, and what else was kept."""

    round: int
    peer: State
    learner: dict[str, np.ndarray]
    facts: dict[str, Any]


class Store:
    """Checkpoints of one robot in one run.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    keep : int
        Newest checkpoints that are kept.

    Attributes
    ----------
    damaged : list of Path
        Checkpoints that `load` passed over.
    """

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self._folder, self._keep = folder, keep
        self.damaged: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)
        for draft in folder.glob(".*"):  # of a write that did not end
            draft.unlink(missing_ok=True)

    def boot(self, least: int) -> int:
        """Number of this start: higher than all before, and `least` or more.

        A robot whose disk was replaced counts from `least` on, so let that rise with time (seconds of the clock).
        """
        path = self._folder / "boot"
        try:
            before = int(path.read_text())
        except FileNotFoundError:
            before = 0
        except ValueError:
            raise DataError(f"{path} holds no number: write the last boot number into it, or remove it.") from None
        number = max(before + 1, least)
        write_atomically(path, f"{number}\n")  # before it is used: two starts never share a number
        return number

    def save(
        self, round_: int, peer: State, learner: Mapping[str, np.ndarray], facts: Mapping[str, Any] | None = None
    ) -> None:
        """Keep a checkpoint, and remove those that are older than the newest few.

        Raises
        ------
        OSError
            It cannot be written; the checkpoints before are as they were.
        """
        tensors, kept = peer
        content = save(
            {f"peer.{name}": value for name, value in tensors.items()}
            | {f"learner.{name}": value for name, value in learner.items()},
            {"peer": json.dumps(kept), "facts": json.dumps(facts or {})},
        )
        name = f"round-{round_:08d}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
        write_atomically(self._folder / name, content)
        for path in self._newest_first()[self._keep :]:
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all checkpoints; the boot number stays."""
        for path in self._newest_first():
            path.unlink()

    def load(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there is none."""
        for path in self._newest_first():
            try:
                return _read(path)
            except (OSError, ValueError, KeyError, SafetensorError):
                self.damaged.append(path)
        return None

    def _newest_first(self) -> list[Path]:
        found = [path for path in self._folder.iterdir() if NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: (path.name[:14], path.stat().st_mtime_ns), reverse=True)


def _read(path: Path) -> Checkpoint:
    content = path.read_bytes()
    named = NAME.fullmatch(path.name)
    if named is None or hashlib.sha256(content).hexdigest()[:16] != named[2]:
        raise ValueError(f"{path} is not what its name says")
    tensors = load(content)
    with safe_open(path, "np") as opened:
        metadata = opened.metadata()
    parts: dict[str, dict[str, np.ndarray]] = {"peer": {}, "learner": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    peer = parts["peer"], json.loads(metadata["peer"])
    return Checkpoint(int(named[1]), peer, parts["learner"], json.loads(metadata["facts"]))
