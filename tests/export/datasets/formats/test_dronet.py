"""DroNet folders: writing, resuming after a crash, reading, and what broken folders say (synthetic fixtures)."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeflock.export.datasets.formats.dronet import read_dronet
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.prepare.frame import grey_320x240
from edgeflock.runtime.recording.dronet import DronetWriter, is_complete

HEADER = "#angle,torque,speed,lat,long,alt\n"


def smooth(seed: int, shape: tuple[int, ...] = (240, 320)) -> np.ndarray:
    """A frame that JPEG keeps well."""
    return cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), (0, 0), 8)


def record(folder: Path, count: int = 12) -> Path:
    with DronetWriter(folder, {"world": "indoor", "seed": 1}) as writer:
        for i in range(count):
            writer.add(smooth(i), angle=0.01 * i - 0.05, speed=1.0, x=i, y=-i, s=0.5 * i)
    return folder


def test_what_is_recorded_is_read_back(tmp_path):
    record(tmp_path / "train" / "indoor_1")
    record(tmp_path / "train" / "indoor_3", 3)
    data = read_dronet(tmp_path / "train")
    assert data.frames.shape == (15, 240, 320)
    assert data.group_names == ["indoor_1", "indoor_3"]
    assert data.groups.tolist() == [0] * 12 + [1] * 3
    np.testing.assert_array_equal(data.angles[:12], np.float32([0.01 * i - 0.05 for i in range(12)]))
    assert data.names[10] == "indoor_1/images/10.jpg"
    for i in range(12):  # order is that of the integers: 10 does not come after 1
        assert np.abs(data.frames[i].astype(int) - smooth(i)).mean() < 2
    meta = json.loads((tmp_path / "train/indoor_1/meta.json").read_text())
    assert meta["complete"] and meta["frames"] == 12 and meta["recording"] == {"world": "indoor", "seed": 1}


def test_columns_are_angle_torque_speed_x_y_s(tmp_path):
    record(tmp_path / "a")
    lines = (tmp_path / "a/sync_steering.txt").read_text().splitlines(keepends=True)
    assert lines[0] == HEADER
    assert lines[3] == "-0.03,0,1,2,-2,1\n"


def test_reading_changes_nothing(tmp_path):
    record(tmp_path / "a")
    before = {p: (p.read_bytes() if p.is_file() else None, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")}
    read_dronet(tmp_path)
    assert before == {p: (p.read_bytes() if p.is_file() else None, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")}


def test_writer_needs_no_torch():
    code = "import sys, edgeflock.runtime.recording.dronet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_foreign_folder_with_colour_images_of_other_size(tmp_path):
    (tmp_path / "images").mkdir()
    colour = smooth(0, (480, 640, 3))
    cv2.imwrite(str(tmp_path / "images/frame_7.png"), colour)
    (tmp_path / "sync_steering.txt").write_text("# angle,torque\n-0.25,0")  # no line end, no meta.json
    data = read_dronet(tmp_path)
    np.testing.assert_array_equal(data.frames[0], grey_320x240(colour, "bgr8"))
    assert data.angles.tolist() == [-0.25]


def test_collision_experiments_are_left_out_of_steering(tmp_path, capsys):
    record(tmp_path / "drive")
    (tmp_path / "bike/images").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "bike/images/1.jpg"), smooth(0))
    (tmp_path / "bike/labels.txt").write_text("1\n")
    assert read_dronet(tmp_path).group_names == ["drive"]
    assert "left out" in capsys.readouterr().err
    with pytest.raises(DataError, match="expected at least one frame with a steering angle"):
        read_dronet(tmp_path / "bike")


KILLED = """
import sys
import numpy as np
from edgeflock.runtime.recording.dronet import DronetWriter
with DronetWriter(sys.argv[1], {"world": "indoor", "seed": 1}) as writer:
    for i in range(10**6):
        writer.add(np.full((240, 320), i % 256, np.uint8), 0.001 * (i % 100), 1.0, i, 0.0, 0.0)
        print(i, flush=True)
