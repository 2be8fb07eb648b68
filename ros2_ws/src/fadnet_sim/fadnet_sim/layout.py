"""Closed centrelines for corridors and roads, grown from a seed.

The boundary of a simply connected polyomino is a closed curve that never crosses or touches itself, so a corridor
along it has one way on at every point: the steering angle is never ambiguous.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .path import resample, smooth

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def _grow(rng: np.random.Generator, count: int) -> set[tuple[int, int]]:
    """Grow a polyomino of `count` cells without holes and without cells that touch by a corner only."""
    cells = {(0, 0)}
    while len(cells) < count:
        frontier = sorted({(x + dx, y + dy) for x, y in cells for dx, dy in _STEPS} - cells)
        # Thin shapes have longer, more winding boundaries than round ones.
        weight = np.array([1.0 / sum((x + dx, y + dy) in cells for dx, dy in _STEPS) ** 2 for x, y in frontier])
        new = frontier[rng.choice(len(frontier), p=weight / weight.sum())]
        if _is_simple(cells | {new}):
            cells.add(new)
    return cells


def _is_simple(cells: set[tuple[int, int]]) -> bool:
    xs, ys = zip(*cells, strict=True)
    grid = np.zeros((max(xs) - min(xs) + 3, max(ys) - min(ys) + 3), bool)
    for x, y in cells:
        grid[x - min(xs) + 1, y - min(ys) + 1] = True
    a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[:-1, 1:], grid[1:, 1:]
    if ((a & d & ~b & ~c) | (b & c & ~a & ~d)).any():
        return False
    outside, stack = {(0, 0)}, [(0, 0)]
    while stack:
        x, y = stack.pop()
        for dx, dy in _STEPS:
            n = (x + dx, y + dy)
            if 0 <= n[0] < grid.shape[0] and 0 <= n[1] < grid.shape[1] and not grid[n] and n not in outside:
                outside.add(n)
                stack.append(n)
    return len(outside) == (~grid).sum()


def _boundary(cells: set[tuple[int, int]]) -> np.ndarray:
    """Corners of the polyomino's boundary, counter-clockwise, (n, 2) in cells."""
    edges = {}
    for x, y in cells:
        for (dx, dy), a, b in (
            ((0, -1), (x, y), (x + 1, y)),
            ((1, 0), (x + 1, y), (x + 1, y + 1)),
            ((0, 1), (x + 1, y + 1), (x, y + 1)),
            ((-1, 0), (x, y + 1), (x, y)),
        ):
            if (x + dx, y + dy) not in cells:
                edges[a] = b
    start = min(edges)
    loop = [start]
    while edges[loop[-1]] != start:
        loop.append(edges[loop[-1]])
    return np.array(loop, float)


