"""The record of a drive: what counts as a frame, a drop, a latency, a collision; and the report made from it."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from edgeflock_lab.drive_record import Drive, DriveRecord, DriveTrace, LatencyPercentiles, LateralError

S = 10**9
KEYS = {
    "world", "seed", "duration_s", "distance_m", "collisions", "clear_m", "clear_s", "lateral_error_m", "frames",
    "frames_dropped", "latency_ms", "engine", "precision", "bundle_sha256",
}  # fmt: skip

CIRCLE = SimpleNamespace(
    points=np.stack([5 * np.cos(np.linspace(0, 6.2, 80)), 5 * np.sin(np.linspace(0, 6.2, 80))], axis=1),
    length=10 * math.pi,
    # counter-clockwise: the inside is to the left
    project=lambda x, y: (5 * (math.atan2(y, x) % math.tau), 5 - math.hypot(x, y)),
)


@pytest.fixture
def trace():
    """10 s at 10 frames per second on a circle of 5.2 m, 1 m/s; latency grows from 5 to 15 ms; one frame dropped."""
    t = DriveTrace(engine="onnxruntime-cpu", precision="int8", bundle_sha256="ab" * 32)
    for n in range(1000):
        a = n * 0.01 / 5.2
        t.odometry.append((n * S // 100, 5.2 * math.cos(a), 5.2 * math.sin(a), 1.0))
    for n in range(100):
        stamp = n * S // 10
        t.frames[stamp] = stamp + 2_000_000
        if n != 50:
            t.steering[stamp] = 0.07
            t.commands[stamp] = stamp + 5_000_000 + n * 100_000
    return t


def drive(trace, start=0, end=10 * S, **world):
    return Drive(trace, start, end, **({"world": "indoor", "seed": 2, "path": CIRCLE} | world))


def test_the_posters_of_several_drives_become_one_picture(tmp_path):
    image = pytest.importorskip("PIL.Image")
    from edgeflock_lab.figures import write_posters

    for name, tone, size in (("a", 50, (144, 96)), ("b", 200, (72, 36))):
        (tmp_path / name).mkdir()
        image.new("RGB", size, (tone,) * 3).save(tmp_path / name / "drive.png")
    write_posters([tmp_path / name for name in ("a", "of no frame", "b")], tmp_path / "drives.png")
    picture = np.asarray(image.open(tmp_path / "drives.png"))
    assert picture.shape == (480 + 360, 720, 3) and (picture[:480] == 50).all() and (picture[480:] == 200).all()


def test_the_record_has_the_keys_that_scripts_rely_on_and_the_figures_of_the_drive(trace, tmp_path):
    drive(trace).record().write(tmp_path / "deep" / "drive.json")
    record = json.loads((tmp_path / "deep" / "drive.json").read_text())
    assert set(record) == KEYS
    assert set(record["lateral_error_m"]) == {"rms", "max"} and set(record["latency_ms"]) == {
        "p50",
        "p90",
        "p99",
        "max",
    }
    assert (record["world"], record["seed"], record["duration_s"], record["collisions"]) == ("indoor", 2, 10, 0)
    assert record["distance_m"] == pytest.approx(9.99, abs=0.01)
    assert record["lateral_error_m"] == {"rms": pytest.approx(0.2), "max": pytest.approx(0.2)}
    assert (record["frames"], record["frames_dropped"]) == (100, 1)
    assert record["latency_ms"]["max"] == pytest.approx(14.9)
    assert (record["engine"], record["precision"], record["bundle_sha256"]) == ("onnxruntime-cpu", "int8", "ab" * 32)
    assert DriveRecord.model_validate(record).exit_code == 0


def test_only_what_was_between_start_and_end_counts(trace):
    trace.collisions = [(1 * S, 0.0, 0.0), (7 * S, 0.0, 0.0)]
    record = drive(trace, 2 * S, 4 * S).record()
    assert (record.frames, record.frames_dropped, record.collisions) == (20, 0, 0)
    assert record.distance_m == pytest.approx(2.0, abs=0.02)
    assert record.latency_ms.max == pytest.approx(5 + 39 * 0.1)


def test_a_frame_is_dropped_exactly_when_no_steering_has_its_stamp(trace):
    del trace.steering[0]
    trace.steering[1] = 0.0  # of no frame
    assert drive(trace).record().frames_dropped == 2


def test_in_lock_step_latency_is_wall_time_from_the_frames_arrival(trace):
    trace.lockstep = True
    assert drive(trace).record().latency_ms.max == pytest.approx(14.9 - 2)


def test_a_collision_ends_the_command_with_3(trace):
    trace.collisions = [(3 * S, 1.0, 1.0)] * 2
    record = drive(trace).record()
    assert record.collisions == 2
    assert record.exit_code == 3


def test_the_way_without_collision_is_measured_along_the_path_up_to_the_first(trace):
    record = drive(trace).record()
    assert record.clear_m == pytest.approx(9.99 * 5 / 5.2, abs=0.01)  # the circle that was driven is the longer one
    assert record.clear_s == 10
    trace.collisions = [(7 * S, 0.0, 0.0), (3 * S, 0.0, 0.0)]
    record = drive(trace, 1 * S, 10 * S).record()
    assert (record.clear_m, record.clear_s) == (pytest.approx(2 * 5 / 5.2, abs=0.02), 2)


def test_a_lap_counts_on_and_neither_a_leap_nor_driving_back_adds_to_the_way(trace):
    def clear(turns):
        trace.odometry = [
            (n * S // 100, 5 * math.cos(math.tau * t), 5 * math.sin(math.tau * t), 1.0) for n, t in enumerate(turns)
        ]
        return drive(trace).record().clear_m / (10 * math.pi)

    assert clear(np.linspace(0.9, 1.4, 500)) == pytest.approx(0.5, abs=0.01)
    assert clear([*np.linspace(0, 0.2, 300), *np.linspace(0.6, 0.7, 300)]) == pytest.approx(0.3, abs=0.01)
    assert clear([*np.linspace(0, 0.2, 300), *np.linspace(0.2, 0.1, 300)]) == pytest.approx(0.1, abs=0.01)


def test_without_a_world_what_does_not_apply_is_null(trace):
    trace.odometry.clear()
    record = drive(trace, world=None, seed=None, path=None).record()
    assert json.loads(record.model_dump_json()) | {"latency_ms": None} == {
        "world": None, "seed": None, "duration_s": 10.0, "distance_m": None, "collisions": None,
        "clear_m": None, "clear_s": None,
        "lateral_error_m": {"rms": None, "max": None}, "frames": 100, "frames_dropped": 1, "latency_ms": None,
        "engine": "onnxruntime-cpu", "precision": "int8", "bundle_sha256": "ab" * 32,
    }  # fmt: skip
    assert record.exit_code == 0


def test_percentiles_are_latencies_that_occurred():
    values = np.array([1.0] * 98 + [50.0, 60.0])
    assert LatencyPercentiles.of(values) == LatencyPercentiles(p50=1, p90=1, p99=60, max=60)
    assert LatencyPercentiles.of(np.empty(0)) == LatencyPercentiles()


def test_the_error_is_signed_and_its_rms_is_not():
    assert LateralError.of(np.array([-0.3, 0.1])) == LateralError(rms=round(math.sqrt(0.05), 4), max=0.3)


# ---- the report


def test_the_report_has_every_picture_and_figure(trace, tmp_path):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    from edgeflock_lab.figures import draw_steering, shrink, write_report

    trace.collisions = [(3 * S, *trace.odometry[300][1:3])]
    rng = np.random.default_rng(0)
    frames = [draw_steering(shrink(rng.integers(0, 255, (480, 640, 3), np.uint8)), 0.2, n / 4) for n in range(12)]
    walls = [CIRCLE.points * 1.2, CIRCLE.points * 0.8]
    record = write_report(drive(trace, outline=walls), frames, tmp_path)
    assert record.exit_code == 3
    page = (tmp_path / "report.html").read_text()
    for word in ("trajectory.png", "latency.png", "drive.gif", "Collision", "0.200 m", "14.9 ms", "onnxruntime-cpu"):
        assert word in page
    for name, least in (("trajectory.png", (700, 400)), ("latency.png", (700, 400))):
        size = image.open(tmp_path / name).size
        assert size[0] >= least[0] and size[1] >= least[1]
    gif = image.open(tmp_path / "drive.gif")
    assert (gif.n_frames, gif.size) == (12, (320, 240))


def test_the_report_of_a_recording_has_no_map(trace, tmp_path):
    pytest.importorskip("matplotlib")
    from edgeflock_lab.figures import write_report

    write_report(drive(trace, world=None, seed=None, path=None), [], tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drive.json", "latency.png", "report.html"]


def test_steering_is_drawn_to_the_side_that_the_robot_steers_to():
    from edgeflock_lab.figures import CameraMount, draw_steering

    dark = np.zeros((240, 320, 3), np.uint8)
    for view in (None, CameraMount(forward=0.42, height=0.3, pitch=0.1, fovy=1.08)):
        left, right = (draw_steering(dark, angle, 0.0, view)[140:225, :, 0] > 80 for angle in (0.4, -0.4))
        assert left[:, :150].sum() > 4 * left[:, 170:].sum()
        assert right[:, 170:].sum() > 4 * right[:, :150].sum()
    assert not (draw_steering(dark, math.nan, 0.0)[140:225, :, 0] > 200).sum(axis=0)[:150].any()


def test_the_lane_is_projected_as_the_camera_sees_the_ground():
    from edgeflock_lab.figures import CameraMount, ground_to_pixels

    level = CameraMount(forward=0.0, height=0.3, pitch=0.0, fovy=math.pi / 2)  # f = 120 px at 240 px high
    u, v = ground_to_pixels(np.array([[1.0, 0.0], [1.0, 0.5], [100.0, 0.0]]), level).T
    assert u == pytest.approx([160, 100, 160])
    assert v == pytest.approx([120 + 36, 120 + 36, 120 + 0.36])
