"""Photographs on surfaces: of what a folder holds, without seams, in a world whose way stays the same."""

import cv2
import numpy as np
import pytest

from edgeflock.runtime.errors import InputError
from fadnet_sim.photographs import SHARE, photographs
from fadnet_sim.world import make_world


@pytest.fixture
def folder(tmp_path):
    ramp = np.linspace(40, 120, 90).astype(np.uint8)
    picture = np.dstack([np.zeros((60, 90), np.uint8), np.tile(ramp, (60, 1)), np.full((60, 90), 200, np.uint8)])
    cv2.imwrite(str(tmp_path / "wall.png"), picture)  # BGR: red, without any blue
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


def test_most_surfaces_show_photographs_whose_tiles_meet_without_a_seam(folder):
    cover, tile = photographs(folder, 3), np.full((64, 64, 3), 90, np.uint8)
    covered = [cover(tile) for _ in range(60)]
    shown = [image for image in covered if image is not tile]
    assert abs(len(shown) / 60 - SHARE) < 0.2
    for image in shown:
        assert image.shape == tile.shape and image.dtype == np.uint8
        assert not image[..., 2].any() and (image[..., 0] >= image[..., 1]).all()
        assert (image[:, 0] == image[:, -1]).all() and (image[0] == image[-1]).all()
    assert len({image.tobytes() for image in shown}) == len(shown), "each is cut and lit anew"


def test_a_seed_has_the_same_way_under_other_surfaces(folder):
    plain, covered, again = (
        make_world("indoor", 3),
        make_world("indoor", 3, photographs(folder, 3)),
        make_world("indoor", 3, photographs(folder, 3)),
    )
    assert (plain.path.points == covered.path.points).all() and plain.lane == covered.lane
    assert any((plain.textures[name] != covered.textures[name]).any() for name in plain.textures)
    assert all((again.textures[name] == image).all() for name, image in covered.textures.items())


def test_a_folder_without_pictures_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="expected a folder with photographs"):
            photographs(folder, 1)