def _fillet(corners: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Round each corner by a circular arc of at most its radius (m), 0: not; (n, 2) -> denser (m, 2)."""
    points: list[np.ndarray] = []
    for i, (corner, r) in enumerate(zip(corners, radius, strict=True)):
        before, after = corners[i - 1] - corner, corners[(i + 1) % len(corners)] - corner
        reach = 0.48 * min(np.hypot(*before), np.hypot(*after))
        before, after = before / np.hypot(*before), after / np.hypot(*after)
        half = 0.5 * np.arccos(np.clip(before @ after, -1, 1))  # half the interior angle
        if half > np.radians(88) or not r:
            points.append(corner)
            continue
        tangent = min(r / np.tan(half), reach)
        r = tangent * np.tan(half)
        centre = corner + (before + after) / np.hypot(*(before + after)) * (r / np.sin(half))
        a0, a1 = (corner + before * tangent) - centre, (corner + after * tangent) - centre
        start, sweep = np.arctan2(a0[1], a0[0]), np.angle(complex(*a1) / complex(*a0))
        for t in np.linspace(0, 1, 24):
            points.append(centre + r * np.array([np.cos(start + t * sweep), np.sin(start + t * sweep)]))
    return np.array(points)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between two others, each doubling as likely as the next: as many narrow ways as wide ones."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _corners(
    rng: np.random.Generator, cells: int, cell: float, jitter: float, radius: tuple[float, float], bend: float
) -> tuple[np.ndarray, np.ndarray]:
    """Corners (n, 2) m of a closed way, and the radius (n,) m of each."""
    grid = _boundary(_grow(rng, cells))
    before, after = grid - np.roll(grid, 1, axis=0), np.roll(grid, -1, axis=0) - grid
    is_corner = (before != after).any(axis=1)
    shift = rng.uniform(-1, 1, grid.shape) * np.where(is_corner, jitter, bend)[:, None]
    keep = is_corner | (rng.random(len(grid)) < 0.6)
    corners = (grid * cell + shift)[keep]
    return corners, rng.uniform(*radius, len(corners))


def closed_centreline(
    rng: np.random.Generator, *, cells: int, cell: float, jitter: float, radius: tuple[float, float], bend: float
) -> np.ndarray:
    """A closed centreline that never touches itself.

    Parameters
    ----------
    rng : Generator
        Source of every choice.
    cells : int
        Cells of the polyomino; the curve is about `2 * (cells + 1) * cell` long.
    cell : float
        Cell size, m. Parallel stretches are at least `cell - 2 * (jitter + bend)` apart.
    jitter : float
        Largest shift of a corner per axis, m.
    radius : (float, float)
        Range of corner radii, m.
    bend : float
        Largest sideways shift of the middle of a straight stretch, m: turns straights into S-bends.

    Returns
    -------
    ndarray (n, 2)
        Points in metres every 5 cm, centred on the origin, clockwise or counter-clockwise by chance.
    """
    line = resample(_fillet(*_corners(rng, cells, cell, jitter, radius, bend)))
    line = resample(smooth(line, 0.25))
    line -= (line.max(axis=0) + line.min(axis=0)) / 2
    return line[::-1].copy() if rng.random() < 0.5 else line


@dataclass(frozen=True)
class Course:
    """A closed way of constant width that never touches itself, with round and square corners.

    Attributes
    ----------
    corners : ndarray (n, 2)
        m, centred on the origin, clockwise or counter-clockwise by chance.
    radius : ndarray (n,)
        m; 0: a square corner.
    inside : float
        m: how the path rounds a square corner.
    """

    corners: np.ndarray
    radius: np.ndarray
    inside: float

    @classmethod
    def grow(
        cls, rng: np.random.Generator, *, length: float, width: float, apart: tuple[float, float], jitter: float,
        radius: tuple[float, float], inside: float, square: float,
    ) -> Course:  # fmt: skip
        """Grow a course of about `length` m, `width` m wide.

        Parameters
        ----------
        rng : Generator
            Source of every choice.
        length, width : float
            m.
        apart : (float, float)
            Range of what is left between two parallel stretches, m.
        jitter : float
            Largest shift of a corner per axis, and of the middle of a straight stretch sideways, m.
        radius : (float, float)
            Range of corner radii, m; more than half the width.
        inside : float
            See the attribute.
        square : float
            Share of the corners that are square.
        """
        cell = width + 4 * jitter + rng.uniform(*apart)
        corners, radii = _corners(rng, max(3, round(length / 2 / cell)), cell, jitter, radius, jitter)
        radii[rng.random(len(radii)) < square] = 0.0
        corners -= (corners.max(axis=0) + corners.min(axis=0)) / 2
        turn = -1 if rng.random() < 0.5 else 1
        return cls(corners[::turn].copy(), radii[::turn].copy(), inside)

    def path(self) -> np.ndarray:
        """The middle as a robot can drive it, (m, 2) m every 5 cm: square corners are rounded by `inside`."""
        line = resample(_fillet(self.corners, np.where(self.radius, self.radius, self.inside)))
        return resample(smooth(line, 0.12))

    def edge(self, offset: float) -> np.ndarray:
        """Closed line (m, 2) m at `offset` m to the left of the middle, square where the course is."""
        line = _fillet(self.corners, self.radius)
        after = np.roll(line, -1, axis=0) - line
        after = np.stack([-after[:, 1], after[:, 0]], axis=1) / np.hypot(*after.T)[:, None]
        before = np.roll(after, 1, axis=0)
        return line + offset * (before + after) / (1 + (before * after).sum(axis=1))[:, None]
