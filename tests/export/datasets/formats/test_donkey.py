"""Tubs of donkeycar, written here as its documented format has them, with synthetic images."""

import json

import cv2
import numpy as np
import pytest

from edgeflock.export.datasets import ReadOptions, open_dataset, write_dataset
from edgeflock.export.datasets.base import SteeringDataset
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.prepare.frame import grey_320x240

LOCK = ReadOptions(full_lock=0.4)
STEERED = (0.0, 0.5, -1.0, 1.0, 0.25, -0.25)


def save(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((120, 160, 3), (10 * number, 90, 200 - 20 * number), np.uint8)
    cv2.imwrite(str(path), image)


def record(number, angle, session="26-11-28_0", **more):
    return {
        "_index": number,
        "_session_id": session,
        "_timestamp_ms": 1700000000000 + 50 * number,
        "cam/image_array": f"{number}_cam_image_array_.jpg",
        "user/angle": angle,
        "user/mode": "user",
        "user/throttle": 0.3,
    } | more


def tub(folder, records=None, deleted=(), per_catalog=4):
    """A tub of donkeycar 4 and 5: catalogs of some records each, and the manifest."""
    if records is None:
        records = [record(n, angle, f"26-11-28_{n // 3}") for n, angle in enumerate(STEERED)]
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for start in range(0, max(len(records), 1), per_catalog):
        names.append(f"catalog_{len(names)}.catalog")
        part = records[start : start + per_catalog]
        (folder / names[-1]).write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in part))
    for one in records:
        save(folder / "images" / str(one.get("cam/image_array")), one["_index"])
    lines = (
        ["cam/image_array", "user/angle", "user/throttle", "user/mode"],
        ["image_array", "float", "float", "str"],
        {},
        {"created_at": 1700000000.0, "sessions": {"all_full_ids": ["26-11-28_0", "26-11-28_1"], "last_id": 1}},
        {"paths": names, "current_index": len(records), "max_len": per_catalog, "deleted_indexes": list(deleted)},
    )
    (folder / "manifest.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def old_tub(folder, deleted=None):
    folder.mkdir()
    (folder / "meta.json").write_text(
        '{"inputs": ["cam/image_array", "user/angle"], "types": ["image_array", "float"]}'
    )
    for number, angle in ((2, 0.5), (10, -1.0), (1, 0.0)):
        content = {
            "cam/image_array": f"{number}_cam_image_array_.jpg",
            "user/angle": angle,
            "milliseconds": 50 * number,
        }
        (folder / f"record_{number}.json").write_text(json.dumps(content))
        save(folder / content["cam/image_array"], number)
    if deleted:
        (folder / "exclude.json").write_text(json.dumps(deleted))
    return folder


def test_right_is_positive_in_the_tub_and_left_here_scaled_by_the_full_lock(tmp_path):
    data = open_dataset(tub(tmp_path / "tub"), options=LOCK)
    np.testing.assert_allclose(data.angles, -0.4 * np.array(STEERED), atol=1e-7)
    first = cv2.imread(str(tmp_path / "tub/images/0_cam_image_array_.jpg"))
    np.testing.assert_array_equal(data.frames[0], grey_320x240(first, "bgr8"))
    assert data.names[1] == "tub/1_cam_image_array_.jpg"
    mirrored = open_dataset(tmp_path / "tub", options=ReadOptions(full_lock=-0.4))
    np.testing.assert_array_equal(mirrored.angles, -data.angles)


def test_sittings_are_sequences_also_over_the_end_of_a_catalog(tmp_path):
    data = open_dataset(tub(tmp_path / "tub"), options=LOCK)
    assert data.group_names == ["tub/26-11-28_0", "tub/26-11-28_1"]
    assert data.groups.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(np.diff(data.stamps), 0.05, atol=1e-6)


def test_records_that_the_user_deleted_stay_deleted_even_if_they_are_broken(tmp_path):
    folder = tub(tmp_path / "tub", deleted=(1, 4))
    (folder / "images/4_cam_image_array_.jpg").unlink()
    catalog = folder / "catalog_1.catalog"
    lines = catalog.read_text().splitlines()
    catalog.write_text("\n".join(['{"__empty__": true}', *lines[1:]]) + "\n")
    np.testing.assert_allclose(
        open_dataset(folder, options=LOCK).angles, -0.4 * np.array(STEERED)[[0, 2, 3, 5]], atol=1e-7
    )


def test_a_file_of_a_tub_names_its_tub(tmp_path):
    tub(tmp_path / "tub")
    assert len(open_dataset(tmp_path / "tub/catalog_0.catalog", options=LOCK)) == len(STEERED)


def test_what_the_pilot_drove_says_nothing_about_the_person(tmp_path, capsys):
    records = [record(0, 0.5), record(1, 0.0, **{"user/mode": "local_angle"})]
    assert len(open_dataset(tub(tmp_path / "tub", records), options=LOCK)) == 1
    assert "1 of 2 records left out, the pilot drove" in " ".join(capsys.readouterr().err.split())


def test_old_tubs_go_by_number_and_leave_out_what_is_excluded(tmp_path):
    data = open_dataset(old_tub(tmp_path / "tub"), options=LOCK)
    np.testing.assert_allclose(data.angles, [0, -0.2, 0.4], atol=1e-7)
    assert data.group_names == ["tub"] and data.names[-1] == "tub/10_cam_image_array_.jpg"
    assert len(open_dataset(old_tub(tmp_path / "other", deleted=[10]), options=LOCK)) == 2


def test_tubs_of_a_folder_are_read_together(tmp_path):
    tub(tmp_path / "data/tub_2")
    old_tub(tmp_path / "data/tub_1")
    assert open_dataset(tmp_path / "data", options=LOCK).group_names == [
        "tub_1",
        "tub_2/26-11-28_0",
        "tub_2/26-11-28_1",
    ]


def test_the_last_record_is_cut_off_where_the_car_was_switched_off(tmp_path, capsys):
    folder = tub(tmp_path / "tub")
    catalog = folder / "catalog_1.catalog"
    catalog.write_text(catalog.read_text()[:-40])
    assert len(open_dataset(folder, options=LOCK)) == 5
    assert "catalog_1.catalog, row 2: left out" in " ".join(capsys.readouterr().err.split())


def test_a_clock_that_was_set_back_and_images_of_several_sizes_are_said(tmp_path, capsys):
    folder = tub(tmp_path / "tub", [record(0, 0.1), record(1, 0.2, _timestamp_ms=1600000000000), record(2, 0.3)])
    cv2.imwrite(str(folder / "images/2_cam_image_array_.jpg"), np.zeros((90, 160, 3), np.uint8))
    assert len(open_dataset(folder, options=LOCK)) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "got 1 that go back, the first at tub/1_cam_image_array_.jpg" in said
    assert "frames of one size, got 160x120 (2), 160x90 (1)" in said


def test_without_a_full_lock_the_message_says_how_to_find_it(tmp_path):
    with pytest.raises(InputError, match=r"row 1, user/angle: steering runs from -1 to 1 here.*--full-lock.*wheelbase"):
        open_dataset(tub(tmp_path / "tub"))
    with pytest.raises(ValueError, match=r"expected rad, up to 1.2: 25 degrees are 0.436"):
        ReadOptions(full_lock=25)


def catalog_line(old, new):
    def damage(folder):
        path = folder / "catalog_0.catalog"
        path.write_text(path.read_text().replace(old, new, 1))

    return damage


BROKEN = {
    "cut off in the middle": (
        catalog_line(', "user/throttle": 0.3}', ""),
        r"catalog_0.catalog, row 1: expected a record",
    ),
    "catalog is gone": (
        lambda f: (f / "catalog_1.catalog").unlink(),
        r"catalog_1.catalog: cannot be read: No such file",
    ),
    "image is gone": (
        lambda f: (f / "images/2_cam_image_array_.jpg").unlink(),
        r"catalog_0.catalog, row 3: cannot read image .*2_cam_image_array_.jpg: No such file",
    ),
    "truncated image": (
        lambda f: (f / "images/2_cam_image_array_.jpg").write_bytes(b"\xff\xd8\xff"),
        r"row 3: .*expected a whole JPEG or PNG",
    ),
    "NaN": (
        catalog_line('"user/angle": 0.5', '"user/angle": NaN'),
        r"row 2, user/angle: expected steering from -1 to 1, got nan",
    ),
    "in degrees": (catalog_line('"user/angle": 0.5', '"user/angle": 15'), r"row 2, user/angle: .*got 15"),
    "no number": (catalog_line('"user/angle": 0.5', '"user/angle": null'), r"row 2, user/angle: .*got 'None'"),
    "another key": (
        catalog_line("user/angle", "pilot/angle"),
        r"row 1: expected a record with .*got _index, .*pilot/angle",
    ),
    "unknown manifest": (
        lambda f: (f / "manifest.json").write_text('{"version": 3}\n'),
        r"manifest.json: expected a manifest as donkeycar 4 and 5 write it, five lines",
    ),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), r"manifest.json: cannot be read"),
    "not text": (lambda f: (f / "catalog_0.catalog").write_bytes(b"\xff\xfe"), r"not UTF-8 at offset 0"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_tub_names_file_row_and_expectation(tmp_path, name):
    damage, message = BROKEN[name]
    folder = tub(tmp_path / "tub")
    damage(folder)
    with pytest.raises(DataError, match=message):
        open_dataset(folder, options=LOCK)


def test_a_tub_without_records_and_an_old_one_with_an_empty_file_are_refused(tmp_path):
    with pytest.raises(DataError, match="expected at least one record"):
        open_dataset(tub(tmp_path / "empty", []), options=LOCK)
    (old_tub(tmp_path / "old") / "record_2.json").write_text("")
    with pytest.raises(DataError, match=r"record_2.json: expected a record as JSON, it is empty or cut off"):
        open_dataset(tmp_path / "old", options=LOCK)


def recording(angles):
    frames = np.random.default_rng(0).integers(0, 256, (len(angles), 24, 32), np.uint8).repeat(10, 1).repeat(10, 2)
    groups = np.arange(len(angles), dtype=np.int32) // 150
    stamps = np.arange(len(angles)) / 20
    names = [f"frame {n}" for n in range(len(angles))]
    return SteeringDataset(frames, np.float32(angles), groups, ["a", "b"][: groups[-1] + 1], names, stamps=stamps)


def test_what_is_written_is_read_back_over_several_catalogs(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeflock.export.datasets.formats.donkey.CATALOG_LENGTH", 100)
    data = recording(np.linspace(-0.4, 0.4, 210))
    write_dataset(data, tmp_path / "tub", "donkey", LOCK)
    back = open_dataset(tmp_path / "tub", options=LOCK)
    np.testing.assert_allclose(back.angles, data.angles, atol=1e-6)
    np.testing.assert_allclose(back.stamps, data.stamps, atol=1e-3)
    assert back.group_names == ["tub/a_0", "tub/b_1"] and back.groups.tolist() == data.groups.tolist()
    assert np.abs(back.frames.astype(int) - data.frames).mean() < 4
    line = json.loads((tmp_path / "tub/catalog_0.catalog").read_text().splitlines()[0])
    assert line["user/angle"] == pytest.approx(1)  # full lock to the right
    assert cv2.imread(str(tmp_path / "tub/images/0_cam_image_array_.jpg"), cv2.IMREAD_UNCHANGED).shape == (240, 320, 3)


def test_an_angle_beyond_the_full_lock_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(InputError, match=r"frame 0: expected an angle within the full lock of 0.4 rad, got -0.500"):
        write_dataset(recording([-0.5, 0.1]), tmp_path / "tub", "donkey", LOCK)
    assert not list(tmp_path.iterdir())
    (tmp_path / "kept").touch()
    with pytest.raises(InputError, match="expected a new folder, it holds files"):
        write_dataset(recording([0.1]), tmp_path, "donkey", LOCK)
    assert (tmp_path / "kept").exists()
