import sys
from pathlib import Path

import numpy as np
import pytest

from edgeflock.runtime.fleet.plan.delay import Delays, Workload
from edgeflock.runtime.fleet.plan.network import city_network

sys.path.append(str(Path(__file__).parent))  # `quadratic`, also for the processes that simulations start

NETWORKS = Path(__file__).parents[4] / "shared" / "networks"
FEMNIST = Workload(4843243, 4.6)


@pytest.fixture(scope="session")
def femnist():
    return FEMNIST


@pytest.fixture(scope="session")
def networks():
    """The literature's .gml files, which edgeflock does not ship."""
    if not NETWORKS.is_dir():
        pytest.skip("the published networks are not here")
    return NETWORKS


@pytest.fixture(scope="session")
def gaia():
    return city_network("gaia")


@pytest.fixture(scope="session")
def gaia_delays(gaia):
    return Delays.of(gaia, FEMNIST)


@pytest.fixture
def scattered():
    """Delays of n silos strewn over a plane, symmetric, 5 to about 60 ms."""

    def make(n, seed=0, compute_ms=4.6):
        places = np.random.default_rng(seed).uniform(0, 40, (n, 2))
        distance = np.linalg.norm(places[:, None] - places, axis=2)
        return Delays(compute_ms, (distance + 1) * (1 - np.eye(n)), np.zeros((n, n)), 0.2)

    return make
