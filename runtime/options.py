"""What the verbs of `edgeflock` share: options of one meaning, and the line that a long one ends with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

Keys = Annotated[
    list[Path] | None, typer.Option("--key", help="Trust bundles signed with this .pub file too; repeat for more.")
]
"""Of every verb that opens a bundle; goes to `edgeflock.runtime.bundle.bundle.Bundle.open` or a task as `keys`."""


def next_command(*words: object) -> str:
    """Last line of a long verb: the command that usually follows it, ready to be pasted into a shell.

    Examples
    --------
    >>> next_command("bundle", "verify", "my bundle")
    "next: edgeflock bundle verify 'my bundle'"
    """
    return f"next: {shlex.join(['edgeflock', *map(str, words)])}"
