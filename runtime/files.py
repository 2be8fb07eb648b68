"""Files that survive a crash, outputs that destroy no input, and runs that go on from files.

A command that writes goes through three steps, all of them here:

1. `check_outputs` before long work begins: what cannot be written is refused while nothing is lost yet.
2. `write_atomically`, or `replacing` for a library that takes a path: beside the target, then renamed.
3. What fails at the end (a full disk) is an `OSError` that names the target; `edgeflock.runtime.errors.in_our_words`
   makes the message of it, for the command line in one place (`edgeflock.runtime.cli.main`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeflock.runtime.errors import FileError, InputError, in_our_words

_BLOCK = 1 << 20
_LISTED = 5
"""Files of an earlier run that are named one by one."""


@contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[Path]:
    """Draft to write to in place of `path`, of the same suffixes; it becomes `path` at the end of the block.

    After a crash, kill -9 or loss of power `path` holds either the old content or the new. Where the block raises,
    nothing is left of the new one. Several files that belong together are written in one `contextlib.ExitStack`: either
    all of them are replaced or none, and the first that was entered is the last that changes. A link keeps pointing
    where it does; a device or a pipe, such as /dev/stdout, is written as it is. Missing folders are made.

    Parameters
    ----------
    path : Path
    sync : bool
        Wait until the disk has it. Without it a loss of power, but no crash of the process, can lose the content.

    Raises
    ------
    OSError
        It cannot be written; names `path`.
    """
    target = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():  # not `target`: what /dev/stdout leads to has no path where it is a pipe
        try:
            yield path
        except OSError as error:
            if error.filename is None:
                error.filename = str(path)
            raise
        return
    draft = target.with_name(f".{secrets.token_hex(4)}.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        if target.exists():
            shutil.copymode(target, draft)
        if sync:
            to_disk(draft)
        draft.replace(target)
        if sync:
            to_disk(target.parent)  # the rename itself
    except OSError as error:
        if error.filename is None or Path(os.fsdecode(error.filename)) == draft:
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        draft.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | str, sync: bool = True) -> None:
    """Write so that after a crash, kill -9 or loss of power `path` holds either the old content or the new.

    Text becomes UTF-8. Parameters and errors as for `replacing`.
    """
    with replacing(path, sync) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file in hexadecimal, read in blocks.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    found = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def parse_json(content: bytes | str) -> Any:
    """JSON that people wrote or sent: UTF-8 with or without a byte order mark, UTF-16 or UTF-32; each key once.

    Raises
    ------
    ValueError
        It is no JSON, or an object has a key twice: the last would win in silence.
    """
    text = content.decode(json.detect_encoding(content)) if isinstance(content, bytes) else content
    return json.loads(text, object_pairs_hook=_each_key_once)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return content


def canonical_json(content: Any, allow_nan: bool = True) -> bytes:
    """The one form of a content that is hashed or signed: UTF-8 JSON, keys sorted, no spaces.

    Raises
    ------
    ValueError
        Text that UTF-8 cannot hold, or without `allow_nan` NaN or infinity, for which JSON has no number.
    """
    separators = (",", ":")
    text = json.dumps(content, sort_keys=True, separators=separators, ensure_ascii=False, allow_nan=allow_nan)
    return text.encode()


def in_order(safetensors: bytes) -> bytes:
    """The same safetensors file with its metadata in order, so that equal content is equal bytes.

    The library writes the metadata's keys in an order of chance (format: 8 bytes of length, JSON header, tensors).
    """
    size = int.from_bytes(safetensors[:8], "little")
    header = json.dumps(json.loads(safetensors[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors stay aligned
    return len(header).to_bytes(8, "little") + header + safetensors[8 + size :]


def to_disk(path: Path) -> None:
    """Wait until the disk has a file or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_outputs(
    files: Iterable[Path | None] = (),
    folders: Iterable[Path | None] = (),
    inputs: Iterable[Path | None] = (),
    whole: Iterable[Path | None] = (),
) -> None:
    """Refuse outputs that cannot be written or that would destroy an input, before long work begins.

    Leaves nothing behind. None stands for an option that was not given.

    Parameters
    ----------
    files : iterable of Path
        Files to be written; what lies there may be replaced.
    folders : iterable of Path
        Folders to be filled.
    inputs : iterable of Path
        What is read: no output may be one of them, neither by another name nor through a link.
    whole : iterable of Path
        Folders of which all that lies in them is read or signed, such as bundles and data sets: no output may be one of
        them or lie in one. Files among them are inputs like the others.

    Raises
    ------
    InputError
        An output is an input, or a file where a folder must be, or the reverse, or named twice.
    FileError
        The place may not be written by this user, or its disk is full.
    """
    closed = [Path(path) for path in whole if path is not None]
    given = (*(Path(path) for path in inputs if path is not None), *closed)
    read = {_identity(path): path for path in reversed(given) if path.exists()}
    for path in (Path(path) for path in folders if path is not None):
        if path.exists() and not path.is_dir():
            raise InputError(f"expected a folder to write into, got the file {path}: choose another name.")
        _check_not_read(path, read, closed)
        _check_place(path, Path(os.path.realpath(path)))
    named: dict[Path, Path] = {}
    for path in (Path(path) for path in files if path is not None):
        if str(path) == "-":
            raise InputError("expected a file to write, got '-': name a file; /dev/stdout prints.")
        real = Path(os.path.realpath(path))
        if real in named:
            raise InputError(f"{path} is written twice by this command (also as {named[real]}): choose another name.")
        named[real] = path
        if path.is_dir():
            raise InputError(f"expected a file to write, got the folder {path}: name a file in it.")
        _check_not_read(path, read, closed)
        if not path.exists() or path.is_file():  # a device takes what it gets
            _check_place(path, real.parent)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make a folder and refuse a second process that would write into it at the same time; a killed one holds nothing.

    Raises
    ------
    InputError
        Another process is in such a block for the same folder.
    OSError
        It cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another command of edgeflock writes into {folder}: wait until it has ended, or choose another --out."
            ) from None
        except OSError:  # a file system without locks, as some of a network
            pass
        yield
    finally:
        os.close(handle)


