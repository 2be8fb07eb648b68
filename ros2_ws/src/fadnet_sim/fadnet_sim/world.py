"""Worlds made from a seed: what they hold in common, and how they become a MuJoCo model.

Odd seeds are for training, even seeds below 1000 for validation. The project never uses seeds from 9000 up: they
are left for those who check it.
"""

from __future__ import annotations

import numpy as np

from edgeflock.runtime.errors import InputError
from fadnet_sim.scene import Kind, World


def make_world(kind: Kind, seed: int) -> World:
    """Build the world of a seed.

    Parameters
    ----------
    kind : {"indoor", "outdoor"}
        A building with winding corridors, or a road with lane lines.
    seed : int
        Not negative. The same seed gives the same world, texture by texture.

    Raises
    ------
    InputError
        For another kind or a negative seed.
    """
    from . import indoor, outdoor

    builders = {"indoor": indoor.build, "outdoor": outdoor.build}
    if kind not in builders or seed < 0:
        raise InputError(f"Expected a world indoor|outdoor and a seed >= 0, got {kind!r} and {seed}.")
    rng = np.random.default_rng([seed, list(builders).index(kind)])
    return builders[kind](rng, seed)
