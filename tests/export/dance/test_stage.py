"""A dance as a moving picture."""

import numpy as np
import pytest

pytest.importorskip("mujoco")
Image = pytest.importorskip("PIL.Image")

from edgeflock.export.dance.stage import show  # noqa: E402
from edgeflock.runtime.errors import InputError  # noqa: E402
from edgeflock.runtime.motion.files import write_motion  # noqa: E402
from edgeflock.runtime.motion.group import Group  # noqa: E402


def test_a_dance_moves_in_its_picture_and_every_dancer_has_a_colour(tmp_path):
    root = np.zeros((2, 6, 3))
    root[..., 1] = 0.97
    root[:, :, 0] = np.array([[-1.0], [1.0]]) + np.linspace(0, 1, 6)
    write_motion(tmp_path / "m.npz", Group(root, np.tile([1.0, 0, 0, 0], (2, 6, 24, 1))))
    show(tmp_path / "m.npz", tmp_path / "d.gif", 0.2, 15, 160, "y")
    with Image.open(tmp_path / "d.gif") as picture:
        assert picture.n_frames == 3 and picture.size == (160, 90)
        frames = []
        for number in range(3):
            picture.seek(number)
            frames.append(np.asarray(picture.convert("RGB"), np.int16))
    assert np.abs(frames[0] - frames[2]).max() > 60
    red, blue = frames[0][..., 0], frames[0][..., 2]
    assert ((blue - red) > 80).any() and ((red - blue) > 80).any()  # the blue one and the orange one


def test_only_a_gif_is_written(tmp_path):
    with pytest.raises(InputError, match=r"\.gif"):
        show(tmp_path / "m.npz", tmp_path / "d.mp4", 1, 15, 160, "y")
