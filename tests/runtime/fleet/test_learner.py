"""Tasks that a fleet can learn are found by name, and light enough to travel."""

import pickle

import pytest
from pydantic import ValidationError
from quadratic import QuadraticTask

from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.fleet import learner
from edgeflock.runtime.fleet.learner import LearningTask, learning_task
from edgeflock.runtime.tasks.family import Family


def test_what_is_installed_is_found_by_name():
    found = learning_task("steering")
    assert issubclass(found, LearningTask) and found.metric == "rmse"
    with pytest.raises(InputError, match=r"no learning task 'grasping': expected one of .*steering"):
        learning_task("grasping")


def test_without_torch_the_install_line_comes(monkeypatch):
    family = Family(task="", learner="a_package_that_nobody_has:Task [export]")
    monkeypatch.setattr(learner, "families", lambda: {"steering": family})
    with pytest.raises(MissingExtra, match=r'pip install "edgeflock\[export\]"'):
        learning_task("steering")


def test_a_task_travels_and_takes_no_unknown_setting():
    task = QuadraticTask(silos=3, lr=0.1)
    assert pickle.loads(pickle.dumps(task)) == task and len(pickle.dumps(task)) < 2000
    with pytest.raises(ValidationError, match="learning_rate"):
        QuadraticTask(silos=3, learning_rate=0.1)
