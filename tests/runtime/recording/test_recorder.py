"""What is kept of a drive, with which angle, where, and how much (frames without a camera; the clock is the test's)."""

from pathlib import Path

import numpy as np
import pytest

from edgeflock.export.datasets import open_dataset
from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.recording import folder as folders
from edgeflock.runtime.recording.folder import DriveFolder
from edgeflock.runtime.recording.limits import RecordingLimits
from edgeflock.runtime.recording.recorder import BETWEEN, DISK, RELEASED, SPEED_UNKNOWN, STALE, STANDING, Recorder

MS = 10**6


class Drive:
    """A person who drives at 1 m/s with frames at 10 Hz and steering at 20 Hz, which turns by 1 rad per s."""

    def __init__(self, path, deadman=True, **limits):
        self.limits = RecordingLimits(rate_hz=10, **{"free_mb": 0, "holdout": 0, **limits})
        self.folder = DriveFolder(path, self.limits, {"robot": "r1"})
        self.recorder = Recorder(self.limits, self.folder, deadman)
        self.ms, self.held, self.speed, self.steers, self.late_ms = 0, True, 1.0, True, 0

    def angle(self, ms):
        return (ms % 2000) / 1000 - 1

    def go(self, seconds):
        for ms in range(self.ms, self.ms + round(1000 * seconds), 10):
            if ms % 100 == 0 and self.held is not None:
                self.recorder.hold(self.held, ms * MS)
            if self.steers and ms % 50 == 20:
                self.recorder.steer(self.angle(ms), ms * MS, self.speed)
            stamp = (ms - self.late_ms) * MS
            if ms % 100 == 50 and self.recorder.wants(stamp, ms * MS):
                self.recorder.take(np.full((240, 320), ms // 100 % 256, np.uint8), stamp, ms * MS)
        self.ms += round(1000 * seconds)
        return self


def read(path, split="train"):
    return open_dataset(path, split)


@pytest.mark.parametrize("late_ms", [0, 300])
def test_a_frame_gets_the_angle_of_its_own_moment_also_when_it_comes_late(tmp_path, late_ms):
    drive = Drive(tmp_path)
    drive.late_ms = late_ms
    drive.go(2.0)
    drive.folder.close()
    data = read(tmp_path)
    numbers = np.round(data.frames.mean((1, 2)))  # the n-th tenth of a second, in which it came
    np.testing.assert_allclose(data.angles, [drive.angle(100 * n + 50 - late_ms) for n in numbers], atol=1e-5)
    assert len(data) >= 15 and data.synthetic is None


def test_what_is_no_driving_is_not_kept_and_the_reason_is_counted(tmp_path):
    drive = Drive(tmp_path).go(1.0)
    kept = drive.folder.written
    assert kept >= 9 and drive.recorder.reason == ""
    for change, back, why in (
        ({"held": False}, {"held": True}, RELEASED),
        ({"held": None}, {"held": True}, RELEASED),  # its sender died: a switch that is silent is released
        ({"speed": 0.01}, {"speed": 1.0}, STANDING),
        ({"speed": None}, {"speed": 1.0}, SPEED_UNKNOWN),
        ({"steers": False}, {"steers": True}, STALE),
    ):
        vars(drive).update(change)
        drive.go(1.0)  # the switch holds for half a second
        before = drive.folder.written
        drive.go(1.0)
        assert (drive.recorder.reason, drive.folder.written) == (why, before) and drive.recorder.left_out[why] >= 9
        vars(drive).update(back)
        drive.go(1.0)
        assert drive.recorder.reason == "" and drive.folder.written > before


def test_odometry_knows_the_speed_better_than_the_command(tmp_path):
    drive = Drive(tmp_path).go(1.0)
    drive.recorder.move(0.0, drive.ms * MS)
    drive.go(0.3)
    assert drive.recorder.reason == STANDING
    drive.go(1.0)  # the odometry is silent: the command counts again
    assert drive.recorder.reason == ""


def test_without_a_switch_and_without_speed_steering_is_enough_where_the_limits_say_so(tmp_path):
    drive = Drive(tmp_path, deadman=False, min_speed=0)
    drive.held = drive.speed = None
    assert drive.go(1.0).folder.written >= 9


def test_an_angle_that_is_none_belongs_to_no_frame(tmp_path):
    drive = Drive(tmp_path).go(1.0)
    before = drive.folder.written
    drive.angle = lambda ms: float("nan")
    assert drive.go(1.0).recorder.reason == STALE and drive.folder.written <= before + 1


def test_a_clock_that_is_set_back_mixes_nothing(tmp_path):
    drive = Drive(tmp_path).go(2.0)
    before, drive.ms = drive.folder.written, 500
    drive.go(1.0)
    drive.folder.close()
    data = read(tmp_path)
    assert drive.folder.written > before + 5
    numbers = np.round(data.frames.mean((1, 2)))
    np.testing.assert_allclose(data.angles, [drive.angle(100 * n + 50) for n in numbers], atol=1e-5)


@pytest.fixture
def short_minutes(monkeypatch):
    monkeypatch.setattr(folders, "MINUTE_S", 1.0)


def test_every_nth_minute_is_held_out_and_neighbours_are_kept_apart(tmp_path, short_minutes):
    drive = Drive(tmp_path, holdout=3).go(20.0)
    drive.folder.close()
    train, val = read(tmp_path, "train"), read(tmp_path, "val")
    assert train.group_names[:4] == ["drive_000001", "drive_000003", "drive_000004", "drive_000006"]
    assert val.group_names[:2] == ["drive_000002", "drive_000005"]
    assert drive.recorder.left_out[BETWEEN] >= 40
    tenths = [np.round(data.frames.mean((1, 2)))[data.groups == 0] for data in (train, val)]
    assert tenths[1].min() - tenths[0].max() >= 20


def test_a_folder_goes_on_after_a_restart_and_counts_minutes_on(tmp_path, short_minutes):
    Drive(tmp_path, holdout=2).go(1.6)  # not closed, as after kill -9
    again = Drive(tmp_path, holdout=2)
    assert again.folder.split == "val" and len(read(tmp_path)) >= 9
    again.go(1.5)
    again.folder.close()
    assert read(tmp_path, "val").group_names == ["drive_000002"]


def test_above_its_cap_the_oldest_minutes_go_and_foreign_data_stay(tmp_path, short_minutes, monkeypatch):
    monkeypatch.setattr(folders, "_MB", 500)  # 50 MB become 25 kB
    (tmp_path / "train/mine/images").mkdir(parents=True)
    drive = Drive(tmp_path, max_mb=50).go(20.0)
    assert drive.folder.bytes <= 25_000 < drive.folder.bytes + 8_000
    names = sorted(path.name for path in (tmp_path / "train").iterdir())
    assert names[0].startswith("drive_0000") and names[0] > "drive_000001" and names[-1] == "mine"
    assert drive.recorder.reason == ""
    assert DriveFolder(tmp_path, drive.limits, {}).bytes == pytest.approx(drive.folder.bytes, rel=0.05)


def test_a_disk_that_is_nearly_full_is_said_and_recording_goes_on_when_there_is_room(tmp_path):
    drive = Drive(tmp_path).go(1.0)
    before = drive.folder.written
    drive.folder._limits = drive.limits.model_copy(update={"free_mb": 1e12})
    drive.go(1.0)
    assert drive.folder.written == before and drive.recorder.left_out[DISK] >= 9
    assert f"the disk of {tmp_path} is full" in drive.recorder.reason
    drive.folder._limits = drive.limits
    assert drive.go(1.0).folder.written > before


def test_a_folder_that_cannot_be_written_is_refused_at_once():
    with pytest.raises(EdgeflockError, match="/proc/drives"):
        DriveFolder(Path("/proc/drives"), RecordingLimits(), {})
