"""Several rendered people in one place and mood, moving from frame to frame: synthetic.

For what one face per frame does not show: ids that stay, batches, and the time that a frame of several faces takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from edgeflock.export.datasets.synthetic.faces import EMOTIONS, expression
from edgeflock.export.datasets.synthetic.head import Head
from edgeflock.export.datasets.synthetic.scenery import draw_body, draw_scenery
from edgeflock.runtime.errors import InputError

PACE = 0.5
"""Radians of everybody's sway per frame."""


def each_crowd_frame(
    frames: int, people: int, seed: int, size: tuple[int, int] = (480, 640)
) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    """Frames of people who stand side by side, sway, and look roughly at the camera.

    Parameters
    ----------
    frames, people : int
    seed : int
        Of who they are and what they show, and of the sensor's noise.
    size : tuple of int
        Height and width in pixels.

    Yields
    ------
    image : ndarray
        uint8 (height, width, 3), RGB.
    boxes : ndarray
        float64 (people, 4): x1, y1, x2, y2 of each head in pixels, x2 and y2 excluded, from left to right.
    emotion : str
        What all of them show in surroundings that fit, the same in all frames.
    """
    height, width = size
    if not 1 <= people <= width // 32:
        raise InputError(f"a frame {width} pixels wide shows 1 to {width // 32} people, got {people}.")
    rng = np.random.default_rng([seed, 3])
    room = np.empty((height, width, 3), np.uint8)
    emotion = EMOTIONS[rng.integers(len(EMOTIONS))]
    draw_scenery(room, rng, emotion)
    scale = min(0.2 * height, 0.36 * width / people)
    heads = [Head.random(rng, expression(emotion, rng)) for _ in range(people)]
    heads = [replace(head, yaw=head.yaw / 2, pitch=head.pitch / 2, roll=head.roll / 2) for head in heads]
    x = (np.arange(people) + 0.5) * width / people
    y = height * rng.uniform(0.36, 0.46, people)
    phase = rng.uniform(0, 2 * np.pi, people)
    for n in range(frames):
        image = room.copy()
        sway = PACE * n + phase
        centres = np.stack([x + 0.1 * scale * np.sin(sway), y + 0.05 * scale * np.cos(sway)], 1)
        for i, head in enumerate(heads):
            draw_body(image, np.random.default_rng([seed, i]), tuple(centres[i]), scale, head.skin, emotion)
        for head, centre in zip(heads, centres, strict=True):  # nobody's arm hides a face
            head.draw(image, tuple(centre), scale)
        boxes = np.tile(centres, 2) + np.array([-0.86, -1, 0.86, 1.05]) * scale
        noise = rng.integers(-4, 5, (height, width, 1), np.int16)
        yield np.clip(image + noise, 0, 255).astype(np.uint8), boxes, emotion
