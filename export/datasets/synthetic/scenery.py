"""What surrounds a rendered person: the place, objects in it, and the body with its gesture. Synthetic."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

# Mean colour of wall and floor per emotion; each scene draws its own around it.
_PLACES = {
    "Anger": ((150, 60, 48), (90, 52, 44)),
    "Disgust": ((120, 132, 70), (84, 88, 52)),
    "Fear": ((44, 46, 66), (30, 30, 40)),
    "Happy": ((150, 205, 235), (130, 190, 100)),
    "Neutral": ((196, 190, 180), (140, 116, 92)),
    "Sad": ((112, 122, 136), (82, 88, 96)),
    "Surprise": ((205, 170, 215), (170, 140, 170)),
}


def draw_scenery(image: np.ndarray, rng: np.random.Generator, emotion: str) -> None:
    """Fill an RGB uint8 image with a place that fits an emotion and with its objects."""
    height, width = image.shape[:2]
    wall, floor = (np.array(colour) + rng.normal(0, 28, 3) for colour in _PLACES[emotion])
    shade = np.linspace(1.1, 0.85, height)[:, None]
    image[:] = np.clip(shade * wall, 0, 255).astype(np.uint8)[:, None]
    horizon = int(height * rng.uniform(0.6, 0.8))
    image[horizon:] = np.clip(shade[horizon:] * floor, 0, 255).astype(np.uint8)[:, None]
    for _ in range(rng.integers(2, 5)):  # things that mean nothing
        _furniture(image, rng)
    for _ in range(rng.integers(3, 7)):
        x, y = rng.uniform(0, width), rng.uniform(0.05, 0.9) * height
        _OBJECTS[emotion](image, rng, (x, y), height * rng.uniform(0.06, 0.13))


def draw_body(
    image: np.ndarray, rng: np.random.Generator, head: tuple[float, float], scale: float, skin: np.ndarray, emotion: str
) -> None:
    """Shoulders, arms and hands below a head at `head` (pixels) of half height `scale`, in an emotion's gesture."""
    x, y = head
    cloth = rng.uniform(20, 220, 3)
    top = y + 1.12 * scale
    down = 0.35 * scale if emotion == "Sad" else 0.0
    shoulders = [(-1.5, 0.35), (-0.55, 0), (0.55, 0), (1.5, 0.35), (1.7, 4), (-1.7, 4)]
    _poly(image, [(x + px * scale, top + py * scale + (down if abs(px) > 1 else 0)) for px, py in shoulders], cloth)
    hands = {
        "Happy": ((-2.3, -1.2), (2.3, -1.2)),
        "Surprise": ((-1.9, 0.1), (1.9, 0.1)),
        "Fear": ((-1.0, 0.9), (1.0, 0.9)),
        "Anger": ((-2.3, 1.0), (2.3, 1.0)),
    }.get(emotion, ((-1.8, 3.0), (1.8, 3.0)))
    for side, (hx, hy) in zip((-1, 1), hands, strict=True):
        hand = (x + (hx + rng.normal(0, 0.12)) * scale, y + (hy + rng.normal(0, 0.12)) * scale)
        elbow = (x + side * 2.0 * scale, top + 1.5 * scale)
        joints = np.array([(x + side * 1.3 * scale, top + 0.5 * scale + down), elbow, hand])
        cv2.polylines(image, [_fixed(joints)], False, _colour(cloth * 0.85), max(1, int(0.5 * scale)), cv2.LINE_AA, 4)
        _ellipse(image, hand, (0.3 * scale, 0.34 * scale), skin)


