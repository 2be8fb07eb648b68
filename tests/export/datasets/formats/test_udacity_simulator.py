"""The simulator's driving_log.csv, with synthetic images."""

import math

import cv2
import numpy as np
import pytest

from edgeflock.export.datasets import ReadOptions, open_dataset
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.prepare.frame import grey_320x240

HEADER = "center,left,right,steering,throttle,brake,speed\n"
COLOUR = np.full((160, 320, 3), (10, 90, 200), np.uint8)
STEERING = (0.0, 0.5, -1.0, 1.0)
PREFIXES = {
    "relative": "IMG/",
    "of another machine": "/home/somebody/drive 3/IMG/",
    "of Windows": "C:\\Users\\somebody\\Desktop\\IMG\\",
    "of a share": "",
}


def drive(folder, header="", prefix="IMG/"):
    (folder / "IMG").mkdir(parents=True)
    lines = []
    for number, steering in enumerate(STEERING):
        names = [f"{camera}_2016_12_01_13_30_48_{100 * number + 287}.jpg" for camera in ("center", "left", "right")]
        for name in names:
            cv2.imwrite(str(folder / "IMG" / name), COLOUR)
        lines.append(", ".join([*(prefix + name for name in names), f"{steering}, 0.98, 0, 22.1"]))
    (folder / "driving_log.csv").write_text(header + "\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("header", ["", HEADER], ids=["no header", "header"])
def test_the_centre_camera_is_read_wherever_it_was_recorded(tmp_path, prefix, header):
    data = open_dataset(drive(tmp_path / "track1", header, PREFIXES[prefix]))
    np.testing.assert_allclose(data.angles, -math.radians(25) * np.array(STEERING), atol=1e-6)
    np.testing.assert_allclose(data.frames[0], grey_320x240(COLOUR, "bgr8"), atol=2)  # JPEG
    assert data.group_names == ["track1"] and data.synthetic
    np.testing.assert_allclose(np.diff(data.stamps), 0.1, atol=1e-5)


def test_another_car_has_another_full_lock(tmp_path):
    data = open_dataset(drive(tmp_path / "track1"), options=ReadOptions(full_lock=0.6))
    np.testing.assert_allclose(data.angles, -0.6 * np.array(STEERING), atol=1e-6)


def test_drives_of_a_folder_become_groups_and_a_file_is_one(tmp_path):
    drive(tmp_path / "track2")
    drive(tmp_path / "track1", HEADER)
    assert open_dataset(tmp_path).group_names == ["track1", "track2"]
    assert len(open_dataset(tmp_path / "track1/driving_log.csv")) == 4


def test_columns_of_a_header_are_found_by_name(tmp_path):
    folder = drive(tmp_path / "track1", HEADER)
    table = folder / "driving_log.csv"
    lines = [line.replace(", ", ",").split(",") for line in table.read_text().splitlines()]
    table.write_text("\n".join(",".join(reversed(line)) for line in lines))
    np.testing.assert_allclose(open_dataset(folder).angles[1], -math.radians(12.5), atol=1e-6)


def replace(old, new):
    return lambda folder: (folder / "driving_log.csv").write_text(
        (folder / "driving_log.csv").read_text().replace(old, new)
    )


BROKEN = {
    "NaN": (replace(" 0.5,", " nan,"), r"driving_log.csv, row 2, steering: expected steering from -1 to 1, got nan"),
    "degrees": (replace(" 0.5,", " 12.5,"), r"row 2, steering: expected steering from -1 to 1, got 12.5"),
    "no number": (replace(" 0.5,", " ?,"), r"row 2, steering: expected steering from -1 to 1, got '\?'"),
    "cut off": (replace(", 1.0, 0.98, 0, 22.1\n", ""), r"row 4: expected center,left,right,steering,throttle,brake"),
    "empty": (lambda folder: (folder / "driving_log.csv").write_text(HEADER), r"expected at least one row, found none"),
    "binary": (lambda folder: (folder / "driving_log.csv").write_bytes(b"\xff\xfe"), r"expected comma-separated text"),
    "image is gone": (
        lambda folder: next(folder.glob("IMG/center*_387.jpg")).unlink(),
        r"driving_log.csv, row 2: cannot read image .*IMG/center_2016_12_01_13_30_48_387.jpg: No such file",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_log_names_row_and_expectation(tmp_path, name):
    damage, message = BROKEN[name]
    damage(drive(tmp_path / "track1"))
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path / "track1")


def test_a_clock_that_was_set_back_is_said(tmp_path, capsys):
    folder = drive(tmp_path / "track1")
    replace("center_2016_12_01_13_30_48_487", "center_2015_12_01_13_30_48_487")(folder)
    (folder / "IMG/center_2016_12_01_13_30_48_487.jpg").rename(folder / "IMG/center_2015_12_01_13_30_48_487.jpg")
    open_dataset(folder)
    assert "1 that go back, the first at track1/center_2015_12_01" in " ".join(capsys.readouterr().err.split())
