"""Worlds that others drew: Duckietown's maps of photographed road tiles, laid on the ground as they are.

A map is a grid of tiles such as `curve_left/W`: whoever drives west onto it turns left. A tile's photograph shows it
driven north. Of a map with one closed road, without crossings, comes one world for each way around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from edgeflock.runtime.errors import InputError
from fadnet_sim.scene import Scene, World, assemble

from .path import ReferencePath

TILE = 3.0  # m: its lanes are then as wide as those of our roads
LANE, HALF_ROAD = 0.4 * TILE, 0.41 * TILE  # m: a lane, and from the middle to the white lines
GROUND = "asphalt"  # the kind of tile that the photographed roads lie on
_SIDES = {"N": (0, 1), "W": (-1, 0), "S": (0, -1), "E": (1, 0)}  # counter-clockwise
_SIZE = 4096  # px of the ground

Photo = Callable[[str], np.ndarray]
"""By the kind of a tile its photograph, (h, w, 3) uint8 RGB."""


def build(tiles: list[list[str]], photo: Photo, backwards: bool, seed: int) -> World:
    """Make a map a world to drive in.

    Parameters
    ----------
    tiles : list of list of str
        Rows of equal length from north to south, of kind and direction.
    photo : callable
        Photographs of the tiles.
    backwards : bool
        The other way around.
    seed : int
        Of light and camera, which are as on our own roads.

    Raises
    ------
    InputError
        The road of the map is not closed.
    """
    rng = np.random.default_rng([seed, 7])
    line = _road(tiles)
    centre = ReferencePath(line[::-1] if backwards else line)
    reach = TILE * max(len(tiles), len(tiles[0])) / 2
    scene = Scene()
    scene.texture("ground", _lay(tiles, photo))
    scene.ground(reach, "ground")
    scene.assets.append(
        '<texture type="skybox" builtin="gradient" rgb1=".7 .8 .9" rgb2=".9 .9 .9" width="64" height="64"/>'
    )
    scene.outline += [centre.points + side * HALF_ROAD * centre.normal for side in (1, -1)]
    path = ReferencePath(centre.points - centre.normal * (LANE / 2))
    return assemble(
        "outdoor", seed, rng, scene, path, centre, HALF_ROAD, lane=LANE,
        ambient=rng.uniform(0.5, 0.8), head=0.1, fog=np.full(3, 0.9),
    )  # fmt: skip


def _sides(tile: str) -> tuple[str, str] | None:
    """Over which sides the road leaves a tile; None where there is none."""
    kind, _, towards = tile.strip().partition("/")
    turn = {"straight": 0, "curve_left": 1, "curve_right": -1}.get(kind)
    if turn is None or towards not in _SIDES:
        return None
    order = list(_SIDES)
    at = order.index(towards)
    return order[(at + 2) % 4], order[(at + turn) % 4]


def _road(tiles: list[list[str]]) -> np.ndarray:
    """Middle of the road (n, 2) m, the origin in the middle of the map, from tile to tile until it closes."""
    roads = {(row, column): s for row, line in enumerate(tiles) for column, t in enumerate(line) if (s := _sides(t))}
    origin = np.array([len(tiles[0]), -len(tiles)]) / 2
    start = at = min(roads, default=(0, 0))
    came = roads[start][0] if roads else ""
    points: list[np.ndarray] = []
    while not points or at != start:
        sides = roads.get(at)
        if sides is None or came not in sides or len(points) > 20 * len(roads):
            raise InputError(f"expected a map with one closed road, got one that ends at row {at[0]}, column {at[1]}.")
        leaves = sides[1] if came == sides[0] else sides[0]
        middle = np.array([at[1] + 0.5, -at[0] - 0.5]) - origin
        points += _through(middle, np.array(_SIDES[came]) / 2, np.array(_SIDES[leaves]) / 2)
        east, north = _SIDES[leaves]
        at, came = (at[0] - north, at[1] + east), {"N": "S", "S": "N", "E": "W", "W": "E"}[leaves]
    return np.array(points) * TILE


def _through(middle: np.ndarray, came: np.ndarray, leaves: np.ndarray) -> list[np.ndarray]:
    """Points through one tile, in tiles: straight on, or a quarter of a circle around the corner between both sides."""
    share = np.arange(16) / 16
    if not (came + leaves).any():
        return list(middle + came + share[:, None] * (leaves - came))
    angle = share[:, None] * np.pi / 2
    return list(middle + came + leaves - np.cos(angle) * leaves - np.sin(angle) * came)


def _lay(tiles: list[list[str]], photo: Photo) -> np.ndarray:
    """The ground (4096, 4096, 3): every tile turned as its map says."""
    count = max(len(tiles), len(tiles[0]))
    side = -(-_SIZE // count)
    # The map's middle is the ground's: a map that is not square has half of the missing tiles on either side.
    down, right = (count - len(tiles)) / 2, (count - len(tiles[0])) / 2
    image = cv2.resize(photo(GROUND), (_SIZE, _SIZE))
    for row, line in enumerate(tiles):
        for column, tile in enumerate(line):
            kind, _, towards = tile.strip().partition("/")
            turned = np.rot90(photo(kind), list(_SIDES).index(towards) if towards in _SIDES else 0)
            x, y = round((column + right) * _SIZE / count), round((row + down) * _SIZE / count)
            h, w = min(side, _SIZE - y), min(side, _SIZE - x)
            image[y : y + h, x : x + w] = cv2.resize(turned, (side, side), interpolation=cv2.INTER_AREA)[:h, :w]
    return image


def tiles_of(content: Any) -> list[list[str]]:
    """The grid of a map's YAML, with ground all around: a road may lie at its edge."""
    rows = [[GROUND, *map(str, row), GROUND] for row in content["tiles"]]
    beyond = [GROUND] * len(rows[0])
    return [beyond, *rows, beyond]
