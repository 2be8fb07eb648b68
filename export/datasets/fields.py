"""Fields of a teacher: the flow that warps one training volume onto another, for many pairs, on disk.

A folder has one float16 array (3, size, size, size) per pair, in voxels of that size, and `fields.json`, which says of
which teacher and volumes they are. The LDR authors' files are read too: a pickled dict "id1-id2" (fixed and moving) ->
float16 (128, 128, 128, 3). Of pickle no more than numpy's own arrays is taken (docs/decisions/0003-no-pickle.md).
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeflock.export.datasets.volumes import VolumeDataset
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import parse_json, sha256_of, sole_writer, write_atomically

INDEX = "fields.json"

Pair = tuple[int, int]


@dataclass(frozen=True)
class Fields:
    """Flows of pairs of training volumes.

    Attributes
    ----------
    folder : Path
    pairs : list of (int, int)
        Indices of fixed and moving.
    size : int
    rms : float
        Root mean square of all of them, in voxels.
    origin : str
        SHA-256 of the teacher's weights, or of the authors' file.
    """

    folder: Path
    pairs: list[Pair]
    size: int
    rms: float
    origin: str

    def __getitem__(self, pair: Pair) -> np.ndarray:
        """Flow float32 (3, size, size, size)."""
        path = _file(self.folder, pair)
        shape = (3, self.size, self.size, self.size)
        try:
            flow = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: expected a field, reading it failed: {error}; remove it and run again.") from None
        if flow.shape != shape or flow.dtype != np.float16:
            raise DataError(f"{path}: expected float16 {shape}, got {flow.dtype} {flow.shape}; remove it.")
        return flow.astype(np.float32)


def write_fields(
    folder: Path,
    data: VolumeDataset,
    pairs: list[Pair],
    size: int,
    origin: str,
    answer: Callable[[Pair], np.ndarray],
    track: Callable[[list[Pair]], Iterable[Pair]] = iter,
) -> Fields:
    """Ask for the flow of each pair and keep it; goes on where an interrupted call stopped.

    Parameters
    ----------
    folder : Path
        Made if missing.
    data : VolumeDataset
    pairs : list of (int, int)
    size : int
    origin : str
        See `Fields`.
    answer : callable
        Pair to flow (3, size, size, size) in voxels.
    track : callable
        Shows progress over the pairs that are left.

    Raises
    ------
    InputError
        The folder holds other fields.
    DataError
        A flow is not finite, or too large for float16.
    """
    identity = {"origin": origin, "size": size, "data": data.digest(), "pairs": [list(pair) for pair in pairs]}
    index = folder / INDEX
    with sole_writer(folder):
        held = parse_json(index.read_bytes()) if index.is_file() else {}
        for key, value in identity.items():
            if held and held.get(key) != value:
                raise InputError(f"{folder} holds fields of other {key}: name another folder, or remove this one.")
        if not held:
            write_atomically(index, json.dumps(identity))
        if not held.get("rms"):
            for pair in track([pair for pair in pairs if not _file(folder, pair).is_file()]):
                _write(_file(folder, pair), answer(pair), data, pair)
            whole = Fields(folder, pairs, size, 0, origin)
            held = {**identity, "rms": float(np.sqrt(np.mean([np.mean(whole[pair] ** 2) for pair in pairs])))}
            write_atomically(index, json.dumps(held))
    return Fields(folder, pairs, size, held["rms"], origin)


def read_authors_fields(path: Path, data: VolumeDataset, size: int, folder: Path) -> Fields:
    """Fields of the LDR authors' file (`liver_teacher_deformation_c_1.pkl`, ...), written into a folder of ours.

    The file is read into memory as a whole: 12.6 MB for a pair.

    Parameters
    ----------
    path : Path
    data : VolumeDataset
        Its names, or what stands in them after the last slash, are the ids.
    size : int
        To which the flows are averaged.
    folder : Path

    Raises
    ------
    DataError
        No such file, something else than arrays in it, or no pair of these volumes.
    InputError
        The folder holds other fields.
    """
    try:
        held = _Arrays(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # an unpickler raises whatever damaged bytes lead it to
        raise DataError(
            f"{path}: expected the authors' fields, a pickled dict of numpy arrays, reading it failed: {error}"
        ) from None
    if not isinstance(held, dict) or not all(isinstance(flow, np.ndarray) for flow in held.values()):
        raise DataError(f"{path}: expected a dict of numpy arrays, got {type(held).__name__}.")
    ids = [(name, name.rpartition("/")[2]) for name in data.names]
    keys = {
        (a, b): next((f"{x}-{y}" for x, y in zip(ids[a], ids[b], strict=True) if f"{x}-{y}" in held), None)
        for a, b in data.pairs
    }
    found = {pair: held[key] for pair, key in keys.items() if key}
    if not found:
        raise DataError(
            f"{path}: none of its {len(held)} pairs ({', '.join(map(str, list(held)[:3]))}, ...) is of the volumes "
            f"{', '.join(data.names[:3])}, ...: its keys are FIXED-MOVING."
        )

    def answer(pair: Pair) -> np.ndarray:
        flow = found[pair]
        side = flow.shape[0]
        if flow.shape != (side, side, side, 3) or flow.dtype.kind != "f" or side % size:
            raise DataError(f"{path}: {keys[pair]} is {flow.dtype} {flow.shape}, expected (S, S, S, 3) of {size}^3.")
        block = side // size
        parts = np.moveaxis(flow.astype(np.float32), -1, 0).reshape(3, *(n for _ in range(3) for n in (size, block)))
        return parts.mean((2, 4, 6)) / block

    return write_fields(folder, data, list(found), size, sha256_of(path), answer)


def _file(folder: Path, pair: Pair) -> Path:
    return folder / f"{pair[0]:05d}-{pair[1]:05d}.npy"


def _write(path: Path, flow: np.ndarray, data: VolumeDataset, pair: Pair) -> None:
    half = flow.astype(np.float16)
    if not np.isfinite(half).all():
        raise DataError(f"the teacher's flow of {data.names[pair[1]]} onto {data.names[pair[0]]} is not finite.")
    buffer = io.BytesIO()
    np.save(buffer, half)
    write_atomically(path, buffer.getvalue(), sync=False)


class _Arrays(pickle.Unpickler):
    """Unpickler that knows numpy's arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """What makes up an array; UnpicklingError for anything else."""
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for older pickles
            return _latin1
        if module.split(".")[0] == "numpy" and name in _ALLOWED:
            return _ALLOWED[name]
        raise pickle.UnpicklingError(f"it holds {module}.{name}, and only numpy's arrays are read")


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds text as {encoding}")
    return text.encode("latin1")


_REBUILD = np.zeros(1).__reduce__()[0]  # numpy's own function, whatever module this version keeps it in
_ALLOWED = {
    "ndarray": np.ndarray,
    "dtype": np.dtype,
    "_reconstruct": _REBUILD,
    "_frombuffer": np.zeros(1).__reduce_ex__(5)[0],
}
