"""Phantoms: drawn scans of one anatomy in many bodies, with the truth about every voxel.

A body is the same set of organs seen through another smooth deformation, with other grey levels, shading and noise. It
is no patient: figures from phantoms say that a net works, not how well it does in a clinic.
"""

from __future__ import annotations

import numpy as np

__all__ = ["CLASSES", "bspline_field", "draw_phantom", "random_affine"]

CLASSES = {"liver": 1, "spleen": 2, "kidney": 3, "spine": 4}


def draw_phantom(seed: int, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """One body: image and labels (see `CLASSES`), both uint8 (size, size, size)."""
    rng = np.random.default_rng([seed, 3])
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    place = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    bend = bspline_field(rng.normal(0, 0.11, (3, 5, 5, 5)), size) + bspline_field(
        rng.normal(0, 0.03, (3, 9, 9, 9)), size
    )
    seen = np.tensordot(random_affine(rng), place + bend, 1) + rng.normal(0, 0.03, 3)[:, None, None, None]
    grey, labels = _anatomy(seen.astype(np.float32), rng.normal(1, 0.05, 8))
    shading = 1 + bspline_field(rng.normal(0, 0.08, (1, 4, 4, 4)), size)[0]
    grey = grey * shading + rng.normal(0, 0.02, grey.shape)
    return np.clip(grey * 255, 0, 255).astype(np.uint8), labels


def random_affine(rng: np.random.Generator) -> np.ndarray:
    """Rotation by some 4 degrees about each axis, sizes by some 5 %."""
    skew = rng.normal(0, 0.07, (3, 3))
    return (np.eye(3) + (skew - skew.T) / 2) * rng.normal(1, 0.05, 3)


def _anatomy(p: np.ndarray, tone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grey levels 0..1 and labels of the anatomy at places (3, ...) in -1..1; `tone` scales the organs' grey."""
    z, y, x = p
    ripple = 0.05 * np.sin(5 * x + 1) * np.sin(4 * y) + 0.04 * np.sin(6 * z + 2 * x)
    body = np.sqrt((z / 1.3) ** 2 + (y / 0.92) ** 2 + (x / 0.95) ** 2) < 1
    # two overlapping ellipsoids make a liver: the smaller of two signed distances joins them
    liver = np.minimum(
        _ellipsoid(p, (0, -0.1, -0.3), (0.55, 0.5, 0.42)), _ellipsoid(p, (0.1, -0.25, 0.1), (0.32, 0.3, 0.45))
    )
    spleen = _ellipsoid(p, (-0.05, 0.2, 0.62), (0.36, 0.24, 0.16))
    kidney = np.maximum(
        _ellipsoid(p, (-0.5, 0.4, -0.25), (0.26, 0.17, 0.15)), -_ellipsoid(p, (-0.5, 0.36, -0.08), (0.1, 0.1, 0.1))
    )
    spine = np.hypot(y - 0.62, x - 0.08) - 0.13 - 0.02 * np.sign(np.sin(16 * z))
    vessels = np.minimum(_tube(p, VESSELS[:3], 0.06), _tube(p, VESSELS[3:], 0.035))
    aorta = np.hypot(y - 0.38 - 0.05 * np.sin(2 * z), x - 0.2) - 0.07

    grey = np.where(body, 0.3 + 0.04 * np.sin(9 * x + 3 * z) * np.sin(8 * y - 2 * z), 0.02).astype(np.float32)
    labels = np.zeros(z.shape, np.uint8)
    texture = 0.03 * np.sin(21 * x + 4 * y) * np.sin(18 * y + 5 * z) * np.sin(19 * z + 3 * x)
    organs = ((aorta, 0.75, 0), (spleen + ripple, 0.5, 2), (kidney + ripple / 2, 0.68, 3), (liver + ripple, 0.58, 1))
    for tint, (distance, level, label) in zip(tone, (*organs, (spine, 0.92, 4)), strict=False):
        inside = (distance < 0) & body
        grey[inside] = level * tint + texture[inside]
        labels[inside] = label
    grey[(vessels < 0) & (labels == 1)] = 0.78 * tone[-1]
    return grey, labels


VESSELS = np.array(
    [
        [[0.1, 0.35, 0.1], [0.05, 0.0, -0.1]],
        [[0.05, 0.0, -0.1], [0.25, -0.15, -0.5]],
        [[0.05, 0.0, -0.1], [0.15, -0.3, 0.3]],
        [[0.05, 0.0, -0.1], [-0.35, -0.1, -0.4]],
        [[0.15, -0.08, -0.3], [0.45, -0.2, -0.3]],
        [[0.15, -0.08, -0.3], [0.05, -0.45, -0.4]],
        [[-0.15, -0.05, -0.25], [-0.2, -0.35, -0.3]],
    ]
)
"""Start and end (z, y, x) of each branch; the first three are the thick ones."""


def _ellipsoid(p: np.ndarray, centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """Below 0 inside; near the surface about the distance to it."""
    q = np.sqrt(sum(((c - m) / r) ** 2 for c, m, r in zip(p, centre, radii, strict=True)))
    return (q - 1) * min(radii)


def _tube(p: np.ndarray, segments: np.ndarray, radius: float) -> np.ndarray:
    """Below 0 within `radius` of one of the segments."""
    nearest = np.full(p.shape[1:], np.inf, np.float32)
    for start, end in segments.astype(np.float32):
        along = np.tensordot(end - start, p - start[:, None, None, None], 1) / np.sum((end - start) ** 2)
        off = p - start[:, None, None, None] - np.clip(along, 0, 1) * (end - start)[:, None, None, None]
        np.minimum(nearest, np.sqrt((off**2).sum(0)), out=nearest)
    return nearest - radius


def bspline_field(control: np.ndarray, size: int) -> np.ndarray:
    """Smooth field by cubic B-splines: control points (C, n, n, n) -> float32 (C, size, size, size).

    The control points span the volume from corner to corner; beyond them it is 0 (arXiv 1907.12353's code).
    """
    n = control.shape[-1]
    distance = np.abs(np.linspace(0, n - 1, size)[:, None] - np.arange(n))
    near = 2 / 3 - distance**2 + distance**3 / 2
    weights = np.where(distance < 1, near, np.maximum(2 - distance, 0) ** 3 / 6).astype(np.float32)
    return np.einsum("cijk,xi,yj,zk->cxyz", control.astype(np.float32), weights, weights, weights, optimize=True)
