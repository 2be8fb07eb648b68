"""What the launch files share: a node that failed is started again, one that a person ended is not."""

from __future__ import annotations

import functools
import tempfile
from typing import Any

from launch import LaunchContext
from launch.actions import EmitEvent
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess

from edgeflock_ros.kept import FOLDER


def started_again(delay_s: float = 1.0) -> dict[str, Any]:
    """Arguments of a launch_ros `Node` that is started again after a failure, with what was set on it (`kept`).

    launch's `respawn` alone would also bring back what ended with code 0: a recording at its end, and a node that a
    person shut down, which would drive off again.
    """
    return {
        "respawn": True,
        "respawn_delay": delay_s,
        "on_exit": _stay_down,
        "additional_env": {FOLDER: _folder().name},
    }


def _stay_down(event: ProcessExited, _: LaunchContext) -> EmitEvent | None:
    if event.returncode:
        return None
    return EmitEvent(event=ShutdownProcess(process_matcher=matches_action(event.action)))


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    """Ends with the launch."""
    return tempfile.TemporaryDirectory(prefix="edgeflock_")
