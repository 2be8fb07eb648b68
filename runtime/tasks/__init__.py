"""One file per task: pre-processing, engine, typed answer."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from edgeflock.runtime.bundle.bundle import Bundle
from edgeflock.runtime.errors import BundleError

if TYPE_CHECKING:
    from edgeflock.runtime.tasks.base import NetTask

TASKS = {
    "steering": ("edgeflock.runtime.tasks.steering", "SteeringPolicy"),
    "registration": ("edgeflock.runtime.tasks.registration", "Registration"),
    "emotion": ("edgeflock.runtime.tasks.emotion", "EmotionRecognizer"),
}
"""Where the class of each task stands; imported when a bundle asks for it."""


def open_task(
    bundle: Bundle | str | Path,
    precision: str | None = None,
    threads: int | None = None,
    engine: str | None = None,
    keys: Iterable[str | Path] | None = None,
) -> NetTask:
    """Task of a bundle, by its manifest; parameters and errors as for `NetTask`."""
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, keys)
    if opened.manifest.task not in TASKS:
        raise BundleError(
            f"the bundle {opened.manifest.name} is for task '{opened.manifest.task}', this edgeflock knows "
            f"{', '.join(TASKS)}: install a newer one."
        )
    module, name = TASKS[opened.manifest.task]
    return getattr(import_module(module), name)(opened, precision, threads, engine)
