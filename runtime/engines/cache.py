"""Engines compiled on this board, each stored with everything that it depends on.

An engine holds for one GPU or NPU, driver and library version only, and some libraries load a stale one without a
word (boards.md App. D, users.md 2.4). So an entry's name is the hash of its whole key, a stale entry is kept but never
loaded, and a miss says which field differs from the nearest entry.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from edgeflock.runtime.errors import EngineError
from edgeflock.runtime.files import cache_folder, sha256_of, write_atomically

ENV = "EDGEFLOCK_ENGINE_CACHE"
MAX_HEADER = 1 << 20  # bytes; more cannot be one of ours
Key = Mapping[str, str]


class EngineCache:
    """Compiled engines of one kind in one folder.

    An entry is one file: the length of the header as a little-endian uint32, the header (JSON: key, SHA-256 and size of
    the engine, date), the engine.

    Parameters
    ----------
    kind : str
        Name of the engine that compiles them; the sub-folder.
    root : path, optional
        By default the environment variable EDGEFLOCK_ENGINE_CACHE, or `engines` in
        `edgeflock.runtime.files.cache_folder`.

    Raises
    ------
    EngineError
        The folder cannot be written; said before a build of minutes starts, not after.
    """

    def __init__(self, kind: str, root: str | Path | None = None) -> None:
        self.folder = Path(root or os.environ.get(ENV) or cache_folder("engines")) / kind
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise EngineError(
                f"the engine cache {self.folder} cannot be written ({error.strerror}), every start would build for "
                f"minutes. If an earlier start ran as root: sudo chown -R $USER {self.folder.parent}. Or set {ENV} to "
                "a folder that is yours."
            ) from error

    def path(self, key: Key, suffix: str = ".engine") -> Path:
        """Where the entry for `key` is or would be."""
        return self.folder / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]}{suffix}"

    def load(self, key: Key) -> bytes | None:
        """The engine built for exactly this key, or None; a damaged one counts as none."""
        path = self.path(key)
        header = _header(path)
        if header is None or header["key"] != key:
            return None
        data = path.read_bytes()[-header["size"] :]
        return data if hashlib.sha256(data).hexdigest() == header["sha256"] else None

    def miss(self, key: Key) -> str:
        """Why `load` found nothing: the fields in which the nearest entry differs."""
        found = self.path(key)
        if found.exists():
            return f"{found} is damaged"
        headers = [header for path in self.folder.glob("*.engine") if (header := _header(path))]
        if not headers:
            return f"{self.folder} holds no engine yet"

        def differing(header: dict) -> list[str]:
            built = header["key"]
            return sorted(field for field in key.keys() | built.keys() if key.get(field) != built.get(field))

        nearest = min(headers, key=lambda header: (len(differing(header)), -header["created"]))
        fields = ", ".join(
            f"{field} was {_short(nearest['key'].get(field))}, is {_short(key.get(field))}"
            for field in differing(nearest)
        )
        return f"no engine in {self.folder} fits ({len(headers)} there); the nearest differs in: {fields}"

    def store(self, key: Key, data: bytes) -> Path:
        """Write an engine beside the others; whoever looks sees the whole file or none."""
        header = {"key": dict(key), "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        head = json.dumps(header | {"created": time.time()}).encode()
        return self.write(self.path(key), struct.pack("<I", len(head)) + head + data)

    def write(self, path: Path, data: bytes) -> Path:
        """Write a file of the folder at once."""
        try:
            write_atomically(path, data)
        except OSError as error:
            raise EngineError(f"{path} cannot be written: {error.strerror}. Free space or set {ENV}.") from error
        return path


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises
    ------
    EngineError
        The file cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}.") from error


def gpu_key(path: str | Path, precision: str, versions: Key, flags: Key) -> dict[str, str]:
    """Everything that an engine for this board's NVIDIA GPU depends on.

    Parameters
    ----------
    path : str or Path
        ONNX file.
    precision : str
    versions, flags : dict of str to str
        Versions of the libraries that build it, and the settings they build with.
    """
    from edgeflock.runtime.engines.cuda import driver

    return {"onnx": file_sha256(path), "precision": precision, **versions, **driver().gpu(), **flags}


def _short(value: str | None) -> str:
    return "not set" if value is None else value if len(value) < 64 else f"{value[:12]}..."


def _header(path: Path) -> dict | None:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<I", file.read(4))
            header = json.loads(file.read(length)) if length <= MAX_HEADER else {}
            whole = path.stat().st_size == 4 + length + header["size"]
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return header if whole and isinstance(header.get("key"), dict) and "created" in header else None
