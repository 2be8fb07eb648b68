"""Measures of group dances, each with its formula, in numpy.

Published figures are not comparable with these, nor with each other: the public kinetic features of most papers divide
a position by a time where they mean a difference (docs/dance.md). Places are (T, J, 3) of one dancer or (N, T, J, 3) of
a group, in m, y up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIGMA = 2.12
"""Frames at 30 Hz by which a beat may be missed (GCD's evaluation)."""
_ORDER = 5  # frames to each side over which a motion beat is the slowest
_WINDOW = 2  # frames to each side over which kinetic features are smoothed


def kinetic_features(places: np.ndarray, rate: float) -> np.ndarray:
    """Mean squared horizontal and vertical speed, and mean acceleration, of each joint: (..., 3 J).

    Onuma et al., "FMDistance", Eurographics 2008, as in Google's AIST++ API: differences over a window of 2 frames.
    """
    speed = np.gradient(_smooth(places), axis=-3) * rate
    acceleration = np.gradient(speed, axis=-3) * rate
    flat = (speed[..., 0::2] ** 2).sum(-1).mean(-2)
    upright = (speed[..., 1] ** 2).mean(-2)
    return np.concatenate([flat, upright, np.linalg.norm(acceleration, axis=-1).mean(-2)], -1)


def group_features(places: np.ndarray, rate: float) -> np.ndarray:
    """log(1 + 1.5 E) of the kinetic features' mean over a group's dancers (3 J,): what GMR compares."""
    return np.log1p(1.5 * kinetic_features(places, rate).mean(0))


def frechet(reference: np.ndarray, made: np.ndarray) -> float:
    """Frechet distance of two sets of features (n, D) as Gaussians, in deviations of the reference.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Heusel et al., arXiv 1706.08500). It falls with the number of
    samples even for equal distributions: compare at the same number only.
    """
    mean, scale = reference.mean(0), reference.std(0) + 1e-10
    one, other = (reference - mean) / scale, (made - mean) / scale
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (one, other))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    mixed = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    apart = ((one.mean(0) - other.mean(0)) ** 2).sum()
    return float(apart + np.trace(first) + np.trace(second) - 2 * mixed)


def diversity(features: np.ndarray) -> float:
    """GenDiv: mean distance between any two of some features (n, D)."""
    if len(features) < 2:
        return 0.0
    apart = np.linalg.norm(features[:, None] - features[None], axis=-1)
    return float(apart.sum() / (len(features) * (len(features) - 1)))


def motion_beats(places: np.ndarray) -> np.ndarray:
    """Frames at which all joints of a dancer (T, J, 3) together are slowest within 5 frames to each side."""
    speed = np.linalg.norm(np.diff(places, axis=0), axis=-1).sum(-1)
    count = len(speed)
    slowest = np.ones(count, bool)
    for shift in range(1, _ORDER + 1):
        before = speed[np.maximum(np.arange(count) - shift, 0)]
        after = speed[np.minimum(np.arange(count) + shift, count - 1)]
        slowest &= (speed < before) & (speed < after)
    return np.flatnonzero(slowest)


def beat_match(moved: np.ndarray, music: np.ndarray) -> float:
    """MMC of one dancer: mean over motion beats of exp(-d^2 / 2 sigma^2), d frames to the nearest music beat.

    0 without motion beats or without music beats; the public scripts leave such dancers out, which flatters.
    """
    if not len(moved) or not len(music):
        return 0.0
    away = np.abs(moved[:, None] - music[None]).min(1)
    return float(np.exp(-(away**2) / (2 * SIGMA**2)).mean())


