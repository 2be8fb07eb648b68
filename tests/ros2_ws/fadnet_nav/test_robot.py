"""Camera, steering and guard together: what happens to the robot when one of them is killed, and two robots at once."""

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import TwistStamped
from sensor_msgs.msg import CameraInfo, JointState

from edgeflock_ros.messages import to_ns


class Robot:
    """The three processes of one robot, and its commands. A busy machine may lose a few frames in a row."""

    def __init__(self, graph, bag, bundle, namespace="", composed=False):
        self.graph, self.namespace, self.limits = graph, namespace, {"camera_pitch": 0.0, "frame_timeout": 1.0}
        self.camera = {"source": "bag", "path": bag, "loop": True}
        self.steering = {"bundle": bundle}
        self.commands = graph.listen(TwistStamped, f"{namespace}/cmd_vel")
        self.processes = {}
        for name in ("composed", "guard") if composed else ("camera", "steering", "guard"):
            self.start(name)

    def start(self, name):
        parameters = {"camera": self.camera, "steering": self.steering, "guard": self.limits}
        module = {"composed": "composed", "camera": "edgeflock_ros.camera_node"}.get(name, f"{name}_node")
        chosen = {**self.camera, **self.steering} if name == "composed" else parameters[name]
        self.processes[name] = self.graph.start(module, self.namespace, **chosen)

    def drives(self):
        def steady():
            return len(self.commands) > 10 and all(m.twist.linear.x == 1.0 for _, m in self.commands[-10:])

        assert self.graph.until(steady), [p.log.read_text() for p in self.processes.values()]

    def kill(self, name):
        """SIGKILL; returns the ms until the zero command has arrived."""
        self.processes[name].kill()
        killed = time.time_ns()
        assert self.graph.until(lambda: self.commands[-1][1].twist.linear.x == 0.0)
        return (next(t for t, m in self.commands if t > killed and m.twist.linear.x == 0.0) - killed) / 1e6


@pytest.fixture(scope="module")
def robot(shared_graph, road_bag, bundle):
    robot = Robot(shared_graph, road_bag(150), bundle)
    robot.drives()
    return robot


def test_the_command_of_a_frame_follows_from_it(robot, shared_graph):
    infos = shared_graph.listen(CameraInfo, "camera/color/camera_info")
    joints = shared_graph.listen(JointState, "steering")

    def stamps(heard):
        return {to_ns(m.header.stamp) for _, m in list(heard)}

    # Not every frame: a listener of best effort on a busy machine misses some. No two stamps are alike by chance.
    assert shared_graph.until(lambda: len(stamps(infos) & stamps(joints) & stamps(robot.commands)) >= 20)
    angle = np.median([m.position[0] for _, m in joints])
    assert angle == pytest.approx(150 / 255 - 0.5, abs=0.005)
    assert robot.commands[-1][1].twist.angular.z == pytest.approx(np.tan(angle) / 0.36, abs=0.01)


@pytest.mark.parametrize("name", ["camera", "steering"])
def test_kill_9_stops_the_robot_and_a_restart_recovers(robot, name, record_property):
    robot.drives()
    after_ms = robot.kill(name)
    record_property("stop_ms", after_ms)
    print(f"kill -9 of {name}: zero command after {after_ms:.0f} ms")
    robot.start(name)
    robot.drives()


def test_two_robots_in_two_namespaces_do_not_hear_each_other(graph, road_bag, bundle):
    """Each is composed: camera and steering in one process, guard in another."""
    left = Robot(graph, road_bag(180), bundle, "/left", composed=True)
    right = Robot(graph, road_bag(60), bundle, "/right", composed=True)
    left.drives()
    right.drives()
    for robot, brightness in ((left, 180), (right, 60)):
        expected = np.tan(brightness / 255 - 0.5) / 0.36
        assert [m.twist.angular.z for _, m in robot.commands[-10:]] == pytest.approx([expected] * 10, abs=0.02)
    left.kill("composed")
    assert right.commands[-1][1].twist.linear.x == 1.0  # the other one drives on
