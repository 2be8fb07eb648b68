"""The typed data set: what it checks, its digest, joining and choosing."""

import numpy as np
import pytest

from edgeflock.export.datasets import SteeringDataset, concatenate
from edgeflock.export.datasets.base import check_each_once
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.frame import crop_200


def dataset(count: int = 4, seed: int = 0, shape: tuple[int, int] = (240, 320), **changes) -> SteeringDataset:
    rng = np.random.default_rng(seed)
    parts = {
        "frames": rng.integers(0, 256, (count, *shape), np.uint8),
        "angles": rng.uniform(-0.5, 0.5, count).astype(np.float32),
        "groups": (np.arange(count) % 2).astype(np.int32),
        "group_names": ["a", "b"],
        "names": [f"{i}.jpg" for i in range(count)],
    }
    return SteeringDataset(**(parts | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": np.zeros((4, 100, 100), np.uint8)}, r"frames: expected uint8 .*got uint8 \(4, 100, 100\)"),
        ({"frames": np.zeros((4, 240, 320), np.float32)}, r"frames: expected uint8 .*got float32"),
        ({"angles": np.zeros(3, np.float32)}, r"angles: expected float32 \(4,\), got float32 \(3,\)"),
        ({"angles": np.zeros(4)}, r"angles: expected float32 \(4,\), got float64"),
        ({"angles": np.float32([0, 0, np.nan, 0])}, r"angles: expected rad in \[-pi, pi\], got nan for 2.jpg"),
        ({"angles": np.float32([0, 0, 0, -3.2])}, r"got -3.2.* for 3.jpg"),
        ({"groups": np.int32([0, 1, 2, 0])}, r"groups: expected indices into 2 group names, got 2"),
        ({"groups": np.int32([0, -1, 0, 0])}, r"groups: expected indices into 2"),
        ({"names": ["0.jpg"]}, r"names: expected 4, one per frame, got 1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataset(**changes)


def test_digest_follows_the_content_and_not_the_names():
    assert dataset().digest() == dataset().digest() == dataset(names=list("wxyz")).digest()
    angles = dataset().angles.copy()
    angles[1] = np.nextafter(angles[1], 1)
    frames = dataset().frames.copy()
    frames[0, 0, 0] ^= 1
    others = [
        dataset(angles=angles),
        dataset(frames=frames),
        dataset(groups=np.zeros(4, np.int32)),
        dataset(group_names=["a", "c"]),
    ]
    assert len({data.digest() for data in [dataset(), *others]}) == 5


def test_joined_sets_keep_their_groups_apart():
    joined = concatenate([dataset(4, 0), dataset(2, 1)])
    assert len(joined) == 6
    assert joined.groups.tolist() == [0, 1, 0, 1, 2, 3]
    assert joined.group_names == ["a", "b", "a", "b"]
    np.testing.assert_array_equal(joined.frames[4:], dataset(2, 1).frames)


def test_a_recording_that_is_named_twice_is_refused_by_its_other_name_too(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    check_each_once(tmp_path, tmp_path.parent)
    with pytest.raises(InputError, match="link is named twice among training and validation data"):
        check_each_once(tmp_path, tmp_path.parent, tmp_path / "link")


def test_frame_sizes_are_not_mixed():
    with pytest.raises(InputError, match=r"one frame size, got \[\(200, 200\), \(240, 320\)\]"):
        concatenate([dataset(), dataset(shape=(200, 200))])
    with pytest.raises(InputError, match="one frame size, got none"):
        concatenate([])


def test_take_chooses_by_mask_and_by_index():
    data = dataset()
    chosen = data.take(data.groups == 1)
    assert chosen.names == ["1.jpg", "3.jpg"]
    np.testing.assert_array_equal(chosen.angles, data.angles[1::2])
    assert data.take(np.array([3, 0])).names == ["3.jpg", "0.jpg"]


def test_both_frame_sizes_crop_to_what_the_net_sees():
    assert crop_200(dataset().frames[0]).shape == (200, 200)
    cropped = dataset(shape=(200, 200)).frames[0]
    np.testing.assert_array_equal(crop_200(cropped), cropped)
