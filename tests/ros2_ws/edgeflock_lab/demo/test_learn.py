"""The nets of a demonstration: the same start and steps for all, what was cut off goes on, processes that exchange."""

import asyncio

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgeflock_lab.demo import learn
from edgeflock_lab.demo.scene import ALL, HOMES, alone, fleet

torch = pytest.importorskip("torch")
pytest.importorskip("networkx")


def test_all_learn_with_the_same_steps_each_from_its_frames_and_one_from_all(scene, recorded):
    tasks = learn.tasks_apart(scene, recorded)
    robots = {net: [robot for robot in HOMES if net in (alone(robot), ALL)] for net in (*map(alone, HOMES), ALL)}
    assert {net: task.data for net, task in tasks.items()} == {
        net: tuple(recorded.data(robot, "train") for robot in whose) for net, whose in robots.items()
    }
    assert {net: task.batch for net, task in tasks.items()} == {net: 2 * len(whose) for net, whose in robots.items()}
    assert len({(task.lr, task.seed, task.net, task.bf16, task.init) for task in tasks.values()}) == 1


def test_a_net_that_was_cut_off_comes_out_as_a_learner_that_never_mixes(scene, recorded, monkeypatch, tmp_path):
    monkeypatch.setattr(learn, "SAVE_EVERY", 1)
    task = learn.tasks_apart(scene, recorded)[alone("r2")]

    def cut(done):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(learn.learn(task, scene, tmp_path, cut))
    rounds = []
    asyncio.run(learn.learn(task, scene, tmp_path, rounds.append))
    assert rounds == [2]
    asyncio.run(learn.learn(task, scene, tmp_path, rounds.append))  # it is there
    assert rounds == [2, 2]

    torch.set_num_threads(1)
    learner = task.learner(0)
    for round_ in (1, 2):
        learner.train(round_, scene.steps)
    ours, expected = load_file(tmp_path / "model.safetensors"), learner.weights(learner.model())
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_three_processes_learn_together_and_agree_and_are_not_asked_again(scene, recorded, monkeypatch, domain):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    seen = {}
    learn.learn_together(scene, recorded, lambda net, done: seen.update({net: done}))
    assert seen == {fleet(robot): scene.rounds + scene.settle for robot in HOMES}
    assert recorded.transport.read_text() == (learn.ROS if learn.over_ros() else learn.TCP)
    assert learn.apart(recorded) < learn.SAME
    start = learn.tasks_apart(scene, recorded)[alone("r1")].build()
    learnt = load_file(recorded.weights(fleet("r1")))
    assert any(np.abs(learnt[name] - value.numpy()).max() > 1e-4 for name, value in start.state_dict().items())
    before = {robot: recorded.weights(fleet(robot)).stat().st_mtime_ns for robot in HOMES}
    learn.learn_together(scene, recorded, lambda net, done: None)
    assert before == {robot: recorded.weights(fleet(robot)).stat().st_mtime_ns for robot in HOMES}
