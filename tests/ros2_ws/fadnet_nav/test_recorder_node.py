"""The recorder over the real middleware: a person drives, what was written is read as training data."""

import math
import signal
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image, JointState, Joy
from std_msgs.msg import Bool

from edgeflock.export.datasets import open_dataset
from edgeflock_ros.messages import to_stamp


class Driver:
    """A robot with a camera at 30 Hz whose grey is the angle, and a person who steers it at 50 Hz.

    The wheels swing by 0.1 rad in 4 s: frames show 128 + 1000 times the angle, so that every frame tells its own.
    """

    WHEELBASE = 0.36

    def __init__(self, graph, kind=JointState, switch=Bool):
        self.kind, self.switch = kind, switch
        self.held, self.speed, self.steers, self.odometry = True, 1.0, True, kind is JointState
        node = graph.node
        self.images = node.create_publisher(Image, "camera/color/image_raw", 1)
        self.steering = node.create_publisher(kind, "driver/steering", 10)
        self.deadman = node.create_publisher(switch, "driver/deadman", 10) if switch else None
        self.odom = node.create_publisher(Odometry, "odom", 10)
        node.create_timer(1 / 30, self.see)
        node.create_timer(1 / 50, self.steer)
        node.create_timer(1 / 10, self.say)

    @staticmethod
    def angle(time_s):
        return 0.1 * math.sin(time_s * math.pi / 2)

    def see(self):
        now = time.time_ns()
        image = Image(height=48, width=64, encoding="mono8", step=64)
        image.header.stamp = to_stamp(now)
        image.data = np.full(48 * 64, round(128 + 1000 * self.angle(now / 1e9)), np.uint8).tobytes()
        self.images.publish(image)

    def steer(self):
        if not self.steers:
            return
        now = time.time_ns()
        message, angle = self.kind(), self.angle(now / 1e9)
        if self.kind is JointState:
            message = JointState(name=["front_steer"], position=[angle])
        else:
            twist = message.twist if self.kind is TwistStamped else message
            twist.linear.x, twist.angular.z = self.speed, self.speed * math.tan(angle) / self.WHEELBASE
        if hasattr(message, "header"):
            message.header.stamp = to_stamp(now)
        self.steering.publish(message)

    def say(self):
        if self.deadman is not None:
            self.deadman.publish(Bool(data=self.held) if self.switch is Bool else Joy(buttons=[0, int(self.held)]))
        if self.odometry:
            odometry = Odometry()
            odometry.twist.twist.linear.x = self.speed
            self.odom.publish(odometry)


class Status:
    """What the recorder says."""

    def __init__(self, graph):
        self.heard = graph.listen(DiagnosticArray, "/diagnostics")

    @property
    def newest(self):
        return self.heard[-1][1].status[0]

    @property
    def values(self):
        return {v.key: v.value for v in self.newest.values}

    @property
    def frames(self):
        return int(self.values["frames"]) if self.heard and "frames" in self.values else 0

    def says(self, text):
        return bool(self.heard) and text in self.newest.message


def record(graph, folder, **parameters):
    """A running recorder, and what it says."""
    recorder = graph.start("recorder_node", folder=folder, free_mb=0.0, **parameters)
    return recorder, Status(graph)


def check(data):
    """Every frame has its own angle."""
    shown = (data.frames.mean((1, 2)) - 128) / 1000
    np.testing.assert_allclose(data.angles, shown, atol=0.02)
    assert np.ptp(data.angles) > 0.05


def test_what_a_person_drives_is_training_data_while_it_grows_and_afterwards(graph, tmp_path):
    driver, folder = Driver(graph), tmp_path / "data"
    recorder, status = record(graph, folder, holdout=0, rate_hz=15.0)
    assert graph.until(lambda: status.frames > 30), recorder.log.read_text()
    growing = open_dataset(folder, "train")
    check(growing)
    for change, back, why in (
        ({"held": False}, {"held": True}, "dead-man released"),
        ({"speed": 0.0}, {"speed": 1.0}, "standing still"),
        ({"steers": False}, {"steers": True}, "no steering"),
        ({"odometry": False}, {"odometry": True}, "speed unknown"),
    ):
        vars(driver).update(change)
        assert graph.until(lambda why=why: status.says(f"not recorded: {why}")), (why, status.newest)
        frames = status.frames
        until_next = len(status.heard) + 2
        assert graph.until(lambda n=until_next: len(status.heard) >= n) and status.frames == frames
        vars(driver).update(back)
        assert graph.until(lambda n=frames: status.says("recording to train") and status.frames > n), status.newest
        assert why in status.values["left_out"]
    recorder.send_signal(signal.SIGTERM)
    assert recorder.wait(60) == 0
    data = open_dataset(folder, "train")
    assert len(data) > len(growing)
    check(data)


@pytest.mark.parametrize(
    ("kind", "switch", "given"),
    [(TwistStamped, Joy, {"button": 1}), (Twist, None, {"deadman_topic": "''"})],
    ids=["stamped twist and a button of a joystick", "twist of who is silent when not driving"],
)
def test_steering_and_the_switch_may_come_as_other_messages(graph, tmp_path, kind, switch, given):
    Driver(graph, kind, switch)
    recorder, status = record(graph, tmp_path / "data", holdout=0, wheelbase=Driver.WHEELBASE, **given)
    assert graph.until(lambda: status.frames > 20), recorder.log.read_text()
    check(open_dataset(tmp_path / "data", "train"))


def test_after_kill_9_what_was_recorded_is_read_and_the_next_start_goes_on(graph, tmp_path):
    Driver(graph)
    recorder, status = record(graph, tmp_path / "data", holdout=0, rate_hz=30.0)
    assert graph.until(lambda: status.frames > 20), recorder.log.read_text()
    seen = status.frames
    recorder.kill()
    recorder.wait()
    check(data := open_dataset(tmp_path / "data", "train"))
    assert len(data) >= seen
    again, status = record(graph, tmp_path / "data", holdout=0)
    assert graph.until(lambda: status.frames > 5), again.log.read_text()
    assert open_dataset(tmp_path / "data", "train").group_names == ["drive_000001", "drive_000002"]


def test_a_full_disk_is_said_and_nobody_stops(graph, tmp_path):
    Driver(graph)
    recorder = graph.start("recorder_node", folder=tmp_path / "data", free_mb=1e9)
    status = Status(graph)
    assert graph.until(lambda: status.says("is full:")), recorder.log.read_text()
    assert status.newest.level == b"\x02" and status.frames == 0 and recorder.poll() is None


def test_it_says_who_is_missing(graph, tmp_path):
    _, status = record(graph, tmp_path / "data")
    assert graph.until(lambda: status.says("not recorded: no image on /camera/color/image_raw: nobody sends there"))
    driver = Driver(graph, kind=Image)
    driver.steers = False
    assert graph.until(lambda: status.says("on /driver/steering, got sensor_msgs/msg/Image")), status.newest


def test_without_a_folder_it_does_not_start(graph):
    recorder = graph.start("recorder_node")
    assert recorder.wait(60) == 5 and "expected a data folder, got none" in recorder.log.read_text()
