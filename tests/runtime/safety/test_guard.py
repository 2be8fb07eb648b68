"""The guard as a specification: what it lets through, what it stops, and that nothing gets past it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.safety.guard import Guard
from edgeflock.runtime.safety.limits import GuardLimits

MS = 10**6
NOW = 1_700_000_000 * 10**9
LENS = Intrinsics(160, 120, 100.0, 100.0, 80.0, 60.0)
FREE = np.full((120, 160), 6000, np.uint16)


def limits(**values):
    return GuardLimits(**{"require_depth": False, **values})


def drive(guard, seconds=1.5, angle=0.0, depth=None, start=NOW, hz=30):
    """Feed frames at `hz`; returns the commands and the time after the last."""
    commands = []
    for n in range(round(seconds * hz)):
        now = start + round(n * 1e9 / hz)
        if depth is not None:
            guard.look(depth, LENS, now)
        guard.steer(angle, now)
        commands.append(guard.command(now))
    return commands, now


def test_it_drives_at_cruising_speed_on_fresh_steering():
    commands, now = drive(Guard(limits()), angle=0.2)
    last = commands[-1]
    assert last.reason is None and last.speed == 1.0 and last.steering == pytest.approx(0.2)
    assert last.yaw_rate == pytest.approx(1.0 * math.tan(0.2) / 0.36)
    assert last.stamp_ns == now


def test_a_halt_stands_whatever_comes_until_it_is_taken_back():
    guard = Guard(limits())
    _, now = drive(guard)
    guard.halt = "somebody pressed the button"
    commands, now = drive(guard, start=now)
    assert {(c.speed, c.yaw_rate, c.reason) for c in commands} == {(0.0, 0.0, "somebody pressed the button")}
    assert guard.command(NOW - 10**9).reason == "somebody pressed the button"  # a simulation starts over
    guard.halt = None
    commands, _ = drive(guard, start=now)
    assert commands[0].speed <= 0.15 and commands[-1].speed == 1.0  # from rest


@pytest.mark.parametrize(("asked", "given"), [(0.3, 0.3), (3.0, 1.0), (0.0, 0.0)])
def test_less_speed_may_be_asked_for_and_never_more_than_the_limit(asked, given):
    guard = Guard(limits())
    drive(guard)
    guard.steer(0.1, NOW + 2 * 10**9, speed=asked)
    command = guard.command(NOW + 2 * 10**9)
    assert command.speed == given and command.reason is None


@pytest.mark.parametrize("asked", [-0.1, math.nan, -math.inf])
def test_no_way_back_is_driven(asked):
    guard = Guard(limits())
    _, now = drive(guard)
    guard.steer(0.1, now, speed=asked)
    assert guard.command(now).speed == 0.0 and "nothing guards the way back" in guard.command(now).reason


def test_it_stands_still_before_the_first_steering():
    assert "no steering yet" in Guard(limits()).command(NOW).reason


def test_speed_and_steering_change_no_faster_than_allowed():
    commands, _ = drive(Guard(limits(acceleration=0.5, steering_rate=1.5)), angle=0.6)
    speeds, angles = np.array([c.speed for c in commands]), np.array([c.steering for c in commands])
    assert np.diff(speeds).max() == pytest.approx(0.5 / 30) and np.diff(angles).max() == pytest.approx(1.5 / 30)


def test_steering_beyond_the_limit_is_cut():
    assert drive(Guard(limits(max_steering=0.4)), angle=0.7)[0][-1].steering == pytest.approx(0.4)
    assert drive(Guard(limits(max_steering=0.4)), angle=-0.7)[0][-1].steering == pytest.approx(-0.4)


@pytest.mark.parametrize(("angle", "reason"), [(math.nan, "nan"), (math.inf, "inf"), (-1.3, "implausible")])
def test_a_bad_angle_stops_and_the_next_good_one_releases(angle, reason):
    guard = Guard(limits())
    _, now = drive(guard)
    guard.steer(angle, now + 33 * MS)
    stop = guard.command(now + 33 * MS)
    assert reason in stop.reason and (stop.speed, stop.yaw_rate) == (0.0, 0.0)
    assert stop.stamp_ns == now + 33 * MS
    guard.steer(0.1, now + 66 * MS)
    again = guard.command(now + 66 * MS)
    assert again.reason is None and 0 < again.speed <= 0.034  # from rest


def test_stale_frames_stop_after_the_time_out_and_not_before():
    guard = Guard(limits(frame_timeout=0.15))
    _, now = drive(guard)
    assert guard.command(now + 149 * MS).reason is None
    assert "no fresh frame" in guard.command(now + 151 * MS).reason


def test_late_steering_is_told_from_a_dead_camera():
    guard = Guard(limits())
    _, now = drive(guard, depth=FREE)
    guard.look(FREE, LENS, now + 150 * MS)
    assert "frames arrive" in guard.command(now + 160 * MS).reason


def test_a_stamp_from_the_future_stops():
    guard = Guard(limits())
    guard.steer(0.0, NOW + 10**9)
    assert "ahead of the clock" in guard.command(NOW).reason


def test_without_a_clock_it_stands_and_says_that_the_clock_is_missing():
    guard = Guard(limits())
    guard.steer(0.0, NOW)
    assert "nothing comes on /clock" in guard.command(0).reason


def test_a_clock_that_starts_over_makes_the_guard_start_over():
    guard = Guard(limits())
    drive(guard, start=NOW)
    assert "no steering yet" in guard.command(5 * 10**9).reason
    assert drive(guard, start=6 * 10**9)[0][-1].speed == 1.0


def test_after_a_pause_it_starts_slowly():
    guard = Guard(limits(acceleration=1.0))
    _, now = drive(guard, seconds=0.2)
    later = now + 10**10
    guard.steer(0.0, later)
    assert guard.command(later).speed <= 0.2 + 0.15


def test_missing_or_stale_depth_stops_where_it_is_required():
    guard = Guard(GuardLimits())
    guard.steer(0.0, NOW)
    assert "no depth image yet" in guard.command(NOW).reason
    _, now = drive(guard, depth=FREE, start=NOW + 10**9)
    guard.steer(0.0, now + 200 * MS)
    assert "depth is stale" in guard.command(now + 200 * MS).reason


def test_without_depth_it_drives_only_where_allowed_and_says_so():
    assert "without obstacle check" in drive(Guard(limits()))[0][-1].warning


def test_depth_that_dies_while_it_drives_without_need_of_it_is_warned_of():
    guard = Guard(limits())
    commands, now = drive(guard, depth=FREE)
    assert commands[-1].warning is None
    commands, _ = drive(guard, start=now + 33 * MS)
    assert commands[-1].reason is None and commands[-1].speed == 1.0
    assert "without obstacle check: depth is stale: the newest image is 1.5" in commands[-1].warning


@pytest.mark.parametrize("required", [True, False])
def test_depth_that_cannot_be_read_is_told_with_its_reason(required):
    guard = Guard(limits(require_depth=required))
    guard.look_in_vain("expected depth, got 'rgb8'", NOW)
    guard.steer(0.0, NOW)
    command = guard.command(NOW)
    assert "depth is not usable: expected depth, got 'rgb8'" in (command.reason if required else command.warning)
    guard.look(FREE, LENS, NOW + 33 * MS)
    guard.steer(0.0, NOW + 33 * MS)
    command = guard.command(NOW + 33 * MS)
    assert (command.reason, command.warning) == (None, None)


def test_depth_of_another_clock_is_not_called_stale():
    guard = Guard(GuardLimits())
    guard.look(FREE, LENS, NOW + 10**9)
    guard.steer(0.0, NOW)
    assert "depth is 1.000 s ahead of the clock" in guard.command(NOW).reason


def test_steering_that_must_not_be_obeyed_stops_with_its_reason():
    guard = Guard(limits())
    _, now = drive(guard)
    guard.steer(0.1, now + 33 * MS, "two nodes send")
    assert guard.command(now + 33 * MS).reason == "two nodes send"
    guard.steer(0.1, now + 66 * MS)
    assert guard.command(now + 66 * MS).reason is None


def test_an_empty_depth_image_stops_and_a_poor_one_is_reported():
    assert "empty" in drive(Guard(GuardLimits()), depth=np.zeros((120, 160), np.uint16))[0][-1].reason
    poor = np.zeros((120, 160), np.uint16)
    poor[::16] = 6000
    last = drive(Guard(GuardLimits()), depth=poor)[0][-1]
    assert last.reason is None and "of the depth image is measured" in last.warning
    assert drive(Guard(GuardLimits()), depth=FREE)[0][-1].warning is None


def test_a_broken_depth_image_counts_as_none():
    guard = Guard(GuardLimits())
    guard.look(FREE[:50], LENS, NOW)
    guard.steer(0.0, NOW)
    assert "not usable" in guard.command(NOW).reason


def wall(metres):
    """A flat wall in front of the bumper, seen by a level camera."""
    return np.full((120, 160), round(1000 * (metres + 0.43 - 0.42)), np.uint16)


LEVEL = {"camera_pitch": 0.0, "camera_forward": 0.42, "front": 0.43}


def test_a_wall_stops_it_at_the_reaction_distance_and_clears_by_itself():
    """D(1 m/s) = 0.15 + 0.25 + 0.1 = 0.5 m; it goes on when 0.6 m are free."""
    guard = Guard(GuardLimits(**LEVEL))
    assert guard.limits.reaction_distance(1.0) == pytest.approx(0.5)
    commands, now = drive(guard, depth=wall(0.55))
    assert commands[-1].speed == 1.0
    commands, now = drive(guard, 0.2, depth=wall(0.45), start=now + 33 * MS)
    assert "obstacle 0.45 m ahead" in commands[0].reason and all(c.speed == 0 for c in commands)
    commands, now = drive(guard, 0.2, depth=wall(0.55), start=now + 33 * MS)
    assert all(c.reason for c in commands)  # not yet enough to drive on without creeping
    commands, now = drive(guard, 1.5, depth=wall(0.65), start=now + 33 * MS)
    assert commands[-1].speed == 1.0


def test_slower_means_nearer():
    commands, _ = drive(Guard(GuardLimits(speed=0.3, **LEVEL)), depth=wall(0.2))
    assert commands[-1].speed == 0.3  # D(0.3 m/s) = 0.17 m


def test_limits_may_change_while_driving():
    guard = Guard(limits())
    _, now = drive(guard, depth=FREE, angle=0.5)
    guard.limits = limits(speed=0.4, max_steering=0.3)
    guard.steer(0.5, now + 33 * MS)
    command = guard.command(now + 33 * MS)
    assert command.speed == 0.4 and command.steering == 0.3


@pytest.mark.parametrize(
    "bad", [{"speed": math.nan}, {"speed": -1}, {"wheelbase": 0}, {"max_steering": 1.6}, {"typo": 1}]
)
def test_limits_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        GuardLimits(**bad)


angles = st.floats(width=32) | st.floats(-0.7, 0.7)
steps = st.integers(0, 60 * MS) | st.integers(-(10**12), 10**12)
depths = st.sampled_from([None, FREE, wall(0.5), wall(0.2), FREE.astype(np.int16), np.zeros((120, 160), np.uint16)])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(steps, st.none() | st.tuples(angles, st.integers(-(10**11), 10**11) | st.just(0)), depths),
        max_size=40,
    )
)
def test_whatever_comes_in_the_output_stays_within_the_limits(events):
    """NaN, infinities, huge and old stamps, a clock that jumps and runs backwards, broken images."""
    guard = Guard(limits(frame_timeout=0.15))
    now, speed, wheels = NOW, 0.0, 0.0
    for step, steering, depth in events:
        now += step
        if steering is not None:
            guard.steer(steering[0], now - steering[1])
        if depth is not None:
            guard.look(depth, LENS, now)
        command = guard.command(now)
        assert all(math.isfinite(v) for v in (command.speed, command.steering, command.yaw_rate))
        assert 0.0 <= command.speed <= 1.0 and abs(command.steering) <= 0.6
        assert command.yaw_rate == pytest.approx(command.speed * math.tan(command.steering) / 0.36)
        if step < 0:
            assert command.reason is not None or steering is not None
            speed, wheels = 0.0, 0.0  # it started over
        passed = min(max(step, 0) / 1e9, 0.15)
        assert command.speed - speed <= 1.0 * passed + 1e-9
        assert abs(command.steering - wheels) <= 3.0 * passed + 1e-9
        if command.reason is not None:
            assert command.speed == 0.0 and command.stamp_ns == now
        else:
            assert math.isfinite(guard._angle) and abs(now - command.stamp_ns) <= 0.15e9
        speed, wheels = command.speed, command.steering