def group_beat_match(places: np.ndarray, beats: np.ndarray, rate: float) -> tuple[float, float]:
    """MMC of a group, and what is left above chance: (MMC - chance) / (1 - chance).

    Chance is the mean MMC of the same motion to the music begun at 16 other times (the beats turned in a circle).

    Parameters
    ----------
    places : ndarray
        (N, T, J, 3).
    beats : ndarray
        Of the music, s.
    rate : float
    """
    frames = places.shape[1]
    music = beats * rate
    music = music[(music >= 0) & (music < frames)]
    scale = 30 / rate  # sigma is in frames at 30 Hz
    moved = [motion_beats(one) * scale for one in places]
    match = float(np.mean([beat_match(one, music * scale) for one in moved]))
    period = float(np.median(np.diff(music))) if len(music) > 1 else float(frames)
    shifted = [(music + part * period) % frames for part in (np.arange(16) + 0.5) / 16]
    chance = float(np.mean([[beat_match(one, other * scale) for one in moved] for other in shifted]))
    return match, (match - chance) / max(1 - chance, 1e-9)


def synchrony(places: np.ndarray, most: int = 0) -> float:
    """How alike dancers (N, T, J, 3) move, -1..1: mean over pairs of the cosine of their velocities around the root.

    With `most` the best of all lags up to so many frames, for a canon. 1 for one dancer.
    """
    moves = np.diff(places - places[..., :1, :], axis=1).reshape(len(places), places.shape[1] - 1, -1)
    pairs = [(i, j) for i in range(len(moves)) for j in range(i)]
    if not pairs:
        return 1.0

    def alike(one: np.ndarray, other: np.ndarray) -> float:
        return float((one * other).sum() / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-9))

    def best(one: np.ndarray, other: np.ndarray) -> float:
        lags = range(min(most, len(one) - 2) + 1)
        return max(
            max(alike(one[lag:], other[: len(other) - lag]), alike(one[: len(one) - lag], other[lag:])) for lag in lags
        )

    return float(np.mean([best(moves[i], moves[j]) for i, j in pairs]))


def group_correlation(places: np.ndarray, rate: float) -> float:
    """GMC: for each pair the mean product of log(1 + 1.5 e_t) along the dynamic time warping of their places.

    It has no norm, so it measures how much a group moves before it measures how alike.
    """
    features = np.log1p(1.5 * _energy(places, rate))
    flat = places.reshape(*places.shape[:2], -1)
    scores = [
        (features[i][rows] * features[j][columns]).sum(-1).mean()
        for i in range(len(places))
        for j in range(i)
        for rows, columns in [_warped(flat[i][:-1], flat[j][:-1])]
    ]
    return float(np.mean(scores)) if scores else 0.0


def foot_contact(places: np.ndarray, feet: Sequence[int], rate: float) -> float:
    """PFC of one dancer (T, J, 3): 1e4 times the mean of root acceleration times both feet's speed (EDGE, eq. 9).

    Feet are left and right ankle, left and right toes; the root's downward acceleration does not count, and the
    acceleration is divided by its largest. 0 where the root never accelerates.
    """
    root = np.diff(places[:, 0], 2, axis=0) * rate**2
    root[:, 1] = np.maximum(root[:, 1], 0)
    push = np.linalg.norm(root, axis=-1)
    if push.max() < 1e-9:
        return 0.0
    speed = np.linalg.norm(np.diff(places[:, feet][..., [0, 2]], axis=0), axis=-1)[1:]
    left, right = speed[:, [0, 2]].min(1), speed[:, [1, 3]].min(1)
    return float((push / push.max() * left * right).mean() * 1e4)


def skate(places: np.ndarray, feet: Sequence[int], rate: float) -> float:
    """Mean horizontal speed of feet, m/s, while they are within 5 cm of the floor; 0 if none is."""
    feet_now = places[..., feet, :]
    speed = np.linalg.norm(np.diff(feet_now[..., [0, 2]], axis=-3), axis=-1) * rate
    low = feet_now[..., :-1, :, 1] < 0.05
    return float(speed[low].mean()) if low.any() else 0.0


def energy(places: np.ndarray, rate: float) -> float:
    """Mean speed of all joints, m/s."""
    return float(np.linalg.norm(np.diff(places, axis=-3), axis=-1).mean() * rate)


