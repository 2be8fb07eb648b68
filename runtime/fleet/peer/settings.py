"""All settings of a robot's part in a run, from what a person gives `edgeflock fleet join` or the fleet node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.learner import LearningTask, learning_task
from edgeflock.runtime.fleet.peer.config import PeerConfig, Place
from edgeflock.runtime.model_options import validated


class Settings(NamedTuple):
    """All that a robot's part in a run is made of; `name` is the task's."""

    place: Place
    config: PeerConfig
    name: str
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


def configured(
    place: Place, name: str, exchange: Mapping[str, Any], learning: Mapping[str, Any], given: Sequence[str] = ()
) -> Settings:
    """All settings, checked.

    Parameters
    ----------
    place : Place
    name : str
        Of the task.
    exchange, learning : mapping
        Fields of PeerConfig and of the task.
    given : sequence of str
        KEY=VALUE of any other field of the two.

    Raises
    ------
    InputError
        An unknown task or setting, or a value that does not fit.
    """
    if place.driving is not None and name != "steering":
        raise InputError(f"a driving bundle is of steering, and this run learns '{name}': leave driving out.")
    kind = learning_task(name)
    known = settings_of(given, {**PeerConfig.model_fields, **kind.model_fields})
    ours = {key: value for key, value in known.items() if key in PeerConfig.model_fields}
    theirs = {key: value for key, value in known.items() if key not in ours}
    config = validated(PeerConfig, {**exchange, **ours})
    task = validated(kind, {"silos": 1, "data": place.data, "val": place.val, **learning, **theirs})
    return Settings(place, config, name, task)


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
