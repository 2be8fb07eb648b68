"""What the verbs of `edgeflock train` share beside the settings of a method (`edgeflock.export.training.config`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeflock.runtime.board.facts import check_threads
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs

Out = Annotated[Path, typer.Option(help="Folder of the run; one that was interrupted goes on by itself.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start anew although the folder holds a run.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default.")]


def use_torch(threads: int | None = None) -> None:
    """Import torch, `MissingExtra` where it is not installed, and let it have so many threads."""
    check_threads(threads)
    with needs("edgeflock train"):
        import torch
    if threads is not None:
        torch.set_num_threads(threads)


def seeds_of(text: str) -> list[int]:
    """Seeds of the option --seeds."""
    try:
        return [int(one) for one in text.split(",")]
    except ValueError:
        raise InputError(f"--seeds expects numbers with commas between, as 0,1,2, got {text!r}.") from None