def touches(places: np.ndarray, parents: Sequence[int], radius: float = 0.07) -> tuple[float, float]:
    """TIF: pairs of dancers that touch, a frame, and the smallest distance between any two, m.

    Bodies are capsules of `radius` around the bones; the papers use meshes of a licensed body, and count each pair
    twice. The distance is negative where capsules overlap.

    Parameters
    ----------
    places : ndarray
        (N, T, J, 3).
    parents : sequence of int
    radius : float
        m.
    """
    if len(places) < 2:
        return 0.0, float("inf")
    bones = [(parent, joint) for joint, parent in enumerate(parents) if parent >= 0]
    starts, ends = (places[:, :, [bone[end] for bone in bones]] for end in (0, 1))
    middles, halves = (starts + ends) / 2, np.linalg.norm(ends - starts, axis=-1) / 2
    count, nearest = 0, np.inf
    for i in range(len(places)):
        for j in range(i):
            apart = np.linalg.norm(middles[i][:, :, None] - middles[j][:, None], axis=-1)
            least = apart - halves[i][:, :, None] - halves[j][:, None]  # no two bones are nearer than so

            def gaps(at: tuple[np.ndarray, ...], i: int = i, j: int = j) -> np.ndarray:
                frame, one, other = at
                return _segments(
                    starts[i][frame, one], ends[i][frame, one], starts[j][frame, other], ends[j][frame, other]
                )

            first = np.unravel_index([least.argmin()], least.shape)
            nearest = min(nearest, float(gaps(first)[0]))
            near = np.nonzero(least < max(nearest, 2 * radius))
            gap = gaps(near)
            count += len(np.unique(near[0][gap < 2 * radius]))
            nearest = min(nearest, float(gap.min(initial=np.inf)))
    return count / places.shape[1], nearest - 2 * radius


def _smooth(places: np.ndarray) -> np.ndarray:
    """Mean over a window, which is shorter at the ends."""
    frames = places.shape[-3]
    total = np.concatenate([np.zeros_like(places[..., :1, :, :]), np.cumsum(places, -3)], -3)
    first = np.maximum(np.arange(frames) - _WINDOW // 2, 0)
    after = np.minimum(np.arange(frames) + _WINDOW // 2 + 1, frames)
    return (total[..., after, :, :] - total[..., first, :, :]) / (after - first)[:, None, None]


def _energy(places: np.ndarray, rate: float) -> np.ndarray:
    """Kinetic features frame by frame (N, T - 1, 3 J)."""
    speed = np.diff(places, axis=1) * rate
    acceleration = np.gradient(speed, axis=1) * rate
    parts = [(speed[..., 0::2] ** 2).sum(-1), speed[..., 1] ** 2, np.linalg.norm(acceleration, axis=-1)]
    return np.concatenate(parts, -1)


def _warped(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the cheapest path through the distances of two sequences (T, D)."""
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    cost = np.sqrt(np.maximum(squares, 0))
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    for diagonal in range(rows + columns - 1):
        i = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        j = diagonal - i
        total[i + 1, j + 1] = cost[i, j] + np.minimum(np.minimum(total[i, j], total[i, j + 1]), total[i + 1, j])
    path = [(rows - 1, columns - 1)]
    while path[-1] != (0, 0):
        i, j = path[-1]
        path.append(min(((i - 1, j - 1), (i - 1, j), (i, j - 1)), key=lambda at: total[at[0] + 1, at[1] + 1]))
    return tuple(np.array(path).T)


def _segments(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Distances (n,) of segments a-b (n, 3) from c-d (n, 3); Ericson, "Real-Time Collision Detection", 5.1.9."""
    u, v, w = b - a, d - c, a - c
    uu, vv, uv = (u * u).sum(-1) + 1e-12, (v * v).sum(-1) + 1e-12, (u * v).sum(-1)
    uw, vw = (u * w).sum(-1), (v * w).sum(-1)
    away = uu * vv - uv**2
    s = np.clip(np.where(away > 1e-9, (uv * vw - uw * vv) / np.maximum(away, 1e-9), 0), 0, 1)
    t = (uv * s + vw) / vv
    s = np.where(t < 0, np.clip(-uw / uu, 0, 1), np.where(t > 1, np.clip((uv - uw) / uu, 0, 1), s))
    t = np.clip(t, 0, 1)
    return np.linalg.norm(w + s[..., None] * u - t[..., None] * v, axis=-1)
