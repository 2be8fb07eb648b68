"""When the simulated camera takes a picture: at its rate from odometry at 100 Hz, and at every tick of lock-step."""

import threading

import numpy as np
import pytest

pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry

from edgeflock_ros.messages import to_ns, to_stamp
from fadnet_sim.sim_source import Poses

MS = 10**6


class Topic:
    """Stands where the node is: hands the poses to whoever subscribes."""

    def create_subscription(self, kind, topic, callback, depth):
        assert (kind, topic) == (Odometry, "odom")
        self.callback = callback

    def send(self, stamp_ns):
        message = Odometry()
        message.header.stamp = to_stamp(int(stamp_ns))
        self.callback(message)


def taken(stamps, fps=30):
    """Stamps of the frames, when each frame is rendered before the next pose."""
    topic, frames = Topic(), []
    poses = Poses(topic, fps)
    for stamp in stamps:
        topic.send(stamp)
        if poses._waiting is not None:
            frames.append(to_ns(poses.next().header.stamp))
    return frames


def test_odometry_at_100_hz_makes_30_frames_a_second_without_drift():
    frames = taken(10**18 + np.arange(1000) * 10 * MS)
    assert len(frames) == 300
    assert set(np.diff(frames) // MS) == {30, 40}


def test_every_tick_of_lock_step_is_a_frame_though_ticks_are_whole_physics_steps():
    ticks = 10**9 + np.cumsum([34, 32, 34] * 100) * MS
    assert taken(ticks) == ticks.tolist()


def test_a_repeated_tick_asks_for_its_frame_again():
    assert taken([10**9] * 3) == [10**9] * 3


def test_a_base_that_starts_again_or_pauses_is_followed_at_once():
    assert taken([10**18, 10**9, 10**9 + 33 * MS, 10**9 + 5000 * MS]) == [
        10**18,
        10**9,
        10**9 + 33 * MS,
        10**9 + 5000 * MS,
    ]


def test_a_slow_renderer_gets_the_newest_pose_only():
    topic = Topic()
    poses = Poses(topic, 30)
    for n in range(5):
        topic.send(10**9 + n * 33 * MS)
    assert to_ns(poses.next().header.stamp) == 10**9 + 4 * 33 * MS


def test_close_wakes_the_waiting_camera():
    poses = Poses(Topic(), 30)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(poses.next()))
    waiting.start()
    poses.close()
    waiting.join(2)
    assert answers == [None]
