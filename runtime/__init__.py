"""The robot side: bundles, engines, tasks, cameras, benchmarks. numpy and ONNX Runtime, never torch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeflock.runtime.bundle.bundle import Bundle
    from edgeflock.runtime.tasks.base import NetTask

__all__ = ["load"]

# Both engines report to their makers unless told not to, also from a robot: ONNX Runtime (from 1.29) the names and
# hashes of nets, OpenVINO each import. It does without the package that would, where that is missing.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def load(bundle: Bundle | str | Path, **options: Any) -> NetTask:
    """Open a bundle of any task, ready to be called; parameters and errors as for `runtime.tasks.open_task`.

    Examples
    --------
    >>> from edgeflock.runtime import load
    >>> net = load("bundles/net", keys=["fleet.pub"])  # doctest: +SKIP
    >>> net(picture)  # doctest: +SKIP
    """
    from edgeflock.runtime.tasks import open_task

    return open_task(bundle, **options)
