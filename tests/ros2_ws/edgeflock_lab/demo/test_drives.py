"""A drive of the demonstration: there as a whole or not at all, and not driven twice."""

import json

import pytest

from edgeflock.runtime.errors import EdgeflockError
from edgeflock_lab import drive as driving
from edgeflock_lab.demo.drives import drive
from edgeflock_lab.demo.scene import alone
from edgeflock_lab.drive_record import DriveRecord


@pytest.fixture
def nodes(driven, monkeypatch, tmp_path):
    """``nodes(seconds, frames=400)``: drives end after so many seconds; returns the options of each."""
    example = json.loads((driven({}).drive(alone("r1"), "r1") / "drive.json").read_text())
    seen = []

    def last(seconds, frames=400):
        def run(options, console):
            seen.append(options)
            options.out.mkdir(parents=True)
            (options.out / "drive.json").write_text(json.dumps(example))
            return DriveRecord.model_validate(example | {"duration_s": seconds, "frames": frames})

        monkeypatch.setattr(driving, "run_drive", run)
        return seen

    return last


def test_a_drive_goes_through_the_home_in_lock_step_by_the_nets_bundle_and_once(scene, folder, nodes):
    seen = nodes(scene.drive_s)
    folder = type(folder)(folder.path / "other")
    drive(scene, folder, "r1-fleet", "r3")
    drive(scene, folder, "r1-fleet", "r3")
    (options,) = seen
    assert (options.world, options.seed, options.lockstep, options.duration) == ("outdoor", 3, True, scene.drive_s)
    assert options.bundle == folder.bundle("r1-fleet")
    assert (folder.drive("r1-fleet", "r3") / "drive.json").is_file()


def test_a_drive_that_was_interrupted_is_no_result_and_is_driven_again(scene, folder, nodes):
    folder = type(folder)(folder.path / "other")
    nodes(scene.drive_s / 2)
    with pytest.raises(EdgeflockError, match="interrupted"):
        drive(scene, folder, "all", "r1")
    assert not folder.drive("all", "r1").exists()
    nodes(scene.drive_s)
    drive(scene, folder, "all", "r1")
    assert folder.drive("all", "r1").exists()
    assert [path.name for path in folder.drive("all", "r1").parent.iterdir()] == ["r1"]


def test_a_drive_without_many_of_its_frames_is_no_result_the_guard_stopped_for_the_machines_sake(scene, folder, nodes):
    folder = type(folder)(folder.path / "other")
    nodes(scene.drive_s, frames=186)
    with pytest.raises(EdgeflockError, match="48% of its frames: the machine is too busy"):
        drive(scene, folder, "all", "r1")
    assert not folder.drive("all", "r1").exists()
