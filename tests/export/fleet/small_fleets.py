"""Small fleets of real peers in virtual time."""

import numpy as np

from edgeflock.export.fleet.faults import Fleet, towards_points
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.plan.schedule import make_plan
from edgeflock.runtime.fleet.transports.memory import Faults

SIZE = 30
CALM = Faults(delay_ms=(1, 3))


def plan_of(n, base, t=2, seed=0):
    delays = np.random.default_rng(seed).uniform(5, 40, (n, n))
    return make_plan([f"r{i}" for i in range(n)], delays + delays.T, t, base)


def fleet_of(n=3, base="mst", t=2, seed=0, faults=CALM, train=None, rounds=6, settle=2, size=SIZE, **more):
    config = {key: more.pop(key) for key in list(more) if key in PeerConfig.model_fields}
    plan = plan_of(n, base, t, seed)
    train = train or towards_points([*plan.roster, *more.get("extra", ())], size, seed)
    config = PeerConfig(rounds=rounds, settle=settle, **config)
    fleet = Fleet(plan, config, train, np.ones(size, np.float32), seed, faults, **more)
    fleet.keep_mixed = True
    return fleet


def finished(fleet):
    fleet.start()
    assert fleet.run(), {name: robot.peer.status() for name, robot in fleet.robots.items() if robot.peer}
    return fleet
