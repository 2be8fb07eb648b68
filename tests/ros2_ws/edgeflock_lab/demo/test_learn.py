"""The nets of a demonstration: the same start and steps for all, what was cut off goes on, processes that exchange."""

import asyncio

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgeflock_lab.demo import learn
from edgeflock_lab.demo.scene import ALL, HOMES, alone, fleet

pytest.importorskip("torch")
pytest.importorskip("networkx")
from edgeflock.export.fleet.learners.steering import SteeringTask


def test_alone_a_net_does_the_steps_of_a_robot_that_never_mixes(scene, recorded):
    seen = {}
    learn.learn_apart(scene, recorded, 2, lambda net, done: seen.update({net: done}))
    assert seen == {net: scene.rounds for net in (*map(alone, HOMES), ALL)}
    task = SteeringTask(
        silos=1, data=(recorded.data("r1", "train"),), val=(recorded.data("r1", "val"),), batch=2, lr=scene.lr,
        bf16=False,
    )  # fmt: skip
    learner = task.learner(0)
    for round_ in (1, 2):
        learner.train(round_, scene.steps)
    ours, expected = load_file(recorded.weights(alone("r1"))), learner.weights(learner.model())
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_net_that_was_cut_off_comes_out_as_one_that_was_not(scene, recorded, monkeypatch, tmp_path):
    monkeypatch.setattr(learn, "SAVE_EVERY", 1)
    data, val = (recorded.data("r2", "train"),), (recorded.data("r2", "val"),)
    task = SteeringTask(silos=1, data=data, val=val, batch=2, bf16=False)

    def cut(done):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(learn.learn(task, scene, tmp_path / "cut", cut))
    rounds = []
    asyncio.run(learn.learn(task, scene, tmp_path / "cut", rounds.append))
    assert rounds == [2]
    asyncio.run(learn.learn(task, scene, tmp_path / "whole", rounds.append))
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("cut", "whole"))
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_three_processes_learn_together_and_agree_and_are_not_asked_again(scene, recorded, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "77")
    seen = {}
    learn.learn_together(scene, recorded, lambda net, done: seen.update({net: done}))
    assert seen == {fleet(robot): scene.rounds + scene.settle for robot in HOMES}
    assert learn.apart(recorded) < learn.SAME
    start = SteeringTask(silos=1, data=(recorded.data("r1", "train"),), val=(recorded.data("r1", "val"),)).build()
    learnt = load_file(recorded.weights(fleet("r1")))
    assert any(np.abs(learnt[name] - value.numpy()).max() > 1e-4 for name, value in start.state_dict().items())
    before = {robot: recorded.weights(fleet(robot)).stat().st_mtime_ns for robot in HOMES}
    learn.learn_together(scene, recorded, lambda net, done: None)
    assert before == {robot: recorded.weights(fleet(robot)).stat().st_mtime_ns for robot in HOMES}