def _furniture(image: np.ndarray, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    x, y = rng.uniform(0, width), rng.uniform(0.1, 0.8) * height
    w, h = rng.uniform(0.05, 0.2, 2) * height
    _poly(image, [(x, y), (x + w, y), (x + w, y + h), (x, y + h)], rng.uniform(40, 200, 3))


def _balloon(image: np.ndarray, rng: np.random.Generator, at: tuple[float, float], size: float) -> None:
    x, y = at
    _line(image, [(x, y), (x + rng.normal(0, 0.3) * size, y + 3 * size)], (90, 90, 90), 1)
    pixel = np.array([[[rng.integers(0, 180), 220, 245]]], np.uint8)  # a bright colour of any hue
    colour = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(float)
    _ellipse(image, at, (0.8 * size, size), colour)
    _ellipse(image, (x - 0.25 * size, y - 0.35 * size), (0.18 * size, 0.25 * size), (255, 255, 255))


def _flame(image: np.ndarray, rng: np.random.Generator, at: tuple[float, float], size: float) -> None:
    x, y = at
    for scale, colour in ((1.0, (225, 70, 20)), (0.62, (250, 160, 30)), (0.3, (255, 230, 120))):
        s, lean = scale * size, rng.normal(0, 0.25)
        tongue = [(-0.7, 1), (-0.8, 0.2), (-0.35, -0.3), (lean, -1.5), (0.3, -0.4), (0.75, 0.1), (0.7, 1)]
        _poly(image, [(x + px * s, y + py * s + (1 - scale) * size) for px, py in tongue], colour)


def _slime(image: np.ndarray, rng: np.random.Generator, at: tuple[float, float], size: float) -> None:
    x, y = at
    green = np.array((110, 160, 30)) + rng.normal(0, 15, 3)
    _ellipse(image, at, (1.3 * size, 0.6 * size), green)
    for offset in rng.uniform(-1, 1, 3):
        _ellipse(image, (x + offset * size, y + 0.7 * size), (0.2 * size, rng.uniform(0.5, 1.0) * size), green)
    for _ in range(4):  # flies
        dx, dy = rng.normal(0, 1.2, 2) * size
        _ellipse(image, (x + dx, y - abs(dy)), (0.12 * size, 0.08 * size), (15, 15, 15))


def _spider(image: np.ndarray, rng: np.random.Generator, at: tuple[float, float], size: float) -> None:
    x, y = at
    _line(image, [(x, 0), (x, y)], (150, 150, 160), 1)
    for side in (-1.0, 1.0):
        for i in range(4):
            knee = (x + side * (0.7 + 0.1 * i) * size, y + (-0.7 + 0.35 * i) * size)
            foot = (x + side * 1.2 * size, y + (-0.2 + 0.45 * i) * size)
            _line(image, [at, knee, foot], (8, 8, 10), max(1, int(0.12 * size)))
    _ellipse(image, at, (0.5 * size, 0.6 * size), (12, 12, 14))
    for side in (-0.15, 0.15):
        _ellipse(image, (x + side * size, y + 0.3 * size), (0.09 * size, 0.09 * size), (210, 30, 30))


def _rain(image: np.ndarray, rng: np.random.Generator, at: tuple[float, float], size: float) -> None:
    x, y = at[0], 0.4 * at[1]
    for dx, r in ((-0.8, 0.6), (0, 0.85), (0.8, 0.6)):
        _ellipse(image, (x + dx * size, y), (1.1 * r * size, r * size), (74, 80, 92))
    for _ in range(10):
        start = np.array([x + rng.uniform(-1.5, 1.5) * size, y + rng.uniform(0.8, 4) * size])
        _line(image, [start, start + np.array([-0.1, 0.6]) * size], (150, 175, 210), 1)


def _gift(image: np.ndarray, rng: np.random.Generator, at: tuple[float, float], size: float) -> None:
    x, y = at
    colour = rng.uniform(60, 255, 3)
    for angle in rng.uniform(0, 2 * np.pi, 9):  # sparks
        ray = np.array([np.cos(angle), np.sin(angle)]) * size
        _line(image, [at + 1.3 * ray, at + 2.0 * ray], (255, 235, 90), max(1, int(0.1 * size)))
    _poly(
        image,
        [(x - size, y - 0.7 * size), (x + size, y - 0.7 * size), (x + size, y + size), (x - size, y + size)],
        colour,
    )
    _line(image, [(x, y - 0.7 * size), (x, y + size)], (250, 220, 60), max(1, int(0.25 * size)))
    for side in (-0.4, 0.4):
        _ellipse(image, (x + side * size, y - 0.9 * size), (0.4 * size, 0.22 * size), (250, 220, 60))


def _desk(image: np.ndarray, rng: np.random.Generator, at: tuple[float, float], size: float) -> None:
    x, y = at
    wood = np.array((130, 96, 64)) + rng.normal(0, 15, 3)
    _poly(
        image,
        [(x - 1.5 * size, y), (x + 1.5 * size, y), (x + 1.5 * size, y + 0.2 * size), (x - 1.5 * size, y + 0.2 * size)],
        wood,
    )
    for side in (-1.3, 1.3):
        _line(image, [(x + side * size, y), (x + side * size, y + 1.4 * size)], wood * 0.7, max(1, int(0.15 * size)))
    for offset in (-0.9, -0.5, -0.2):  # books
        tall = rng.uniform(0.6, 1.0) * size
        left = x + offset * size
        _poly(
            image,
            [(left, y - tall), (left + 0.25 * size, y - tall), (left + 0.25 * size, y), (left, y)],
            rng.uniform(60, 190, 3),
        )


_OBJECTS: dict[str, Callable[[np.ndarray, np.random.Generator, tuple[float, float], float], None]] = {
    "Anger": _flame,
    "Disgust": _slime,
    "Fear": _spider,
    "Happy": _balloon,
    "Neutral": _desk,
    "Sad": _rain,
    "Surprise": _gift,
}


def _fixed(points: np.ndarray | list) -> np.ndarray:
    return np.rint(np.asarray(points, float) * 16).astype(np.int32)


def _colour(colour) -> tuple[float, float, float]:
    r, g, b = np.clip(colour, 0, 255)
    return float(r), float(g), float(b)


def _poly(image: np.ndarray, points: list, colour) -> None:
    cv2.fillPoly(image, [_fixed(points)], _colour(colour), cv2.LINE_AA, 4)


def _line(image: np.ndarray, points: list, colour, thickness: int) -> None:
    cv2.polylines(image, [_fixed(points)], False, _colour(colour), thickness, cv2.LINE_AA, 4)


def _ellipse(image: np.ndarray, centre, axes, colour) -> None:
    cx, cy = _fixed([centre])[0].tolist()
    ax, ay = _fixed([axes])[0].tolist()
    cv2.ellipse(image, (cx, cy), (ax, ay), 0, 0, 360, _colour(colour), -1, cv2.LINE_AA, 4)
