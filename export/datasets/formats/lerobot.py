"""Datasets of LeRobot (`huggingface/lerobot`, src/lerobot/datasets): tables in parquet, images as video.

* v2.0 and v2.1: `meta/episodes.jsonl`, one table and one video per episode.
* v3.0, what is written here: `meta/episodes/*/*.parquet` says in which table and from which second of which video an
  episode lies; many share a file.

Images are a feature of dtype "video" (one file per camera, constant frame rate, so that frames are counted) or "image"
(in the table). Steering is one component of a feature; its unit and sign are the recorder's choice.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from rich.progress import track

from edgeflock.export.datasets.base import SteeringDataset, concatenate, parse_angle
from edgeflock.export.datasets.clocks import course
from edgeflock.export.datasets.images import console, decode, say_sizes
from edgeflock.export.datasets.options import ReadOptions
from edgeflock.runtime.errors import DataError, FileError, InputError, MissingExtra
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import parse_json
from edgeflock.runtime.prepare.frame import grey_320x240

INFO = "meta/info.json"
VERSION = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES, TASKS = "meta/episodes/chunk-000/file-000.parquet", "meta/tasks.parquet"
IMAGE, ACTION = "observation.images.front", "action"
TASK = "Follow the way."
FOURCC, CODEC = "mp4v", "mpeg4"  # every OpenCV writes it; VP9 took 60 times as long
_COUNTED = ("timestamp", "frame_index", "episode_index", "index", "task_index")


class _Episode(NamedTuple):
    number: int
    table: Path
    video: Path | None
    first: int  # frame of the video


class _Features(NamedTuple):
    image: str
    is_video: bool
    steering: str
    component: int
    label: str


def read_lerobot(path: str | Path, options: ReadOptions | None = None) -> SteeringDataset:
    """Read one dataset, or all datasets in a folder; each episode becomes a group.

    Parameters
    ----------
    path : str or pathlib.Path
    options : ReadOptions, optional
        `image_topic` and `steering_topic` name features, the latter as FEATURE or FEATURE:COMPONENT; the unit.

    Raises
    ------
    InputError
        The features cannot be chosen; the message lists them.
    DataError
        A table, a video or the list of episodes is missing, of another version, or broken.
    MissingExtra
        If `pyarrow` is not installed.
    """
    path = Path(path)
    if path.is_file():
        path = path.absolute().parents[1]
    roots = [path] if (path / INFO).exists() else sorted(info.parents[1] for info in path.glob(f"*/{INFO}"))
    if not roots:
        raise DataError(f"{path}: expected a dataset of LeRobot ({INFO}), found none")
    return concatenate([_read_dataset(root, options or ReadOptions()) for root in roots])


def _read_dataset(root: Path, options: ReadOptions) -> SteeringDataset:
    try:
        info = parse_json(_text(root / INFO))
        version = str(info["codebase_version"])
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{root / INFO}: expected the JSON of a dataset of LeRobot") from None
    if not version.startswith(("v2.", "v3.")):
        raise DataError(
            f"{root / INFO}: expected codebase_version v2.x or v3.x, got {version}: LeRobot converts older datasets"
        )
    try:
        chosen = _choose(root, info["features"], options)
        episodes = (_listed if version.startswith("v2.") else _indexed)(root, info, chosen)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{root / 'meta'}: expected the metadata of LeRobot {version}, got {error!r}") from error
    if not episodes:
        raise DataError(f"{root}: expected at least one episode in meta/episodes, found none")
    if options.unit is None and "normali" in chosen.label.lower():
        options = options.normalised()
    columns = ["episode_index", "timestamp", chosen.steering] + [chosen.image] * (not chosen.is_video)
    angles: list[float] = []
    groups: list[int] = []
    stamps: list[float] = []
    images: list[Any] = []
    clips: list[tuple[Path, int, int]] = []
    table, rows = None, {}
    for group, episode in enumerate(episodes):
        if episode.table != table:
            table, rows = episode.table, _table(episode.table, columns)
            of_episode: defaultdict[int, list[int]] = defaultdict(list)
            for row, number in enumerate(rows["episode_index"]):
                of_episode[number].append(row)
        if not (found := of_episode[episode.number]):
            raise DataError(f"{table}: expected rows of episode {episode.number}, found none")
        for row in found:
            where = f"{table}, row {row}, {chosen.label}"
            value = rows[chosen.steering][row]
            try:
                angles.append(parse_angle(str(np.ravel(value)[chosen.component]), where, options))
            except IndexError:
                raise DataError(f"{where}: expected component {chosen.component}, got {value}") from None
            stamps.append(float(rows["timestamp"][row] or 0))
            if not chosen.is_video:
                images.append((rows[chosen.image][row], f"{table}, row {row}, {chosen.image}"))
        groups += [group] * len(found)
        if episode.video:
            clips.append((episode.video, episode.first, len(found)))
    frames = np.empty((len(angles), 240, 320), np.uint8)
    decoded = _from_videos(clips) if chosen.is_video else _from_table(root, images)
    sizes = []
    for index, image in enumerate(track(decoded, f"Reading {root.name}", len(angles), console=console, transient=True)):
        frames[index] = grey_320x240(image, "mono8" if image.ndim == 2 else "bgr8")
        sizes.append((image.shape[1], image.shape[0]))
    say_sizes(root.name, sizes)
    return SteeringDataset(
        frames=frames,
        angles=np.array(angles, np.float32),
        groups=np.array(groups, np.int32),
        group_names=[f"{root.name}/{episode.number}" for episode in episodes],
        names=[f"{root.name}:{chosen.image}[{index}]" for index in range(len(angles))],
        stamps=np.array(stamps),
    )


def _listed(root: Path, info: dict[str, Any], chosen: _Features) -> list[_Episode]:
    """Episodes of v2: a table and a video each."""
    episodes = []
    for line in _text(root / "meta/episodes.jsonl").splitlines():
        number = int(json.loads(line)["episode_index"])
        names = {"episode_chunk": number // info["chunks_size"], "episode_index": number, "video_key": chosen.image}
        video = root / info["video_path"].format(**names) if chosen.is_video else None
        episodes.append(_Episode(number, root / info["data_path"].format(**names), video, 0))
    return episodes


def _indexed(root: Path, info: dict[str, Any], chosen: _Features) -> list[_Episode]:
    """Episodes of v3, which share tables and videos."""
    episodes = []
    of_video = f"videos/{chosen.image}/"
    wanted = ["episode_index", "data/chunk_index", "data/file_index"]
    if chosen.is_video:
        wanted += [of_video + name for name in ("chunk_index", "file_index", "from_timestamp")]
    for path in sorted(root.glob("meta/episodes/*/*.parquet")):
        for number, chunk, file, *at in zip(*_table(path, wanted).values(), strict=True):
            table = root / info["data_path"].format(chunk_index=chunk, file_index=file)
            video, first = None, 0
            if chosen.is_video:
                names = {"video_key": chosen.image, "chunk_index": at[0], "file_index": at[1]}
                video, first = root / info["video_path"].format(**names), round(at[2] * info["fps"])
            episodes.append(_Episode(number, table, video, first))
    return episodes


def _choose(root: Path, features: dict[str, Any], options: ReadOptions) -> _Features:
    kinds = {name: feature["dtype"] for name, feature in features.items()}
    images = [name for name, kind in kinds.items() if kind in ("video", "image") and "depth" not in name]
    image = options.image_topic or _only(images) or _only([name for name in images if "front" in name])
    if image not in images:
        raise InputError(
            f"{root}: expected one feature with images, got {image or ', '.join(images) or 'none'}; give --image-topic "
            f"(in Python ReadOptions(image_topic=...)), one of {', '.join(images) or 'none'}"
        )
    labels: dict[str, tuple[str, int]] = {}
    for name in kinds.keys() - images - set(_COUNTED):
        labels |= {f"{name}:{part}": (name, index) for index, part in enumerate(_parts(features[name]))}
    steering = sorted(label for label in labels if "steer" in label.lower())
    asked = options.steering_topic
    if asked:
        matching = [label for label, (name, index) in labels.items() if asked in (label, f"{name}:{index}", name)]
        label = _only(matching) or _only([label for label in matching if label in steering])
    else:
        label = _only(steering) or _only([label for label in steering if label.startswith(ACTION)])
    if label is None:
        raise InputError(
            f"{root}: expected one component with steering, got {asked or ', '.join(steering) or 'none'}; give "
            "--steering-topic FEATURE:COMPONENT (in Python ReadOptions(steering_topic=...)), one of "
            f"{', '.join(sorted(labels)) or 'none'}"
        )
    return _Features(image, kinds[image] == "video", *labels[label], label)


def _only(found: list[str]) -> str | None:
    return found[0] if len(found) == 1 else None


def _parts(feature: dict[str, Any]) -> list[str]:
    """Names of the components of a feature: a list, a list by kind, or none; numbers where there are none."""
    names, shape = feature.get("names"), feature["shape"]
    if isinstance(names, dict):
        names = [part for value in names.values() for part in (value if isinstance(value, list) else [value])]
    if len(shape) != 1 or feature["dtype"] == "string":
        return []
    return [str(name) for name in names] if names and len(names) == shape[0] else [str(n) for n in range(shape[0])]


def _from_videos(clips: list[tuple[Path, int, int]]) -> Iterator[np.ndarray]:
    """Frames, BGR, of stretches of videos: file, first frame, how many."""
    capture, opened, here = cv2.VideoCapture(), None, 0
    for file, first, count in clips:
        if file != opened or first < here:
            capture, opened, here = cv2.VideoCapture(str(file)), file, 0
        for wanted in range(here, first + count):
            ok, image = (capture.grab(), None) if wanted < first else capture.read()
            if not ok:
                what = f"got {wanted}" if file.exists() else "there is no such file"
                raise DataError(
                    f"{file}: expected at least {first + count} frames, {what}: it is cut off, or OpenCV "
                    f"{cv2.__version__} does not decode it (`pip install -U opencv-python-headless`)"
                )
            here = wanted + 1
            if image is not None:
                yield image


def _from_table(root: Path, images: list[tuple[Any, str]]) -> Iterator[np.ndarray]:
    """Images, BGR or grey, of cells that hold a file's bytes, or its path in the dataset."""
    for cell, where in images:
        held = cell if isinstance(cell, dict) else {}
        try:
            data = held.get("bytes") or (root / held["path"]).read_bytes()
        except (OSError, KeyError, TypeError):
            raise DataError(f"{where}: expected the bytes or the path of an image, got {cell}") from None
        yield decode(data, where)


