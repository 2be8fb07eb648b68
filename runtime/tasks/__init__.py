"""One file per task: pre-processing, engine, typed answer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeflock.runtime.bundle.bundle import Bundle
from edgeflock.runtime.errors import BundleError
from edgeflock.runtime.tasks.family import families, part

if TYPE_CHECKING:
    from edgeflock.runtime.tasks.base import NetTask

__all__ = ["open_task"]


def open_task(
    bundle: Bundle | str | Path,
    precision: str | None = None,
    threads: int | None = None,
    engine: str | None = None,
    keys: Iterable[str | Path] | None = None,
) -> NetTask:
    """Task of a bundle, by its manifest; parameters and errors as for `NetTask`."""
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, keys)
    known = families()
    if opened.manifest.task not in known:
        raise BundleError(
            f"the bundle {opened.manifest.name} is for task '{opened.manifest.task}', this edgeflock knows "
            f"{', '.join(sorted(known)) or 'none'}: install a newer one, or the package that brings the task."
        )
    return part(known[opened.manifest.task].task)(opened, precision, threads, engine)
