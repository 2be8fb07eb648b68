"""A silo that learns to steer: its own frames, chance and Adam; what a fleet exchanges and what stays."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeflock.export.datasets.base import SteeringDataset
from edgeflock.export.fleet.learners import steering as steering_learner
from edgeflock.export.fleet.learners.steering import SteeringTask
from edgeflock.export.fleet.workers import Worker
from edgeflock.export.training.loop.checkpoint import load_checkpoint
from edgeflock.runtime.errors import DataError, InputError

SILOS, EACH = 3, 12


def frames(n, seed):
    """200x200 frames with a bright lane; the answer is where it is. Every group has its own light."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-0.4, 0.4, n).astype(np.float32)
    groups = (np.arange(n) * SILOS // n).astype(np.int32)
    lane = np.exp(-(((np.arange(200) - 99.5) / 100 - place[:, None]) ** 2) / 0.02)
    image = 50 + 10 * groups[:, None, None] + 120 * lane[:, None, :] + rng.normal(0, 8, (n, 200, 200))
    return SteeringDataset(
        image.clip(0, 255).astype(np.uint8), place, groups, ["a", "b", "c"], [str(i) for i in range(n)]
    )


@pytest.fixture(autouse=True)
def data(monkeypatch):
    torch.set_num_threads(1)
    sets = {"train": frames(SILOS * EACH, 0), "val": frames(16, 1)}
    monkeypatch.setattr(steering_learner, "open_dataset", lambda path: sets[path.name])
    steering_learner.read.cache_clear()
    steering_learner.training.cache_clear()


def task(**changes):
    settings = {"silos": SILOS, "data": (Path("train"),), "val": (Path("val"),), "batch": 4, "augment": False}
    return SteeringTask(**(settings | changes))


def test_all_silos_start_alike_and_learn_apart():
    silos = [task().learner(i) for i in range(2)]
    start = task().start()
    for silo in silos:
        assert np.array_equal(silo.model(), start)
        silo.load(start)
        silo.train(1, 1)
    assert not np.array_equal(silos[0].model(), silos[1].model())


def test_what_a_silo_learns_depends_on_seed_silo_and_round_alone():
    def trained(seed):
        silo = task(seed=seed).learner(1)
        for k in (1, 2):
            silo.train(k, 1)
        return silo.model()

    model = trained(0)
    assert np.array_equal(model, trained(0))
    assert not np.array_equal(model, trained(1))


def test_an_epoch_takes_every_frame_once():
    silo = task().learner(2)
    seen = np.concatenate([silo._indices(step) for step in range(EACH // 4)])
    assert sorted(seen) == list(range(2 * EACH, 3 * EACH))


def test_a_state_goes_on_where_it_was_taken():
    first, other = task().learner(0), task().learner(0)
    first.train(1, 2)
    kept, model = first.state(), first.model()
    other.restore(kept)
    other.load(model)
    assert first.train(2, 2) == other.train(2, 2)
    assert np.array_equal(first.model(), other.model())


def test_centralised_training_follows_the_mean_gradient_of_a_batch_per_silo():
    central, by_hand = (task(net="dronet", bf16=False).central() for _ in range(2))
    assert len(central._indices(0)) == SILOS * 4
    central.train(1, 1)
    torch.manual_seed(int(np.random.SeedSequence([0, SILOS, 1]).generate_state(1)[0]))  # of the dropout
    rng = np.random.default_rng([0, SILOS, 0])
    by_hand._net.train()
    lessons = by_hand._lessons
    loss = sum(lessons.loss(by_hand._net, lessons.draw(part, rng)) for part in np.split(central._indices(0), SILOS))
    (loss / SILOS).backward()
    for ours, mean in zip(central._net.parameters(), by_hand._net.parameters(), strict=True):
        assert ours.grad == pytest.approx(mean.grad, rel=1e-3, abs=1e-5)


def test_evaluating_another_model_leaves_the_own_alone():
    silo = task().learner(0)
    silo.train(1, 1)
    before, state = silo.model(), silo.state()
    assert silo.evaluate(before) != silo.evaluate(task(seed=5).start())
    assert np.array_equal(silo.model(), before)
    assert all(np.array_equal(value, silo.state()[name]) for name, value in state.items())


def test_a_fleet_learns_and_its_mean_can_be_exported(tmp_path):
    worker = Worker()
    learnt = task(silos=2, lr=3e-3)
    worker.start(learnt, [0, 1], central=False)
    models = np.stack([learnt.start()] * 2)
    for k in range(1, 31):
        models[:] = worker.train(models, k, 1)[0].mean(axis=0)
    [found] = worker.evaluate([(0, models[0])])
    assert found["rmse"] < 0.75 * learnt.describe()["baselines"]["constant"]
    weights = {name: torch.from_numpy(value) for name, value in worker.weights(0, models[0]).items()}
    torch.save(weights, tmp_path / "average.pth")
    assert load_checkpoint(tmp_path / "average.pth")[0] == "fadnet"


@pytest.mark.parametrize("policy", ["local", "re-estimate"])
def test_statistics_that_are_not_mixed_are_not_in_the_model(policy):
    silo = task(batch_norm=policy).learner(0)
    assert silo.size < task().learner(0).size == len(task().start())
    silo.load(task(batch_norm=policy).start())
    silo.train(1, 1)
    assert np.isfinite(silo.evaluate(silo.model())["rmse"])


def test_only_the_head_is_trained_and_exchanged():
    silo = task(net="dronet", layers="fc").learner(0)
    before = silo.state()
    silo.train(1, 1)
    after = silo.state()
    changed = {name for name, value in before.items() if not np.array_equal(value, after[name])}
    assert {name for name in changed if name.startswith("net.")} <= {"net.fc.weight", "net.fc.bias"} and changed
    assert silo.size == sum(value.size for name, value in before.items() if name.startswith("net.fc."))


def test_what_a_run_keeps():
    described = task().describe()
    assert [share["groups"] for share in described["shares"]] == [["a"], ["b"], ["c"]]
    assert set(described["baselines"]) == {"random", "constant"}
    assert described["data"]["train"]["frames"] == SILOS * EACH
    assert task(samples=18).describe()["data"]["train"]["frames"] == 18


def test_errors():
    with pytest.raises(InputError, match="pass --data and --val"):
        SteeringTask(silos=2).learner(0)
    with pytest.raises(InputError, match="unknown net 'lenet'"):
        task(net="lenet").start()
    with pytest.raises(InputError, match=r"no layer's name begins with 'neck'"):
        task(layers="neck").start()
    with pytest.raises(DataError, match="needs 64 for a batch"):
        task(batch=64).learner(0)
    with pytest.raises(DataError, match="not of this net"):
        task().learner(0).restore(task(net="dronet").learner(0).state())
