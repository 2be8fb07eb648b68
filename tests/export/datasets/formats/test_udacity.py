"""Udacity's interpolated.csv, with synthetic images."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeflock.export.datasets import open_dataset
from edgeflock.export.datasets.formats.udacity import read_udacity
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.prepare.frame import grey_320x240

HEADER = "index,timestamp,width,height,frame_id,filename,angle,torque,speed,lat,long,alt"
COLOUR = np.full((480, 640, 3), (10, 90, 200), np.uint8)


def sequence(folder: Path) -> Path:
    """Rows alternate between the three cameras, as in the real file."""
    lines = [HEADER]
    for i in range(6):
        camera = ("left", "center", "right")[i % 3]
        stamp = 1479424215877284253 + i
        name = f"{camera}/{stamp}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), COLOUR)
        lines.append(f"2016-11-17,{stamp},640,480,{camera}_camera,{name},{0.1 * i:.6f},0.2,20.5,37.4,-122.1,50")
    (folder / "interpolated.csv").write_text("\n".join(lines) + "\n")
    return folder / "interpolated.csv"


def test_only_the_centre_camera_is_read(tmp_path):
    data = read_udacity(sequence(tmp_path / "HMB_1"))
    np.testing.assert_array_equal(data.angles, np.float32([0.1, 0.4]))
    np.testing.assert_array_equal(data.frames[0], grey_320x240(COLOUR, "bgr8"))
    assert data.names[0] == "HMB_1/center/1479424215877284254.png"


def test_columns_are_found_by_name(tmp_path):
    table = sequence(tmp_path / "HMB_1")
    rows = [line.split(",") for line in table.read_text().splitlines()]
    table.write_text("\n".join(",".join(row[::-1]) for row in rows))
    np.testing.assert_array_equal(read_udacity(table).angles, np.float32([0.1, 0.4]))


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace(",", ", "),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("center/", "center\\"),
    ],
    ids=["spaces after commas", "byte order mark of Excel", "line ends of Windows", "paths of Windows"],
)
def test_tables_that_went_through_other_programs_are_read(tmp_path, edit):
    table = sequence(tmp_path / "HMB_1")
    table.write_bytes(edit(table.read_text()).encode())
    np.testing.assert_array_equal(read_udacity(table).angles, np.float32([0.1, 0.4]))


def test_timestamps_that_go_back_are_said(tmp_path, capsys):
    table = sequence(tmp_path / "HMB_1")
    open_dataset(table)
    assert "go back" not in capsys.readouterr().err
    later = "1479424215877284257"
    table.write_text(table.read_text().replace(f",{later},", ",1479424214000000000,"))
    assert len(open_dataset(table)) == 2
    assert "got 1 that go back, the first at HMB_1/center/1479424215877284257.png" in " ".join(
        capsys.readouterr().err.split()
    )


def test_sequences_of_a_folder_become_groups(tmp_path):
    sequence(tmp_path / "HMB_2")
    sequence(tmp_path / "HMB_1")
    data = read_udacity(tmp_path)
    assert data.group_names == ["HMB_1", "HMB_2"]
    assert data.groups.tolist() == [0, 0, 1, 1]


def replace(old: str, new: str):
    return lambda table: table.write_text(table.read_text().replace(old, new))


BROKEN = {
    "no angle column": (replace(",angle,", ",steer,"), r"interpolated.csv, row 1: expected the columns .*\['angle'\]"),
    "empty file": (lambda table: table.write_text(""), r"row 1: expected the columns"),
    "not a number": (replace("0.400000", "n/a"), r"row 6, column 'angle': expected a steering angle in rad, got 'n/a'"),
    "NaN": (replace("0.400000", "nan"), r"row 6, column 'angle': .*got nan"),
    "short row": (replace(",20.5,37.4,-122.1,50\n", "\n"), r"row 2: expected 12 columns as in the header"),
    "no centre camera": (
        replace("center_camera", "middle"),
        r"expected rows with frame_id center_camera, got 'left_camera'",
    ),
    "missing image": (
        lambda table: next(table.parent.glob("center/*7.png")).unlink(),
        r"interpolated.csv, row 6: cannot read image .*257.png: No such file",
    ),
    "truncated image": (
        lambda table: next(table.parent.glob("center/*7.png")).write_bytes(
            cv2.imencode(".png", COLOUR)[1].tobytes()[:99]
        ),
        r"interpolated.csv, row 6: .*257.png: expected a whole JPEG or PNG image, got 99 bytes",
    ),
    "binary": (lambda table: table.write_bytes(b"\xff\xfe\x00"), r"expected comma-separated text"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_csv_names_row_column_and_expectation(tmp_path, name):
    damage, message = BROKEN[name]
    table = sequence(tmp_path / "HMB_1")
    damage(table)
    with pytest.raises(DataError, match=message):
        read_udacity(tmp_path)


def test_folder_without_csv(tmp_path):
    with pytest.raises(DataError, match=r"expected interpolated.csv"):
        read_udacity(tmp_path)
