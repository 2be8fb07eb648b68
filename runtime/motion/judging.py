"""All measures of some dances at once, beside dances that are known to be good."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.motion.diffusion import HALF
from edgeflock.runtime.motion.group import RATE, Group
from edgeflock.runtime.motion.measures import (
    diversity,
    energy,
    foot_contact,
    frechet,
    group_beat_match,
    group_correlation,
    group_features,
    kinetic_features,
    skate,
    synchrony,
    touches,
)

WINDOW = 150
"""Frames that are judged at a time: the 5 s of a chunk."""
_CANON = 45  # frames by which a canon may lag

Dance = tuple[Group, np.ndarray]
"""A group at 30 Hz and the beats of its music, s."""


def windows(dances: Iterable[Dance]) -> list[Dance]:
    """Dances cut to whole windows; one that is shorter is left out.

    Raises
    ------
    InputError
        None is as long as a window.
    """
    found = []
    for group, beats in dances:
        for start in range(0, len(group) - WINDOW + 1, WINDOW):
            found.append((group.frames(start, start + WINDOW), beats - start / RATE))
    if not found:
        raise InputError(f"expected dances of at least {WINDOW / RATE:g} s, got none.")
    return found


def judge(dances: Iterable[Dance], reference: Iterable[Dance] | None = None) -> dict[str, float]:
    """Mean of every measure over all windows; FID, GMR and GenDiv need a reference.

    Parameters
    ----------
    dances, reference : iterable of Dance
        Of one skeleton.

    Raises
    ------
    InputError
        See `windows`.
    """
    made = windows(dances)
    places = [group.joints() for group, _ in made]
    skeleton = made[0][0].skeleton
    match = [group_beat_match(at, beats, RATE) for at, (_, beats) in zip(places, made, strict=True)]
    touching = [touches(at, skeleton.parents) for at in places]
    figures = {
        "windows": float(len(made)),
        "MMC": float(np.mean([one for one, _ in match])),
        "MMC above chance": float(np.mean([one for _, one in match])),
        "synchrony": float(np.mean([synchrony(at) for at in places])),
        "synchrony, best lag": float(np.mean([synchrony(at, _CANON) for at in places])),
        "GMC": float(np.mean([group_correlation(at, RATE) for at in places])),
        "TIF": float(np.mean([count for count, _ in touching])),
        "nearest, m": float(min(gap for _, gap in touching)),
        "PFC": float(np.mean([foot_contact(one, skeleton.feet, RATE) for at in places for one in at])),
        "foot skate, m/s": float(np.mean([skate(at, skeleton.feet, RATE) for at in places])),
        "energy, m/s": float(np.mean([energy(at, RATE) for at in places])),
    }
    if reference is not None:
        known = [group.joints() for group, _ in windows(reference)]
        kinetic, other = (np.concatenate([kinetic_features(at, RATE) for at in every]) for every in (known, places))
        mean, scale = kinetic.mean(0), kinetic.std(0) + 1e-10
        figures["FID"] = frechet(kinetic, other) if min(len(kinetic), len(other)) > 1 else float("nan")
        figures["GenDiv"] = diversity((other - mean) / scale)
        figures["within-group diversity"] = float(
            np.mean([diversity((kinetic_features(at, RATE) - mean) / scale) for at in places])
        )
        groups, others = (np.array([group_features(at, RATE) for at in every]) for every in (known, places))
        figures["GMR"] = frechet(groups, others) if min(len(groups), len(others)) > 1 else float("nan")
    return figures


def seams(group: Group) -> tuple[float, float]:
    """Largest jump of a joint, m a frame, at the borders of chunks, and the 99th percentile of all others."""
    jumps = np.linalg.norm(np.diff(group.joints(), axis=1), axis=-1).max((0, 2))
    borders = np.zeros(len(jumps), bool)
    borders[HALF - 1 :: HALF] = True
    if not borders.any() or borders.all():
        return 0.0, float(jumps.max(initial=0))
    return float(jumps[borders].max()), float(np.percentile(jumps[~borders], 99))
