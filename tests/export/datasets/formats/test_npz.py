"""The authors' two npz layouts, with synthetic content."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeflock.export.datasets.formats.npz import read_npz
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.prepare.frame import grey_320x240

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (3, 1, 200, 200)).astype(np.float32)
ANGLES = np.array([0.1, -0.2, 0.3])


def driving(path: Path, **changes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **({"imgs": IMAGES, "ground_truths": ANGLES} | changes))
    return path


def complex_silo(data: Path, **changes) -> Path:
    """data/driving_gazebo/gaia/train/0.npz with its images below data/."""
    names = [f"driving_gazebo/images/run1/{i}.png" for i in range(3)]
    for i, name in enumerate(names):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(data / name), np.full((120, 160, 3), (40 * i, 200, 10), np.uint8))
    path = data / "driving_gazebo/gaia/train/0.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, **({"file_names": np.array(names), "ground_truths": ANGLES} | changes))
    return path


def test_driving_layout_holds_cropped_frames(tmp_path):
    data = read_npz(driving(tmp_path / "0.npz"))
    np.testing.assert_array_equal(data.frames, IMAGES[:, 0].astype(np.uint8))
    np.testing.assert_array_equal(data.angles, ANGLES.astype(np.float32))
    assert data.names == ["0.npz[0]", "0.npz[1]", "0.npz[2]"]


def test_silos_become_groups_in_the_order_of_their_numbers(tmp_path):
    for silo in (0, 2, 10):
        driving(tmp_path / f"{silo}.npz", ground_truths=np.full((3, 1), silo / 100))
    driving(tmp_path / "train.npz")  # all silos once more
    data = read_npz(tmp_path)
    assert data.group_names == ["0", "2", "10"]
    np.testing.assert_array_equal(data.angles, np.float32([0, 0.02, 0.1])[data.groups])
    assert len(data) == 9


def test_global_file_is_read_where_there_are_no_silos(tmp_path):
    driving(tmp_path / "test.npz")
    assert read_npz(tmp_path).group_names == ["test"]


def test_complex_layout_reads_images_below_the_data_folder(tmp_path):
    data = read_npz(complex_silo(tmp_path / "data"))
    assert data.names[1] == "driving_gazebo/images/run1/1.png"
    np.testing.assert_array_equal(data.frames[1], grey_320x240(np.full((120, 160, 3), (40, 200, 10), np.uint8), "bgr8"))


BROKEN = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:1000]), r"0.npz: expected a whole npz file .*failed"),
    "empty file": (lambda p: p.write_bytes(b""), r"expected a whole npz file"),
    "flipped byte": (
        lambda p: p.write_bytes(p.read_bytes().replace(IMAGES[1].tobytes()[:64], bytes(64))),
        r"expected a whole npz file .*Bad CRC-32",
    ),
    "one plain array": (lambda p: np.save(p.open("wb"), ANGLES), r"expected the arrays 'imgs'.* got none"),
    "missing array": (lambda p: np.savez(p, imgs=IMAGES), r"expected the arrays .* got \['imgs'\]"),
    "other arrays": (lambda p: np.savez(p, x=IMAGES, y=ANGLES), r"expected the arrays .* got \['x', 'y'\]"),
    "pickled names": (
        lambda p: np.savez(p, file_names=np.array(["a.png"] * 3, object), ground_truths=ANGLES),
        r"need pickle and could run code. .*np.array\(list\(file_names\), dtype=str\)",
    ),
    "fewer angles": (lambda p: driving(p, ground_truths=ANGLES[:2]), r"one angle per frame, got 3 'imgs', 2"),
    "no frames": (lambda p: driving(p, imgs=IMAGES[:0], ground_truths=ANGLES[:0]), r"expected at least one frame"),
    "NaN angle": (lambda p: driving(p, ground_truths=[0, np.nan, 0]), r"'ground_truths', row 1: expected .* got nan"),
    "degrees": (lambda p: driving(p, ground_truths=[0, 0, 12.5]), r"row 2: .*got 12.5; it looks like degrees"),
    "text angles": (lambda p: driving(p, ground_truths=["a", "b", "c"]), r"expected numbers \(N,\) in rad, got <U1"),
    "channels last": (
        lambda p: driving(p, imgs=IMAGES.reshape(3, 200, 200, 1)),
        r"'imgs': expected float32 \(N, 1, 200, 200\), got float32 \(3, 200, 200, 1\)",
    ),
    "scaled to 0..1": (lambda p: driving(p, imgs=IMAGES / 255), r"all are 0..1; multiply them by 255"),
    "scaled to -1..1": (lambda p: driving(p, imgs=IMAGES / 127.5 - 1), r"'imgs', row 0: expected grey values 0..255"),
    "byte names": (
        lambda p: np.savez(p, file_names=np.array([b"a.png"] * 3), ground_truths=ANGLES),
        r"'file_names': expected str \(N,\), got \|S5",
    ),
    "images elsewhere": (
        lambda p: np.savez(p, file_names=np.array(["gone/a.png"] * 3), ground_truths=ANGLES),
        r"'file_names', row 0: 'gone/a.png' is below none of the folders above",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_names_array_row_and_expectation(tmp_path, name):
    damage, message = BROKEN[name]
    damage(driving(tmp_path / "0.npz"))
    with pytest.raises(DataError, match=message):
        read_npz(tmp_path / "0.npz")


def test_missing_image_of_a_silo_is_named(tmp_path):
    path = complex_silo(tmp_path / "data")
    (tmp_path / "data/driving_gazebo/images/run1/2.png").unlink()
    with pytest.raises(DataError, match=r"0.npz, 'file_names', row 2: cannot read image .*2.png: No such file"):
        read_npz(path)


def test_folder_without_npz(tmp_path):
    with pytest.raises(DataError, match=r"expected <silo>.npz files, found none"):
        read_npz(tmp_path)
