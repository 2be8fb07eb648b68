"""A program of torch.export, refused where torch would unpickle what it holds (docs/decisions/0003-no-pickle.md)."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from edgeflock.runtime.errors import DataError

_PLAIN = ("weight_", "tensor_")
"""How payloads are called that are bytes of tensors; any other name makes torch unpickle them."""


def open_program(path: Path) -> torch.export.ExportedProgram:
    """Read a `.pt2` file; DataError where it is none, or holds more than tensors and a graph."""
    if not path.is_file():
        raise DataError(f"{path}: expected a program of torch.export, nothing is there: check the path.")
    try:
        if pickled := next(_pickled(path), None):
            raise DataError(
                f"{path} holds {pickled}, which torch would unpickle, and that runs whatever it says: save the program "
                "again with torch.export.save of this torch, with tensors as its only constants and inputs."
            )
        return torch.export.load(path)
    except DataError:
        raise
    except Exception as error:  # whatever zip, JSON and torch's readers raise
        raise DataError(
            f"{path}: not a program that torch {torch.__version__} reads ({' '.join(str(error).split())[:200]}): save "
            "it again with torch.export.save."
        ) from None


def _pickled(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(set(names)) != len(names) or not any(name.endswith("/archive_version") for name in names):
            yield "the layout of an older torch"
        for name in names:
            if name.endswith("_config.json"):
                payloads: dict[str, Any] = json.loads(archive.read(name))["config"]
                for held, said in payloads.items():
                    if said["use_pickle"] or not said["path_name"].startswith(_PLAIN):
                        yield f"the constant {held!r} as no plain tensor"
            elif "/sample_inputs/" in name:
                try:
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)
                except Exception:  # what the safe unpickler refuses
                    yield f"example inputs ({name}) that are no plain tensors"
            elif "/aotinductor/" in name:
                yield f"compiled code ({name})"
