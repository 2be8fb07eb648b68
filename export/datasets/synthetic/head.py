"""A drawn human head: identity, pose and facial action units in, pixels out. Synthetic; no photograph is involved.

Coordinates on the head: x to the image's right, y down, both in half head heights, (0, 0) between nose and eyes; z
towards the viewer. Expressions are sets of action units (FACS, Ekman and Friesen), each 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np

_SHIFT = 4  # OpenCV's fractional bits of drawing coordinates
_T = np.linspace(0, 2 * np.pi, 40, endpoint=False)
_U = np.linspace(-1, 1, 13)
_ARCH = 1 - _U**2

ACTION_UNITS = {
    "AU1": "inner brow raiser",
    "AU2": "outer brow raiser",
    "AU4": "brow lowerer",
    "AU5": "upper lid raiser",
    "AU6": "cheek raiser",
    "AU7": "lid tightener",
    "AU9": "nose wrinkler",
    "AU10": "upper lip raiser",
    "AU12": "lip corner puller",
    "AU15": "lip corner depressor",
    "AU17": "chin raiser",
    "AU20": "lip stretcher",
    "AU23": "lip tightener",
    "AU25": "lips part",
    "AU26": "jaw drop",
}

_SKIN = np.array([(246, 214, 190), (232, 190, 160), (214, 166, 130), (176, 124, 88), (130, 86, 58), (88, 58, 42)])
_HAIR = np.array([(28, 22, 20), (62, 42, 28), (106, 72, 42), (196, 160, 96), (150, 70, 36), (170, 168, 166)])
_IRIS = np.array([(70, 46, 28), (52, 34, 22), (74, 104, 128), (84, 110, 72)])


@dataclass
class Head:
    """One person in one moment.

    `units` are action units for both sides; `skew` makes the left side stronger (positive) or weaker.
    """

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    width: float = 0.74
    jaw: float = 0.22
    eye_size: float = 1.0
    eye_gap: float = 0.31
    brow: float = 0.045
    nose: float = 1.0
    mouth: float = 0.25
    lips: float = 1.0
    hair_style: int = 0  # 0 short, 1 long, 2 bald, 3 fringe
    glasses: bool = False
    beard: bool = False
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)
    units: Mapping[str, float] = field(default_factory=dict)
    skew: float = 0.0

    @classmethod
    def random(cls, rng: np.random.Generator, units: Mapping[str, float]) -> Head:
        """Somebody, with this expression."""
        tone = rng.uniform(0, len(_SKIN) - 1)
        low = int(tone)
        skin = _SKIN[low] + (tone - low) * (_SKIN[min(low + 1, len(_SKIN) - 1)] - _SKIN[low])
        return cls(
            skin=skin + rng.normal(0, 5, 3),
            hair=_HAIR[rng.integers(len(_HAIR))] + rng.normal(0, 8, 3),
            iris=_IRIS[rng.integers(len(_IRIS))].astype(float),
            width=rng.uniform(0.68, 0.8),
            jaw=rng.uniform(0.1, 0.34),
            eye_size=rng.uniform(0.85, 1.2),
            eye_gap=rng.uniform(0.28, 0.34),
            brow=rng.uniform(0.025, 0.065),
            nose=rng.uniform(0.8, 1.2),
            mouth=rng.uniform(0.21, 0.29),
            lips=rng.uniform(0.7, 1.4),
            hair_style=int(rng.integers(4)),
            glasses=bool(rng.random() < 0.15),
            beard=bool(rng.random() < 0.12),
            yaw=float(np.clip(rng.normal(0, 0.2), -0.5, 0.5)),
            pitch=float(np.clip(rng.normal(0, 0.12), -0.3, 0.3)),
            roll=float(np.clip(rng.normal(0, 0.12), -0.35, 0.35)),
            gaze=(float(rng.normal(0, 0.025)), float(rng.normal(0, 0.012))),
            units=units,
            skew=float(np.clip(rng.normal(0, 0.15), -0.4, 0.4)),
        )

    def draw(self, canvas: np.ndarray, centre: tuple[float, float], scale: float) -> None:
        """Draw on an RGB uint8 image: `centre` in pixels (x, y), `scale` = half the head's height in pixels."""
        _Pencil(self, canvas, centre, scale).draw()


