"""When the simulated camera takes a picture: at its rate from odometry at 100 Hz, and at every tick of lock-step."""

import math
import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image

from edgeflock.runtime.cameras.encodings import decode_depth, decode_rgb
from edgeflock_ros.messages import to_ns, to_stamp
from fadnet_sim.camera_node import Poses

MS = 10**6


class Topic:
    """Stands where the node is: hands the poses to whoever subscribes."""

    def create_subscription(self, kind, topic, callback, depth):
        assert (kind, topic) == (Odometry, "odom")
        self.callback = callback

    def destroy_subscription(self, subscription):
        pass

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


def test_the_world_is_seen_from_the_pose_on_odom(graph):
    """Each frame has the stamp of a pose, they come no faster than asked, and turning round changes the view."""
    pytest.importorskip("mujoco")
    from fadnet_sim.world import make_world

    (x, y), yaw, _ = make_world("outdoor", 2).path.at(0.0)
    images = graph.listen(Image, "camera/color/image_raw")
    depths = graph.listen(Image, "camera/aligned_depth_to_color/image_raw")
    odom = graph.node.create_publisher(Odometry, "odom", 10)
    process = graph.start("fadnet_sim.camera_node", world="outdoor", seed=2, width=160, height=120, fps=10)
    sent = []

    def publish(turn):
        message = Odometry()
        message.header.stamp = to_stamp(time.time_ns())
        message.pose.pose.position.x, message.pose.pose.position.y = float(x), float(y)
        orientation = message.pose.pose.orientation
        orientation.w, orientation.z = math.cos((yaw + turn) / 2), math.sin((yaw + turn) / 2)
        sent.append(to_ns(message.header.stamp))
        odom.publish(message)
        time.sleep(0.01)

    assert graph.until(lambda: publish(0.0) or len(images) > 8, 60.0), process.log.read_text()
    stamps = [to_ns(m.header.stamp) for _, m in images]
    assert set(stamps) <= set(sent)
    assert (stamps[-1] - stamps[0]) / MS > (len(stamps) - 2) * 100
    ahead = decode_rgb(images[-1][1]).astype(int)
    count = len(images)
    assert graph.until(lambda: publish(math.pi / 2) or len(images) > count + 3, 60.0)
    assert np.abs(decode_rgb(images[-1][1]) - ahead).mean() > 10
    assert decode_depth(depths[-1][1]).dtype == np.uint16
    assert process.poll() is None


def test_a_world_that_does_not_exist_ends_with_the_errors_exit_code_and_reason(graph):
    process = graph.start("fadnet_sim.camera_node", world="moon")
    assert process.wait(60) == 5
    assert (
        "world: input should be 'indoor', 'outdoor', 'tape', 'indoor-wide' or 'outdoor-wide', got 'moon'"
        in process.log.read_text()
    )
