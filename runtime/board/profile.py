"""The board profile: which engine, precision and threads run each bundle best here, as `edgeflock tune` measured it.

It holds for one board and one set of engine versions. After a change of either it is ignored, and a warning says which
field differs.
"""

from __future__ import annotations

import json
import logging
import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeflock.runtime.board.facts import board_model, cpu_flags, cpu_model, installed_version
from edgeflock.runtime.errors import DataError, EdgeflockError, FileError
from edgeflock.runtime.files import check_outputs, config_folder, write_atomically

ENV = "EDGEFLOCK_BOARD_PROFILE"
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "sve")
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-qnn", "openvino", "tensorrt")

log = logging.getLogger(__name__)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class MeasuredOn(_Strict):
    """What a measurement holds for."""

    machine: str
    """Architecture, such as "aarch64"."""
    model: str
    cpu: str
    cores: int
    flags: list[str]
    """Instruction sets that engines choose their kernels by."""
    driver: str
    """NVIDIA's driver or Jetson Linux, "" without."""
    engines: dict[str, str]
    """Package to installed version."""


class Choice(_Strict):
    """How one bundle runs best."""

    engine: str
    precision: str
    threads: int = Field(ge=1)
    bundle: str = ""
    """Name of the bundle, for the reader."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    why: str = ""
    tuned: str = Field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))


class Profile(_Strict):
    """The file."""

    schema_version: Literal[1] = 1
    board: MeasuredOn
    choices: dict[str, Choice] = {}
    """By the bundle's digest (SHA-256 of its manifest)."""


def this_board() -> MeasuredOn:
    """Fingerprint of this board."""
    from edgeflock.runtime.board.facts import driver_version

    return MeasuredOn(
        machine=platform.machine(),
        model=board_model(),
        cpu=cpu_model(),
        cores=os.cpu_count() or 1,
        flags=[flag for flag in _FLAGS if flag in cpu_flags()],
        driver=driver_version(),
        engines={package: version for package in _PACKAGES if (version := installed_version(package))},
    )


def profile_path() -> Path:
    """The environment variable EDGEFLOCK_BOARD_PROFILE, or ~/.config/edgeflock/board.json."""
    chosen = os.environ.get(ENV)
    return Path(chosen) if chosen else config_folder() / "board.json"


def choice(digest: str) -> Choice | None:
    """What `edgeflock tune` chose for a bundle on this board, or None.

    Parameters
    ----------
    digest : str
        `Bundle.digest`.
    """
    profile = _valid()
    return profile.choices.get(digest) if profile else None


def check_writable() -> None:
    """Refuse before minutes of measuring what `save` would refuse after them.

    Raises
    ------
    FileError, InputError
        The profile cannot be written.
    """
    try:
        check_outputs([profile_path()])
    except EdgeflockError as error:
        raise type(error)(f"{error} {ENV} names another file for the board profile.") from error


def save(digest: str, chosen: Choice) -> Path:
    """Write a choice into the profile. One of another board or other versions is begun anew.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    profile = _valid() or Profile(board=this_board())
    profile.choices[digest] = chosen
    path = profile_path()
    try:
        write_atomically(path, profile.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise DataError(
            f"the board profile {path} cannot be written ({error.strerror}): make the folder yours or set {ENV}."
        ) from error
    return path


def _valid() -> Profile | None:
    """The profile, if there is one and it is of this board; else None, with a warning that says why."""
    try:
        path = profile_path()
        profile = Profile.model_validate(json.loads(path.read_text("utf-8")))
    except (FileNotFoundError, FileError):  # none was written, or this user has no home to write it to
        return None
    except (OSError, ValueError, ValidationError) as error:
        log.warning("the board profile %s is ignored, it cannot be read (%s): run `edgeflock tune` again.", path, error)
        return None
    if differing := _differing(profile.board, this_board()):
        log.warning(
            "the board profile %s is ignored, it is of another board or other versions (%s): run `edgeflock tune` "
            "again.",
            path,
            "; ".join(differing),
        )
        return None
    return profile


def _differing(then: MeasuredOn, now: MeasuredOn) -> list[str]:
    """Fields that differ, each as "field was A, is B"."""
    old, new = then.model_dump(), now.model_dump()
    engines = old.pop("engines"), new.pop("engines")
    old, new = old | engines[0], new | engines[1]
    return [
        f"{field} was {old.get(field, 'not there')}, is {new.get(field, 'not there')}"
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field)
    ]
