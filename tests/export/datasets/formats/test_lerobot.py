"""Datasets of LeRobot, written here by pyarrow and OpenCV as versions 2.1 and 3.0 have them, with synthetic images."""

import json

import cv2
import numpy as np
import pytest

from edgeflock.export.datasets import ReadOptions, open_dataset, write_dataset
from edgeflock.export.datasets.base import SteeringDataset
from edgeflock.runtime.errors import DataError, InputError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

CAMERA = "observation.images.front"
LENGTHS = (3, 4, 5)
FPS = 10
ACTION = {"dtype": "float32", "shape": [2], "names": ["throttle", "steering"]}


def shade(episode, frame):
    return 20 + 60 * episode + 10 * frame


def steer(episode, frame):
    return round(0.1 * episode + 0.05 * frame - 0.2, 3)


def picture(episode, frame, size=(160, 120)):
    return np.full((size[1], size[0], 3), shade(episode, frame), np.uint8)


def video(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), FPS, (160, 120))
    for frame in frames:
        writer.write(frame)
    writer.release()


def table(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)


def rows(episode, images):
    count = LENGTHS[episode]
    columns = {
        "action": [[0.5, steer(episode, n)] for n in range(count)],
        "timestamp": np.arange(count, dtype=np.float32) / FPS,
        "frame_index": list(range(count)),
        "episode_index": [episode] * count,
    }
    if images:
        pictures = [cv2.imencode(".png", picture(episode, n))[1].tobytes() for n in range(count)]
        columns[CAMERA] = [{"bytes": png, "path": None} for png in pictures]
    return columns


