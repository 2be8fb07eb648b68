"""Maps of road tiles as worlds: the road follows the tiles, and their photographs lie as the map says."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from edgeflock.runtime.errors import InputError
from fadnet_sim.duckietown import LANE, TILE, build, tiles_of
from fadnet_sim.rollout import rollout

LOOP = [["curve_left/W", "straight/W", "curve_left/N"], ["curve_left/S", "straight/E", "curve_left/E"]]


def photo(kind):
    """Grey; of a road the left side is red and the side from which it is driven onto is blue."""
    image = np.full((40, 40, 3), 90, np.uint8)
    if kind != "asphalt":
        image[:, :10] = (200, 0, 0)
        image[-10:] = (0, 0, 200)
    return image


@pytest.fixture(scope="module")
def ways():
    return [build(tiles_of({"tiles": LOOP}), photo, backwards, 3) for backwards in (False, True)]


def test_the_path_is_the_right_lane_of_a_road_that_closes(ways):
    there, back = ways
    straight, bend = 2 * TILE, 2 * np.pi  # in all, and one full turn
    assert there.centreline.length == pytest.approx(straight + bend * TILE / 2, rel=0.01)
    for world, side in ((there, 1), (back, -1)):  # counter-clockwise the right lane is the outer one
        assert world.path.length - world.centreline.length == pytest.approx(side * bend * LANE / 2, rel=0.05)
    assert np.abs(there.centreline.points).max(axis=0) == pytest.approx([TILE, TILE / 2], abs=0.05)


def test_the_expert_stays_on_it_and_who_does_not_steer_ends_there(ways):
    for world in ways:
        assert rollout(world, None, 4.0).collisions == 0
    straight_on = rollout(ways[0], lambda _: 0.0, 20.0, speed=2.0, fps=4, size=(32, 24), ends=True)
    assert straight_on.collisions == 1 and straight_on.distance_m < 8


def test_each_tile_lies_turned_as_its_map_says(ways):
    image = ways[0].textures["ground"]
    side = len(image) // 5  # three tiles and the ground around them
    top = round(0.5 * side)  # two rows in the middle of five

    def at(row, column, y, x):
        return tuple(image[top + round((row + y) * side), round((column + x) * side)])

    assert at(1, 2, 0.5, 0.9) == (0, 0, 200)  # driven west it is entered from the east
    assert at(1, 2, 0.9, 0.5) == (200, 0, 0)  # and its left is the south
    assert at(2, 2, 0.5, 0.1) == (0, 0, 200) and at(2, 2, 0.1, 0.5) == (200, 0, 0)
    assert at(0, 2, 0.5, 0.5) == (90, 90, 90)


@pytest.mark.parametrize(
    "tiles", [[["asphalt"]], [["straight/E", "straight/E"]], [["curve_left/W", "3way_left/N"], ["straight/S", "floor"]]]
)
def test_a_map_without_one_closed_road_is_refused(tiles):
    with pytest.raises(InputError, match="one closed road"):
        build(tiles_of({"tiles": tiles}), photo, False, 0)