def _table(path: Path, columns: list[str]) -> dict[str, list[Any]]:
    with needs("LeRobot datasets"):
        import pyarrow
        from pyarrow import parquet
    try:
        with parquet.ParquetFile(path) as file:
            missing = set(columns) - set(file.schema_arrow.names)
            if missing:
                raise DataError(f"{path}: expected the columns {', '.join(columns)}, no {', '.join(sorted(missing))}")
            held = file.read(columns).to_pydict()
            return {name: held[name] for name in columns}
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: expected a whole parquet file, reading it failed: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def write_lerobot(data: SteeringDataset, folder: Path, _: ReadOptions) -> None:
    """Write a dataset of LeRobot v3.0; each group becomes an episode, and a gap of the clock begins another.

    The video is grey in three channels. Its frame rate is the usual one of the recording, rounded to whole frames per
    second: LeRobot counts time in frames. The action is the steering angle in rad, positive = left.

    Parameters
    ----------
    data : SteeringDataset
    folder : pathlib.Path
        Empty or new.

    Raises
    ------
    InputError
        The frame rate is not known.
    MissingExtra
        If `pyarrow` is not installed, or OpenCV writes no MPEG-4.
    """
    with needs("LeRobot datasets"):
        import pyarrow as pa
        from pyarrow import parquet
    times = course(np.full(len(data), np.nan) if data.stamps is None else data.stamps, data.groups)
    if not times.step > 0:
        raise InputError("expected a recording with times, for the frame rate, got one without: give --fps")
    fps = max(1, round(1 / times.step))
    first = np.union1d(np.append(0, np.flatnonzero(np.diff(data.groups)) + 1), times.gaps)
    length = np.diff(np.append(first, len(data)))
    episode = np.repeat(np.arange(len(first)), length)
    frame = np.arange(len(data)) - first[episode]
    pixels = _write_video(data.frames, folder / VIDEO_PATH.format(video_key=IMAGE, chunk_index=0, file_index=0), fps)
    zeros = np.zeros(len(first), np.int64)
    of_video = f"videos/{IMAGE}/"
    tables = {
        DATA_PATH.format(chunk_index=0, file_index=0): {
            ACTION: data.angles,
            "timestamp": (frame / fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": episode,
            "index": np.arange(len(data)),
            "task_index": np.zeros(len(data), np.int64),
        },
        EPISODES: {
            "episode_index": np.arange(len(first)),
            "tasks": [[TASK]] * len(first),
            "length": length,
            "data/chunk_index": zeros,
            "data/file_index": zeros,
            "dataset_from_index": first,
            "dataset_to_index": first + length,
            of_video + "chunk_index": zeros,
            of_video + "file_index": zeros,
            of_video + "from_timestamp": first / fps,
            of_video + "to_timestamp": (first + length) / fps,
            "meta/episodes/chunk_index": zeros,
            "meta/episodes/file_index": zeros,
        },
        TASKS: {"task_index": [0], "task": [TASK]},
    }
    for name, columns in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        # LeRobot reads the tasks with pandas, and looks them up by the index.
        index = {"pandas": json.dumps(_PANDAS)} if name == TASKS else None
        parquet.write_table(pa.table(columns).replace_schema_metadata(index), folder / name)
    stats = {
        ACTION: _stats(data.angles, np.ones(len(data)), [1]),
        IMAGE: _stats(np.arange(256) / 255, pixels, [3, 1, 1]),
    }
    (folder / "meta/stats.json").write_text(json.dumps(stats, indent=4))
    (folder / INFO).write_text(json.dumps(_info(data, fps, len(first)), indent=4))


_PANDAS = {
    "index_columns": ["task"],
    "column_indexes": [],
    "columns": [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
        for name, kind, numpy in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ],
    "pandas_version": "2.0",
}


def _write_video(frames: np.ndarray, path: Path, fps: int) -> np.ndarray:
    """How often each grey value is among the frames: int (256,)."""
    path.parent.mkdir(parents=True)
    height, width = frames.shape[1:]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*FOURCC), fps, (width, height))
    if not writer.isOpened():
        raise MissingExtra(
            f"a video needs an OpenCV that writes MPEG-4, this {cv2.__version__} does not: `pip install -U "
            "opencv-python-headless`"
        )
    counts = np.zeros(256, np.int64)
    for frame in track(frames, "Writing the video", console=console, transient=True):
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
        counts += np.bincount(frame.ravel(), minlength=256)
    writer.release()
    written = round(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT))
    if written != len(frames):
        raise FileError(f"{path}: expected {len(frames)} frames to be written, got {written}: is the disk full?")
    return counts


