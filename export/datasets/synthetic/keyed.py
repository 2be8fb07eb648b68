"""Drawn scenes in which the face says what around it counts: synthetic, a test of attention (docs/glamor.md).

Around a face lie markers, each a ring around a spot, every ring of another colour. The marker whose ring has the colour
of the face counts: the colour of its spot is the scene's label. The other spots mean nothing, and the spot on the face
is a weak hint. Whoever looks at the surroundings without asking the face cannot know which marker to believe.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from edgeflock.export.datasets.emotion import Example
from edgeflock.export.nets.glamor import CONTEXT, LABELS
from edgeflock.runtime.prepare.face import CONTEXT_CROP, CONTEXT_SIZE

CELL = 16
"""Pixels per cell of GLAMOR-Net's attention; every marker lies in one cell, the face in 2x2."""
CELLS = CONTEXT // CELL
COLOURS = np.array(
    [
        *((230, 60, 60), (70, 220, 70), (80, 110, 255), (235, 220, 60)),
        *((225, 80, 225), (70, 220, 220), (235, 235, 235)),
    ]
)
HINT = 0.15
"""Share of scenes whose face shows the label; the others' show any."""
FACE_ALONE = HINT + (1 - HINT) / len(LABELS)
"""Highest accuracy that the face alone allows."""


def keyed_scenes(n: int, seed: int, markers: int = 4) -> Iterator[tuple[Example, int]]:
    """Scenes, each with the cell of the marker that counts; a scene depends on the seed and its own number alone.

    Parameters
    ----------
    n : int
    seed : int
    markers : int
        How many lie around; at most 7, as many as there are colours.

    Yields
    ------
    example : Example
        The image is RGB uint8 (128, 171, 3), as large as the net's context before its crop, so that no pixel moves.
    cell : int
        Of the 7x7 cells of the attention, row by row.
    """
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        image = cv2.resize(rng.integers(20, 70, (6, 8, 3), np.uint8), CONTEXT_SIZE, interpolation=cv2.INTER_CUBIC)
        inside = image[CONTEXT_CROP]
        key, label = int(rng.integers(markers)), int(rng.integers(len(LABELS)))
        hint = label if rng.random() < HINT else int(rng.integers(len(LABELS)))
        top, left = (int(index) for index in rng.integers(0, CELLS - 1, 2))
        _draw(inside[top * CELL :, left * CELL :][: 2 * CELL, : 2 * CELL], key, hint, rng)
        covered = [row * CELLS + column for row in (top, top + 1) for column in (left, left + 1)]
        free = rng.permutation(np.setdiff1d(np.arange(CELLS**2), covered))
        for ring, cell in enumerate(free[:markers]):
            row, column = divmod(int(cell), CELLS)
            spot = label if ring == key else int(rng.integers(len(LABELS)))
            _draw(inside[row * CELL :, column * CELL :][:CELL, :CELL], ring, spot, rng)
        noisy = image + rng.integers(-10, 11, image.shape, np.int8).astype(np.int16)
        y, x = (int(part.start) for part in CONTEXT_CROP)
        box = (x + CELL * left, y + CELL * top, x + CELL * (left + 2), y + CELL * (top + 2))
        frame = np.clip(noisy, 0, 255).astype(np.uint8)
        yield Example(frame, box, LABELS[label], f"keyed scene {seed}/{i}"), int(free[key])


def _draw(place: np.ndarray, ring: int, spot: int, rng: np.random.Generator) -> None:
    """A spot in a ring, into a square of pixels."""
    side = len(place)
    centre = side / 2 - 0.5 + side * rng.uniform(-0.04, 0.04, 2)
    y, x = np.mgrid[:side, :side]
    distance = np.hypot(x - centre[0], y - centre[1])
    for colour, radius in ((ring, 0.44), (spot, 0.24)):
        place[distance < radius * side] = COLOURS[colour] * rng.uniform(0.8, 1)
