"""What calibration saw, on disk, found again by content: never by a file name, never half written, never broken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from edgeflock.calibration.histogram import FORMAT, Histogram, from_arrays, to_arrays
from edgeflock.runtime.files import cache_folder, write_atomically

_WHAT = {
    "onnx": "net",
    "data": "calibration data",
    "onnxruntime": "onnxruntime",
    "numpy": "numpy",
    "histogram": "histogram format",
}
"""Fields of a key, and how a message calls them."""


def default_folder() -> Path:
    """See `edgeflock.runtime.files.cache_folder`."""
    return cache_folder("calibration")


def key_of(onnx: bytes, feeds: dict[str, np.ndarray]) -> dict[str, str]:
    """Everything that decides what calibration sees. The method does not: ranges derive from the histograms."""
    data = hashlib.sha256()
    for name, array in sorted(feeds.items()):
        data.update(f"{name} {array.dtype.str} {array.shape}".encode())
        for sample in array:  # a copy of one sample at most, where the array is not contiguous
            data.update(np.ascontiguousarray(sample).data)
    return {
        "onnx": hashlib.sha256(onnx).hexdigest(),
        "data": data.hexdigest(),
        "onnxruntime": version("onnxruntime"),
        "numpy": np.__version__,
        "histogram": str(FORMAT),
    }


class Entry:
    """Histograms of one key: one line of JSON (key and SHA-256 of the rest), then safetensors.

    Parameters
    ----------
    folder : Path
        Of the cache; made if need be. Where it cannot be written nothing is kept.
    key : dict
        From `key_of`.
    say : callable
        Gets one line on a miss, a broken entry, or a folder that cannot be written.
    """

    def __init__(self, folder: Path, key: dict[str, str], say: Callable[[str], None]) -> None:
        self._key, self._say = key, say
        self.path = folder / f"{hashlib.sha256(_json(key)).hexdigest()[:32]}.hist"

    def load(self) -> dict[str, Histogram]:
        """What was stored; empty where there is nothing, or nothing that can be trusted."""
        try:
            header, body = self.path.read_bytes().split(b"\n", 1)
        except FileNotFoundError:
            if said := self._nearest():
                self._say(said)
            return {}
        except (OSError, ValueError):
            header = body = b""
        if header != self._header(body):
            self._say(f"{self.path} is damaged or cut: calibrating anew.")
            return {}
        return from_arrays(load(body))

    def save(self, histograms: dict[str, Histogram]) -> None:
        """Replace what is stored; after a crash or kill -9 the file is the old or the new one."""
        body = save(to_arrays(histograms))
        try:
            write_atomically(self.path, self._header(body) + b"\n" + body)
        except OSError as error:
            self._say(f"what was seen is not kept: {error}. Name a writable folder with EDGEFLOCK_CACHE.")
            return
        for left in self.path.parent.glob(f".*.{self.path.name}"):  # of processes that were killed
            left.unlink(missing_ok=True)

    def _header(self, body: bytes) -> bytes:
        return _json({"key": self._key, "sha256": hashlib.sha256(body).hexdigest()})

    def _nearest(self) -> str:
        """In what the entry that comes nearest differs from this key."""
        found = []
        for path in self.path.parent.glob("*.hist"):
            try:
                with path.open("rb") as file:
                    key = json.loads(file.readline())["key"]
                found.append(([field for field in _WHAT if key.get(field) != self._key[field]], key))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # says so itself when it is asked for
        if not found:
            return ""
        differing, key = min(found, key=lambda entry: len(entry[0]))
        changes = ", ".join(f"{_WHAT[f]} ({str(key.get(f))[:12]}, now {self._key[f][:12]})" for f in differing)
        return f"nothing kept for this calibration; the nearest entry differs in {changes}."


def _json(content: dict) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