"""


def test_kill_9_loses_at_most_one_frame_and_resumes(tmp_path):
    folder = tmp_path / "indoor_1"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True)
    while int(child.stdout.readline()) < 50:
        pass
    os.kill(child.pid, signal.SIGKILL)
    added = max(50, *map(int, child.stdout.read().split()), 0) + 1
    child.wait()

    assert not is_complete(folder)
    data = read_dronet(folder)
    assert len(data) in (added, added + 1)  # + 1: added, but killed before it could say so

    with DronetWriter(folder, {"world": "indoor", "seed": 1}) as writer:
        assert writer.frames == len(data)
        writer.add(smooth(0), 0.5, 1.0, 0.0, 0.0, 0.0)
    assert is_complete(folder)
    resumed = read_dronet(folder)
    assert len(resumed) == len(data) + 1
    np.testing.assert_array_equal(resumed.frames[:-1], data.frames)


@pytest.mark.parametrize("rest", [b"", b"0.12", b"0.5,0,1,2,3,4"])
def test_cut_recording_leaves_out_the_frame_without_a_whole_row(tmp_path, rest):
    with pytest.raises(KeyboardInterrupt), DronetWriter(tmp_path, {}) as writer:
        for i in range(3):
            writer.add(smooth(i), 0.1, 1.0, 0.0, 0.0, 0.0)
        raise KeyboardInterrupt
    table = tmp_path / "sync_steering.txt"
    lines = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join(lines[:-1]) + rest)
    assert len(read_dronet(tmp_path)) == 2
    with DronetWriter(tmp_path, {}) as writer:
        assert writer.frames == 2
        writer.add(smooth(2), 0.3, 1.0, 0.0, 0.0, 0.0)
    assert read_dronet(tmp_path).angles.tolist() == np.float32([0.1, 0.1, 0.3]).tolist()


def test_writer_refuses_what_it_did_not_begin(tmp_path):
    record(tmp_path / "done")
    with pytest.raises(InputError, match="is a finished recording"):
        DronetWriter(tmp_path / "done", {"world": "indoor", "seed": 1})
    DronetWriter(tmp_path / "begun", {"seed": 1})
    with pytest.raises(InputError, match=r"was begun with \{'seed': 1\}, got \{'seed': 2\}"):
        DronetWriter(tmp_path / "begun", {"seed": 2})
    (tmp_path / "foreign/images").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no meta\.json"):
        DronetWriter(tmp_path / "foreign", {})


@pytest.mark.parametrize(
    ("grey", "angle"),
    [(np.zeros((200, 200), np.uint8), 0.0), (np.zeros((240, 320)), 0.0), (smooth(0), float("nan")), (smooth(0), 4.0)],
)
def test_writer_refuses_bad_frames_and_angles(tmp_path, grey, angle):
    with pytest.raises(InputError, match="frame 0: expected"):
        DronetWriter(tmp_path, {}).add(grey, angle, 1.0, 0.0, 0.0, 0.0)
    assert not list((tmp_path / "images").iterdir())


def rewrite(row: int, text: str):
    """Break one line of the table (row 1 is the header)."""

    def edit(folder: Path) -> None:
        table = folder / "sync_steering.txt"
        lines = table.read_text().splitlines()
        lines[row - 1] = text
        table.write_text("\n".join(lines) + "\n")

    return edit


BROKEN = {
    "no header": (rewrite(1, "0.1,0,1,2,3,4"), r"sync_steering.txt, row 1: expected a header line"),
    "angle elsewhere": (
        rewrite(1, "#torque,angle,speed,lat,long,alt"),
        r"row 1: expected the angle in the first column",
    ),
    "missing column": (rewrite(4, "0.1,0,1"), r"sync_steering.txt, row 4: expected 6 columns .*got 3"),
    "not a number": (rewrite(4, "left,0,1,2,3,4"), r"row 4, column 1: expected a steering angle in rad, got 'left'"),
    "NaN": (rewrite(4, "nan,0,1,2,3,4"), r"row 4, column 1: expected a steering angle in \[-pi, pi\] rad, got nan"),
    "degrees": (rewrite(4, "-27.5,0,1,2,3,4"), r"row 4.*got -27.5; it looks like degrees"),
    "binary table": (
        lambda f: (f / "sync_steering.txt").write_bytes(b"#angle\n\xff\xfe"),
        r"expected text, found a byte that is not UTF-8 at offset 7",
    ),
    "row missing": (
        lambda f: (f / "sync_steering.txt").write_text(HEADER + "0,0,0,0,0,0\n" * 11),
        r"expected one row per image, got 11 rows and 12 images",
    ),
    "image missing": (lambda f: (f / "images/5.jpg").unlink(), r"got 12 rows and 11 images"),
    "image without number": (
        lambda f: (f / "images/5.jpg").rename(f / "images/five.jpg"),
        r"five.jpg: expected a number",
    ),
    "same number twice": (lambda f: (f / "images/5.jpg").rename(f / "images/06.jpg"), r"same number as"),
    "truncated image": (
        lambda f: (f / "images/5.jpg").write_bytes((f / "images/5.jpg").read_bytes()[:900]),
        r"sync_steering.txt, row 7: .*5.jpg: expected a whole JPEG or PNG image, got 900 bytes",
    ),
    "JPEG without its end": (
        lambda f: (f / "images/5.jpg").write_bytes((f / "images/5.jpg").read_bytes()[:-2]),
        r"5.jpg: expected a whole JPEG",
    ),
    "empty image": (
        lambda f: (f / "images/5.jpg").write_bytes(b""),
        r"5.jpg: expected a whole JPEG or PNG .*got 0 bytes",
    ),
    "no table": (lambda f: (f / "sync_steering.txt").unlink(), r"expected sync_steering.txt beside images/"),
    "broken meta": (lambda f: (f / "meta.json").write_text("{"), r"meta.json: expected the JSON"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folder_names_file_row_and_expectation(tmp_path, name):
    record(tmp_path / "indoor_1")
    damage, message = BROKEN[name]
    damage(tmp_path / "indoor_1")
    with pytest.raises(DataError, match=message):
        read_dronet(tmp_path)


def test_empty_experiment_is_an_error(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "sync_steering.txt").write_text(HEADER)
    with pytest.raises(DataError, match="expected at least one frame"):
        read_dronet(tmp_path)


def test_row_ends_are_found_in_files_from_windows(tmp_path):
    record(tmp_path)
    table = tmp_path / "sync_steering.txt"
    table.write_bytes(table.read_bytes().replace(b"\n", b"\r\n"))
    assert len(read_dronet(tmp_path)) == 12