def _stats(values: np.ndarray, weights: np.ndarray, shape: list[int]) -> dict[str, Any]:
    seen, weights = values[weights > 0].astype(np.float64), weights[weights > 0]
    mean = np.average(seen, weights=weights)
    std = np.sqrt(np.average((seen - mean) ** 2, weights=weights))
    figures = {"min": seen.min(), "max": seen.max(), "mean": mean, "std": std}
    return {name: np.full(shape, value).tolist() for name, value in figures.items()} | {"count": [int(weights.sum())]}


def _info(data: SteeringDataset, fps: int, episodes: int) -> dict[str, Any]:
    height, width = data.frames.shape[1:]
    video = {
        "video.height": height,
        "video.width": width,
        "video.codec": CODEC,
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }
    names = ["height", "width", "channels"]
    features: dict[str, Any] = {
        IMAGE: {"dtype": "video", "shape": [height, width, 3], "names": names, "info": video},
        ACTION: {"dtype": "float32", "shape": [1], "names": ["steering"]},
    }
    features |= {name: {"dtype": "int64", "shape": [1], "names": None} for name in _COUNTED}
    features["timestamp"]["dtype"] = "float32"
    return {
        "codebase_version": VERSION,
        "robot_type": None,
        "total_episodes": episodes,
        "total_frames": len(data),
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": features,
    }