def dataset(root, version="v3.0", images=False, **features):
    """Three episodes: in v3 the first two share a table and a video, in v2 each has its own."""
    v3 = version.startswith("v3")
    name = (
        "chunk-{chunk_index:03d}/file-{file_index:03d}"
        if v3
        else "chunk-{episode_chunk:03d}/episode_{episode_index:06d}"
    )
    camera = "{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}" if v3 else name.replace("/", "/{video_key}/")
    info = {
        "codebase_version": version,
        "fps": FPS,
        "chunks_size": 1000,
        "data_path": f"data/{name}.parquet",
        "video_path": f"videos/{camera}.mp4",
        "features": {
            CAMERA: {"dtype": "image" if images else "video", "shape": [120, 160, 3], "names": None},
            "action": ACTION,
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        }
        | features,
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    files = ((0, 1), (2,)) if v3 else ((0,), (1,), (2,))
    for file, episodes in enumerate(files):
        names = {"chunk_index": 0, "file_index": file, "episode_chunk": 0, "episode_index": file, "video_key": CAMERA}
        parts = [rows(episode, images) for episode in episodes]
        columns = {key: [value for part in parts for value in part[key]] for key in parts[0]}
        table(root / info["data_path"].format(**names), columns)
        if not images:
            frames = [picture(episode, n) for episode in episodes for n in range(LENGTHS[episode])]
            video(root / info["video_path"].format(**names), frames)
    if v3:
        of_video = f"videos/{CAMERA}/"
        columns = {
            of_video + "from_timestamp": [0.0, LENGTHS[0] / FPS, 0.0],
            of_video + "file_index": [0, 0, 1],
            of_video + "chunk_index": [0, 0, 0],
            "data/file_index": [0, 0, 1],
            "data/chunk_index": [0, 0, 0],
            "episode_index": [0, 1, 2],
        }
        table(root / "meta/episodes/chunk-000/file-000.parquet", columns)
    else:
        lines = [json.dumps({"episode_index": n, "length": length}) for n, length in enumerate(LENGTHS)]
        (root / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
@pytest.mark.parametrize("images", [True, False], ids=["images", "video"])
def test_every_frame_gets_the_steering_of_its_row_and_every_episode_is_a_sequence(tmp_path, version, images):
    data = open_dataset(dataset(tmp_path / "car", version, images))
    wanted = [(episode, n) for episode, count in enumerate(LENGTHS) for n in range(count)]
    np.testing.assert_allclose(data.angles, [steer(*one) for one in wanted], atol=1e-6)
    np.testing.assert_allclose(data.frames.mean((1, 2)), [shade(*one) for one in wanted], atol=4)
    assert data.group_names == ["car/0", "car/1", "car/2"]
    assert data.groups.tolist() == [episode for episode, _ in wanted]
    np.testing.assert_allclose(data.stamps[:4], [0, 0.1, 0.2, 0], atol=1e-6)


def test_datasets_of_a_folder_are_read_together_and_the_info_file_names_its_own(tmp_path):
    dataset(tmp_path / "a", images=True)
    dataset(tmp_path / "b", "v2.1", images=True)
    assert open_dataset(tmp_path).group_names == ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2"]


NAMED = {
    "a list by kind": ({"motors": ["throttle", "steering"]}, None),
    "no names": (None, "action:1"),
    "another name": (["throttle", "wheel"], "action:wheel"),
    "the feature alone, one steers": (["throttle", "steering_angle"], "action"),
}


@pytest.mark.parametrize("name", NAMED)
def test_the_component_that_steers_is_found_by_its_name_or_named(tmp_path, name):
    names, asked = NAMED[name]
    root = dataset(tmp_path / "car", images=True, action=ACTION | {"names": names})
    data = open_dataset(root, options=ReadOptions(steering_topic=asked))
    assert data.angles[1] == pytest.approx(steer(0, 1))


def test_a_state_beside_the_action_does_not_confuse(tmp_path):
    state = {"dtype": "float32", "shape": [1], "names": ["steering"]}
    root = dataset(tmp_path / "car", images=True, **{"observation.state": state})
    assert open_dataset(root).angles[1] == pytest.approx(steer(0, 1))


def test_what_is_called_normalised_needs_the_full_lock(tmp_path):
    names = ["throttle", "steering_normalized"]
    root = dataset(tmp_path / "car", images=True, action=ACTION | {"names": names})
    with pytest.raises(InputError, match=r"action:steering_normalized: steering runs from -1 to 1 here.*--full-lock"):
        open_dataset(root)
    assert open_dataset(root, options=ReadOptions(full_lock=-0.5)).angles[1] == pytest.approx(-0.5 * steer(0, 1))


def test_a_choice_is_listed(tmp_path):
    root = dataset(tmp_path / "car", images=True, action=ACTION | {"names": None})
    with pytest.raises(InputError, match=r"with steering, got none; give --steering-topic .*action:0, action:1"):
        open_dataset(root)
    with pytest.raises(InputError, match=r"got action:wheel; give --steering-topic"):
        open_dataset(root, options=ReadOptions(steering_topic="action:wheel"))
    with pytest.raises(InputError, match=r"with images, got /camera; give --image-topic .*one of observation"):
        open_dataset(root, options=ReadOptions(image_topic="/camera"))
    two = {"dtype": "video", "shape": [1, 1, 3], "names": None}
    root = dataset(tmp_path / "two", **{"observation.images.wrist": two})
    assert len(open_dataset(root)) == sum(LENGTHS), "the front camera drives"


def edit_info(**changes):
    def damage(root):
        path = root / "meta/info.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def edit_rows(**changes):
    def damage(root):
        path = root / "data/chunk-000/file-001.parquet"
        columns = parquet.read_table(path).to_pydict()
        table(path, {name: column for name, column in (columns | changes).items() if column is not None})

    return damage


def cut(name):
    def damage(root):
        data = (root / name).read_bytes()
        (root / name).write_bytes(data[: len(data) // 2])

    return damage


BROKEN = {
    "too old": (edit_info(codebase_version="v1.6"), r"info.json: expected codebase_version v2.x or v3.x, got v1.6"),
    "too new": (edit_info(codebase_version="v4.0"), r"expected codebase_version v2.x or v3.x, got v4.0"),
    "no JSON": (cut("meta/info.json"), r"info.json: expected the JSON of a dataset of LeRobot"),
    "no features": (edit_info(features=None), r"meta: expected the metadata of LeRobot v3.0"),
    "no episodes": (
        lambda root: (root / "meta/episodes/chunk-000/file-000.parquet").unlink(),
        r"expected at least one episode in meta/episodes, found none",
    ),
    "episode without rows": (edit_rows(episode_index=[7] * 5), r"file-001.parquet: expected rows of episode 2"),
    "cut table": (cut("data/chunk-000/file-001.parquet"), r"file-001.parquet: expected a whole parquet file"),
    "table is gone": (
        lambda root: (root / "data/chunk-000/file-001.parquet").unlink(),
        r"expected a whole parquet file",
    ),
    "no column": (edit_rows(action=None), r"file-001.parquet: expected the columns .*, no action"),
    "NaN": (
        edit_rows(action=[[0.5, float("nan")]] * 5),
        r"row 0, action:steering: expected .*got nan",
    ),
    "short vector": (edit_rows(action=[[0.5]] * 5), r"row 0, action:steering: expected component 1, got \[0.5\]"),
    "video is gone": (
        lambda root: (root / f"videos/{CAMERA}/chunk-000/file-001.mp4").unlink(),
        r"file-001.mp4: expected at least 5 frames, there is no such file",
    ),
    "cut video": (cut(f"videos/{CAMERA}/chunk-000/file-001.mp4"), r"file-001.mp4: expected at least 5 frames, got 0"),
    "short video": (
        lambda root: video(root / f"videos/{CAMERA}/chunk-000/file-001.mp4", [picture(2, 0)] * 3),
        r"file-001.mp4: expected at least 5 frames, got 3",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_dataset_names_file_and_expectation(tmp_path, name):
    damage, message = BROKEN[name]
    root = dataset(tmp_path / "car")
    damage(root)
    with pytest.raises(DataError, match=message):
        open_dataset(root)


def test_an_image_that_is_neither_in_the_table_nor_beside_it_is_named(tmp_path):
    root = dataset(tmp_path / "car", images=True)
    edit_rows(**{CAMERA: [{"bytes": None, "path": "images/gone.png"}] * 5})(root)
    with pytest.raises(DataError, match=rf"row 0, {CAMERA}: expected the bytes or the path of an image"):
        open_dataset(root)
    (root / "images").mkdir()
    cv2.imwrite(str(root / "images/gone.png"), picture(0, 0, (200, 90)))
    assert len(open_dataset(root)) == sum(LENGTHS)


def test_times_that_go_back_and_images_of_several_sizes_are_said(tmp_path, capsys):
    root = dataset(tmp_path / "car", images=True)
    png = cv2.imencode(".png", picture(2, 0, (160, 90)))[1].tobytes()
    edit_rows(timestamp=[0.0, 0.1, 0.05, 0.2, 0.3], **{CAMERA: [{"bytes": png, "path": None}] * 5})(root)
    open_dataset(root)
    said = " ".join(capsys.readouterr().err.split())
    assert "got 1 that go back, the first at car:observation.images.front[9]" in said
    assert "frames of one size, got 160x120 (7), 160x90 (5)" in said


def recording(stamps):
    shades = np.arange(len(stamps), dtype=np.uint8) * 10 + 30
    frames = np.broadcast_to(shades[:, None, None], (len(stamps), 240, 320)).copy()
    groups = np.int32(np.arange(len(stamps)) >= 4)
    names = [f"frame {n}" for n in range(len(stamps))]
    angles = np.float32(np.linspace(-0.3, 0.3, len(stamps)))
    return SteeringDataset(frames, angles, groups, ["a", "b"], names, stamps=np.float64(stamps))


def test_what_is_written_is_read_back_and_a_gap_begins_an_episode(tmp_path):
    data = recording([0, 0.1, 0.2, 0.3, 0, 0.1, 0.2, 9.0, 9.1, 9.2])
    write_dataset(data, tmp_path / "car", "lerobot", ReadOptions())
    back = open_dataset(tmp_path / "car")
    np.testing.assert_allclose(back.angles, data.angles, atol=1e-7)
    np.testing.assert_allclose(back.frames.mean((1, 2)), data.frames.mean((1, 2)), atol=5)
    assert back.groups.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    info = json.loads((tmp_path / "car/meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"], info["total_frames"]) == ("v3.0", 10, 3, 10)
    episodes = parquet.read_table(tmp_path / "car/meta/episodes/chunk-000/file-000.parquet").to_pydict()
    assert episodes["dataset_from_index"] == [0, 4, 7] and episodes["length"] == [4, 3, 3]
    assert episodes[f"videos/{CAMERA}/to_timestamp"] == pytest.approx([0.4, 0.7, 1.0])
    stats = json.loads((tmp_path / "car/meta/stats.json").read_text())
    assert stats["action"]["max"] == pytest.approx([0.3]) and np.shape(stats[CAMERA]["mean"]) == (3, 1, 1)
    assert stats[CAMERA]["mean"][0][0][0] == pytest.approx(75 / 255, abs=1e-6)


def test_without_times_the_rate_has_to_be_given(tmp_path):
    data = recording([np.nan] * 6)
    with pytest.raises(InputError, match=r"expected a recording with times, for the frame rate.*--fps"):
        write_dataset(data, tmp_path / "car", "lerobot", ReadOptions())
    assert not (tmp_path / "car").exists()
