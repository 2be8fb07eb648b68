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
from edgeflock.runtime.mount import Mount
from edgeflock_ros.frames import TreeParameters

# Every node is told where the camera is, whoever looks at the world.
_MOUNT = {f"camera_{field}" for field in Mount.model_fields} | set(TreeParameters.model_fields)
_beside: set[str] = set()


def beside(*models: type[BaseModel]) -> None:
    """Nodes of these models share this process: a name that is given to all of them may be meant for one."""
    _beside.update(name for model in models for name in model.model_fields)


def check_names(node: Node, model: type[BaseModel]) -> None:
    """Refuse values for parameters that `node`, all of whose parameters are declared, does not have.

    A name from a `/**` section of a parameter file may be meant for another node: it is warned of where it resembles a
    parameter of this one. A file that has sections for nodes of this name, but in other namespaces, is refused.

    Raises
    ------
    InputError
        Names each unknown parameter, and the one that it resembles.
    """
    files, name, full_name = _given_files(), node.get_name(), node.get_fully_qualified_name()
    overrides: dict[str, Any] = node._parameter_overrides  # no public way tells what was given but not declared
    for file, sections in files.items():
        own = [names for key, names in sections if key == name]
        if own and not any(names <= overrides.keys() for names in own):
            raise InputError(
                f"{name}: expected a section for {full_name} in {file}, got one for a node {name} elsewhere: call it "
                f"/**/{name}, which holds in every namespace."
            )
    given = [section for sections in files.values() for section in sections]
    unknown = {
        one
        for one in overrides
        if not (node.has_parameter(one) or one.startswith("qos_overrides.")) and one not in _beside
    }
    named = {n for key, names in given if key == name for n in names}
    shared = unknown & {n for key, names in given if "*" in key for n in names} - named
    resembling = {one: difflib.get_close_matches(one, model.model_fields, 1) for one in sorted(unknown)}
    for one in sorted(shared):
        if resembling[one] and one not in _MOUNT:
            node.get_logger().warning(f"ignores {one!r}, which is not its {resembling[one][0]!r}")
    refused = [f"{one!r}" + "".join(f" (is it {n!r}?)" for n in resembling[one]) for one in sorted(unknown - shared)]
    if refused:
        known = ", ".join(model.model_fields)
        raise InputError(f"{name}: unknown parameter {', '.join(refused)}. Its parameters are {known}.")


def _given_files() -> dict[str, list[tuple[str, set[str]]]]:
    """Sections of each parameter file of this process."""
    arguments = iter(sys.argv)
    files = [next(arguments, "") for word in arguments if word == "--params-file"]
    return {file: list(_sections(yaml.safe_load(Path(file).read_text()), "")) for file in files}


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
