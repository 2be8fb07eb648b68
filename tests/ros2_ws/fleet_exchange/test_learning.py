"""Three robots as processes, over real ROS 2 topics: together they learn what none of them has seen alone."""

import json

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("edgeflock_msgs", reason="edgeflock_msgs has to be compiled (.ci/messages)")

from edgeflock_msgs.msg import FleetStatus

ROUNDS, SETTLE, STEPS = 10, 3, 4


def alone(fleet, name):
    """Error of a robot that takes as many steps by itself, on all curves; rad."""
    import torch

    from edgeflock.export.fleet.learners.steering import SteeringTask

    torch.set_num_threads(1)
    task = SteeringTask(
        silos=1, data=(fleet.folder / name,), val=(fleet.folder / "val",), batch=4, augment=False, bf16=False
    )
    learner = task.learner(0)
    learner.load(task.start())
    for round_ in range(1, ROUNDS + 1):
        learner.train(round_, STEPS)
    return learner.evaluate(learner.model())["rmse"]


def test_the_averaged_model_errs_less_than_each_robot_alone(graph, fleet):
    given = {"rounds": ROUNDS, "settle": SETTLE, "steps": STEPS, "evaluate": 100, "worse": 100.0}
    heard, nodes = {}, {}
    for name in ("r1", "r2", "r3"):
        heard[name] = graph.listen(FleetStatus, f"/{name}/fleet/status")
        parameters = fleet.parameters(name, "together", "floor_s=60 ceiling_s=60", **given)
        nodes[name] = graph.start("fleet_exchange.fleet_node", f"/{name}", **parameters)
    local = {name: alone(fleet, name) for name in nodes}

    def done(name):
        assert nodes[name].poll() is None, nodes[name].log.read_text()
        last = heard[name][-1][1] if heard[name] else None
        return last is not None and last.round == ROUNDS + SETTLE and last.best > 0

    assert graph.until(lambda: all(map(done, nodes)), 480), {n: p.log.read_text() for n, p in nodes.items()}
    for name in nodes:
        log = fleet.folder / "together" / name / "events.jsonl"
        events = [json.loads(line) for line in log.read_text().splitlines()]
        last = heard[name][-1][1]
        assert last.best < min(local.values()) / 1.2, (last.best, local)
        assert not [e for e in events if e["event"] == "rejected"]
        mixed = [e for e in events if e["event"] == "mixed"]
        assert [e["round"] for e in mixed] == list(range(1, ROUNDS + SETTLE + 1))
        neighbours = {n for e in mixed for n in e["heard"]}
        assert neighbours == ({"r1", "r3"} if name == "r2" else {"r2"})
        # Every model crossed a topic: none came another way.
        model_bytes = 1_100_000
        for link in last.links:
            assert (link.received_bytes > model_bytes * ROUNDS) == (link.robot in neighbours), link
