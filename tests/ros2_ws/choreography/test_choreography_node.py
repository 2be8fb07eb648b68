"""The choreography node as a process: it streams a dance, others follow its clock, and who comes late is in phase."""

import json

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("trajectory_msgs")
pytest.importorskip("edgeflock_msgs.msg._music_clock", reason="edgeflock_msgs has to be compiled (.ci/messages)")

from diagnostic_msgs.msg import DiagnosticArray
from edgeflock_msgs.msg import MusicClock
from nav_msgs.msg import Path
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory, MultiDOFJointTrajectory

from choreography import messages
from edgeflock.runtime.audio.score import Score
from edgeflock.runtime.motion.files import read_motion, write_motion
from edgeflock.runtime.motion.group import Group
from edgeflock.runtime.motion.robots import ways_of
from edgeflock_ros.frames import LATCHED
from edgeflock_ros.messages import to_ns

NODE = "choreography.choreography_node"
FAST = {"speed": 2.0, "acceleration": 5.0}


@pytest.fixture(scope="module")
def dance(tmp_path_factory):
    """Three dancers who go apart and together for ten minutes, and beats twice a second."""
    folder, times = tmp_path_factory.mktemp("dance"), np.arange(0, 600, 1 / 3)
    root = np.ones((3, len(times), 3))
    root[..., 0] = np.arange(1, 4)[:, None] * (1.5 + 0.3 * np.sin(times))
    turns = np.zeros((3, len(times), 24, 4))
    turns[..., 0] = 1
    write_motion(folder / "motion.npz", Group(root, turns, rate=3))
    (folder / "beats.json").write_text(json.dumps({"beats": np.arange(0, 600, 0.5).tolist()}))
    (folder / "joints.yaml").write_text("- {name: pan, follows: neck, axis: y, lower: -1, upper: 1, speed: 2}\n")
    return folder


@pytest.fixture(scope="module")
def ways(dance):
    return ways_of(read_motion(dance / "motion.npz"), Score.read(dance / "beats.json"), **FAST)


def newest(heard):
    return heard[-1][1]


def phase_error(message, clock, ways, dancer):
    """Greatest distance in m of a trajectory from the ways by a message of the clock, both stamped by one machine."""
    track = messages.track(message)
    position = clock.position + (track.times - to_ns(clock.header.stamp)) / 1e9
    return np.abs(ways.at(position)[0][dancer] - track.poses[:, :2]).max()


def test_a_dance_is_streamed_and_who_comes_late_or_hears_only_the_clock_is_in_phase(graph, dance, ways):
    both = {"motion": dance / "motion.npz", "music": dance / "beats.json", **FAST}
    clocks = graph.listen(MusicClock, "/music/clock")
    first = graph.listen(MultiDOFJointTrajectory, "/dancer1/trajectory", LATCHED)
    arms = graph.listen(JointTrajectory, "/dancer3/joint_trajectory", LATCHED)
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    keeper = graph.start(NODE, joints=dance / "joints.yaml", lead_in=0.0, **both)
    assert graph.until(lambda: len(clocks) > 5 and len(first) > 1 and arms), keeper.log.read_text()
    clock = newest(clocks)
    assert clock.playing and clock.tempo == pytest.approx(120) and clock.duration == pytest.approx(ways.duration)
    assert clock.position * 2 % 1 == pytest.approx(clock.beat_phase, abs=1e-3)
    assert graph.until(lambda: phase_error(newest(first), newest(clocks), ways, 0) < 0.02), keeper.log.read_text()
    assert newest(arms).joint_names == ["pan"] and len(newest(arms).points) == 41

    late = graph.start(NODE, "/robot2", dancer=2, clock="follow", **both)
    second = graph.listen(MultiDOFJointTrajectory, "/robot2/trajectory", LATCHED)
    path = graph.listen(Path, "/robot2/path", LATCHED)
    assert graph.until(lambda: second and path), late.log.read_text()
    assert graph.until(lambda: phase_error(newest(second), newest(clocks), ways, 1) < 0.02), late.log.read_text()
    assert len(newest(path).poses) == ways.places.shape[1]

    stopped = graph.call(SetBool, "/choreography/play", SetBool.Request(data=False))
    assert stopped.success, stopped.message
    assert graph.until(lambda: np.ptp(messages.track(newest(second)).poses, axis=0).max() == 0), late.log.read_text()
    assert not newest(clocks).playing

    def statuses():
        return {status.name: status.message for _, message in reports for status in message.status}

    assert graph.until(lambda: statuses().get("robot2/choreography: dance") == "the music stands still")
    keeper.terminate()
    assert keeper.wait(60) == 0
    assert graph.until(lambda: "the dance goes on without it" in statuses()["robot2/choreography: dance"])
