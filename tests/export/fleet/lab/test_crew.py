"""Robots of the laboratory as processes on loopback, the way `fleet soak` and `bench transports` run them."""

import numpy as np
import pytest

from edgeflock.export.fleet.lab.crew import Crew
from edgeflock.export.fleet.lab.soak import Memory
from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.plan.schedule import make_plan
from edgeflock.runtime.fleet.transports.memory import Faults

PLAN = make_plan(["a", "b"], np.array([[0, 5], [5, 0.0]]), 1, "mst")


def test_two_robots_do_all_rounds_over_a_damaged_link_and_note_each_models_way(tmp_path):
    faults = Faults(drop=0.1, duplicate=0.1, corrupt=0.05, delay_ms=(0, 5))
    with Crew(tmp_path, PLAN, PeerConfig(rounds=6, settle=6), weights=500, faults=faults) as crew:
        crew.start()
        for rounds in crew.running():
            assert set(rounds) == {"a", "b"}
    assert [crew.end(name)["round"] for name in "ab"] == [12, 12]
    assert [event["round"] for event in crew.events("a", "mixed")] == list(range(1, 13))
    taken = crew.transfers("a")
    assert 1 <= len(taken) <= 12 and all(one["to"] == "b" and one["ms"] > 0 for one in taken)
    assert np.abs(crew.model("a") - crew.model("b")).max() < 0.05


def test_a_robot_that_fails_is_told_with_its_last_words(tmp_path):
    with Crew(tmp_path, PLAN, PeerConfig(rounds=6), weights=500) as crew:
        (tmp_path / "a.json").write_text("{}")
        crew.start("a")
        with pytest.raises(EdgeflockError, match=r"robot a ended with 1: .*Field required"):
            for _ in crew.running():
                pass


def test_the_slope_of_memory_is_that_of_the_rounds_after_the_first_quarter():
    rounds = list(range(0, 1000, 10))
    assert Memory(rounds, [50 + 0.003 * max(k, 200) for k in rounds]).slope == pytest.approx(3, rel=0.01)
    assert Memory(rounds, [50 + min(k, 100) for k in rounds]).slope == pytest.approx(0, abs=1e-6)
