"""`edgeflock train default`: the stages follow each other, what is done is not done again, and the bundle says how."""

import pytest
from rich.console import Console

pytest.importorskip("mujoco")

from edgeflock.export.training.config import SteeringConfig
from edgeflock.runtime.bundle.bundle import Bundle
from edgeflock.runtime.bundle.signing import generate_key
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.recording.dronet import read_meta
from edgeflock_lab import train_default
from edgeflock_lab.drive_bars import WORLDS
from edgeflock_lab.random_mounts import TRAINED
from edgeflock_lab.stages import keep_settings
from edgeflock_lab.train_default import BRIEF, WHOLE, Folder, run_stages
from fadnet_sim.scene import KINDS

TINY = BRIEF.model_copy(
    update={
        "worlds": 1, "frames": 6, "held_out_frames": 4, "round_frames": 4,
        "first": SteeringConfig(epochs=1, batch=4), "again": SteeringConfig(epochs=1, batch=4),
    }
)  # fmt: skip


@pytest.mark.parametrize("plan", [WHOLE, BRIEF])
def test_no_world_is_used_twice_and_none_of_those_that_the_bars_drive_through(plan):
    trained = [seed for round_ in range(plan.rounds + 1) for seed in plan.seeds(round_)]
    assert len(set(trained)) == len(trained) == plan.worlds + plan.rounds * plan.round_worlds
    assert all(seed % 2 == 1 for seed in trained) and all(seed % 2 == 0 for seed in plan.held_out)
    driven = {int(word.partition(":")[2]) for word in WORLDS.split(",")}
    assert not driven & set(plan.held_out)


def test_the_net_that_ships_has_seen_every_kind_of_world_and_passes_the_gate_as_it_stands():
    assert WHOLE.judged and not BRIEF.judged
    assert {"indoor", "outdoor", "tape"} < set(KINDS)


def test_a_folder_of_another_plan_is_refused(tmp_path):
    keep_settings(tmp_path / "plan.json", BRIEF)
    with pytest.raises(InputError, match="worlds=2, this one has 40"):
        keep_settings(tmp_path / "plan.json", WHOLE)


def test_stages_that_were_done_are_taken_again_and_the_manifest_tells_them(tmp_path, monkeypatch):
    monkeypatch.setattr(train_default, "KINDS", ("tape",))
    folder, console = Folder(tmp_path / "net"), Console(quiet=True)
    folder.path.mkdir()
    generate_key(folder.key, "test")

    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_default, "make_bundle", cut)
        run_stages(TINY, folder, folder.key, 1, console)
    assert read_meta(folder.data(1) / "train/tape_3")["recording"]["driver"] == str(folder.driver(0))
    kept = ("data", "runs", "drivers")
    before = {path: path.stat().st_mtime_ns for name in kept for path in (folder.path / name).rglob("*.*")}
    run_stages(TINY, folder, folder.key, 1, console)
    assert len(before) > 12 and before == {path: path.stat().st_mtime_ns for path in before}

    manifest = Bundle.open(folder.bundle, [folder.key.with_suffix(".pub")]).manifest
    assert manifest.trained_camera == TRAINED
    training = manifest.training.model_dump()
    assert training["worlds"] == {"round 0": [1], "round 1": [3]}
    assert training["plan"]["first"]["seed"] == 1204 and len(training["rounds"]) == 2
    assert training["data"]["train"]["groups"] == ["tape_1", "tape_3"]
    assert "int8" in manifest.gates