class _Pencil:
    """Draws one head: turns it, projects it, fills polygons from back to front."""

    def __init__(self, head: Head, canvas: np.ndarray, centre: tuple[float, float], scale: float) -> None:
        self.head, self.canvas, self.scale = head, canvas, scale
        self.centre = np.array(centre)
        cy, sy, cp, sp = math.cos(head.yaw), math.sin(head.yaw), math.cos(head.pitch), math.sin(head.pitch)
        cr, sr = math.cos(head.roll), math.sin(head.roll)
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        self.turn = (roll @ pitch @ yaw)[:2]

    def draw(self) -> None:
        head = self.head
        outline = self._outline(1.0)
        if head.hair_style == 1:
            x, y = self._outline(1.14)
            self.fill((x * 1.08, np.where(y > 0, y * 1.05, y)), head.hair, flat=True)
        neck = np.array([-0.3, 0.3, 0.36, -0.36]), np.array([0.6, 0.6, 1.35, 1.35])
        self.fill(neck, head.skin * 0.82, flat=True)
        for side in (-1, 1):
            ear = side * head.width + 0.09 * np.cos(_T), 0.02 + 0.18 * np.sin(_T)
            self.fill(ear, head.skin * 0.9, flat=True)
        self.fill(outline, head.skin, flat=True)
        self._cheeks()
        if head.beard:
            x, y = outline
            below = np.maximum(y, 0.42 - 0.1 * np.abs(x))
            self.fill((x * 0.97, below), 0.35 * head.skin + 0.65 * head.hair)
        self._hair()
        for side in (-1, 1):
            self._eye(side)
            self._brow(side)
        self._nose()
        self._mouth()
        if head.glasses:
            for side in (-1, 1):
                rim = side * head.eye_gap + 0.21 * np.cos(_T), -0.06 + 0.17 * np.sin(_T)
                self.line(rim, (40, 40, 44), 0.025, closed=True)
            self.line((np.array([-0.1, 0.1]), np.array([-0.08, -0.08])), (40, 40, 44), 0.025)

    # ---- pencil

    def unit(self, name: str, side: int = 0) -> float:
        """Strength of an action unit on one side (-1 left, 1 right of the image)."""
        return self.head.units.get(name, 0.0) * (1 - side * self.head.skew)

    def project(self, points: tuple[np.ndarray, np.ndarray], flat: bool) -> np.ndarray:
        """Fixed-point pixels of points on the head's front (or, `flat`, on the plane through its outline)."""
        x, y = points
        z = np.zeros_like(x) if flat else 0.62 * np.sqrt(np.maximum(0, 1 - (x / 0.85) ** 2 - (y / 1.15) ** 2))
        pixels = self.turn @ np.stack([x, y, z]) * self.scale + self.centre[:, None]
        return np.rint(pixels.T * 2**_SHIFT).astype(np.int32)

    def fill(self, points: tuple[np.ndarray, np.ndarray], colour, flat: bool = False) -> None:
        cv2.fillPoly(self.canvas, [self.project(points, flat)], _rgb(colour), cv2.LINE_AA, _SHIFT)

    def line(self, points: tuple[np.ndarray, np.ndarray], colour, width: float, closed: bool = False) -> None:
        thickness = max(1, round(width * self.scale))
        cv2.polylines(self.canvas, [self.project(points, False)], closed, _rgb(colour), thickness, cv2.LINE_AA, _SHIFT)

    # ---- parts

    def _outline(self, size: float) -> tuple[np.ndarray, np.ndarray]:
        x, y = np.cos(_T), np.sin(_T)
        drop = 0.12 * self.unit("AU26")
        narrow = 1 - self.head.jaw * np.maximum(0, y) ** 1.5
        return size * self.head.width * x * narrow, size * y * np.where(y > 0, 1 + drop, 1)

    def _cheeks(self) -> None:
        head, raised = self.head, self.unit("AU6")
        for side in (-1, 1):
            x, y = side * 0.42 + 0.17 * np.cos(_T), 0.24 - 0.05 * raised + 0.13 * np.sin(_T)
            self.fill((x, y), head.skin * (1.02, 0.95, 0.94) + 6 * raised)

    def _hair(self) -> None:
        head = self.head
        if head.hair_style == 2:
            return
        x, y = self._outline(1.06)
        temple = 0.1 if head.hair_style == 1 else -0.12
        top = y < temple
        order = np.argsort(x[top])
        crown = x[top][order], y[top][order]  # from the left temple to the right
        height = {0: -0.62, 1: -0.6, 3: -0.34}[head.hair_style]
        front = np.linspace(0.93, -0.93, 17)
        line = height + (temple - height) * np.abs(front) ** (4 if head.hair_style == 3 else 2.5)
        shape = np.concatenate([crown[0], front * head.width]), np.concatenate([crown[1], line])
        self.fill(shape, head.hair, flat=True)

    def _eye(self, side: int) -> None:
        head = self.head
        size = 0.155 * head.eye_size
        x = side * head.eye_gap + size * _U
        level = -0.06 - 0.02 * _U * side
        up = (
            0.078
            * head.eye_size
            * (1 + 0.75 * self.unit("AU5", side) - 0.4 * self.unit("AU7", side) - 0.2 * self.unit("AU6", side))
        )
        low = (
            0.055
            * head.eye_size
            * (
                1
                + 0.25 * self.unit("AU5", side)
                - 0.6 * self.unit("AU6", side)
                - 0.45 * self.unit("AU7", side)
                - 0.4 * self.unit("AU9", side)
            )
        )
        upper, lower = level - max(up, 0.012) * _ARCH, level + max(low, 0.008) * _ARCH
        self.fill((np.concatenate([x, x[::-1]]), np.concatenate([upper, lower[::-1]])), (238, 236, 232))
        cx, cy = side * head.eye_gap + head.gaze[0], -0.065 + head.gaze[1]
        for radius, colour in ((0.074, head.iris), (0.036, (12, 10, 10))):
            self.fill((cx + radius * np.cos(_T), cy + radius * np.sin(_T)), colour)
        self.fill((cx + 0.02 + 0.014 * np.cos(_T), cy - 0.025 + 0.014 * np.sin(_T)), (250, 250, 250))
        lid, bag = head.skin * 0.93, head.skin * 0.95
        above = level - (0.15 + 0.03 * self.unit("AU5", side)) * (0.35 + 0.65 * _ARCH)
        self.fill((np.concatenate([x, x[::-1]]), np.concatenate([upper, above[::-1]])), lid)
        below = level + 0.12 * (0.3 + 0.7 * _ARCH)
        self.fill((np.concatenate([x, x[::-1]]), np.concatenate([lower, below[::-1]])), bag)
        self.line((x, upper), head.skin * 0.25, 0.022)
        self.line((x, lower), head.skin * 0.6, 0.01)
        pouch = max(self.unit("AU6", side), self.unit("AU7", side))
        if pouch > 0.25:
            self.line((x, lower + 0.035 * _ARCH + 0.01), head.skin * (1 - 0.3 * pouch), 0.014)
        if self.unit("AU6", side) > 0.35:  # crow's feet
            for slope in (-0.5, 0.1, 0.6):
                start = side * (head.eye_gap + 1.15 * size)
                ends = np.array([start, start + side * 0.09])
                self.line((ends, np.array([-0.06, -0.06 + 0.09 * slope])), head.skin * 0.72, 0.012)

    def _brow(self, side: int) -> None:
        head = self.head
        u = np.linspace(0, 1, 8)  # inner to outer
        inner, outer, low = self.unit("AU1", side), self.unit("AU2", side), self.unit("AU4", side)
        x = side * (0.12 - 0.045 * low + u * 0.4)
        y = -0.27 - 0.055 * np.sin(np.pi * u * 0.9) + 0.03 * u**2
        y = y - 0.13 * inner * (1 - u) ** 1.3 - 0.14 * outer * np.sqrt(u)
        y = y + low * (0.12 * (1 - u) + 0.045) * (1 - 0.75 * inner) + 0.03 * self.unit("AU9", side) * (1 - u)
        thick = head.brow * (1.15 - 0.75 * u)
        shape = np.concatenate([x, x[::-1]]), np.concatenate([y - thick, (y + thick)[::-1]])
        self.fill(shape, head.hair * 0.75)
        if low > 0.3 and side == 1:  # furrows between the brows
            for place in (-0.045, 0.045):
                self.line(
                    (np.array([place, place * 0.8]), np.array([-0.33, -0.18])), head.skin * (1 - 0.4 * low), 0.016
                )
        if min(inner, 1) * 0.6 + outer * 0.4 > 0.35 and side == 1 and head.hair_style != 3:  # lines on the forehead
            for height in (-0.46, -0.53):
                wave = np.linspace(-0.34, 0.34, 9)
                self.line((wave, height - 0.02 * np.cos(wave * 6)), head.skin * (1 - 0.28 * inner), 0.013)

    def _nose(self) -> None:
        head, wrinkle = self.head, self.unit("AU9")
        tip, wing = 0.27 * head.nose - 0.03 * wrinkle, 0.1 + 0.025 * max(wrinkle, self.unit("AU10"))
        side = 1 if head.yaw >= 0 else -1
        bridge = np.array([0.05, 0.055, 0.1]) * side, np.array([-0.08, 0.1, tip - 0.02])
        self.line(bridge, head.skin * 0.8, 0.02)
        base = np.linspace(-1, 1, 9)
        self.line((wing * base, tip + 0.035 * (1 - base**2)), head.skin * 0.68, 0.022)
        for place in (-0.05, 0.05):
            nostril = place + 0.022 * np.cos(_T), tip + 0.012 + 0.014 * np.sin(_T)
            self.fill(nostril, head.skin * 0.4)
        if wrinkle > 0.25:
            for height in (-0.02, 0.04, 0.1):
                for place in (-1, 1):
                    ends = np.array([0.015, 0.09]) * place
                    self.line((ends, np.array([height, height - 0.05])), head.skin * (1 - 0.38 * wrinkle), 0.016)
        fold = max(self.unit("AU12"), self.unit("AU10"), 0.8 * wrinkle)
        if fold > 0.25:  # from the wings to the corners of the mouth
            for place in (-1, 1):
                out = 0.07 + 0.06 * self.unit("AU12")
                x = place * (wing + 0.03 + out * np.linspace(0, 1, 5) ** 1.3)
                self.line((x, tip - 0.02 + 0.25 * np.linspace(0, 1, 5)), head.skin * (1 - 0.3 * fold), 0.016)

    def _mouth(self) -> None:
        head = self.head
        drop, part = self.unit("AU26"), self.unit("AU25")
        smile, stretch, tight = self.unit("AU12"), self.unit("AU20"), self.unit("AU23")
        frown, chin, lift = self.unit("AU15"), self.unit("AU17"), self.unit("AU10")
        half = head.mouth * (1 + 0.38 * smile + 0.32 * stretch - 0.18 * tight - 0.25 * drop * (1 - stretch))
        x = half * _U
        right = (_U + 1) / 2
        corner = 0.53 - 0.12 * smile + 0.1 * frown + 0.03 * stretch + 0.05 * drop
        tilt = 0.1 * (smile + frown) * head.skew * (right - 0.5)
        opening = 0.055 * part + 0.24 * drop
        middle = 0.53 + 0.035 * smile - 0.03 * frown - 0.035 * chin - 0.025 * lift
        inner_up = corner * (1 - _ARCH) + (middle - 0.2 * opening - 0.05 * lift) * _ARCH - tilt
        inner_low = corner * (1 - _ARCH) + (middle + 0.8 * opening + 0.005) * _ARCH - tilt
        press = 1 - 0.7 * tight - 0.25 * smile - 0.2 * stretch
        full = 0.05 * head.lips * max(press, 0.2)
        bow = 1 - 0.25 * np.exp(-((_U / 0.18) ** 2))
        upper = inner_up - full * bow * np.sqrt(_ARCH) - 0.012 * lift * _ARCH
        lower = inner_low + 1.25 * full * np.sqrt(_ARCH) + 0.015 * chin * _ARCH
        lip = 0.62 * head.skin + 0.38 * np.array([176, 62, 70])
        both = np.concatenate([x, x[::-1]])
        self.fill((both, np.concatenate([upper, lower[::-1]])), lip)
        if opening > 0.02:
            self.fill((both, np.concatenate([inner_up, inner_low[::-1]])), (58, 18, 22))
            bare = np.clip(smile + 0.7 * stretch + 0.8 * lift + 0.3 * drop, 0, 1)
            if bare > 0.15:
                teeth = inner_up + np.minimum(0.06 * bare, 0.7 * (inner_low - inner_up))
                self.fill((0.93 * both, np.concatenate([inner_up, teeth[::-1]])), (236, 232, 222))
        else:
            self.line((x, inner_up), lip * 0.5, 0.016)
        for side in (-1, 1):
            depth = np.array([corner - 0.02, corner + 0.035 * (frown - 0.6 * smile)])
            self.line((side * (half + np.array([0.0, 0.025])), depth), head.skin * 0.6, 0.016)
        if chin > 0.3:
            wave = np.linspace(-0.12, 0.12, 7)
            self.line((wave, 0.72 - 0.03 * (1 - (wave / 0.12) ** 2)), head.skin * 0.78, 0.018)


def _rgb(colour) -> tuple[float, float, float]:
    r, g, b = np.clip(colour, 0, 255)
    return float(r), float(g), float(b)
