"""Pictures: what is drawn where."""

import numpy as np
import pytest

from edgeflock.export.fleet.plots import _lines, layout
from edgeflock.runtime.fleet.plan.network import SiloNetwork
from edgeflock.runtime.fleet.plan.schedule import plan_of


def test_silos_without_positions_are_laid_out_by_latency():
    places = np.random.default_rng(0).uniform(0, 30, (8, 2))
    latency = np.linalg.norm(places[:, None] - places, axis=2)
    network = SiloNetwork("x", tuple("abcdefgh"), np.empty((0, 2), int), latency, np.zeros((8, 8)))
    at = layout(network)
    assert np.linalg.norm(at[:, None] - at, axis=2) == pytest.approx(latency)


def test_opposite_edges_are_one_line(gaia, gaia_delays):
    assert len(_lines(plan_of(gaia.silos, gaia_delays, 5, "mst"))) == 10
    assert len(_lines(plan_of(gaia.silos, gaia_delays, 5))) == 11
