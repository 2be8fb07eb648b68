"""What the verbs of `edgeflock` share: options of one meaning, and the line that a long one ends with."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from edgeflock.runtime.errors import InputError

Keys = Annotated[
    list[Path] | None, typer.Option("--key", help="Trust bundles signed with this .pub file too; repeat for more.")
]
"""Of every verb that opens a bundle; goes to `edgeflock.runtime.bundle.bundle.Bundle.open` or a task as `keys`."""


Detector = Annotated[
    str,
    typer.Option(help="Who finds faces: YuNet's ONNX file, cascade (OpenCV's), or auto: YuNet where its file is."),
]
"""Of every verb that looks for faces; goes to `edgeflock.runtime.faces.open_detector`."""


def check_words(words: Sequence[str]) -> None:
    """Refuse words of a command line that no verb can mean.

    Raises
    ------
    InputError
        An empty word, as a variable that is not set becomes: as a path it would be the folder where the user stands.
        Or an option whose number is infinite or NaN, which most bounds let through.
    """
    flag = ""
    for at, word in enumerate(words, 1):
        name, equals, value = word.partition("=") if word.startswith("--") else (flag, "", word)
        if not word or (equals and not value):
            where = f"the value of {name}" if name else f"argument {at} of edgeflock"
            raise InputError(f"{where} is empty: is a variable of the shell not set? Give a value, or leave it out.")
        if name and value and not _finite(value):
            raise InputError(f"expected a number for {name}, got {value}: give one that is finite.")
        flag = word if word.startswith("--") and not equals else ""


def _finite(word: str) -> bool:
    """Whether a word is anything but a number that is infinite or NaN."""
    try:
        return math.isfinite(float(word))
    except ValueError:
        return True


def typed_flags(context: typer.Context) -> dict[str, str]:
    """Flags of the options that a user typed, by the names of their parameters."""
    # By name: the enumeration is click's, or that of the copy of click which newer typer brings.
    return {
        p.name: p.opts[0]
        for p in context.command.params
        if p.name and getattr(context.get_parameter_source(p.name), "name", "") == "COMMANDLINE"
    }


def refuse_unused(context: typer.Context, why: str, *names: str) -> None:
    """Refuse options that would be dropped in silence.

    Raises
    ------
    InputError
        A user typed one of the parameters `names`; `why` says when they have no effect, as "without --board".
    """
    if flags := [flag for name, flag in typed_flags(context).items() if name in names]:
        raise InputError(f"no effect {why}: {', '.join(flags)}. Leave out what is not wanted, or add what is missing.")


def next_command(*words: object, keys: Iterable[Path] | None = None) -> str:
    """Last line of a long verb: the command that usually follows it, ready to be pasted into a shell.

    `keys` are those that this verb was told to trust.

    Examples
    --------
    >>> next_command("bundle", "verify", "my bundle")
    "next: edgeflock bundle verify 'my bundle'"
    """
    trusted = [word for key in keys or () for word in ("--key", str(key))]
    return f"next: {shlex.join(['edgeflock', *map(str, words), *trusted])}"


def this_command() -> str:
    """The command that runs, for a record: it can be pasted into a shell."""
    return shlex.join(["edgeflock", *sys.argv[1:]])
