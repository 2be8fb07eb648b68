"""Procedural textures, (h, w, 3) uint8 RGB, for domain randomisation; nothing is downloaded."""

from __future__ import annotations

import cv2
import numpy as np


def png(image: np.ndarray) -> bytes:
    """RGB image -> PNG bytes, as MuJoCo's asset dictionary takes them."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def colour(rng: np.random.Generator, low: float, high: float, saturation: float) -> np.ndarray:
    """A random colour (3,) in 0..1: brightness between `low` and `high`, each channel off by up to `saturation`."""
    return np.clip(rng.uniform(low, high) * (1 + rng.uniform(-saturation, saturation, 3)), 0.02, 1.0)


def noise(rng: np.random.Generator, size: int, coarse: int, octaves: int = 4) -> np.ndarray:
    """Tileable value noise (size, size) with zero mean and unit deviation; `coarse` blobs across the tile."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        n = coarse * 2**octave
        if n >= size:
            break
        grid = np.pad(rng.standard_normal((n, n)).astype(np.float32), 1, mode="wrap")
        step = size // n
        big = cv2.resize(grid, (step * (n + 2), step * (n + 2)), interpolation=cv2.INTER_CUBIC)
        tile = cv2.resize(big[step : step * (n + 1), step : step * (n + 1)], (size, size))
        total += tile.astype(np.float32) / np.float32(1.7**octave)
    return (total - total.mean()) / (total.std() + 1e-6)


def shade(base: np.ndarray, pattern: np.ndarray, contrast: float) -> np.ndarray:
    """Modulate a colour (3,) or an image (h, w, 3), both 0..1, by a pattern (h, w) and return uint8."""
    return np.clip(base * (1 + contrast * pattern[..., None]) * 255, 0, 255).astype(np.uint8)


def wall(rng: np.random.Generator, size: int = 512) -> np.ndarray:
    """Plaster, brick, panels, stripes or a two-tone wall; one tile is 2.4 m wide and 2.4 m high."""
    base = colour(rng, 0.4, 0.95, 0.25)
    image = np.ones((size, size, 3)) * base
    kind = rng.choice(["plaster", "brick", "panel", "stripe", "two-tone"], p=[0.35, 0.15, 0.2, 0.1, 0.2])
    if kind == "brick":
        rows, columns = int(rng.integers(14, 28)), int(rng.integers(6, 12))
        tones = 1 + 0.08 * rng.standard_normal((rows, columns))
        y, x = np.mgrid[:size, :size] / size
        row = (y * rows).astype(int) % rows
        column = ((x * columns + 0.5 * (row % 2)).astype(int)) % columns
        image *= tones[row, column][..., None]
        joint = ((y * rows) % 1 < 0.1) | ((x * columns + 0.5 * (row % 2)) % 1 < 0.05)
        image[joint] = base * rng.uniform(0.75, 1.1)
    elif kind == "panel":
        count = int(rng.integers(2, 5))
        for i in range(count):
            image[:, max(0, i * size // count - 2) : i * size // count + 2] *= rng.uniform(0.4, 0.8)
    elif kind == "stripe":
        count = int(rng.integers(4, 12))
        image *= (1 + rng.uniform(0.05, 0.25) * np.sign(np.sin(np.arange(size) / size * 2 * np.pi * count)))[
            None, :, None
        ]
    elif kind == "two-tone":
        image[int(size * rng.uniform(0.45, 0.7)) :] = colour(rng, 0.25, 0.8, 0.35)
    return shade(image, noise(rng, size, int(rng.integers(2, 8))), rng.uniform(0.01, 0.08))


def floor(rng: np.random.Generator, size: int = 512, kind: str | None = None) -> np.ndarray:
    """Of the kind tiles, carpet, wood or concrete, or of any; one tile of texture is about 2 m."""
    base = colour(rng, 0.2, 0.75, 0.2)
    image = np.ones((size, size, 3)) * base
    kind = kind or str(rng.choice(["tiles", "carpet", "wood", "concrete"]))
    y, x = np.mgrid[:size, :size] / size
    if kind == "tiles":
        count = int(rng.integers(2, 7))
        tones = 1 + rng.uniform(0, 0.05) * rng.standard_normal((count, count))
        image *= tones[(y * count).astype(int), (x * count).astype(int)][..., None]
        image[((x * count) % 1 < 0.03) | ((y * count) % 1 < 0.03)] *= rng.uniform(0.7, 0.95)
    elif kind == "wood":
        count = int(rng.integers(6, 14))
        plank = (y * count).astype(int)
        image *= (1 + 0.05 * rng.standard_normal(count))[plank][..., None]
        image[((y * count) % 1 < 0.05) | ((x + 0.37 * plank) % 1 < 0.008)] *= 0.85
    grain = noise(rng, size, 64 if kind == "carpet" else 4)
    return shade(image, grain, rng.uniform(0.02, 0.12))


def ground(rng: np.random.Generator, size: int) -> np.ndarray:
    """Grass, gravel, sand or snow around the road, (size, size, 3) float 0..1."""
    base = np.array(
        {"grass": (0.25, 0.42, 0.16), "gravel": (0.5, 0.48, 0.45), "sand": (0.68, 0.58, 0.4), "dirt": (0.4, 0.3, 0.2)}[
            str(rng.choice(["grass", "gravel", "sand", "dirt"], p=[0.5, 0.2, 0.15, 0.15]))
        ]
    )
    base = np.clip(base * rng.uniform(0.7, 1.3) * (1 + rng.uniform(-0.1, 0.1, 3)), 0.05, 0.95)
    pattern = noise(rng, size, 16, 5) + 0.7 * rng.standard_normal((size, size)).astype(np.float32)
    return np.clip(base * (1 + rng.uniform(0.05, 0.12) * pattern[..., None]), 0, 1)
