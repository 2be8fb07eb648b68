"""Names of parameters that no node has: ROS ignores them, and a robot would drive by a default instead."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from rclpy.node import Node

from edgeflock.runtime.errors import InputError

_beside: set[str] = set()


def beside(*models: type[BaseModel]) -> None:
    """Nodes of these models share this process: a name that is given to all of them may be meant for one."""
    _beside.update(name for model in models for name in model.model_fields)


def check_names(node: Node, model: type[BaseModel]) -> None:
    """Refuse values for parameters that `node`, all of whose parameters are declared, does not have.

    A name from a `/**` section of a parameter file may be meant for another node: it is warned of where it resembles a
    parameter of this one.

    Raises
    ------
    InputError
        Names each unknown parameter, and the one that it resembles.
    """
    overrides: dict[str, Any] = node._parameter_overrides  # no public way tells what was given but not declared
    unknown = {
        name
        for name in overrides
        if not (node.has_parameter(name) or name.startswith("qos_overrides.")) and name not in _beside
    }
    shared = unknown & _shared_names(node.get_name())
    resembling = {name: difflib.get_close_matches(name, model.model_fields, 1) for name in sorted(unknown)}
    for name in sorted(shared):
        if resembling[name]:
            node.get_logger().warning(f"ignores {name!r}, which is not its {resembling[name][0]!r}")
    refused = [f"{name!r}" + "".join(f" (is it {n!r}?)" for n in resembling[name]) for name in sorted(unknown - shared)]
    if refused:
        known = ", ".join(model.model_fields)
        raise InputError(f"{node.get_name()}: unknown parameter {', '.join(refused)}. Its parameters are {known}.")


def _shared_names(node_name: str) -> set[str]:
    """Names that the parameter files of this process give to every node, and not to this one by its name."""
    arguments = iter(sys.argv)
    files = [next(arguments, "") for word in arguments if word == "--params-file"]
    given = [section for file in files for section in _sections(yaml.safe_load(Path(file).read_text()), "")]
    named = {name for key, names in given if key == node_name for name in names}
    return {name for key, names in given if "*" in key for name in names} - named


def _sections(content: Any, key: str) -> Iterator[tuple[str, set[str]]]:
    """Last word of each section's name, and the parameters in it."""
    for name, inner in content.items() if isinstance(content, dict) else ():
        if name == "ros__parameters":
            yield key.rpartition("/")[2], set(_flat(inner, ""))
        else:
            yield from _sections(inner, name)


def _flat(values: Any, prefix: str) -> Iterator[str]:
    for name, value in values.items() if isinstance(values, dict) else ():
        yield from _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else (prefix + name,)