def left_over(folder: Path, made: Iterable[Path], *patterns: str) -> list[str]:
    """What an earlier run left in a folder beside the results of this one, a line each, for the user to see.

    Parameters
    ----------
    folder : Path
    made : iterable of Path
        What this run wrote.
    *patterns : str
        What such runs write, as for `Path.glob`.
    """
    ours = set(made)
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)} - ours)
    shown = [f"{path} is not of this run: it was there before." for path in found[:_LISTED]]
    return shown + [f"... and {len(found) - _LISTED} more in {folder}."] * (len(found) > _LISTED)


def check_record(out: Path | None, *whole: Path | None) -> None:
    """`check_outputs` for a record and the table that goes beside it as .md; `whole` as there."""
    if out is not None:
        check_outputs([out, out.with_suffix(".md")], whole=whole)


def _identity(path: Path) -> tuple[int, int]:
    """What a file or folder has in common with all its names and links."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _check_not_read(output: Path, inputs: Mapping[tuple[int, int], Path], closed: Iterable[Path]) -> None:
    path = inputs.get(_identity(output)) if output.exists() else None
    if path is not None:
        same = "" if output == path else f" (as {path})"
        raise InputError(f"{output} is read by this command{same} and would be overwritten: choose another output.")
    real = Path(os.path.realpath(output))
    for folder in closed:
        if folder.is_dir() and real.is_relative_to(os.path.realpath(folder)):
            raise InputError(f"{output} lies in {folder}, all of which this command reads: choose a place outside it.")


def _check_place(output: Path, folder: Path) -> None:
    """Try whether something can be made in a folder that may be new itself: permissions tell only half of it."""
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"cannot write {output}: {folder} is a file, expected a folder. Choose another output.")
    if output.is_file() and not os.access(output, os.W_OK):
        raise FileError(
            f"cannot write {output}: this user may not change it. Choose another output, or change the permissions."
        )
    try:
        with tempfile.TemporaryFile(dir=folder) as tried:
            tried.write(b"x")  # a full disk still takes the name of an empty file
    except OSError as error:
        error.filename, error.filename2 = str(folder), None
        raise FileError(f"cannot write {output}: {in_our_words(error)}") from error


def cache_folder(name: str) -> Path:
    """Folder for what can be made again: `$EDGEFLOCK_CACHE/name`, else `name` in edgeflock's folder of the XDG cache.

    Raises
    ------
    FileError
        This user has no home.
    """
    if chosen := os.environ.get("EDGEFLOCK_CACHE"):
        return Path(chosen) / name
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "edgeflock" / name
    return _home("EDGEFLOCK_CACHE") / ".cache" / "edgeflock" / name


def config_folder() -> Path:
    """Folder of this user's trusted keys and board profile, ~/.config/edgeflock.

    Raises
    ------
    FileError
        This user has no home.
    """
    return _home("HOME") / ".config" / "edgeflock"


def _home(variable: str) -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a container that runs under a number without an entry in /etc/passwd
        raise FileError(
            f"user {os.getuid()} of this machine has no home folder: set {variable} to a folder that is yours."
        ) from None


def check_same_run(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to go on from a file of another run: `InputError` with the first setting that differs."""
    for key, value in wanted.items():
        if saved.get(key) != value:
            raise InputError(
                f"{path} belongs to a run with {_difference(key, saved.get(key), value)}: use the same settings and "
                "data to go on, another --out, or --fresh to start anew."
            )


def _difference(key: str, saved: Any, wanted: Any) -> str:
    """What was otherwise; of digests nobody can read more than that."""
    if isinstance(saved, Mapping) and isinstance(wanted, Mapping):
        inner = next(name for name in {**wanted, **saved} if saved.get(name) != wanted.get(name))
        return _difference(f"{key}.{inner}", saved.get(inner), wanted.get(inner))
    if all(isinstance(value, str) and re.fullmatch("[0-9a-f]{16,}", value) for value in (saved, wanted)):
        return f"other content of {key}"
    return f"{key}={saved!r}, this one has {wanted!r}"
