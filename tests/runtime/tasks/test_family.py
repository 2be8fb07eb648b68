"""A family of another package signs in once, and everything knows it."""

import os
import subprocess
import sys

import pytest

from edgeflock.runtime.bundle.bundle import Bundle, sign_bundle, write_bundle
from edgeflock.runtime.errors import BundleError
from edgeflock.runtime.tasks import open_task
from edgeflock.runtime.tasks.family import families

FAMILY = """
from edgeflock.runtime.tasks.family import Family
FOLLOWING = Family(
    task="follow_task:Following",
    nets="follow_nets:NETS",
    verbs={
        "edgeflock export": {"following": "follow_verbs:following"},
        "edgeflock train": {"f": "follow_lacks:f [sim]"},
    },
    learner="follow_learner:Learning",
)
"""
TASK = """
from edgeflock.runtime.tasks.steering import SteeringPolicy
class Following(SteeringPolicy):
    task = "following"
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages with a family of its own and one that cannot be imported."""
    site = tmp_path / "site"
    info = site / "follow-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: follow\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[edgeflock.tasks]\nfollowing = follow_family:FOLLOWING\nbroken = follow_lacks:FAMILY\n"
    )
    (site / "follow_family.py").write_text(FAMILY)
    (site / "follow_task.py").write_text(TASK)
    (site / "follow_lacks.py").write_text("import a_package_that_nobody_has\n")
    (site / "follow_nets.py").write_text("from torch import nn\nNETS = {'follow-net': lambda: nn.Linear(3, 7)}\n")
    (site / "follow_learner.py").write_text("class Learning: pass\n")
    (site / "follow_verbs.py").write_text("def following():\n    'Export a net that follows.'\n    print('followed')\n")
    monkeypatch.syspath_prepend(site)
    for name in ("family", "task", "lacks", "nets", "learner", "verbs"):
        monkeypatch.delitem(sys.modules, f"follow_{name}", raising=False)
    return site


def edgeflock(site, *args):
    env = os.environ | {"PYTHONPATH": str(site), "COLUMNS": "200"}
    command = [sys.executable, "-m", "edgeflock.runtime.cli", *args]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_its_verb_is_listed_and_runs_beside_those_of_edgeflock(site):
    shown = edgeflock(site, "export", "--help")
    assert shown.returncode == 0, shown.stderr
    for what in ("Export a net that follows.", "targets", "steering", "emotion", "registration"):
        assert what in shown.stdout
    assert edgeflock(site, "export", "following").stdout == "followed\n"


def test_a_verb_whose_packages_are_missing_names_its_extra(site):
    done = edgeflock(site, "train", "f")
    assert done.returncode == 4 and 'pip install "edgeflock[sim]"' in done.stderr


def test_its_bundle_opens_as_its_task(site, tmp_path, manifest, contents, key, home):
    manifest.task = "following"
    folder = sign_bundle(write_bundle(tmp_path / "following", manifest, contents), key)
    with pytest.warns(UserWarning, match="task broken .*a_package_that_nobody_has"):
        task = open_task(Bundle.open(folder, [key.with_suffix(".pub")]), "fp32")
    assert type(task).__name__ == "Following" and task.deviation < 1e-4


def test_a_bundle_of_a_task_that_nobody_signed_in_says_which_are_known(tmp_path, manifest, contents, key, home):
    manifest.task = "grasping"
    folder = sign_bundle(write_bundle(tmp_path / "grasping", manifest, contents), key)
    with pytest.raises(BundleError, match="knows choreography, emotion, generic, registration, steering"):
        open_task(Bundle.open(folder, [key.with_suffix(".pub")]))


@pytest.mark.filterwarnings("ignore:the task broken")
def test_its_nets_and_its_learner_are_found(site):
    pytest.importorskip("torch")
    from edgeflock.export.nets import NETS, known_nets
    from edgeflock.runtime.fleet.learner import learning_task

    assert set(known_nets()) == {*NETS, "follow-net"}
    assert learning_task("following").__name__ == "Learning"


def test_a_robot_reads_the_families_without_torch():
    script = (
        "import sys\nfrom edgeflock.runtime.tasks.family import families, part\n"
        "assert {part(f.task).task for f in families().values()} >= {'steering', 'emotion', 'registration'}\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_every_part_of_the_families_that_ship_is_there():
    pytest.importorskip("torch")
    from importlib.metadata import EntryPoint

    for family in families().values():
        verbs = [text for of_command in family.verbs.values() for text in of_command.values()]
        for text in filter(None, [family.task, family.nets, family.learner, *verbs]):
            assert EntryPoint("part", text, "edgeflock.tasks").load()
