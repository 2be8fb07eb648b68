"""Painting the texture of a ground plane: lines along a course."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_SIZE = 4096  # px of the texture's sides


class GroundPainting:
    """Texture of a plane that reaches `reach` m in each direction from the origin.

    Image row 0 is the plane's +y edge, column 0 its -x edge.

    Parameters
    ----------
    tile : ndarray (n, n, 3) uint8
        What covers the ground, again and again.
    reach : float
        m.
    tile_m : float, optional
        Side of a tile, m; by default its pixels are the texture's.

    Attributes
    ----------
    image : ndarray (4096, 4096, 3) uint8
    scale : float
        px per metre.
    """

    def __init__(self, tile: np.ndarray, reach: float, tile_m: float | None = None) -> None:
        self.reach, self.scale = reach, _SIZE / (2 * reach)
        if tile_m:
            side = round(tile_m * self.scale)
            tile = cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA)
        self.image = _cover(tile)

    def band(self, line: np.ndarray, width: float, stretches: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """Where a band of `width` m runs along a closed line (n, 2) m: mask (4096, 4096) uint8, 0 to 255.

        With `stretches`, indices of points, only along these.
        """
        pixels = np.stack([line[:, 0] + self.reach, self.reach - line[:, 1]], axis=1) * self.scale
        fixed = np.round(pixels * 16).astype(np.int32)
        drawn = np.zeros((_SIZE, _SIZE), np.uint8)
        parts = [fixed] if stretches is None else [fixed[i] for i in stretches]
        cv2.polylines(drawn, parts, stretches is None, 255, max(1, round(width * self.scale)), cv2.LINE_AA, 4)
        return drawn

    def lay(self, tile: np.ndarray, where: np.ndarray) -> None:
        """Cover the ground with another tile where a mask says so."""
        rows, columns = np.nonzero(where)
        alpha = where[rows, columns, None].astype(np.uint16)
        over = tile[rows % len(tile), columns % len(tile)]
        self.image[rows, columns] = (self.image[rows, columns] * (255 - alpha) + over * alpha) // 255


def _cover(tile: np.ndarray) -> np.ndarray:
    repeat = -(-_SIZE // len(tile))
    return np.ascontiguousarray(np.tile(tile, (repeat, repeat, 1))[:_SIZE, :_SIZE])
