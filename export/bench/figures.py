"""The record of a comparison: figures, and the machine and versions that they hold for."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeflock.runtime.board.facts import cpu_model, installed_version
from edgeflock.runtime.files import write_atomically


def write_figures(out: Path, table: str, rows: Sequence[Any], *packages: str, **settings: Any) -> None:
    """Write a record as JSON and its table beside it as .md.

    Parameters
    ----------
    out : Path
    table : str
    rows : sequence of dataclass
    packages : str
        Distributions whose versions the figures depend on.
    settings
        Of the comparison.
    """
    record = {
        "machine": cpu_model(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {name: installed_version(name) for name in packages},
        **settings,
        "rows": [asdict(row) for row in rows],
    }
    write_atomically(out, json.dumps(record, indent=2) + "\n")
    write_atomically(out.with_suffix(".md"), table + "\n")
