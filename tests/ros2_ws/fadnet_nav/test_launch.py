"""The launch file under the real launch, which is on a robot but on no package index."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("launch_ros")

from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from edgeflock_ros.messages import to_ns, to_stamp


def ends(launched):
    """Ctrl-C at a terminal; the exit code."""
    os.killpg(launched.pid, signal.SIGINT)
    return launched.wait(60)


@pytest.mark.parametrize("composed", ["false", "true"])
def test_it_starts_a_robot_that_drives_by_a_recording_from_its_first_frame(
    graph, installed, road_bag, bundle, composed
):
    commands = graph.listen(TwistStamped, "/robot1/cmd_vel")
    steered = graph.listen(JointState, "/robot1/steering")
    images = graph.listen(Image, "/robot1/camera/color/image_raw")
    given = {"camera": "bag", "camera_path": road_bag(150), "bundle": bundle, "namespace": "robot1"}
    launched = graph.launch(installed, "fadnet_nav", composed=composed, more_readers=1, **given)
    assert graph.until(lambda: commands and commands[-1][1].twist.linear.x > 0.2, 60), launched.log.read_text()
    first_s = (to_ns(steered[0][1].header.stamp) - to_ns(images[0][1].header.stamp)) / 1e9
    assert first_s < 0.5  # the recording has 3 s, and the bundle alone takes longer than that to load beside others
    assert ends(launched) == 0
    assert graph.until(lambda: commands[-1][1].twist.linear.x == 0.0)


def started(launched, executable):
    """Process ids that launch gave an executable, oldest first."""
    return [
        int(pid)
        for pid in re.findall(rf"\[{executable}-\d+\]: process started with pid \[(\d+)\]", launched.log.read_text())
    ]


def test_the_launch_file_starts_what_failed_again_but_not_what_a_person_shut_down(graph, installed, road_bag, bundle):
    """Also with a recording as camera: only that is played once."""
    commands = graph.listen(TwistStamped, "/robot1/cmd_vel")
    given = {"camera": "bag", "camera_path": road_bag(150), "bundle": bundle, "namespace": "robot1"}
    launched = graph.launch(installed, "fadnet_nav", **given)
    assert graph.until(lambda: commands and commands[-1][1].twist.linear.x > 0.2, 60), launched.log.read_text()
    [guard] = started(launched, "guard_node")
    os.kill(guard, signal.SIGKILL)
    assert graph.until(lambda: len(started(launched, "guard_node")) == 2), launched.log.read_text()
    shutdown = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVE_SHUTDOWN))
    assert graph.call(ChangeState, "/robot1/steering/change_state", shutdown).success
    assert graph.until(
        lambda: re.search(r"steering_node-\d+\]: process has finished cleanly", launched.log.read_text())
    )
    time.sleep(3.0)  # launch waits 1 s before it starts a process again
    assert len(started(launched, "steering_node")) == 1
    assert graph.until(lambda: commands[-1][1].twist.linear.x == 0.0)  # by the new guard, from its start
    assert ends(launched) == 0


def test_without_arguments_the_simulated_robot_drives(graph, installed, bundle):
    pytest.importorskip("mujoco")
    odometry = graph.listen(Odometry, "/odom")
    launched = graph.launch(installed, "fadnet_nav", bundle=bundle)
    assert graph.until(lambda: odometry and odometry[-1][1].twist.twist.linear.x > 0.1, 120), launched.log.read_text()
    assert {name for name, _ in graph.node.get_node_names_and_namespaces()} >= {"base", "camera", "guard", "steering"}
    assert ends(launched) == 0


def test_another_driver_may_bring_the_images_under_its_own_name(graph, installed, bundle):
    sent = graph.node.create_publisher(Image, "/front/image", 1)
    steered = graph.listen(JointState, "/steering")
    image = Image(height=48, width=64, encoding="rgb8", step=192, data=np.full(48 * 192, 120, np.uint8).tobytes())

    def publish():
        image.header.stamp = to_stamp(time.time_ns())
        sent.publish(image)
        time.sleep(0.03)

    launched = graph.launch(installed, "fadnet_nav", camera="none", image_topic="/front/image", bundle=bundle)
    assert graph.until(lambda: publish() or steered, 60), launched.log.read_text()
    assert steered[-1][1].position[0] == pytest.approx(120 / 255 - 0.5, abs=0.005)
    assert graph.node.count_publishers("/front/image") == 1
    assert ends(launched) == 0


@pytest.mark.parametrize(
    ("given", "prefix"), [({}, "robot1/"), ({"frame_prefix": "car_"}, "car_"), ({"frame_prefix": ""}, "")]
)
def test_each_robot_has_frames_of_its_own_in_one_tree(graph, installed, road_bag, bundle, given, prefix):
    kind = pytest.importorskip("tf2_msgs.msg").TFMessage
    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    told = graph.listen(kind, "/tf_static", latched)
    given = {"camera": "bag", "camera_path": road_bag(150), "bundle": bundle, "namespace": "robot1", **given}
    launched = graph.launch(installed, "fadnet_nav", **given)
    names = ("base_link", "camera_link"), ("camera_link", "camera_color_optical_frame")

    def tree():
        return {(t.header.frame_id, t.child_frame_id) for _, message in told for t in message.transforms}

    expected = {(prefix + parent, prefix + child) for parent, child in names}
    assert graph.until(lambda: tree() == expected), launched.log.read_text()
    assert ends(launched) == 0


def test_each_topic_of_a_foreign_robot_has_an_argument(graph, installed, bundle):
    """Compressed images as of a Raspberry Pi, depth and its camera_info apart, and a base with a name of its own."""
    cv2 = pytest.importorskip("cv2")
    given = {"image_topic": "/pi/image_raw/compressed", "depth_topic": "/tof/depth", "depth_info_topic": "/tof/info"}
    launched = graph.launch(installed, "fadnet_nav", camera="none", cmd_vel_topic="/base/cmd", bundle=bundle, **given)
    colour = graph.node.create_publisher(CompressedImage, "/pi/image_raw/compressed", 1)
    depth = graph.node.create_publisher(Image, "/tof/depth", 1)
    infos = [graph.node.create_publisher(CameraInfo, topic, 1) for topic in ("/pi/camera_info", "/tof/info")]
    commands = graph.listen(TwistStamped, "/base/cmd")
    jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 120, np.uint8))[1].tobytes()
    lens = CameraInfo(width=64, height=48, k=[40.0, 0, 32.0, 0, 40.0, 24.0, 0, 0, 1])
    free = np.full((48, 64), 6.0, np.float32).tobytes()

    def publish():
        stamp = to_stamp(time.time_ns())
        for info in infos:
            info.publish(lens)
        metres = Image(height=48, width=64, encoding="32FC1", step=256, data=free)
        picture = CompressedImage(format="jpeg", data=jpeg)
        metres.header.stamp = picture.header.stamp = stamp
        depth.publish(metres)
        colour.publish(picture)
        time.sleep(0.03)

    assert graph.until(lambda: publish() or (commands and commands[-1][1].twist.linear.x > 0.1)), (
        launched.log.read_text()
    )
    assert ends(launched) == 0


def test_a_node_that_dies_is_started_again_with_a_device_as_camera(graph, installed, bundle):
    """The device is none: the camera says so each time, and is tried again; steering and guard are there."""
    launched = graph.launch(installed, "fadnet_nav", camera="video", camera_path="/dev/null", bundle=bundle)
    log = launched.log
    assert graph.until(lambda: log.read_text().count("expected frames from /dev/null") >= 2, 60), log.read_text()
    assert ends(launched) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"camera": "bag"}, "expected the path of a recording for the camera bag, got none"),
        ({"camera": "video", "camera_path": "nowhere.mp4"}, "got nowhere.mp4, which does not exist"),
        ({"camera": "realsense", "image_topic": "/x/compressed"}, "expected compressed images from another driver"),
        ({"composed": "yes"}, "composed: expected true or false, got 'yes'"),
    ],
)
def test_arguments_that_cannot_be_are_refused_and_nothing_starts(graph, installed, given, message):
    launched = graph.launch(installed, "fadnet_nav", **given)
    assert launched.wait(60) == 1
    said = launched.log.read_text()
    assert message in said and "process started" not in said


def test_launch_files_need_no_edgeflock_where_launch_runs():
    """That is the system's Python; edgeflock is in an environment of the nodes."""
    code = "import sys, edgeflock_ros.launching, fadnet_nav.nodes; print('edgeflock' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "False", ran.stderr
