"""Ways of robots out of dances: they cannot collide, keep limits and beats; joints keep theirs."""

import numpy as np
import pytest

from edgeflock.runtime.audio.score import Score
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.motion.group import Group
from edgeflock.runtime.motion.robots import RobotJoint, joint_angles, read_joints, spread, ways_of
from edgeflock.runtime.motion.rotations import quaternion_of_axis_angle

pytest.importorskip("scipy")

BEATS = Score(np.arange(0.5, 12, 0.5))


def group_on(floor, turns=None):
    """Dancers at (N, T, 2) of x and z."""
    floor = np.asarray(floor, np.float64)
    root = np.stack([floor[..., 0], np.ones(floor.shape[:2]), floor[..., 1]], -1)
    axis_angle = np.zeros((*floor.shape[:2], 24, 3)) if turns is None else turns
    return Group(root, quaternion_of_axis_angle(axis_angle))


def nearest(places):
    first, second = np.triu_indices(len(places), 1)
    return np.linalg.norm(places[first] - places[second], axis=-1).min()


def test_whatever_a_net_says_no_two_robots_come_nearer_than_promised():
    rng = np.random.default_rng(0)
    for dancers in (2, 3, 5, 8):
        wild = group_on(rng.normal(0, 0.5, (dancers, 300, 2)))
        ways = ways_of(wild, BEATS, spacing=0.7, speed=2, acceleration=5)
        assert nearest(ways.places) >= ways.clearance - 1e-9 and ways.clearance == pytest.approx(0.7 / np.sqrt(2))


def test_dancers_at_one_place_are_parted():
    parted = spread(np.zeros((6, 2)), 0.5)
    assert nearest(parted) >= 0.5 - 1e-9 and np.abs(parted.mean(0)).max() < 1e-3


def test_ways_keep_speed_and_acceleration_and_stand_on_the_first_beats_of_bars():
    times = np.arange(360) / 30
    ways = ways_of(group_on(np.stack([np.stack([0.2 * np.sin(times), 0 * times + n], -1) for n in (0, 2)])), BEATS)
    speed = np.linalg.norm(np.diff(ways.places, axis=1), axis=-1) * 30
    harder = np.linalg.norm(np.diff(ways.places, 2, axis=1), axis=-1) * 900
    assert 0.1 < speed.max() <= 0.5 and harder.max() <= 1.0
    bars = np.rint(BEATS.beats[4::4] * 30).astype(int)
    bars = bars[bars < 340]
    assert (speed[:, bars] < 0.1 * speed.max()).all()


def test_a_formation_that_is_too_fast_is_left_out():
    there_and_back = np.stack([np.abs(np.arange(360) % 120 - 60) / 15, np.zeros(360)], -1)[None]
    fast, slow = (ways_of(group_on(there_and_back), BEATS, speed=v, acceleration=50) for v in (9, 1.5))
    assert np.ptp(fast.places) > 3 and fast.left_out == 0
    assert slow.left_out > 0 < slow.taken and slow.taken + slow.left_out == fast.taken
    still = ways_of(group_on(there_and_back), BEATS, speed=0.01)
    assert still.taken == 0 and np.ptp(still.places, axis=1).max() == 0


def test_one_frame_is_a_dance_that_stands():
    ways = ways_of(group_on(np.zeros((2, 1, 2))))
    places, headings = ways.at(np.array([-1.0, 0, 5]))
    assert ways.duration == 0 and places.shape == (2, 3, 2) and np.ptp(places, axis=1).max() == 0
    assert headings == pytest.approx(-np.pi / 2)  # the front of a dancer: y of a robot's floor points away from it


def test_a_joint_follows_one_axis_within_its_limits_and_its_swing_shrinks_where_it_is_too_slow():
    turns = np.zeros((1, 90, 24, 3))
    turns[0, :, 18, 1] = swing = np.sin(np.arange(90) * 2 * np.pi / 30)  # the left elbow, once a second, 6.3 rad/s
    group = group_on(np.zeros((1, 90, 2)), turns)
    fast = RobotJoint(name="elbow", follows="left_elbow", axis="y", scale=-1, offset=0.2, lower=-9, upper=9, speed=9)
    (angles,) = joint_angles(group, [fast])
    assert np.abs(angles[:, 0] - (0.2 - swing)).max() < 1e-9
    cut, slow, other = joint_angles(
        group, [fast.model_copy(update=u) for u in ({"upper": 0.5}, {"speed": 1.0}, {"axis": "x"})]
    )[0].T
    assert cut.max() == 0.5 and np.abs(other - 0.2).max() < 1e-9
    assert np.abs(np.diff(slow)).max() * 30 == pytest.approx(1.0)
    assert np.argmax(slow) == np.argmax(angles[:, 0])  # the beat stays where it was
    with pytest.raises(InputError, match="'left_elbo', expected one of pelvis"):
        joint_angles(group, [fast.model_copy(update={"follows": "left_elbo"})])


@pytest.mark.parametrize("text", ["- {name: a, follows: neck, axis: w}", "3", "- [", None])
def test_a_file_that_is_no_list_of_joints_is_refused(tmp_path, text):
    file = tmp_path / "joints.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(DataError, match=r"joints.yaml: expected a list of joints with name, follows"):
        read_joints(file)
