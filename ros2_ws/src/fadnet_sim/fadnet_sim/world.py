"""Worlds made from a seed: what they hold in common, and how they become a MuJoCo model.

Odd seeds are for training, even seeds below 1000 for validation. The project never uses seeds from 9000 up: they
are left for those who check it.
"""

from __future__ import annotations

import numpy as np

from edgeflock.runtime.errors import InputError
from fadnet_sim.scene import KINDS, Cover, Kind, Scene, World, drawn


def make_world(kind: Kind, seed: int, cover: Cover = drawn) -> World:
    """Build the world of a seed.

    Parameters
    ----------
    kind : {"indoor", "outdoor", "tape", "indoor-wide", "outdoor-wide"}
        A building with winding corridors, a road with lane lines, or a room with a track of tape on its floor. Wide: of
        a wider range of widths, with tighter bends and square corners.
    seed : int
        Not negative. The same seed gives the same world, texture by texture.
    cover : callable
        What becomes of walls, floors and grounds, see `scene.Cover`; the way stays the same.

    Raises
    ------
    InputError
        For another kind or a negative seed.
    """
    from . import indoor, outdoor, tape

    builders = {
        "indoor": indoor.build,
        "outdoor": outdoor.build,
        "tape": tape.build,
        "indoor-wide": indoor.build_wide,
        "outdoor-wide": outdoor.build_wide,
    }
    if kind not in KINDS or seed < 0:
        raise InputError(f"Expected a world {'|'.join(KINDS)} and a seed >= 0, got {kind!r} and {seed}.")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    return builders[kind](rng, seed, Scene(cover))
