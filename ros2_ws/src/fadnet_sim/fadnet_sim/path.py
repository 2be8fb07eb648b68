"""The reference path: a closed curve from which lateral error is measured."""

from __future__ import annotations

import numpy as np

SPACING = 0.05  # m between samples: fine enough that the nearest sample's tangent gives the lateral error to < 1 mm


def resample(points: np.ndarray, spacing: float = SPACING) -> np.ndarray:
    """Closed polyline (n, 2) m -> points (m, 2) at equal distances of about `spacing` m along it."""
    closed = np.vstack([points, points[:1]])
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    count = max(8, round(s[-1] / spacing))
    at = np.arange(count) * (s[-1] / count)
    return np.stack([np.interp(at, s, closed[:, 0]), np.interp(at, s, closed[:, 1])], axis=1)


def smooth(values: np.ndarray, sigma: float, spacing: float = SPACING) -> np.ndarray:
    """Gaussian filter of width `sigma` m along a closed curve sampled every `spacing` m; values (n,) or (n, k)."""
    half = int(np.ceil(3 * sigma / spacing))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) * spacing / sigma) ** 2)
    kernel /= kernel.sum()
    columns = values.reshape(len(values), -1)
    padded = np.concatenate([columns[-half:], columns, columns[:half]])
    filtered = np.stack([np.convolve(c, kernel, mode="valid") for c in padded.T], axis=1)
    return filtered.reshape(values.shape)


class ReferencePath:
    """A closed curve sampled at equal distances.

    Parameters
    ----------
    points : ndarray (n, 2)
        Vertices in metres, in driving order; the curve closes itself.

    Attributes
    ----------
    points : ndarray (m, 2)
        Samples in metres, about 5 cm apart.
    heading : ndarray (m,)
        Tangent direction, rad.
    curvature : ndarray (m,)
        1/m, positive in left turns.
    length : float
        Metres.
    """

    def __init__(self, points: np.ndarray) -> None:
        self.points = resample(np.asarray(points, float))
        forward = np.roll(self.points, -1, axis=0) - self.points
        self.length = float(np.hypot(*forward.T).sum())
        self.spacing = self.length / len(self.points)
        tangent = np.roll(self.points, -1, axis=0) - np.roll(self.points, 1, axis=0)
        self.heading = np.arctan2(tangent[:, 1], tangent[:, 0])
        turn = np.angle(np.exp(1j * (np.roll(self.heading, -1) - np.roll(self.heading, 1))))
        self.curvature = turn / (2 * self.spacing)

    @property
    def normal(self) -> np.ndarray:
        """Unit normals to the left, (m, 2)."""
        return np.stack([-np.sin(self.heading), np.cos(self.heading)], axis=1)

    def index(self, s: float) -> int:
        """Sample nearest to the arc length `s` (m, any value: the path is closed)."""
        return round(s / self.spacing) % len(self.points)

    def at(self, s: float) -> tuple[np.ndarray, float, float]:
        """Position (2,) m, heading rad and curvature 1/m at arc length `s` m."""
        i = self.index(s)
        return self.points[i], float(self.heading[i]), float(self.curvature[i])

    def project(self, x: float, y: float) -> tuple[float, float]:
        """Arc length (m) of the nearest point and the signed distance to it (m, left of the path is positive)."""
        delta = np.array([x, y]) - self.points
        i = int(np.argmin(np.einsum("ij,ij->i", delta, delta)))
        cos, sin = np.cos(self.heading[i]), np.sin(self.heading[i])
        along = delta[i, 0] * cos + delta[i, 1] * sin
        return (i * self.spacing + along) % self.length, float(delta[i, 1] * cos - delta[i, 0] * sin)
