"""Sampling of diffusion nets that say the clean motion x0, in numpy: any net that can be called can dance.

Steps are numbered 0 to 999, 0 the least noisy (Ho et al., arXiv 2006.11239); the schedule is the cosine of Nichol and
Dhariwal (arXiv 2102.09672, eq. 17).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeflock.runtime.extras import needs
from edgeflock.runtime.motion.rotations import (
    matrix_of_6d,
    matrix_of_quaternion,
    quaternion_of_matrix,
    six_of_matrix,
    slerp,
)
from edgeflock.runtime.motion.skeleton import BODY

STEPS = 1000
HALF = 75
"""Frames that a chunk of 150 shares with the next."""

Denoise = Callable[[np.ndarray, int], np.ndarray]
"""(noisy chunks (C, N, T, 151), step) -> their clean motion."""


def alpha_bars() -> np.ndarray:
    """How much of x0's power is left after each of the 1000 steps: float64 (1000,), falling from 0.99996 to 2e-9."""

    def cosine(t: np.ndarray) -> np.ndarray:
        return np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2

    t = np.arange(STEPS) / STEPS
    return np.cumprod(1 - np.minimum(1 - cosine(t + 1 / STEPS) / cosine(t), 0.999))


def noised(clean: np.ndarray, noise: np.ndarray, step: int) -> np.ndarray:
    """What is left of x0 after a step: sqrt(a) x0 + sqrt(1 - a) noise."""
    left = alpha_bars()[step]
    return np.sqrt(left) * clean + np.sqrt(1 - left) * noise


def sample(
    denoise: Denoise, noise: np.ndarray, steps: int = 50, order: int = 1, couple: Callable | None = None
) -> np.ndarray:
    """Motion out of noise, without further chance.

    Parameters
    ----------
    denoise : callable
        See `Denoise`.
    noise : ndarray
        (C, N, T, 151), which is all that differs between two samples.
    steps : int
        How often the net is asked: at 1000/steps, 2000/steps, ... and the noisiest step.
    order : {1, 2}
        1 is DDIM with eta 0 (Song et al., arXiv 2010.02502, eq. 12), 2 is DPM-Solver++(2M) (Lu et al., arXiv
        2211.01095, algorithm 2), which needs fewer steps.
    couple : callable, optional
        (x, x0) -> (x, x0) after every step, as `joined`.
    """
    left = alpha_bars()
    path = np.unique(np.linspace(0, STEPS - 1, steps + 1).round().astype(int)[1:])[::-1]
    signal, spread = np.sqrt(left), np.sqrt(1 - left)
    x, before = noise.astype(np.float32), None
    for i, step in enumerate(path):
        clean = denoise(x, int(step))
        if couple is not None:
            x, clean = couple(x, clean)
        if i + 1 == len(path):
            return clean
        after = path[i + 1]
        # log of signal over noise grows from here to the next step
        grown = np.log(signal[after] / spread[after]) - np.log(signal[step] / spread[step])
        guess = clean
        if order == 2 and before is not None and i + 2 < len(path):
            last = np.log(signal[step] / spread[step]) - np.log(signal[path[i - 1]] / spread[path[i - 1]])
            guess = clean + (clean - before) * grown / (2 * last)
        x = (spread[after] / spread[step] * x - signal[after] * np.expm1(-grown) * guess).astype(np.float32)
        before = clean
    raise AssertionError("a path has at least one step")


def joined(x: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chunks whose shared halves agree: dancers matched, then blended from the one chunk to the next.

    The matching is the cheapest in the distance of the poses in the shared frames (Hungarian method), the blend goes
    over all shared frames, on the sphere for rotations. x follows the matching; its noise stays.

    Parameters
    ----------
    x, clean : ndarray
        (C, N, 150, 151), each chunk's second half at the time of the next one's first.
    """
    with needs("long dances", "dance"):
        from scipy.optimize import linear_sum_assignment

    x, clean = x.copy(), clean.copy()
    for k in range(1, len(clean)):
        ends, starts = clean[k - 1][:, HALF:], clean[k][:, :HALF]
        cost = np.linalg.norm((ends[:, None] - starts[None]).reshape(len(ends), len(starts), -1), axis=-1)
        order = linear_sum_assignment(cost)[1]
        x[k], clean[k] = x[k][order], clean[k][order]
    for k in range(1, len(clean)):
        shared = blend(clean[k - 1][:, HALF:], clean[k][:, :HALF])
        clean[k - 1][:, HALF:], clean[k][:, :HALF] = shared, shared
    return x, clean


def following(known: np.ndarray) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Coupling for `sample` that lets a chunk (1, N, 150, 151) begin as the one before goes on, known (N, 75, 151)."""

    def couple(x: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        clean = clean.copy()
        clean[0, :, :HALF] = blend(known, clean[0, :, :HALF])
        return x, clean

    return couple


def blend(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rows (N, T, 151) that go from the first to the second over all frames, rotations by slerp, the rest straight."""
    part = ((np.arange(first.shape[1]) + 0.5) / first.shape[1])[:, None]
    mixed = first * (1 - part) + second * part
    joints = len(BODY.parents)
    start, end = (
        quaternion_of_matrix(matrix_of_6d(rows[..., 3 : 3 + 6 * joints].reshape(*rows.shape[:2], joints, 6)))
        for rows in (first, second)
    )
    six = six_of_matrix(matrix_of_quaternion(slerp(start, end, part)))
    mixed[..., 3 : 3 + 6 * joints] = six.reshape(*first.shape[:2], -1)
    return mixed.astype(first.dtype)


def chunk_starts(frames: int, chunk: int = 2 * HALF) -> list[int]:
    """First frames of the chunks, each half over the one before, that cover so many frames."""
    return list(range(0, max(1, frames - chunk + HALF), HALF))


def assembled(chunks: np.ndarray, frames: int) -> np.ndarray:
    """Rows (N, frames, 151) of chunks (C, N, 150, 151) whose shared halves agree."""
    return np.concatenate([chunks[0], *(chunk[:, HALF:] for chunk in chunks[1:])], 1)[:, :frames]
