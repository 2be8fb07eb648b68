"""A family: one task and all that belongs to it, signed in once, through the entry-point group `edgeflock.tasks`.

    [project.entry-points."edgeflock.tasks"]
    grasping = "my_package.family:GRASPING"

The name of the entry point is the task's name in manifests. The object is a `Family`, whose parts are named by text and
imported when they are used, so that a robot without torch opens bundles of a family whose training needs torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUP = "edgeflock.tasks"


@dataclass(frozen=True)
class Family:
    """The parts of a family, each named as in an entry point: "package.module:name", and " [extra]" where it needs one.

    Attributes
    ----------
    task : str
        Class of the task, an `edgeflock.runtime.tasks.base.NetTask`; a robot runs it.
    nets : str
        Mapping of the family's nets, name to a callable that builds one. Checkpoints are recognised among them.
    verbs : mapping
        Of each command that takes verbs ("edgeflock", "edgeflock export", "edgeflock train", "edgeflock bench"), the
        family's verbs: name to a `typer.Typer` or a plain function.
    learner : str
        Class that lets a fleet learn the task, an `edgeflock.runtime.fleet.learner.LearningTask`.
    """

    task: str
    nets: str = ""
    verbs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    learner: str = ""


def families() -> dict[str, Family]:
    """Families that are installed here, by the name of their task; one that cannot be imported is left out and told."""
    found = {}
    for entry in entry_points(group=GROUP):
        try:
            found[entry.name] = entry.load()
        except Exception as error:  # whatever a foreign package does, the others stay usable
            warnings.warn(f"the task {entry.name} ({entry.value}) cannot be used: {error}", stacklevel=2)
    return found


def part(text: str) -> Any:
    """Import a part of a family by its text."""
    return EntryPoint("part", text, GROUP).load()


def extra_of(text: str) -> str | None:
    """Extra that brings what a part needs, None where its text names none."""
    return text.partition("[")[2].rstrip("] ") or None
