"""A fleet that learns emotions: the head alone or the whole net, from unlike shares."""

import cv2
import numpy as np
import pytest
import torch

from edgeflock.export.datasets.synthetic.faces import EMOTIONS, each_face
from edgeflock.export.fleet.learners import emotion as emotion_learner
from edgeflock.export.fleet.learners.emotion import EmotionTask
from edgeflock.export.fleet.workers import Worker
from edgeflock.runtime.errors import InputError


@pytest.fixture(autouse=True)
def few(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(emotion_learner, "RENDERED", {"train": 84, "val": 28})


def task(**changes):
    return EmotionTask(**({"silos": 3, "batch": 4, "size": 32, "bf16": False} | changes))


def test_silos_get_unlike_emotions_and_every_image_once():
    described = task(split="dirichlet:0.3").describe()
    counts = np.array([list(share.values()) for share in described["shares"]])
    assert counts.sum() == 84 and (counts.sum(axis=0) == 12).all()
    assert (counts.max(axis=1) > 2 * counts.mean(axis=1)).all()
    assert described["baselines"]["constant"] == pytest.approx(1 / 7)


def test_of_a_data_set_at_most_so_many_images_are_learnt_evenly_from_all(tmp_path):
    for i, (image, label, _) in enumerate(each_face(42, 9, 40)):
        folder = tmp_path / ("train", "test")[i % 3 == 2] / EMOTIONS[label]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{i}.png"), image)
    few, all_ = (
        task(data=(tmp_path,), val=(tmp_path,), split="iid", batch=2, samples=n).describe()["shares"]
        for n in (14, None)
    )
    assert sum(sum(share.values()) for share in few) == 14 and sum(sum(share.values()) for share in all_) == 28
    assert all(1 <= sum(share[name] for share in few) <= 3 for name in EMOTIONS)


def test_the_head_alone_is_trained_and_exchanged():
    silo = task(layers="fc").learner(0)
    before = silo.state()
    assert silo.size == 512 * 7 + 7
    silo.train(1, 2)
    after = silo.state()
    changed = {name for name, value in before.items() if not np.array_equal(value, after[name])}
    assert changed - {"net.fc.weight", "net.fc.bias"} == set()
    assert changed


def test_the_whole_net_is_learnt_together():
    worker, whole = Worker(), task(silos=2)
    worker.start(whole, [0, 1], central=False)
    models = np.stack([whole.start()] * 2)
    trained, losses = worker.train(models, 1, 1)
    assert trained.shape[1] > 11e6 and np.isfinite(losses).all()
    assert not np.array_equal(trained[0], models[0]) and not np.array_equal(trained[0], trained[1])
    [found] = worker.evaluate([(0, trained.mean(axis=0))])
    assert found["accuracy"] * 28 == pytest.approx(round(found["accuracy"] * 28))


def test_glamor_learns_too():
    silo = task(net="glamor", size=None, batch_norm="re-estimate").learner(1)
    assert np.isfinite(silo.train(1, 1))
    with pytest.raises(InputError, match="takes a context too"):
        silo.evaluate(silo.model())


def test_errors():
    with pytest.raises(InputError, match="do not say where they were taken"):
        task(split="environment").learner(0)
    with pytest.raises(InputError, match="unknown emotion net 'fadnet'"):
        task(net="fadnet").start()
