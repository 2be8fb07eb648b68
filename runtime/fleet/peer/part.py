"""A robot's part in a run: settings that `edgeflock fleet join` and the fleet node take alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.learner import LearningTask, learning_task
from edgeflock.runtime.fleet.peer.codecs import Codec
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.model_options import validated


class Part(BaseModel):
    """What a robot does in a run, and what that may cost it."""

    model_config = ConfigDict(frozen=True)

    task: str = Field("steering", description="What is learnt: steering or emotion.")
    rounds: int = Field(100, ge=1, description="Rounds of training, the same on all robots.")
    settle: int = Field(0, ge=0, description="Rounds of mixing without training in the end.")
    steps: int = Field(1, ge=1, description="Local steps per round.")
    codec: Codec = Field("fp32", description="How models travel: fp32, fp16, int8 or topk.")
    evaluate: int = Field(10, ge=1, description="Rounds between two looks of the validation gate.")
    worse: float = Field(0.05, ge=0, description="Share by which a model may be worse than the best so far.")
    threads: int = Field(1, ge=1, le=64, description="Threads of the learner; driving has the others.")
    nice: int = Field(10, ge=0, le=19, description="How far the learner stands back behind everything else.")
    duty: float = Field(1.0, ge=0.01, le=1, description="Share of the time in which the learner works.")
    rate: float = Field(0.0, ge=0, description="Bytes of models per second that go out at most; 0: no limit.")


class Place(BaseModel):
    """Where a robot stands in a run: its files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    own: str
    key: Path = Field(description="private key of this robot")
    roster: Path
    fleet_key: Path | None = Field(None, description=".pub file that must have signed the roster")
    plan: Path
    out: Path
    data: tuple[Path, ...] = Field((), description="this robot's training data")
    val: tuple[Path, ...] = Field((), description="its held-out data")
    driving: Path | None = Field(None, description="driving bundle that every model that passes is promoted to")

    @property
    def promotion(self) -> list[str]:
        """What follows `edgeflock fleet promote DRIVING` for the newest model that passed."""
        words: list[str | Path] = ["--weights", self.out / "model.safetensors"]
        words += [word for path in self.val for word in ("--data", path)]
        words += [word for path in self.data for word in ("--calib", path)]
        return list(map(str, [*words, "--key", self.key]))


class Settings(NamedTuple):
    """All that a robot's part in a run is made of."""

    place: Place
    part: Part
    config: PeerConfig
    task: LearningTask


def settings_of(given: Sequence[str], known: Mapping[str, Any]) -> dict[str, str]:
    """KEY=VALUE texts by key.

    Raises
    ------
    InputError
        Not of this form, or not one of the known keys.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise InputError(f"setting '{text}': expected KEY=VALUE with one of the keys {', '.join(sorted(known))}.")
        found[name] = value
    return found


def configured(place: Place, part: Part, given: Sequence[str] = (), **chosen: Any) -> Settings:
    """All settings, checked.

    Parameters
    ----------
    place : Place
    part : Part
    given : sequence of str
        KEY=VALUE of any other field of the peer or the task.
    **chosen
        Fields of the task; None: its default.

    Raises
    ------
    InputError
        An unknown task or setting, or a value that does not fit.
    """
    if place.driving is not None and part.task != "steering":
        raise InputError(f"a driving bundle is of steering, and this run learns '{part.task}': leave driving out.")
    kind = learning_task(part.task)
    known = settings_of(given, {**PeerConfig.model_fields, **kind.model_fields})
    ours = {name: value for name, value in known.items() if name in PeerConfig.model_fields}
    theirs = {name: value for name, value in known.items() if name not in ours}
    theirs = {name: value for name, value in chosen.items() if value is not None} | theirs
    config = validated(PeerConfig, part.model_dump(include={"rounds", "settle", "codec"}) | ours)
    task = validated(kind, {"silos": 1, "data": place.data, "val": place.val} | theirs)
    return Settings(place, part, config, task)


def address(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT.

    Raises
    ------
    InputError
        It is not of this form.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not int(port) < 65536:
        raise InputError(f"'{text}': expected HOST:PORT, such as 192.168.1.12:7600.")
    return host.strip("[]"), int(port)


def addresses(texts: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Host and port by name, of NAME=HOST:PORT texts.

    Raises
    ------
    InputError
        One is not of this form.
    """
    found = {}
    for text in texts:
        name, equals, where = text.partition("=")
        if not equals:
            raise InputError(f"'{text}': expected NAME=HOST:PORT, such as r2=192.168.1.12:7600.")
        found[name] = address(where)
    return found
