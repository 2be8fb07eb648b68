"""Pseudo valence and arousal from any net given as ONNX, for data sets without them.

The LDLVA authors take "an existing method" that they do not name (post, "Adaptive Similarity"), so the net is the
user's choice.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from rich.console import Console
from rich.progress import track

from edgeflock.export.datasets.emotion import EmotionDataset
from edgeflock.export.datasets.formats.emotion_files import read_affect
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import write_atomically

_HEADER = ("name", "valence", "arousal")

BATCH = 32
"""Images at once, for nets that leave their batch open."""

NORMALISATIONS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "0..1": ((0.0,), (255.0,)),
    "-1..1": ((127.5,), (127.5,)),
    "0..255": ((0.0,), (1.0,)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
"""Mean and deviation, of RGB values 0..255, that a net's pixels are freed of."""

BEYOND = 1.5
"""What a net gives between 1 and here is cut off at 1; more shows that these are not valence and arousal."""

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def estimate_affect(
    model: Path,
    images: np.ndarray,
    *,
    columns: tuple[int, int] | None = None,
    normalise: str = "0..1",
    console: Console | None = None,
) -> np.ndarray:
    """Valence and arousal of faces, as a net sees them.

    Parameters
    ----------
    model : Path
        ONNX file with one input (N, 3, H, W) or (N, H, W, 3), float, RGB, height and width fixed. It gives (N, 2), or
        two outputs named valence and arousal of one number per image, or a longer vector (see `columns`).
    images : ndarray
        uint8 (N, h, w, 3), RGB, cut faces; stretched to the net's size.
    columns : tuple of int, optional
        Where valence and arousal stand in the net's vector, from 0; negative ones count from the end.
    normalise : str
        Key of `NORMALISATIONS`.
    console : Console, optional
        Shows the progress.

    Returns
    -------
    ndarray
        float32 (N, 2) in [-1, 1].

    Raises
    ------
    InputError
        No such file, not a net of this kind, or what it gives is no valence and arousal.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise InputError(f"images: expected uint8 (N, h, w, 3), got {images.dtype} {images.shape}.")
    if normalise not in NORMALISATIONS:
        raise InputError(f"normalise: expected {', '.join(NORMALISATIONS)}, got {normalise!r}.")
    mean, deviation = (np.array(value, np.float32) for value in NORMALISATIONS[normalise])
    session = _session(model)
    name, dtype, batch, size, channels_first = _input(session, model)
    outputs = [output.name for output in session.get_outputs()]
    affect = np.empty((len(images), 2), np.float32)
    starts = range(0, len(images), batch or BATCH)
    for start in track(starts, "Valence and arousal", console=console) if console else starts:
        some = images[start : start + (batch or BATCH)]
        pixels = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in some])
        feed = (pixels - mean) / deviation
        if batch and len(feed) < batch:
            feed = np.concatenate([feed, np.repeat(feed[-1:], batch - len(feed), 0)])
        if channels_first:
            feed = feed.transpose(0, 3, 1, 2)
        try:
            given = session.run(None, {name: np.ascontiguousarray(feed, dtype)})
        except Exception as error:  # ONNX Runtime's errors share no class of their own
            raise InputError(f"{model} does not run on {feed.shape}: {_first_line(error)}.") from error
        affect[start : start + len(some)] = _pick(dict(zip(outputs, given, strict=True)), columns, model)[: len(some)]
    worst = float(np.abs(affect).max(initial=0))
    if not worst <= BEYOND:
        raise InputError(
            f"{model}: expected valence and arousal in [-1, 1], it gave values up to {worst:.3g}. Name the right "
            f"columns and the normalisation that it was trained with ({', '.join(NORMALISATIONS)}); this was "
            f"{normalise}."
        )
    return affect.clip(-1, 1)


def with_affect(
    data: EmotionDataset,
    model: Path,
    console: Console | None = None,
    *,
    columns: tuple[int, int] | None = None,
    normalise: str = "0..1",
    keep: Path | None = None,
) -> EmotionDataset:
    """The same data with valence and arousal where they were not known; noted ones stay.

    Parameters
    ----------
    data : EmotionDataset
    model : Path
        ONNX file for `estimate_affect`, or a CSV that `write_affect` wrote (or with its columns, from elsewhere).
    console : Console, optional
        Shows the progress.
    columns, normalise
        For `estimate_affect`.
    keep : Path, optional
        Where to write them (`write_affect`), to be given as `model` later: estimating takes longer than reading.

    Raises
    ------
    InputError
        See `estimate_affect`.
    DataError
        The CSV is broken or lacks an image.
    """
    affect = np.full((len(data), 2), np.nan, np.float32) if data.affect is None else data.affect.copy()
    unknown = np.flatnonzero(np.isnan(affect).any(1))
    if not len(unknown):
        return data
    if model.suffix.lower() == ".csv":
        known = _read_affect(model)
        missing = next((data.names[i] for i in unknown if data.names[i] not in known), None)
        if missing is not None:
            raise DataError(f"{model}: expected valence and arousal of {missing} of {data.source}, found no such row.")
        affect[unknown] = [known[data.names[i]] for i in unknown]
    else:
        faces = data.face if len(unknown) == len(data) else data.face[unknown]
        affect[unknown] = estimate_affect(model, faces, columns=columns, normalise=normalise, console=console)
    whole = replace(data, affect=affect)
    if keep is not None:
        write_affect(whole, keep)
    return whole


def write_affect(data: EmotionDataset, file: Path) -> None:
    """Write a CSV with the columns name, valence and arousal; unknown ones are left out."""
    affect = np.empty((0, 2)) if data.affect is None else data.affect
    out = io.StringIO(newline="")
    table = csv.writer(out)
    table.writerow(_HEADER)
    for name, (valence, arousal) in zip(data.names, affect, strict=False):
        if not np.isnan(valence + arousal):
            table.writerow((name, f"{valence:.6g}", f"{arousal:.6g}"))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, out.getvalue().encode())


def _read_affect(file: Path) -> dict[str, tuple[float, float]]:
    known = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            table = csv.DictReader(lines)
            if not set(_HEADER) <= set(table.fieldnames or ()):
                raise DataError(f"{file}, row 1: expected the columns {', '.join(_HEADER)}, got {table.fieldnames}.")
            for row in table:
                where = f"{file}, row {table.line_num}"
                known[row["name"]] = read_affect(row["valence"] or "", row["arousal"] or "", where)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: expected comma-separated text, reading it failed: {error}.") from error
    return known


def _session(model: Path) -> onnxruntime.InferenceSession:
    if not model.is_file():
        raise InputError(f"{model}: expected an ONNX file, there is none.")
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    there = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(str(model), providers=[name for name in wanted if name in there])
    except Exception as error:  # ONNX Runtime's errors share no class of their own
        raise InputError(f"{model}: not a net that ONNX Runtime loads: {_first_line(error)}.") from error


def _input(session: onnxruntime.InferenceSession, model: Path) -> tuple[str, type, int | None, tuple[int, int], bool]:
    """Name, dtype, fixed batch or None, size (w, h), and whether channels come first."""
    inputs = session.get_inputs()
    told = ", ".join(f"{given.name} {given.type} {given.shape}" for given in inputs)
    wanted = f"{model}: expected one float input (N, 3, H, W) or (N, H, W, 3), got {told}."
    shape = inputs[0].shape
    if len(inputs) != 1 or inputs[0].type not in _DTYPES or len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise InputError(wanted)
    height, width = shape[2:] if shape[1] == 3 else shape[1:3]
    if not (isinstance(height, int) and isinstance(width, int)):
        raise InputError(f"{wanted} Export it with a fixed height and width.")
    batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
    return inputs[0].name, _DTYPES[inputs[0].type], batch, (width, height), shape[1] == 3


def _pick(given: Mapping[str, np.ndarray], columns: tuple[int, int] | None, model: Path) -> np.ndarray:
    """(N, 2) out of what the net gave."""
    named = {name.lower(): array.reshape(len(array), -1) for name, array in given.items() if array.ndim}
    told = ", ".join(f"{name} {array.shape}" for name, array in given.items())
    if columns is not None:
        low, high = min(columns), max(columns)
        wide = [array for array in named.values() if -array.shape[1] <= low and high < array.shape[1]]
        if len(wide) != 1:
            raise InputError(
                f"{model}: expected one output with the columns {columns[0]} and {columns[1]}, got {told}."
            )
        return wide[0][:, list(columns)]
    pair = [named[name] for name in ("valence", "arousal") if name in named]
    if len(pair) == 2 and all(array.shape[1] == 1 for array in pair):
        return np.concatenate(pair, 1)
    two = [array for array in named.values() if array.shape[1] == 2]
    if len(two) != 1:
        raise InputError(
            f"{model}: expected one output (N, 2), or two named valence and arousal, got {told}. Where both stand in a "
            f"longer vector, name their columns, for example 8 and 9 after eight emotions."
        )
    return two[0]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
