"""A new bundle while the robot drives: taken between two frames, or refused with the reason, and the old one steers."""

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("onnx")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from edgeflock_ros.messages import to_ns, to_stamp


@pytest.fixture
def constant(steering_bundle):
    """``constant(angle, tells=None)``: a net that says one angle; with `tells`, its reference answers say another."""

    def make(angle, tells=None):
        nodes = [("Mul", ["mean", "zero"], ["nothing"]), ("Add", ["nothing", "angle"], ["steering"])]
        name = f"constant{angle:+.1f}{'' if tells is None else '_broken'}"
        answers = np.full((2, 1), angle if tells is None else tells, np.float32)
        images = np.ones((2, 1, 200, 200), np.float32)
        return steering_bundle(name, nodes, {"zero": 0.0, "angle": angle}, images, answers)

    return make


class Robot:
    """A steering node that drives with what a link points to, frames at 30 Hz, and its answers."""

    def __init__(self, graph, link, module="steering_node", **parameters):
        self.graph, self.link, self.sent = graph, link, []
        self.images = graph.node.create_publisher(Image, "camera/color/image_raw", 10)
        self.node = graph.start(module, bundle=link, qos="reliable", **parameters)
        self.joints = graph.listen(JointState, "steering")
        graph.node.create_timer(1 / 30, self.publish)
        assert graph.until(lambda: self.joints), self.node.log.read_text()

    def publish(self):
        image = Image(height=48, width=64, encoding="mono8", step=64, data=bytes(48 * 64))
        image.header.stamp = to_stamp(time.time_ns())
        self.images.publish(image)
        self.sent.append(to_ns(image.header.stamp))

    def drive_with(self, bundle):
        draft = self.link.with_name("draft")
        draft.symlink_to(bundle)
        draft.replace(self.link)

    def reload(self):
        return self.graph.call(Trigger, "/steering/reload", Trigger.Request())

    def steers(self, angle):
        """Whether a frame that is sent from now on is answered so."""
        now = time.time_ns()
        seen = self.graph.until(lambda: to_ns(self.joints[-1][1].header.stamp) > now)
        return seen and self.joints[-1][1].position[0] == pytest.approx(angle, abs=1e-6)


@pytest.fixture
def robot(graph, constant, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(constant(0.1))
    return lambda **parameters: Robot(graph, link, **parameters)


def test_a_new_bundle_steers_after_reload_and_each_frame_is_answered_by_one_net_or_the_other(robot, constant):
    robot = robot()
    robot.drive_with(constant(0.2))
    assert robot.steers(0.1)  # not before it is asked to
    answer = robot.reload()
    assert answer.success and "onnxruntime" in answer.message, answer.message
    assert robot.steers(0.2)
    by_time = [round(joint.position[0], 6) for _, joint in robot.joints]
    assert by_time == sorted(by_time) and set(by_time) == {0.1, 0.2}


SLOW = """
import sys, time
from pathlib import Path
from fadnet_nav import steering_node

opened, read = [], steering_node.SteeringNode._open

def slowly(node):
    opened.append(node)
    print("opens" if len(opened) > 1 else "", flush=True)
    while len(opened) > 1 and not Path("{gate}").exists():
        time.sleep(0.01)
    return read(node)

steering_node.SteeringNode._open = slowly
sys.exit(steering_node.main())
"""


def test_frames_are_answered_while_a_bundle_is_being_opened(robot, constant, graph, tmp_path):
    gate = tmp_path / "gate"
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "steering.py").write_text(SLOW.format(gate=gate))
    graph.env["PYTHONPATH"] = str(tmp_path)
    robot = robot(module="slow.steering")
    robot.drive_with(constant(0.2))
    client = graph.node.create_client(Trigger, "/steering/reload")
    assert client.wait_for_service(60)
    answer = client.call_async(Trigger.Request())
    assert graph.until(lambda: "opens" in robot.node.log.read_text())
    assert all(robot.steers(0.1) for _ in range(10)) and not answer.done()
    gate.touch()
    assert graph.until(answer.done) and answer.result().success
    assert robot.steers(0.2)


def test_a_bundle_that_is_refused_changes_nothing_and_the_answer_says_why(robot, constant, tmp_path):
    robot = robot()
    for bad, why in (
        (constant(0.3, tells=0.4), "answers reference input 0"),
        (tmp_path / "nowhere", "where nothing is"),
    ):
        robot.drive_with(bad)
        answer = robot.reload()
        assert not answer.success and why in answer.message and "The bundle before drives on" in answer.message
        assert robot.steers(0.1)
    robot.drive_with(constant(0.2))
    assert robot.reload().success and robot.steers(0.2)


def test_with_follow_it_takes_what_the_link_points_to_by_itself_and_says_what_it_refused(robot, constant):
    robot = robot(follow=True)
    heard = robot.graph.listen(DiagnosticArray, "/diagnostics")
    robot.drive_with(constant(0.2))
    assert robot.graph.until(lambda: robot.joints[-1][1].position[0] == pytest.approx(0.2))
    robot.drive_with(constant(0.3, tells=0.4))

    def refused():
        return any("drives on" in v.value for _, m in heard[-3:] for v in m.status[0].values if v.key == "reload")

    assert robot.graph.until(refused) and robot.steers(0.2)


def test_the_service_ends_with_the_bundle(robot):
    robot = robot()
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert robot.graph.call(ChangeState, "/steering/change_state", request).success

    def gone():
        return "/steering/reload" not in dict(robot.graph.node.get_service_names_and_types_by_node("steering", "/"))

    assert robot.graph.until(gone)
