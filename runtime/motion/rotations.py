"""Rotations in the forms that motion is written in; the last axes are one rotation, all before are free.

Quaternions are (w, x, y, z). The 6-D form is the first two rows of the matrix, as in EDGE and GCD; the paper (Zhou et
al., "On the continuity of rotation representations in neural networks", CVPR 2019, eq. 15-16) takes columns.
"""

from __future__ import annotations

import numpy as np

_TINY = 1e-12


def matrix_of_6d(six: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of 6-D rotations (..., 6) by Gram-Schmidt; any six numbers give a rotation."""
    x = _unit(six[..., :3])
    y = six[..., 3:]
    y = _unit(y - (x * y).sum(-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], -2)


def six_of_matrix(matrix: np.ndarray) -> np.ndarray:
    """6-D rotations (..., 6) of matrices (..., 3, 3)."""
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)


def quaternion_of_axis_angle(turn: np.ndarray) -> np.ndarray:
    """Quaternions (..., 4) of axis-angle vectors (..., 3), whose length is the angle in rad."""
    angle = np.linalg.norm(turn, axis=-1, keepdims=True)
    half = np.sinc(angle / (2 * np.pi)) / 2  # sin(angle / 2) / angle, also at 0
    return np.concatenate([np.cos(angle / 2), turn * half], -1)


def axis_angle_of_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """Axis-angle vectors (..., 3), of at most pi, of quaternions (..., 4)."""
    quaternion = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = np.linalg.norm(quaternion[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternion[..., :1])
    return quaternion[..., 1:] * np.where(sine > _TINY, angle / np.maximum(sine, _TINY), 2)


def matrix_of_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) of any length but 0."""
    w, x, y, z = np.moveaxis(_unit(quaternion), -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, -1) for row in rows], -2)


def quaternion_of_matrix(matrix: np.ndarray) -> np.ndarray:
    """Quaternions (..., 4) with w >= 0 of rotation matrices (..., 3, 3)."""
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # The four rows are w, x, y, z times (w, x, y, z), times 4; the longest is the best conditioned.
    rows = np.stack(
        [
            np.stack(
                [
                    1 + xx + yy + zz,
                    m[..., 2, 1] - m[..., 1, 2],
                    m[..., 0, 2] - m[..., 2, 0],
                    m[..., 1, 0] - m[..., 0, 1],
                ],
                -1,
            ),
            np.stack(
                [
                    m[..., 2, 1] - m[..., 1, 2],
                    1 + xx - yy - zz,
                    m[..., 0, 1] + m[..., 1, 0],
                    m[..., 0, 2] + m[..., 2, 0],
                ],
                -1,
            ),
            np.stack(
                [
                    m[..., 0, 2] - m[..., 2, 0],
                    m[..., 0, 1] + m[..., 1, 0],
                    1 - xx + yy - zz,
                    m[..., 1, 2] + m[..., 2, 1],
                ],
                -1,
            ),
            np.stack(
                [
                    m[..., 1, 0] - m[..., 0, 1],
                    m[..., 0, 2] + m[..., 2, 0],
                    m[..., 1, 2] + m[..., 2, 1],
                    1 - xx - yy + zz,
                ],
                -1,
            ),
        ],
        -2,
    )
    best = np.argmax(np.einsum("...ii->...i", rows), -1)
    found = _unit(np.take_along_axis(rows, best[..., None, None], -2)[..., 0, :])
    return np.where(found[..., :1] < 0, -found, found)


def multiply(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Quaternions (..., 4) of first turning by `other`, then by `one`."""
    a, b = one[..., :1], other[..., :1]
    u, v = one[..., 1:], other[..., 1:]
    return np.concatenate([a * b - (u * v).sum(-1, keepdims=True), a * v + b * u + np.cross(u, v)], -1)


def slerp(start: np.ndarray, end: np.ndarray, part: np.ndarray | float) -> np.ndarray:
    """Unit quaternions on the shorter way from start (..., 4) to end (..., 4); `part` (...) goes from 0 to 1.

    Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985. Close ones are mixed straight and normalised.
    """
    start, end = _unit(start), _unit(end)
    cosine = (start * end).sum(-1, keepdims=True)
    end, cosine = np.where(cosine < 0, -end, end), np.abs(cosine)
    angle = np.arccos(np.minimum(cosine, 1))
    part = np.asarray(part)[..., None]
    sine = np.where(cosine > 0.9995, 1, np.sin(angle))
    first = np.where(cosine > 0.9995, 1 - part, np.sin((1 - part) * angle) / sine)
    second = np.where(cosine > 0.9995, part, np.sin(part * angle) / sine)
    return _unit(first * start + second * end)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _TINY)
