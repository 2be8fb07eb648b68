"""Tubs of donkeycar: what its cars and its simulator record (`autorope/donkeycar`, parts/datastore_v2.py, tub_v2.py).

* Since 4.0: `manifest.json`, five lines of JSON (inputs, their types, metadata, sessions, catalogs), and beside it
  `catalog_<n>.catalog`, a record of JSON per line; images in `images/`. A record whose place in the catalogs is among
  the manifest's `deleted_indexes` was deleted by the user. A sitting is a session.
* Before: `record_<n>.json` and its image in one folder; `exclude.json` lists the numbers that were deleted.

`user/angle` runs from -1 to 1, 1 to the right. Where `user/mode` is not "user" the pilot drove, and it says nothing.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from rich.progress import track

from edgeflock.export.datasets.base import SteeringDataset, concatenate, full_lock, parse_angle
from edgeflock.export.datasets.images import console, read_frames
from edgeflock.export.datasets.options import ReadOptions
from edgeflock.runtime.errors import DataError, InputError

MANIFEST = "manifest.json"
IMAGE, ANGLE, THROTTLE, MODE = "cam/image_array", "user/angle", "user/throttle", "user/mode"
CATALOG_LENGTH = 1000
JPEG_QUALITY = 95


class _Record(NamedTuple):
    where: str
    image: Path
    session: str
    content: dict[str, Any]


def read_donkey(path: str | Path, options: ReadOptions | None = None) -> SteeringDataset:
    """Read one tub, or all tubs in a folder; each session becomes a group.

    Parameters
    ----------
    path : str or pathlib.Path
    options : ReadOptions, optional
        `full_lock` is needed.

    Raises
    ------
    InputError
        The full lock is not given.
    DataError
        A manifest, catalog, record or image is missing or broken, or a tub is empty.
    """
    path = Path(path)
    if path.is_file():
        path = path.absolute().parent
    tubs = [path] if _is_tub(path) else sorted(filter(_is_tub, path.iterdir()))
    if not tubs:
        raise DataError(f"{path}: expected a tub ({MANIFEST} with catalogs, or record_<n>.json), found none")
    return concatenate([_read_tub(tub, (options or ReadOptions()).normalised(right_positive=True)) for tub in tubs])


def _is_tub(folder: Path) -> bool:
    return folder.is_dir() and any(next(folder.glob(name), None) for name in ("*.catalog", "record_*.json"))


def _read_tub(tub: Path, options: ReadOptions) -> SteeringDataset:
    records = list(_catalogs(tub) if next(tub.glob("*.catalog"), None) else _files(tub))
    driven = [record for record in records if record.content.get(MODE, "user") == "user"]
    if len(driven) < len(records):
        console.print(
            f"{tub}: {len(records) - len(driven)} of {len(records)} records left out, the pilot drove and not a person",
            soft_wrap=True,
        )
    if not driven:
        raise DataError(f"{tub}: expected at least one record that is not deleted and that a person drove, found none")
    angles = [parse_angle(str(record.content[ANGLE]), f"{record.where}, {ANGLE}", options) for record in driven]
    sessions = list(dict.fromkeys(record.session for record in driven))
    return SteeringDataset(
        frames=read_frames([record.image for record in driven], [record.where for record in driven], tub.name),
        angles=np.array(angles, np.float32),
        groups=np.array([sessions.index(record.session) for record in driven], np.int32),
        group_names=[f"{tub.name}/{session}" if session else tub.name for session in sessions],
        names=[f"{tub.name}/{record.image.name}" for record in driven],
        stamps=np.array([_stamp(record.content) for record in driven]),
    )


def _stamp(content: dict[str, Any]) -> float:
    """In s; the old tubs count from their start."""
    given = content.get("_timestamp_ms", content.get("milliseconds"))
    return given / 1000 if isinstance(given, int | float) else math.nan


def _catalogs(tub: Path) -> Iterator[_Record]:
    names, deleted = _manifest(tub)
    place = 0
    for catalog in (tub / name for name in names):
        lines = _text(catalog).splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            where, here = f"{catalog}, row {number}", place
            place += 1
            if here in deleted:
                continue
            try:
                content = json.loads(line)
            except ValueError:
                if number == len(lines) and not line.endswith("\n"):
                    console.print(f"{where}: left out, the car was switched off while it was written", soft_wrap=True)
                    continue
                raise DataError(f"{where}: expected a record as JSON, got {line.strip()[:80]!r}") from None
            yield _record(where, content, tub / "images", str(content.get("_session_id", "")))


def _manifest(tub: Path) -> tuple[list[str], set[int]]:
    """Catalogs in order, and the places of deleted records in them."""
    path = tub / MANIFEST
    try:
        _, _, _, _, catalogs, *_ = map(json.loads, _text(path).splitlines())
        return list(map(str, catalogs["paths"])), set(catalogs["deleted_indexes"])
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{path}: expected a manifest as donkeycar 4 and 5 write it, five lines of JSON of which the last has "
            "paths and deleted_indexes"
        ) from None


def _files(tub: Path) -> Iterator[_Record]:
    found = [(re.fullmatch(r"record_(\d+)\.json", path.name), path) for path in tub.iterdir()]
    numbered = {int(match[1]): path for match, path in found if match}
    exclude = tub / "exclude.json"
    try:
        deleted = set(json.loads(_text(exclude))) if exclude.exists() else set()
    except (ValueError, TypeError):
        raise DataError(f"{exclude}: expected a list of record numbers as JSON") from None
    for number in sorted(numbered.keys() - deleted):
        path = numbered[number]
        try:
            content = json.loads(_text(path))
        except ValueError:
            raise DataError(f"{path}: expected a record as JSON, it is empty or cut off: delete it") from None
        yield _record(str(path), content, tub, "")


def _record(where: str, content: Any, images: Path, session: str) -> _Record:
    if not isinstance(content, dict) or not {IMAGE, ANGLE} <= content.keys():
        keys = ", ".join(content) if isinstance(content, dict) else repr(content)
        raise DataError(f"{where}: expected a record with {IMAGE} and {ANGLE}, got {keys}")
    return _Record(where, images / str(content[IMAGE]), session, content)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; it belongs to the tub") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected text, found a byte that is not UTF-8 at offset {error.start}") from None


def write_donkey(data: SteeringDataset, folder: Path, options: ReadOptions) -> None:
    """Write a tub of donkeycar 4 and 5; each group becomes a session.

    Images are grey in three channels, as donkeycar's nets take them. The throttle is 0: the data do not have it.

    Parameters
    ----------
    data : SteeringDataset
    folder : pathlib.Path
        Empty or new.
    options : ReadOptions
        `full_lock`: the angle in rad that becomes 1.

    Raises
    ------
    InputError
        The full lock is not given, or an angle is beyond it.
    """
    values = data.angles / full_lock(options.normalised(right_positive=True), "the tub that is written")
    worst = int(np.abs(values).argmax())
    if abs(values[worst]) > 1 + 1e-6:
        raise InputError(
            f"{data.names[worst]}: expected an angle within the full lock of {options.full_lock} rad, got "
            f"{data.angles[worst]:+.3f} rad: a tub has -1 to 1 only. Give the larger --full-lock of that robot"
        )
    (folder / "images").mkdir(parents=True)
    sessions = [f"{name}_{number}" for number, name in enumerate(data.group_names)]
    lines = []
    for index in track(range(len(data)), "Writing the tub", console=console, transient=True):
        image = f"{index}_cam_image_array_.jpg"
        colour = cv2.cvtColor(data.frames[index], cv2.COLOR_GRAY2BGR)
        cv2.imwrite(str(folder / "images" / image), colour, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        content = {
            "_index": index,
            "_session_id": sessions[data.groups[index]],
            IMAGE: image,
            ANGLE: float(np.clip(values[index], -1, 1)),
            THROTTLE: 0.0,
            MODE: "user",
        }
        if data.stamps is not None and math.isfinite(data.stamps[index]):
            content["_timestamp_ms"] = round(1000 * data.stamps[index])
        lines.append(json.dumps(content, sort_keys=True) + "\n")
    created = time.time()
    catalogs: list[str] = []
    for start in range(0, len(lines), CATALOG_LENGTH):
        part, name = lines[start : start + CATALOG_LENGTH], f"catalog_{len(catalogs)}.catalog"
        about = {"created_at": created, "line_lengths": list(map(len, part)), "path": f"{name}_manifest"}
        (folder / name).write_text("".join(part))
        (folder / f"{name}_manifest").write_text(json.dumps(about | {"start_index": start}) + "\n")
        catalogs.append(name)
    manifest: tuple[Any, ...] = (
        [IMAGE, ANGLE, THROTTLE, MODE],
        ["image_array", "float", "float", "str"],
        {},
        {
            "created_at": created,
            "sessions": {"all_full_ids": sessions, "last_id": len(sessions) - 1, "last_full_id": sessions[-1]},
        },
        {"paths": catalogs, "current_index": len(lines), "max_len": CATALOG_LENGTH, "deleted_indexes": []},
    )
    (folder / MANIFEST).write_text("".join(json.dumps(line) + "\n" for line in manifest))
